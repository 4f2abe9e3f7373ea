"""JSON out of files that nobody vouches for: bounded depth, one error type, repeated keys made known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rosetta.containers.foreign import is_page, is_pointer, page_instead_of, pointer_instead_of
from rosetta.errors import DamagedFileError

_Pairs = list[tuple[str, Any]]


class _NoNumberError(ValueError):
    """NaN or Infinity, which JSON does not have."""


def json_object(
    path: Path,
    text: bytes,
    what: str,
    *,
    repeated: Callable[[str], None] | None = None,
    lenient: bool = False,
) -> dict[str, Any]:
    """The JSON object in `text`; of a repeated key the last value counts.

    Args:
        path: the file, for messages.
        text: UTF-8.
        what: what the text is: `the metadata`.
        repeated: called with each key that occurs twice in one object.
        lenient: take NaN and Infinity, which Python's writer produces, for numbers.

    Raises:
        DamagedFileError: not UTF-8, not JSON, not an object, or nested absurdly.
    """
    value = json_value(path, text, what, repeated=repeated, lenient=lenient)
    if not isinstance(value, dict):
        raise DamagedFileError(f"{what} is no JSON object", file=path, remedy="convert the model again")
    return value


def json_value(
    path: Path,
    text: bytes,
    what: str,
    *,
    repeated: Callable[[str], None] | None = None,
    lenient: bool = False,
) -> Any:
    """The JSON value in `text`; see `json_object`."""

    def unique(pairs: _Pairs) -> dict[str, Any]:
        table = dict(pairs)
        if repeated is not None and len(table) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    repeated(key)
                seen.add(key)
        return table

    if is_pointer(text):
        raise pointer_instead_of(what, path)
    if is_page(text):
        raise page_instead_of(what, path)
    if not text:
        raise DamagedFileError(f"{what} is empty", file=path, remedy="copy the file again")
    try:
        constant = None if lenient else _refused
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=unique, parse_constant=constant)
    except RecursionError as error:
        raise DamagedFileError(
            f"{what} is nested absurdly deep", file=path, remedy="copy the file again"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, _NoNumberError) as error:
        raise DamagedFileError(
            f"{what} is no JSON ({error})", file=path, remedy="copy the file again"
        ) from error
    except ValueError as error:  # Python refuses to convert an integer of more than 4,300 digits
        raise DamagedFileError(
            f"{what} holds an integer of thousands of digits", file=path, remedy="copy the file again"
        ) from error


def _refused(name: str) -> NoReturn:
    raise _NoNumberError(f"{name} is no JSON number")
