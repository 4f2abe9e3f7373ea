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
        weights = {side: model.weights.get(name) for side, model in models.items()}
        rows = {side: w.dims[0] for side, w in weights.items() if w is not None and len(w.dims) == 2}
        if len(rows) < 2 or rows["left"] == rows["right"]:
            continue
        side: Side = "left" if rows["left"] < rows["right"] else "right"
        other = other_side(side)
        tied = all(m.weights[name].entry is m.weights["token_embd.weight"].entry for m in models.values())
        if max(counts.values(), default=0) <= rows[side] or (name != TABLES[0] and tied):
            continue
        named = ", ".join(f"the {which} tokenizer has {count}" for which, count in counts.items())
        first, last = rows[side], rows[other] - 1
        yield Finding(
            kind="value.missing",
            side=side,
            tensor=name,
            left_name=_own_name(models["left"], name),
            right_name=_own_name(models["right"], name),
            message=f"{name} has no rows {first} to {last}, the {other} side has: {named} tokens",
            recommendation=f"export {name} again with the tokens that were added to the {other} side, after "
            "its embedding was resized",
            status="suspected",
            latent=True,
        )


def _own_name(model: Model, name: str) -> str:
    return model.weights[name].entry.name
