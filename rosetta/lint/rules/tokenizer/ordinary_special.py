"""T306: a special token's id is that of an ordinary word."""

import re
from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.tokenizer.special_range import CONFIG, GENERATION, special_ids
from rosetta.lint.rules.tokenizer.token_type import type_key
from rosetta.lint.subject import Subject
from rosetta.tokenizer.folder_files import json_file, named_tokens
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

RULE = Rule(
    "T306",
    "special-id-ordinary",
    "error",
    what="The id of the token that begins or ends a text is that of an ordinary word or letter.",
    why="Ids shifted when tokens were added in front, or were copied from another vocabulary: generation stops at that "
    "word, and never at the real end.",
    fix="Write the id of the token that the model was trained with (</s>, <|endoftext|>, <|im_end|>, …).",
)
SPECIAL_LOOK = re.compile(r"^[<\[{｟⟨_▁|].*[>\]}｠⟩|]$", re.DOTALL)
EOS = "eos_token_id"
ENDS = re.compile(r"(?:^|\.)(bos|eos|eot|eom)_token_id$")  # keys of the tokens that begin or end a text


def faults(subject: Subject) -> Iterator[Fault]:
    """Each such id."""
    vocabulary = subject.vocabulary
    if vocabulary is None or not len(vocabulary.types):
        return
    if subject.folder is not None:
        yield from _named(subject, vocabulary)
        return
    if type_key(subject) not in subject.container.metadata:  # their types are a guess by shape
        return
    for key, token in special_ids(subject):
        if not ENDS.search(key) or not 0 <= token < len(vocabulary.tokens):
            continue
        text = vocabulary.tokens[token]
        if vocabulary.types[token] == TokenType.NORMAL and not SPECIAL_LOOK.match(text):
            yield subject.at_file_key(key, f"is {token}, the ordinary token {text!r:.40}")


def _named(subject: Subject, vocabulary: Vocabulary) -> Iterator[Fault]:
    """Each such token of a folder, whose files name them by their text."""
    file = subject.path / CONFIG
    for role, text in named_tokens(subject.path, json_file(file)).items():
        if role not in ("bos", "eos") or text not in subject.token_set or SPECIAL_LOOK.match(text):
            continue
        if vocabulary.types[vocabulary.tokens.index(text)] == TokenType.NORMAL:
            yield Fault(f"is the ordinary token {text!r:.40}", key=f"{role}_token", file=file)
    yield from _ends(subject, vocabulary)


def _ends(subject: Subject, vocabulary: Vocabulary) -> Iterator[Fault]:
    """Ids that end a generation, where the tokenizer names another token as the end: transformers goes by those of
    generation_config.json, and by config.json's where that says nothing."""
    named = vocabulary.special_ids.get("eos")
    generation = subject.path / GENERATION
    stated = json_file(generation)
    file, said = (generation, stated) if EOS in stated else (None, subject.container.metadata)
    ids = said.get(EOS)
    for token in ids if isinstance(ids, list) else [ids]:
        if type(token) is not int or named in (None, token) or not 0 <= token < len(vocabulary.tokens):
            continue
        text = vocabulary.tokens[token]
        if vocabulary.types[token] == TokenType.NORMAL and not SPECIAL_LOOK.match(text):
            message = f"is {token}, the ordinary token {text!r:.40}"
            yield subject.at_file_key(EOS, message) if file is None else Fault(message, key=EOS, file=file)
