"""Any value as strict JSON text (RFC 8259), laid out for people: what every command writes with `--json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

# Of a dataclass that is a document, for the one that makes its JSON Schema (pydantic's ConfigDict).
DESCRIBED = {"use_attribute_docstrings": True, "json_schema_serialization_defaults_required": True}
INLINE = 100  # characters of an array or object that is one line


def json_text(value: Any) -> str:
    """Any value as strict JSON text, indented, with a final line break: see `plain`."""
    return _laid_out(plain(value)) + "\n"


def _laid_out(value: Any, indent: str = "") -> str:
    """JSON of plain values: an array or object that holds no other, or is short, on one line."""
    inline = json.dumps(value, ensure_ascii=False, allow_nan=False)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    flat = not any(isinstance(item, (dict, list)) and item for item in items)
    if len(inline) <= INLINE or not items or (flat and isinstance(value, list)):
        return inline
    deeper = indent + " "
    if isinstance(value, dict):
        rows = [
            f"{json.dumps(key, ensure_ascii=False)}: {_laid_out(item, deeper)}" for key, item in value.items()
        ]
        opening, closing = "{", "}"
    else:
        rows = [_laid_out(item, deeper) for item in value]
        opening, closing = "[", "]"
    return f"{opening}\n" + ",\n".join(deeper + row for row in rows) + f"\n{indent}{closing}"


def plain(value: Any) -> Any:
    """A value in JSON's own types: what a file's metadata holds may be anything.

    Args:
        value: numbers and arrays of numpy, mappings, sequences, bytes and whatever else a config holds.

    Returns:
        The same with NaN and Inf as strings, keys as text, lone surrogates replaced (no UTF-8 holds them).
    """
    match value:
        case None | bool() | int():
            return value if value is None or isinstance(value, bool) else int(value)
        case float():
            return float(value) if math.isfinite(value) else _spelled(value)
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case np.generic() | np.ndarray():
            return plain(value.tolist())
        case bytes():
            return value.decode("utf-8", "replace")
        case Mapping():
            return {plain(str(key)): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case _:
            return plain(str(value))


def _spelled(value: float) -> str:
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
