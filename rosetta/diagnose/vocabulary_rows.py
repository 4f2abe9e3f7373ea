"""Rows of embedding and head that one side lacks though there are tokens for them: tokens were added to the other."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.compare.pairing import other_side
from rosetta.compare.prompt import Tokenized
from rosetta.compare.results import Finding, Side
from rosetta.model import Model

TABLES = ("token_embd.weight", "output.weight")


def lacking_rows(models: dict[Side, Model], tokenized: Tokenized) -> Iterator[Finding]:
    """A finding for each table of the smaller side, where a tokenizer has tokens for the rows that it lacks.

    Args:
        models: both sides, as opened.
        tokenized: their tokenizers.
    """
    if not all("token_embd.weight" in model.weights for model in models.values()):
        return
    counts = {side: len(t.vocabulary) for side, t in tokenized.tokenizers.items() if t is not None}
    for name in TABLES:
        found = _smaller(models, name)
        if found is None:
            continue
        side, lacking = found
        tied = all(m.weights[name].entry is m.weights["token_embd.weight"].entry for m in models.values())
        if max(counts.values(), default=0) <= lacking.start or (name != TABLES[0] and tied):
            continue
        named = ", ".join(f"the {which} tokenizer has {count}" for which, count in counts.items())
        yield Finding(
            kind="value.missing",
            side=side,
            tensor=name,
            left_name=_own_name(models["left"], name),
            right_name=_own_name(models["right"], name),
            message=f"{lacks(name, lacking)}: {named} tokens",
            recommendation=export_resized(_own_name(models[side], name)),
            status="suspected",
            latent=True,
        )


def rows_lacking(model: Model, other: Model, name: str) -> range | None:
    """The rows of a table that only the other model has; None where it has no more, or another width."""
    own, theirs = model.weights.get(name), other.weights.get(name)
    if name not in TABLES or own is None or theirs is None or not len(own.dims) == len(theirs.dims) == 2:
        return None
    fits = own.dims[1] == theirs.dims[1] and own.dims[0] < theirs.dims[0]
    return range(own.dims[0], theirs.dims[0]) if fits else None


def lacks(name: str, rows: range) -> str:
    """That a table lacks rows, as the start of a sentence."""
    which = f"row {rows.start}" if len(rows) == 1 else f"rows {rows.start} to {rows.stop - 1}"
    return f"{name} has no {which}, the other side has"


def export_resized(name: str) -> str:
    """What to do about rows that a table lacks, by the file's own name of it."""
    return f"export {name} again from the model whose embedding was resized for the added tokens"


def _smaller(models: dict[Side, Model], name: str) -> tuple[Side, range] | None:
    """The side whose table lacks rows, and which; None where neither does."""
    found = ((side, rows_lacking(model, models[other_side(side)], name)) for side, model in models.items())
    return next(((side, rows) for side, rows in found if rows is not None), None)


def _own_name(model: Model, name: str) -> str:
    return model.weights[name].entry.name
