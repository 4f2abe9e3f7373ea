"""The tokens that both sides run: each side's own tokenization, compared before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rosetta.compare.adequacy import shortest_ids
from rosetta.compare.options import AUTO, Options
from rosetta.compare.pairing import other_side
from rosetta.compare.results import Side, TokensDiff
from rosetta.errors import RosettaError, UsageError
from rosetta.model import Model
from rosetta.runtimes.torch import check_positions
from rosetta.runtimes.trace import Recording, trace_tokens
from rosetta.tokenizer import Tokenizer, load_tokenizer, type_note


@dataclass(frozen=True)
class Tokenized:
    """What the sides make of the prompt.

    Args:
        diff: the ids of both sides.
        run: the ids that both sides run: the reference's.
        tokenizers: each side's own; None where it has none, or where token ids were given and it cannot be read.
        notes: a borrowed or unreadable tokenizer, one sentence each.
        prompt: the text; None where ids were given or recorded without one.
    """

    diff: TokensDiff
    run: list[int]
    tokenizers: dict[Side, Tokenizer | None]
    notes: list[str]
    prompt: str | None = None


def tokenize(left: Model, right: Model, options: Options) -> Tokenized:
    """Tokenize the prompt on both sides, or take the ids that were given.

    Raises:
        UsageError: no tokens, an id beyond the vocabulary, more tokens than positions, or a prompt that no side
            can tokenize.
    """
    models: dict[Side, Model] = {"left": left, "right": right}
    for side, model in models.items():
        if isinstance(model.container, Recording):
            return _as_recorded(side, model.container, models, options)
    tokenizers, notes = _tokenizers(models, required=options.tokens is None and options.prompt != AUTO)
    if options.tokens is None and options.prompt == AUTO:
        run = shortest_ids(left, right)
        positions = max(left.position_count, right.position_count)
        run = run[: int(min(len(run), positions, left.dense_count, right.dense_count))]
        return Tokenized(tokens_diff(run, run), run, tokenizers, notes)
    if options.tokens is not None:
        ids: dict[Side, list[int]] = {side: list(options.tokens) for side in models}
    else:
        for side, model in models.items():
            if tokenizers[side] is None and tokenizers[other_side(side)] is not None:
                notes.append(f"{model.container.path}: no tokenizer; the {other_side(side)} side's is used")
        own = {side: tokenizers[side] or tokenizers[other_side(side)] for side in models}
        if own["left"] is None or own["right"] is None:
            raise UsageError("neither file has a tokenizer", remedy="give token ids: --tokens 17,10,17,28")
        ids = {
            side: tokenizer.encode(options.prompt) for side, tokenizer in own.items() if tokenizer is not None
        }
    run = ids[options.reference]
    if not run:
        raise UsageError("the prompt has no tokens", remedy="give a longer one, or --tokens")
    _check_vocabulary(run, models)
    check_positions(run, left, right)
    prompt = options.prompt if options.tokens is None else None
    return Tokenized(tokens_diff(ids["left"], ids["right"]), run, tokenizers, notes, prompt)


def _as_recorded(side: Side, recording: Recording, models: dict[Side, Model], options: Options) -> Tokenized:
    """A recording fixes the tokens; where it knows its prompt, the other side tokenizes that one too."""
    model = models[other_side(side)]
    run = trace_tokens(recording, model["vocab_size"])
    if options.tokens is not None and list(options.tokens) != run:
        raise UsageError(
            "was recorded with other tokens", file=recording.path, remedy=f"leave out --tokens, or give {run}"
        )
    prompt = recording.facts.get("prompt")
    tokenizers, notes = _tokenizers({other_side(side): model}, required=False)
    tokenizer = tokenizers[other_side(side)]
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) and tokenizer is not None else run
    notes.append(
        f"{recording.path}: the prompt is the recorded one"
        + (f", {prompt!r}" if isinstance(prompt, str) else "")
    )
    both = {side: run, other_side(side): ids}
    known = prompt if isinstance(prompt, str) else None
    return Tokenized(tokens_diff(both["left"], both["right"]), run, {side: None, **tokenizers}, notes, known)


def tokens_diff(left: list[int], right: list[int]) -> TokensDiff:
    """The ids of both sides, and where they first differ."""
    first = first_difference(left, right)
    return TokensDiff(left=left, right=right, match=first is None, first_mismatch=first)


def first_difference(a: Sequence[object], b: Sequence[object]) -> int | None:
    """The first place at which two sequences differ, the end of the shorter one included; None where they do not.

    >>> first_difference([1, 2], [1, 2]), first_difference([1, 2], [1, 3]), first_difference("a", "ab")
    (None, 1, 1)
    """
    unlike = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(unlike, None if len(a) == len(b) else min(len(a), len(b)))


def _tokenizers(models: dict[Side, Model], required: bool) -> tuple[dict[Side, Tokenizer | None], list[str]]:
    found: dict[Side, Tokenizer | None] = {}
    notes: list[str] = []
    for side, model in models.items():
        try:
            found[side] = load_tokenizer(model.container, next(iter(found.values()), None))
        except RosettaError as error:
            if required:
                raise
            found[side] = None
            notes.append(f"the tokenizer cannot be read: {error}")
    left, right = found.get("left"), found.get("right")
    note = None if left is None or right is None else type_note(left.facts, right.facts)
    if note is not None:
        notes.append(note)
    return found, notes


def _check_vocabulary(ids: list[int], models: dict[Side, Model]) -> None:
    """Refuse ids that neither embedding has: nothing could be computed."""
    if min(ids) < 0:
        raise UsageError(f"token id {min(ids)} is negative", remedy="give ids from 0 on")
    sizes = [model["vocab_size"] for model in models.values()]
    if max(ids) >= max(sizes):
        raise UsageError(
            f"token id {max(ids)} is beyond the vocabulary of {max(sizes)} tokens", remedy="give ids below it"
        )
