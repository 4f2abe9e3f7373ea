"""The keys of a GGUF file as bytes: all stay as they are but those that a repair changes, in their own types."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from gguf.constants import GGUFValueType

from rosetta.containers.file_bytes import Cursor, FileBytes
from rosetta.containers.gguf.values import SCALARS, read_values
from rosetta.errors import UnsupportedError
from rosetta.repair.changes import ABSENT, Change, said
from rosetta.repair.fix import Fix
from rosetta.repair.rope_scaling import as_gguf

HEADER = 24  # bytes: magic, version, two counts
ARRAY, STRING, BOOL = int(GGUFValueType.ARRAY), int(GGUFValueType.STRING), int(GGUFValueType.BOOL)
ARRAY_ITEMS = {
    "i": GGUFValueType.INT32,
    "u": GGUFValueType.UINT8,
    "f": GGUFValueType.FLOAT32,
}  # by numpy's kind
SCALING = ("rope.scaling.", "rope.scale_linear")
# Settings that GGUF has no key for: the tensors say it, or the architecture.
UNSTATED = frozenset({"tied_embeddings"})
NOWHERE = frozenset({"norm_type", "rope.type"})


class Keys:
    """The keys and values of a GGUF file, each as its own bytes.

    Args:
        file: the (first) file.
        order: its byte order, `<` or `>`.
        metadata: the same values decoded.
    """

    def __init__(self, file: FileBytes, order: str, metadata: Mapping[str, Any]) -> None:
        self.order, self.metadata = order, metadata
        self.changes: list[Change] = []
        self.pairs: dict[str, bytes] = {}
        self._renamed: dict[str, str] = {}  # new name -> the one that `metadata` knows
        (count,) = struct.unpack(f"{order}Q", file.bytes(16, 8))
        cursor = Cursor(file, HEADER)
        for _ in range(count):
            start = cursor.position
            (key,) = read_values(cursor, order, 1)
            self.pairs[key] = file.bytes(start, cursor.position - start)

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
            packed = self._packed(key, value, kind)
            if packed == self.pairs[key]:
                return
            self.pairs[key] = packed
        else:
            names = list(self.pairs)
            family = [place for place, name in enumerate(names) if after and name.startswith(after)]
            names.insert(family[-1] + 1 if family else len(names), key)
            pairs = {**self.pairs, key: self._packed(key, value, None)}
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
            renamed[name] = self._text(name) + pair[8 + len(key.encode()) :]
            if name != key:
                self._renamed[name] = key
        self.pairs = renamed
        self.changes.append(Change("all keys of the architecture", f"{old}…", f"{new}…"))

    def _value(self, key: str) -> Any:
        """A value as it was."""
        return self.metadata[self._renamed.get(key, key)]

    def _packed(self, key: str, value: Any, kind: int | None) -> bytes:
        """A key and its value; `kind` is the value type that it should have where that holds it."""
        start = self._text(key)
        if kind in SCALARS and isinstance(value, int | float):
            try:
                plain = float(value) if SCALARS[kind] in "fd" else value
                return start + struct.pack(f"{self.order}I{SCALARS[kind]}", kind, plain)
            except struct.error:
                pass  # a type too narrow for the value
        if isinstance(value, str):
            return start + struct.pack(f"{self.order}I", STRING) + self._text(value)
        if isinstance(value, bool | int | float):
            kind = _scalar_kind(value)
            return start + struct.pack(f"{self.order}I{SCALARS[kind]}", kind, value)
        return start + struct.pack(f"{self.order}I", ARRAY) + self._array(value)

    def _array(self, items: Any) -> bytes:
        if isinstance(items, list):
            return struct.pack(f"{self.order}IQ", STRING, len(items)) + b"".join(map(self._text, items))
        kind = int(ARRAY_ITEMS[items.dtype.kind])
        data = items.astype(np.dtype(f"{self.order}{SCALARS[kind]}"))
        return struct.pack(f"{self.order}IQ", kind, len(items)) + bytes(data.tobytes())

    def _text(self, text: str) -> bytes:
        data = text.encode()
        return struct.pack(f"{self.order}Q", len(data)) + data


def _scalar_kind(value: bool | float) -> int:
    """The type that llama.cpp reads such a value as."""
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, float):
        return int(GGUFValueType.FLOAT32)
    fits = 0 <= value < 1 << 32
    return int(GGUFValueType.UINT32 if fits else GGUFValueType.INT64)


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
        if key in NOWHERE:
            unsaid.append(key)
        elif key == "rope.scaling":
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
        else:
            spelled = (
                f"{family}hidden_activation" if f"{family}hidden_activation" in keys.pairs else family + key
            )
            keys.put(spelled if key == "activation" else family + key, value, family)
    if "attention.key_length" in settings and f"{family}attention.value_length" not in keys.pairs:
        # llama.cpp takes hidden / heads where the file does not say, and not the key length.
        keys.put(f"{family}attention.value_length", fix.repaired["attention.value_length"], family)
    for key, value in fix.vocabulary.items():
        keys.put(key, value, "tokenizer.ggml.")
    return unsaid, factors
