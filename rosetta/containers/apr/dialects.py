"""Tells the `.apr` dialects apart by their first 64 bytes, and refuses by name all but v2."""

from __future__ import annotations

import struct
from pathlib import Path

from rosetta.containers.apr import layout
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError

MAGICS: tuple[bytes, ...] = (b"APR\0", b"APR\x02", b"APR1", b"APR2", b"APRN")

_CLASSIC_MODELS: dict[int, str] = {
    0x01: "LinearRegression",
    0x02: "LogisticRegression",
    0x03: "DecisionTree",
    0x04: "RandomForest",
    0x05: "GradientBoosting",
    0x06: "KMeans",
    0x07: "Pca",
    0x08: "NaiveBayes",
    0x09: "Knn",
    0x0A: "Svm",
    0x10: "NgramLm",
    0x11: "Tfidf",
    0x12: "CountVectorizer",
    0x20: "NeuralSequential",
    0x21: "NeuralCustom",
    0x30: "ContentRecommender",
    0x40: "MixtureOfExperts",
    0xFF: "Custom",
}
"""aprender apr-format types.rs, ModelType."""

_IMPORT_AGAIN = "import the model again with a current aprender, which writes .apr v2"


def require_v2(path: Path, head: bytes) -> None:
    """Return if the file is `.apr` v2 under any of its three magics, else say which dialect it is.

    Args:
        path: the file, for the message.
        head: its first 64 bytes, or all of a shorter file.

    Raises:
        UnsupportedError: another dialect.
        DamagedFileError: no dialect has such a header.
    """
    refusal = _refusal(path, head)
    if refusal is not None:
        raise refusal
    if len(head) < layout.HEADER.size:
        raise DamagedFileError(
            f"the header ends at byte {layout.HEADER.size}, after the end of the file ({len(head)})",
            file=path,
            remedy="the file is truncated; copy it again",
        )


def _refusal(path: Path, head: bytes) -> RosettaError | None:
    magic, version = head[:4], head[4:6]
    if magic == b"APRN" and version != b"\x02\x00":
        return _classic(path, head)
    if magic == b"APR1":
        if head[8:9] == b"{":
            return _other(path, "APR1-JSON (an early aprender layout)", _IMPORT_AGAIN)
        return _other(
            path, "whisper.apr's own layout (speech)", "rosetta compares language models in .apr v2"
        )
    if magic == b"APR\x02":
        return _other(path, "a layout that only aprender's documentation describes", _IMPORT_AGAIN)
    if magic != b"APR\0" or _is_v2(head):
        return None
    (number,) = struct.unpack("<I", head[4:8].ljust(4, b"\xff"))
    if number <= 1:
        return _other(path, "realizar's flat config layout (no tensor names)", _IMPORT_AGAIN)
    if head[4:5] in (b"\x01", b"\x02"):
        scheme = "LZ4" if head[4:5] == b"\x01" else "ZSTD"
        return _other(path, f"APR1-JSON compressed with {scheme}", _IMPORT_AGAIN)
    return DamagedFileError(
        f"no .apr dialect has the version bytes {version.hex(' ')}", file=path, remedy="copy the file again"
    )


def _is_v2(head: bytes) -> bool:
    """Whether a file with the magic `APR\\0` is v2: compressed dialects share the magic, and even byte 4."""
    if head[4:6] != b"\x02\x00"[: len(head[4:6])]:
        return False
    if len(head) < 20:  # too short for either sign; the header cannot be whole in any dialect
        return True
    if struct.unpack_from("<Q", head, 12)[0] == 64:
        return True
    whole = len(head) >= layout.HEADER.size
    return whole and struct.unpack_from("<I", head, 40)[0] == layout.header_checksum(head)


def _classic(path: Path, head: bytes) -> RosettaError:
    if len(head) < 32:
        remedy = "the file is truncated; copy it again"
        return DamagedFileError(".apr v1 has a header of 32 bytes", file=path, remedy=remedy)
    (code,) = struct.unpack_from("<H", head, 6)
    model = _CLASSIC_MODELS.get(code, f"model type {code:#x}")
    encrypted = ", encrypted" if head[21] & 0x01 else ""
    return _other(
        path, f".apr v1 holding a {model}{encrypted}", "rosetta compares language models in .apr v2"
    )


def _other(path: Path, name: str, remedy: str) -> UnsupportedError:
    return UnsupportedError(f"is {name}, not .apr v2", file=path, remedy=remedy)
