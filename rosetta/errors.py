"""The one family of exceptions that a user may see. Each is one sentence: what, in which file, where, what to do."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ADDRESS = re.compile(r"\b(?!hf://)([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/\s@'\"]*@)?([^\s?'\"]*)(\?[^\s#'\")]*)?")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")  # the hub's


class RosettaError(Exception):
    """An error worded for the person at the terminal; the command line prints it and exits 2.

    Args:
        message: what is wrong, lower case, without a full stop: `the index ends at byte 812,032 of 800,000`.
        file: the file or folder concerned.
        where: the tensor, key or byte inside it: `tensor 'lm_head.weight'`, `byte 12`.
        remedy: what to do about it: `the file is truncated; copy it again`.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        where: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.message = message = without_secrets(message)
        self.file = file = without_secrets(file) if isinstance(file, str) else file
        self.where, self.remedy = where, remedy
        start = ": ".join(str(part) for part in (file, where) if part is not None)
        text = f"{start}: {message}" if start else message
        super().__init__(without_secrets(one_line(f"{text}: {remedy}" if remedy else text)))


class UsageError(RosettaError):
    """The command line or the call asks for something that cannot be done."""


class DamagedFileError(RosettaError):
    """The file contradicts its own format: truncated, absurd counts or offsets, not what its magic says."""


class UnsupportedError(RosettaError):
    """The file is sound, and holds something rosetta does not read or run."""


def unreadable(path: str | Path, error: OSError) -> UsageError:
    """What the operating system will not open, and what to do about it."""
    remedy = "let its owner make it readable" if isinstance(error, PermissionError) else "check the path"
    return UsageError(os.strerror(error.errno or 0).lower(), file=path, remedy=remedy)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of Python, numpy, or torch on a processor or a GPU, says that there is no memory left.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shape '[2]' is invalid"))
    (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch.OutOfMemoryError
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # c10, alloc_cpu.cpp


def one_line(text: str) -> str:
    """Text with line breaks and control characters made visible: names in a hostile file may hold any."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def without_secrets(text: str) -> str:
    """Text without what addresses in it tell of their user: names, passwords, and queries, which may hold signatures.

    >>> without_secrets("https://me:pw@example.org/a.gguf?X-Amz-Signature=1 is damaged")
    'https://example.org/a.gguf is damaged'
    """
    if "://" in text:
        text = _ADDRESS.sub(r"\1\2", text)
    return _TOKEN.sub("hf_…", text)
