"""Typed reading of a container's metadata: a key of the wrong type or length is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rosetta.errors import DamagedFileError

Number = TypeVar("Number", bound=np.generic)

REMEDY = "convert the model again with its tokenizer"


class Metadata:
    """The metadata of one file.

    Args:
        values: key -> value as the container gives it.
        path: named in errors.
    """

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.values, self.path = values, path

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.damaged(key, f"is no text but {_name(value)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool | np.bool_):
            raise self.damaged(key, f"is neither true nor false but {_name(value)}")
        return bool(value)

    def integer(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise self.damaged(key, f"is no integer but {_name(value)}")
        return int(value)

    def texts(self, key: str) -> list[str] | None:
        values = self._array(key)
        if values is None:
            return None
        texts = values.tolist() if isinstance(values, np.ndarray) else list(values)
        # one C-speed pass where all is well; the loop only looks for the culprit
        if set(map(type, texts)) - {str}:
            index = next(i for i, text in enumerate(texts) if not isinstance(text, str))
            raise self.damaged(key, f"holds {_name(texts[index])} instead of a text at index {index:,}")
        return texts

    def numbers(self, key: str, dtype: type[Number]) -> NDArray[Number] | None:
        value = self.values.get(key)
        values = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else self._array(key)
        if values is None:
            return None
        try:
            array = np.asarray(values)
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iuf"):
                raise ValueError
            # out-of-range values become something else, never an error: token types beyond int32 mean nothing
            with np.errstate(all="ignore"):
                return array.astype(dtype)
        except (ValueError, TypeError, OverflowError):
            raise self.damaged(key, "is no list of numbers") from None

    def damaged(self, key: str, message: str) -> DamagedFileError:
        return DamagedFileError(message, file=self.path, where=f"key '{key}'", remedy=REMEDY)

    def _array(self, key: str) -> Sequence[Any] | NDArray[Any] | None:
        value = self.values.get(key)
        if value is None or isinstance(value, list | tuple | np.ndarray):
            return value
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return value
        raise self.damaged(key, f"is no list but {_name(value)}")


def _name(value: object) -> str:
    return f"a {type(value).__name__}"
