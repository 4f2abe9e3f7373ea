"""T308: a control token is typed as an ordinary one."""

import re
from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.tokenizer.ordinary_special import ENDS, SPECIAL_LOOK
from rosetta.lint.rules.tokenizer.special_range import special_ids
from rosetta.lint.rules.tokenizer.token_type import type_key
from rosetta.lint.subject import Subject
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

RULE = Rule(
    "T308",
    "hidden-control",
    "warning",
    what="A token that chat templates and generation rely on, that begins or ends a text, or that stands for a byte is "
    "typed as an ordinary one.",
    why="token_type was written as 1 for every token, or added tokens were not marked. <|im_start|> of a rendered "
    "template is then cut into six tokens that the model has never seen together.",
    fix="Type it CONTROL (3), or USER_DEFINED (4) where users may write it.",
)
# What models that chat mark turns and ends with; llama-vocab.cpp mends some of them by itself, and says so.
_MARKS = (
    *("im_start", "im_end", "eot_id", "start_header_id", "end_header_id", "begin_of_text", "end_of_text"),
    *("endoftext", "user", "assistant", "system", "end"),
)
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_CONTROL = frozenset((*(f"<|{mark}|>" for mark in _MARKS), "<start_of_turn>", "<end_of_turn>"))


def faults(subject: Subject) -> Iterator[Fault]:
    """The first such token, and how many there are."""
    vocabulary = subject.vocabulary
    if vocabulary is None:
        return
    if subject.folder is not None:
        yield from _added(subject, vocabulary)
        return
    key = type_key(subject)
    if key not in subject.container.metadata:
        return
    if vocabulary.kind == "spm":
        bytes_ = [id for id, token in enumerate(vocabulary.tokens) if _BYTE.fullmatch(token)]
        plain = [id for id in bytes_ if vocabulary.types[id] == TokenType.NORMAL]
        if plain:
            said = f"{vocabulary.tokens[plain[0]]!r} (id {plain[0]}) is NORMAL, and stands for a byte"
            yield subject.at_file_key(key, said + (f"; {len(plain) - 1} more are" if len(plain) > 1 else ""))
    marks = _CONTROL & subject.token_set
    hidden = [id for id, token in enumerate(vocabulary.tokens) if token in marks] if marks else []
    ends = {id for role, id in special_ids(subject) if ENDS.search(role) and 0 <= id < len(vocabulary.tokens)}
    hidden += sorted(id for id in ends.difference(hidden) if SPECIAL_LOOK.match(vocabulary.tokens[id]))
    hidden = [id for id in hidden if vocabulary.types[id] == TokenType.NORMAL]
    if hidden:
        more = f", and {len(hidden) - 1} more" if len(hidden) > 1 else ""
        yield subject.at_file_key(key, f"{vocabulary.tokens[hidden[0]]!r} (id {hidden[0]}) is NORMAL{more}")


def _added(subject: Subject, vocabulary: Vocabulary) -> Iterator[Fault]:
    """Tokens of a folder that begin or end a text, and are added without being marked special."""
    file = subject.path / "tokenizer.json"
    for role in ("bos", "eos"):
        token = vocabulary.special_ids.get(role)
        if token is not None and vocabulary.types[token] == TokenType.USER_DEFINED and file.is_file():
            message = f"mark {vocabulary.tokens[token]!r:.40} (id {token}) as not special, and it is the {role} token"
            yield Fault(message, key="added_tokens", file=file)
