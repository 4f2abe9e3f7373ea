"""T303: ids without a token."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.tokenizer.duplicate_tokens import at_tokens
from rosetta.lint.subject import Subject
from rosetta.tokenizer.huggingface import RENUMBERED

RULE = Rule(
    "T303",
    "token-holes",
    "warning",
    what="There are ids without a token between those that have one.",
    why="Added tokens were given ids beyond the vocabulary's end, or padding was written as empty texts.",
    fix="Fill the ids up with unused tokens of a text of their own.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first id without a token, and how many there are."""
    if subject.container.kind == "gguf":
        tokens = subject.container.metadata.get("tokenizer.ggml.tokens") or ()
    else:
        tokens = () if subject.vocabulary is None else subject.vocabulary.tokens
    empty = [] if all(tokens) else [id for id, token in enumerate(tokens) if not token]
    if empty:
        more = f"; {len(empty):,} ids have none" if len(empty) > 1 else ""
        yield at_tokens(subject, f"id {empty[0]} has no token{more}")
    for note in () if subject.vocabulary is None else subject.vocabulary.notes:
        if note.startswith(RENUMBERED):
            file = subject.path / "tokenizer.json"
            yield Fault(f"{note.removeprefix('the added_tokens ')}", key="added_tokens", file=file)
