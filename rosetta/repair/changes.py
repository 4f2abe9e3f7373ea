"""What a repair changed, one line each, in the words of the file that was repaired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ABSENT = "absent"
LONGEST = 60  # letters of a value


@dataclass(frozen=True)
class Change:
    """One thing that the repaired file says or holds otherwise.

    Args:
        subject: the tensor or key as the file spells it.
        before: what the file had; `absent` where it had none.
        after: what the repaired file has; `absent` where it has none.
        note: what else is to be known: what was taken from the other file, why the dtype is another one.
    """

    subject: str
    before: str
    after: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.before} -> {self.after}" + (f" ({self.note})" if self.note else "")


def said(value: Any) -> str:
    """A metadata value in a few words: a float32 by its shortest digits, a long list by its length."""
    if isinstance(value, float) and float(np.float32(value)) == value:
        return repr(float(str(np.float32(value))))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {said(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and len(value) > 8:
        return f"{len(value)} items"
    text = (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if _is_plain(value)
        else str(value)
    )
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)
