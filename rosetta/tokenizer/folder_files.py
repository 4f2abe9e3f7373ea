"""The small files beside a Hugging Face tokenizer: what tokens they add, how the special ones are called."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from rosetta.containers.foreign import is_pointer, pointer_instead_of
from rosetta.containers.json_text import json_object, json_value
from rosetta.errors import DamagedFileError, unreadable

_LARGEST_FILE = 1 << 30  # bytes; the largest published tokenizer.json has 35 MB
_ADDED_FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def named_tokens(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """`bos`, `eos`, … -> the text of the token that the configuration names so."""
    named = {}
    roles = {"unk": "unknown", "sep": "separator", "pad": "padding"}
    for source in (json_file(path / "special_tokens_map.json"), config):
        for key in _NAMED:
            value = source.get(key)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                role = key.removesuffix("_token")
                named[roles.get(role, role)] = text
    return named


def added_tokens(path: Path, config: Mapping[str, Any], vocab: Mapping[str, int]) -> list[AddedToken]:
    """The added tokens in the order of their ids, those without one last."""
    named = set(named_tokens(path, config).values())
    found: dict[str, tuple[int, AddedToken]] = {}
    for token, id in json_file(path / "added_tokens.json").items():
        if type(id) is int:
            found[token] = id, AddedToken(token, special=token in named, normalized=False)
    declared = config.get("added_tokens_decoder")
    for key, entry in declared.items() if isinstance(declared, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("content"), str) and key.isdecimal():
            flags = {name: entry[name] is True for name in _ADDED_FLAGS if name in entry}
            found[entry["content"]] = int(key), AddedToken(entry["content"], **flags)
    last = max((id for id, _ in found.values()), default=len(vocab))
    for text in sorted(named - found.keys()):
        if text in vocab:
            found[text] = vocab[text], AddedToken(text, special=True, normalized=False)
        else:
            found[text] = last + 1, AddedToken(text, special=True, normalized=False)
    return [token for _, token in sorted(found.values(), key=lambda each: each[0])]


def json_file(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is no such file."""
    return json_object(file, file_contents(file), "the file") if file.is_file() else {}


def repeated_keys(file: Path) -> list[str]:
    """The keys that stand twice in one object of a file of JSON; none where there is no such file, or it is no JSON,
    of which those tell who read what it says."""
    found: list[str] = []
    if file.is_file():
        with suppress(DamagedFileError):
            json_value(file, file_contents(file), "the file", repeated=found.append, lenient=True)
    return found


def file_contents(file: Path) -> bytes:
    """A file's bytes.

    Raises:
        DamagedFileError: it is larger than any tokenizer, or a Git LFS pointer.
        UsageError: the operating system does not open it.
    """
    try:
        size = file.stat().st_size
        if size > _LARGEST_FILE:
            raise damaged_file(file, f"has {size:,} bytes, more than any tokenizer")
        found = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error
    if is_pointer(found):
        raise pointer_instead_of("the tokenizer's file", file)
    return found


def damaged_file(file: Path, message: str) -> DamagedFileError:
    return DamagedFileError(message, file=file, remedy="copy the file again")
