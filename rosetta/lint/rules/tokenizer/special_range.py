"""T305: the id of a special token is beyond the vocabulary."""

from collections.abc import Iterator, Mapping
from typing import Any

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.folder_files import json_file, named_tokens

CONFIG, GENERATION = "tokenizer_config.json", "generation_config.json"

RULE = Rule(
    "T305",
    "special-id-range",
    "error",
    what="The id of a special token is that of no token, or its name is.",
    why="The id was taken from another model's config, or the vocabulary was cut after it was written. Generation "
    "never sees its end, or the runtime reads beyond its tables.",
    fix="Write the ids that the model's own tokenizer_config.json and generation_config.json name.",
)
_ROLES = (  # llama-vocab.cpp, special_token_types, whose spelling of a separator is GGUF's
    *("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask", "cls"),
    *("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep", "prefix", "suffix", "middle"),
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each id out of range."""
    vocabulary = subject.vocabulary
    if vocabulary is None:
        return
    size = len(vocabulary.tokens)
    for key, token in special_ids(subject):
        if not 0 <= token < size and not _is_of_the_rows(subject, token):
            yield subject.at_file_key(key, f"is {token:,}, and there are {size:,} tokens")
    if subject.folder is not None:
        generation = subject.path / GENERATION
        for key, token in _ids_in(json_file(generation), ""):
            if not 0 <= token < size and not _is_of_the_rows(subject, token):
                yield Fault(f"is {token:,}, and there are {size:,} tokens", key=key, file=generation)
        for role, text in named_tokens(subject.path, json_file(subject.path / CONFIG)).items():
            if text not in subject.token_set:
                short = {"unknown": "unk", "separator": "sep", "padding": "pad"}.get(role, role)
                message = f"names {text!r:.60} as {role}, which is no token"
                yield Fault(message, key=f"{short}_token", file=subject.path / CONFIG)


def special_ids(subject: Subject) -> Iterator[tuple[str, int]]:
    """Each key that names a special token's id, and the id; a folder may list several."""
    prefix = {"gguf": "tokenizer.ggml.", "apr": "tokenizer.", "huggingface": ""}[subject.kind]
    return _ids_in(subject.container.metadata, prefix)


def _ids_in(stated: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, int]]:
    for role in _ROLES:
        for spelled in (role, "pad") if role == "padding" else (role,):
            key = f"{prefix}{spelled}_token_id"
            value = stated.get(key)
            for token in value if isinstance(value, list) else [value]:
                if isinstance(token, int) and not isinstance(token, bool):
                    yield key, token


def _is_of_the_rows(subject: Subject, token: int) -> bool:
    """Whether a folder's embedding has a row for an id that its tokenizer has no text for: a random test model, or
    one whose tokenizer was swapped for a smaller one; both run."""
    rows = subject.count("vocab_size") or 0
    return subject.folder is not None and (token == -1 or 0 <= token < rows)
