"""Kinds of configuration value, and how a value found in a file is held to its kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WRONG_VALUE = "the file is damaged or was written wrongly; convert it again"
"""What to do about a value that no file can mean."""
BEYOND_COUNTING = 1 << 63
"""The first whole number that no file counts to."""


@dataclass(frozen=True)
class Kind:
    """What a configuration key may hold.

    Args:
        noun: how it is called in a message: `a whole number`.
        holds: whether a value is of the kind.
    """

    noun: str
    holds: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < BEYOND_COUNTING


def _is_number(value: Any) -> bool:
    # a whole number of JSON may be larger than any float
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_counts(value: Any) -> bool:
    return _is_count(value) or (isinstance(value, list) and all(map(_is_count, value)))


def _is_numbers(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, list) and all(map(_is_number, value)))


def _is_layers(value: Any) -> bool:
    listed = isinstance(value, list) and all(isinstance(item, bool) or _is_count(item) for item in value)
    return listed or _is_count(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_text_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str | None) for item in value.values())


def _is_quantization(value: Any) -> bool:
    """aprender's QuantizationMetadata; a bare string makes its reader refuse the whole file."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("quant_type"), str)
        and _is_count(value.get("bits"))
        and (value.get("block_size") is None or _is_count(value["block_size"]))
        and isinstance(value.get("symmetric"), bool)
    )


COUNT = Kind("a whole number from 0 on", _is_count)
COUNTS = Kind("a whole number from 0 on, or a list of them", _is_counts)
NUMBER = Kind("a finite number", _is_number)
NUMBERS = Kind("a finite number, or a list of them", _is_numbers)
LAYERS = Kind("a whole number from 0 on, or a list of one flag for each layer", _is_layers)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("a text", lambda value: isinstance(value, str))
TEXTS = Kind("a list of texts", _is_texts)
TABLE = Kind("an object", lambda value: isinstance(value, dict))
TEXT_TABLE = Kind("an object of texts", _is_text_table)
QUANTIZATION = Kind("an object of quant_type, bits, block_size and symmetric", _is_quantization)
ANY = Kind("any value", lambda value: True)
