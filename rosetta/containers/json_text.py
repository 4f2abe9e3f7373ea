"""JSON out of files that nobody vouches for: bounded depth, one error type, repeated keys made known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rosetta.containers.foreign import is_page, is_pointer, page_instead_of, pointer_instead_of
from rosetta.errors import DamagedFileError

_Pairs = list[tuple[str, Any]]
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[ \t\n\r,:]*")


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


def place_of_key(text: bytes, key: str) -> int | None:
    """The byte at which a key of a JSON object stands, the last time that it does; None where it is not there.

    Args:
        text: of the object, UTF-8, which was read before.
        key: as the object has it; one of an object within follows the outer one's and a dot.

    >>> place_of_key(b'{"a": {"b": 1}, "c.d": 2}', "a.b"), place_of_key(b'{"a": {"b": 1}, "c.d": 2}', "c.d")
    (7, 16)
    """
    whole = text.decode("utf-8")
    place, _ = _place_of_key(whole, whole.find("{"), key)
    return None if place is None else len(whole[:place].encode())


def _place_of_key(text: str, start: int, key: str) -> tuple[int | None, int]:
    """Of the object from a character on: the character at which the key stands, and the one behind the object."""
    found, at = None, _behind(text, start + 1)
    while text[at] != "}":
        name, end = _DECODER.raw_decode(text, at)
        if name == key:
            found = at
        at = _behind(text, end)
        if text[at] == "{" and key.startswith(f"{name}."):
            inner, at = _place_of_key(text, at, key[len(name) + 1 :])
            found = found if inner is None else inner
        else:
            _, at = _DECODER.raw_decode(text, at)
        at = _behind(text, at)
    return found, at + 1


def _behind(text: str, at: int) -> int:
    """The next character that belongs to a key or value."""
    between = _BETWEEN.match(text, at)
    return at if between is None else between.end()
