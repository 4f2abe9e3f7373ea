"""`tokenizer.model`, SentencePiece's protobuf, read by hand within the file's own bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import unpack

import numpy as np

from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.tokenizer.charsmap import Charsmap
from rosetta.tokenizer.encoders import Encoder
from rosetta.tokenizer.vocabulary import Kind, TokenType, Vocabulary

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf wire types
_KINDS: dict[int, Kind] = {1: "unigram", 2: "spm"}  # sentencepiece_model.proto, TrainerSpec.ModelType
_OTHER_KINDS = {3: "word", 4: "char"}

Value = int | bytes
Field = tuple[int, int, Value]  # number, wire type, value


@dataclass(frozen=True)
class Spacing:
    """SentencePiece's NormalizerSpec.

    Args:
        charsmap: see `Charsmap`.
        prefix: a text starts with a space that is not written.
        merge_spaces: runs of spaces count as one, at either end as none.
    """

    charsmap: bytes = b""
    prefix: bool = True
    merge_spaces: bool = True


def read_sentencepiece(path: Path, data: bytes) -> tuple[Vocabulary, Spacing]:
    """Read a SentencePiece model.

    Args:
        path: named in errors.
        data: the whole file.

    Raises:
        DamagedFileError: no protobuf, or no tokens.
        UnsupportedError: a model of words or characters.
    """
    tokens: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    trainer: dict[int, Value] = {}
    spacing: dict[int, Value] = {}
    try:
        for number, _, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                piece = {field: held for field, _, held in _fields(value)}
                tokens.append(_as_bytes(piece.get(1, b"")).decode("utf-8", "replace"))
                scores.append(_as_float(piece.get(2, b"\0\0\0\0")))
                types.append(_as_int(piece.get(3, TokenType.NORMAL)))
            elif number in (2, 3) and isinstance(value, bytes):
                (trainer if number == 2 else spacing).update(
                    (field, held) for field, _, held in _fields(value)
                )
        kind = _as_int(trainer.get(3, 1))
        ids = {
            role: _as_int(trainer.get(field, default))
            for role, field, default in (("unknown", 40, 0), ("bos", 41, 1), ("eos", 42, 2))
        }
        spaces = Spacing(
            charsmap=_as_bytes(spacing.get(2, b"")),
            prefix=bool(_as_int(spacing.get(3, 1))),
            merge_spaces=bool(_as_int(spacing.get(4, 1))),
        )
        byte_fallback = bool(_as_int(trainer.get(35, 0)))
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not tokens:
        raise _damaged(path, "holds no tokens")
    if kind not in _KINDS:
        name = _OTHER_KINDS.get(kind, str(kind))
        raise UnsupportedError(
            f"a SentencePiece model of kind '{name}' is not read",
            file=path,
            remedy="give the token ids with --tokens",
        )
    vocabulary = Vocabulary(
        kind=_KINDS[kind],
        model="llama" if _KINDS[kind] == "spm" else "t5",
        tokens=tokens,
        scores=np.array(scores, np.float32),
        types=np.array(types, np.int64).astype(np.int32),
        special_ids={role: token for role, token in ids.items() if 0 <= token < len(tokens)},
        byte_fallback=byte_fallback,
    )
    return vocabulary, spaces


class Spaced:
    """An encoder behind SentencePiece's normaliser.

    Args:
        inner: encodes text whose spaces are ▁ already, and adds none.
        spacing: what the model says of spaces.
    """

    def __init__(self, inner: Encoder, spacing: Spacing) -> None:
        self._inner, self._spacing = inner, spacing
        self._charsmap = Charsmap(spacing.charsmap)

    def ids(self, text: str, first: bool) -> list[int]:
        """The ids of a text; `first`: it stands where the space that is not written goes."""
        text = self._charsmap(text)
        if self._spacing.merge_spaces:
            text = " ".join(word for word in text.split(" ") if word)
        if text and first and self._spacing.prefix:
            text = " " + text
        return self._inner.ids(text.replace(" ", "▁"), first)


def _fields(data: bytes) -> Iterator[Field]:
    """The fields of one protobuf message.

    Raises:
        ValueError: a value that ends beyond the message, or is of no known wire type.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"is no SentencePiece model: wire type {wire} at byte {at:,}")
        if size > len(data) - at:
            raise ValueError(f"a field of {size:,} bytes ends beyond its message of {len(data):,}")
        yield number, wire, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number ends beyond its message")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value & (1 << 64) - 1, at
    raise ValueError("a number has more than ten bytes")


def _as_bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number stands where text should")
    return value


def _as_int(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError("text stands where a number should")
    return value - (1 << 64) if value >> 63 else value


def _as_float(value: Value) -> float:
    if not isinstance(value, bytes) or len(value) != 4:
        raise ValueError("a score is no float")
    score: float = unpack("<f", value)[0]
    return score


def _damaged(path: Path, message: str) -> DamagedFileError:
    return DamagedFileError(message, file=path, remedy="copy the file again")
