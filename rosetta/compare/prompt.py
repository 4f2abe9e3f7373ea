"""The tokens that both sides run: each side's own tokenization, compared before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

from rosetta.compare.options import Options
from rosetta.compare.results import Side, TokensDiff
from rosetta.errors import RosettaError, UsageError
from rosetta.model import Model
from rosetta.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Tokenized:
    """What the sides make of the prompt.

    Args:
        diff: the ids of both sides.
        run: the ids that both sides run: the reference's.
        tokenizers: each side's own; None where it has none, or where token ids were given and it cannot be read.
        notes: a borrowed or unreadable tokenizer, one sentence each.
    """

    diff: TokensDiff
    run: list[int]
    tokenizers: dict[Side, Tokenizer | None]
    notes: list[str]


def tokenize(left: Model, right: Model, options: Options) -> Tokenized:
    """Tokenize the prompt on both sides, or take the ids that were given.

    Raises:
        UsageError: no tokens, an id beyond the vocabulary, or a prompt that no side can tokenize.
    """
    models: dict[Side, Model] = {"left": left, "right": right}
    tokenizers, notes = _tokenizers(models, required=options.tokens is None)
    if options.tokens is not None:
        ids: dict[Side, list[int]] = dict.fromkeys(models, list(options.tokens))
    else:
        for side, other in (("left", "right"), ("right", "left")):
            if tokenizers[side] is None and tokenizers[other] is not None:
                notes.append(f"{models[side].container.path}: no tokenizer; the {other} side's is used")
        own = {side: tokenizers[side] or tokenizers[_other(side)] for side in models}
        if own["left"] is None or own["right"] is None:
            raise UsageError("neither file has a tokenizer", remedy="give token ids: --tokens 17,10,17,28")
        ids = {side: tokenizer.encode(options.prompt) for side, tokenizer in own.items() if tokenizer is not None}
    run = ids[options.reference]
    if not run:
        raise UsageError("the prompt has no tokens", remedy="give a longer one, or --tokens")
    _check_vocabulary(run, models)
    first = next(
        (i for i in range(max(map(len, ids.values()))) if ids["left"][i : i + 1] != ids["right"][i : i + 1]), None
    )
    diff = TokensDiff(left=ids["left"], right=ids["right"], match=first is None, first_mismatch=first)
    return Tokenized(diff, run, tokenizers, notes)


def _tokenizers(models: dict[Side, Model], required: bool) -> tuple[dict[Side, Tokenizer | None], list[str]]:
    found: dict[Side, Tokenizer | None] = {}
    notes: list[str] = []
    for side, model in models.items():
        try:
            found[side] = load_tokenizer(model.container)
        except RosettaError as error:
            if required:
                raise
            found[side] = None
            notes.append(f"the tokenizer cannot be read: {error}")
    return found, notes


def _other(side: Side) -> Side:
    return "right" if side == "left" else "left"


def _check_vocabulary(ids: list[int], models: dict[Side, Model]) -> None:
    """Refuse ids that neither embedding has: nothing could be computed."""
    sizes = [model["vocab_size"] for model in models.values()]
    if max(ids) >= max(sizes):
        raise UsageError(
            f"token id {max(ids)} is beyond the vocabulary of {max(sizes)} tokens", remedy="give ids below it"
        )
