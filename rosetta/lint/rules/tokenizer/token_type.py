"""T316: a token's type is none that GGUF defines."""

from collections.abc import Iterator

import numpy as np

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.vocabulary import TokenType

RULE = Rule(
    "T316",
    "token-type",
    "error",
    what="A token is of a type that GGUF does not define.",
    why="Scores, ids or flags were written in the place of the types, or the list is of another file. llama.cpp gives "
    "such a token no attribute: it is neither text nor control, and prints as nothing.",
    fix="Type it NORMAL (1), UNKNOWN (2), CONTROL (3), USER_DEFINED (4), UNUSED (5) or BYTE (6).",
)
_DEFINED = [type.value for type in TokenType if type is not TokenType.UNDEFINED]


def faults(subject: Subject) -> Iterator[Fault]:
    """The first such token, and how many there are."""
    key = type_key(subject)
    if subject.vocabulary is None or key not in subject.container.metadata:
        return
    types = subject.vocabulary.types
    odd = np.flatnonzero(~np.isin(types, _DEFINED))
    if len(odd):
        token, more = (
            subject.vocabulary.tokens[odd[0]],
            f"; {len(odd) - 1:,} more are of none" * (len(odd) > 1),
        )
        message = f"{token!r:.40} (id {odd[0]}) is of type {types[odd[0]]}, which GGUF does not define{more}"
        yield subject.at_file_key(key, message)


def type_key(subject: Subject) -> str:
    """Where the types of tokens stand."""
    return "tokenizer.ggml.token_type" if subject.gguf is not None else "tokenizer.token_type"
