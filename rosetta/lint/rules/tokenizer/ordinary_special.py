"""T306: a special token's id is that of an ordinary word."""

import re
from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.tokenizer.special_range import special_ids
from rosetta.lint.subject import Subject
from rosetta.tokenizer.vocabulary import TokenType

RULE = Rule(
    "T306",
    "special-id-ordinary",
    "error",
    what="The id of the token that begins or ends a text is that of an ordinary word or letter.",
    why="Ids shifted when tokens were added in front, or were copied from another vocabulary: generation stops at that "
    "word, and never at the real end.",
    fix="Write the id of the token that the model was trained with (</s>, <|endoftext|>, <|im_end|>, …).",
)
_SPECIAL_LOOK = re.compile(r"^[<\[{｟⟨_▁|].*[>\]}｠⟩|]$", re.DOTALL)
_ROLES = re.compile(r"(?:^|\.)(bos|eos|eot|eom)_token_id$")


def faults(subject: Subject) -> Iterator[Fault]:
    """Each such id."""
    vocabulary = subject.vocabulary
    if vocabulary is None or subject.folder is not None or not len(vocabulary.types):
        return  # a folder's own files name these tokens by their text
    said = "tokenizer.ggml.token_type" if subject.gguf is not None else "tokenizer.token_type"
    if said not in subject.container.metadata:  # their types are a guess by shape
        return
    for key, token in special_ids(subject):
        if not _ROLES.search(key) or not 0 <= token < len(vocabulary.tokens):
            continue
        text = vocabulary.tokens[token]
        if vocabulary.types[token] == TokenType.NORMAL and not _SPECIAL_LOOK.match(text):
            yield subject.at_file_key(key, f"is {token}, the ordinary token {text!r:.40}")
