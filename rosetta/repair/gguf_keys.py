"""The keys of a GGUF file as bytes: all stay as they are but those that a repair changes, in their own types."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGUFValueType

from rosetta.compare.other_forms import DERIVED
from rosetta.containers.gguf.packing import packed_pair, packed_text
from rosetta.diagnose.stated_scaling import as_gguf
from rosetta.errors import UnsupportedError
from rosetta.repair.changes import ABSENT, Change, said
from rosetta.repair.fix import Fix
from rosetta.settings_reader import ACTIVATIONS

ARRAY = int(GGUFValueType.ARRAY)
SCALING = ("rope.scaling.", "rope.scale_linear")
# Settings that GGUF has no key for: the tensors say it, or the architecture.
UNSTATED = frozenset({"tied_embeddings"})
# llama-arch.cpp, LLM_KV_NAMES.
BEYOND_GGUF_PY = frozenset({"attention.value_scale", "attention.recurrent_layers"})


@cache
def keys_of_gguf() -> frozenset[str]:
    """The keys that llama.cpp's loader may read of an architecture, without its name (gguf-py's list of them)."""
    return frozenset(_of_architecture(gguf.constants.Keys)) | BEYOND_GGUF_PY


def _of_architecture(group: type) -> Iterator[str]:
    for value in vars(group).values():
        if isinstance(value, type):
            yield from _of_architecture(value)
        elif isinstance(value, str) and value.startswith("{arch}."):
            yield value.removeprefix("{arch}.")


class Keys:
    """The keys and values of a GGUF file, each as its own bytes.

    Args:
        pairs: key -> both, as they stand in the file.
        order: its byte order, `<` or `>`.
        metadata: the same values decoded.
    """

    def __init__(self, pairs: Mapping[str, bytes], order: str, metadata: Mapping[str, Any]) -> None:
        self.order, self.metadata = order, metadata
        self.changes: list[Change] = []
        self.pairs = dict(pairs)
        self._renamed: dict[str, str] = {}  # new name -> the one that `metadata` knows

    def put(self, key: str, value: Any, after: str = "") -> None:
        """Give a key a value, in its type where it has one that holds it; a new key goes behind its family.

        Args:
            key: in full.
            value: text, flag, number, list of texts, or array of numbers.
            after: what the keys begin with behind which a new one stands.
        """
        before = ABSENT
        if key in self.pairs:
            before = said(self._value(key))
            (kind,) = struct.unpack_from(f"{self.order}I", self.pairs[key], 8 + len(key.encode()))
            if kind == ARRAY and isinstance(value, int | float):  # the same for each layer
                value = np.full(
                    len(self._value(key)), value, np.float32 if isinstance(value, float) else np.int32
                )
            packed = packed_pair(self.order, key, value, kind)
            if packed == self.pairs[key]:
                return
            self.pairs[key] = packed
        else:
            names = list(self.pairs)
            family = [place for place, name in enumerate(names) if after and name.startswith(after)]
            names.insert(family[-1] + 1 if family else len(names), key)
            pairs = {**self.pairs, key: packed_pair(self.order, key, value)}
            self.pairs = {name: pairs[name] for name in names}
        self.changes.append(Change(key, before, said(value)))

    def remove(self, key: str) -> None:
        """Take a key out."""
        if self.pairs.pop(key, None) is not None:
            self.changes.append(Change(key, said(self._value(key)), ABSENT))

    def rename_family(self, old: str, new: str) -> None:
        """Change what keys begin with."""
        renamed = {}
        for key, pair in self.pairs.items():
            name = new + key.removeprefix(old) if key.startswith(old) else key
            renamed[name] = packed_text(self.order, name) + pair[8 + len(key.encode()) :]
            if name != key:
                self._renamed[name] = key
        self.pairs = renamed
        self.changes.append(Change("all keys of the architecture", f"{old}…", f"{new}…"))

    def _value(self, key: str) -> Any:
        """A value as it was."""
        return self.metadata[self._renamed.get(key, key)]


def state_settings(keys: Keys, fix: Fix) -> tuple[list[str], tuple[float, ...]]:
    """State the repaired settings and tokenizer.

    Returns:
        The settings that GGUF has no place for, and the factors of the rope scaling where a tensor holds them.
    """
    settings = dict(fix.settings)
    unsaid: list[str] = []
    factors: tuple[float, ...] = ()
    architecture = str(keys.metadata["general.architecture"])
    if "architecture" in settings:
        new = settings.pop("architecture")
        settings.pop("norm_type", None)  # it comes with the architecture
        keys.rename_family(f"{architecture}.", f"{new}.")
        keys.put("general.architecture", new)
        architecture = new
    family = f"{architecture}."
    for key, value in settings.items():
        if key in UNSTATED:
            continue
        if key == "rope.scaling":
            try:
                scaling = as_gguf(value, fix.repaired, fix.other.container)
            except UnsupportedError:
                unsaid.append(key)
                continue
            for held in [held for held in keys.pairs if held.removeprefix(family).startswith(SCALING)]:
                if held.removeprefix(family) not in scaling.keys:
                    keys.remove(held)
            for name, part in scaling.keys.items():
                keys.put(family + name, part, family)
            factors = scaling.factors
        elif key in keys_of_gguf():
            keys.put(family + key, value, family)
        elif not _put_own(keys, fix, key):
            unsaid.append(key)
    if "attention.key_length" in settings and f"{family}attention.value_length" not in keys.pairs:
        # llama.cpp takes hidden / heads where the file does not say, and not the key length.
        keys.put(f"{family}attention.value_length", fix.repaired["attention.value_length"], family)
    for key, value in fix.vocabulary.items():
        keys.put(key, value, "tokenizer.ggml.")
    return unsaid, factors


def _put_own(keys: Keys, fix: Fix, key: str) -> bool:
    """State a setting under the file's own key for it, in that key's form; returns whether that can be done."""
    own, value = fix.base.config[key].key, fix.repaired[key]
    family = f"{fix.base.container.architecture}."
    if own is None or own not in keys.pairs:
        return False
    name = own.removeprefix(family)
    if name in DERIVED:
        value = DERIVED[name](fix.repaired.config)
    elif key == "activation":
        value = next((word for word, ours in ACTIVATIONS.items() if ours == value), None)
    if value is None:
        return False
    keys.put(own, list(value) if isinstance(value, tuple) else value)
    return True
