"""T301: the tokenizer cannot be read."""

from collections.abc import Iterator

from rosetta.errors import UnsupportedError
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.embedded import KNOWN_ELSEWHERE

MODEL = "tokenizer.ggml.model"

RULE = Rule(
    "T301",
    "tokenizer-unreadable",
    "error",
    what="The tokenizer that the file embeds cannot be read: a list is missing, of another length, or of another type.",
    why="Tokens were added to one of the lists (tokens, scores, token_type) and not to the others, or the vocabulary "
    "is of a kind that rosetta does not know.",
    fix="Write the model again with the tokenizer of its source.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Why it cannot be read."""
    error = subject.vocabulary_refusal
    if error is None:
        return
    if isinstance(error, UnsupportedError):  # a kind that rosetta alone does not read is no fault of the file
        kind = subject.container.metadata.get(MODEL)
        if subject.gguf is not None and isinstance(kind, str) and kind not in KNOWN_ELSEWHERE:
            yield subject.at_file_key(MODEL, f"is {kind!r:.60}, which llama.cpp does not know")
        return
    key = (
        error.where.removeprefix("key ").strip("'")
        if error.where and error.where.startswith("key ")
        else None
    )
    if key is not None:
        yield subject.at_file_key(key, error.message)
    else:
        yield Fault(error.message, file=None if error.file is None else type(subject.path)(error.file))
