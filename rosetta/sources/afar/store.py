"""A place that is read from afar by ranges: each byte is fetched once, counted, and kept in an unnamed file of this
machine, so that memory holds none of it.

Letters: a block is `BLOCK` bytes of a file, the unit of what is kept.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import IO, Protocol

from fsspec.utils import merge_offset_ranges

from rosetta.errors import DamagedFileError, UsageError
from rosetta.system import read_at, write_at

BLOCK = 1 << 16  # bytes
PIECE = 4 << 20  # bytes of a range; several are fetched side by side
GAP = 4  # blocks between two ranges that are fetched along, which is sooner done than asking twice
AHEAD = 32 << 20  # bytes that are fetched at a time, of what is asked for and of what will be
ROOM = 8 << 30  # bytes of one file that are kept on disk; a layer of 400 billion weights fits
MODEL_FILES = (".gguf", ".apr")  # what nobody calls a folder: asking whether it is one would be a waste
MODEL = ("config.json",)  # what makes a folder one that holds a model, where a store cannot list

Span = tuple[int, int]
"""Bytes start … stop of a file."""


@dataclass(frozen=True)
class Facts:
    """What a place says of a file when it is opened.

    Args:
        size: in bytes.
        version: what changes when the file does: a revision, a version or an ETag; None where it says nothing.
        head: its first bytes, where they came along.
    """

    size: int
    version: str | None
    head: bytes = b""


class Files(Protocol):
    """How a kind of place is asked. Names are those of a store; retries and time-outs are its own."""

    @property
    def requests(self) -> int:
        """How many ranges have been asked for."""
        ...

    def facts(self, name: str) -> Facts | None:
        """Of a file; None where there is none."""
        ...

    def names(self, folder: str) -> Sequence[str] | None:
        """What lies in a folder; None where the place cannot list."""
        ...

    def ranges(self, name: str, spans: Sequence[Span], facts: Facts) -> list[bytes]:
        """Some spans of a file, fetched side by side.

        Raises:
            DamagedFileError: the file is no longer the one that was opened.
            UsageError: the place cannot be reached, or does not serve ranges.
        """
        ...


class Store:
    """Files under one address.

    Args:
        files: how they are asked for.
        address: of the folder, without what only its owner may know, and without a slash at its end.
        revision: of all files together, where the place has one.
    """

    def __init__(self, files: Files, address: str, revision: str | None = None) -> None:
        self.files, self.address, self.revision = files, address, revision
        self.fetched_bytes = 0
        self._opened: dict[str, Distant | None] = {}
        self._names: dict[str, tuple[str, ...] | None] = {}
        self._expected: list[tuple[str, Span]] = []
        self._lock = RLock()

    def shown(self, inside: str) -> str:
        """The address of a file as it may be told."""
        return f"{self.address}/{inside}" if inside else self.address

    def file(self, name: str) -> Distant | None:
        """A file, pinned to what it is when it is first asked for; None where there is none."""
        with self._lock:
            if name not in self._opened:
                facts = self.files.facts(name) if name else None
                self._opened[name] = None if facts is None else Distant(self, name, facts)
            return self._opened[name]

    def opened(self, name: str) -> Distant:
        """A file that there must be.

        Raises:
            UsageError: there is none.
        """
        found = self.file(name)
        if found is None:
            raise UsageError("no such file", file=self.shown(name), remedy="check the address")
        return found

    def names_in(self, folder: str) -> tuple[str, ...]:
        """What lies in a folder; nothing where the place cannot list."""
        return self._listed(folder) or ()

    def is_folder(self, name: str) -> bool:
        """Whether there is such a folder; where the place cannot list, whether it holds a model."""
        listed = self._listed(name)
        if listed is not None:
            return bool(listed)
        if name.endswith(MODEL_FILES):
            return False
        return any(self.file("/".join(filter(None, (name, file)))) is not None for file in MODEL)

    @property
    def versions(self) -> dict[str, str]:
        """What each file that was opened is pinned to."""
        opened = {name: file for name, file in self._opened.items() if file is not None}
        return {name: file.facts.version for name, file in opened.items() if file.facts.version is not None}

    def expect(self, wanted: Iterable[tuple[str, Span]]) -> None:
        """Say which spans of which files will be read next: whoever reads one of them fetches others along with it."""
        with self._lock:
            self._expected = list(wanted)

    def hold(self, file: Distant, span: Span) -> None:
        """Have a span of a file on this machine; with it comes what is expected, as far as there is room."""
        with self._lock:
            for start in range(span[0], span[1], AHEAD):
                part = start, min(start + AHEAD, span[1])
                missing = list(file.missing(part))
                if not missing:
                    continue
                wanted = {file: dict.fromkeys(missing)}
                self._add_expected(wanted, AHEAD // BLOCK - len(missing))
                for distant, blocks in wanted.items():
                    if blocks:  # of what is expected all may be here
                        distant.fetch(sorted(blocks))

    def _add_expected(self, wanted: dict[Distant, dict[int, None]], room: int) -> None:
        for name, span in self._expected:
            distant = self.file(name)
            if distant is None:
                continue
            blocks = wanted.setdefault(distant, {})
            for block in distant.missing(span):
                if room <= 0:
                    return
                room -= block not in blocks
                blocks[block] = None

    def _listed(self, folder: str) -> tuple[str, ...] | None:
        with self._lock:
            if folder not in self._names:
                names = self.files.names(folder)
                self._names[folder] = None if names is None else tuple(names)
            return self._names[folder]


class Distant:
    """One file of a store, as much of it as has been fetched.

    Args:
        store: its own.
        name: in the store.
        facts: what it was when it was opened.
    """

    def __init__(self, store: Store, name: str, facts: Facts) -> None:
        self.store, self.name, self.facts, self.size = store, name, facts, facts.size
        self._held = bytearray(-(-facts.size // BLOCK))
        self._kept: IO[bytes] = tempfile.TemporaryFile(prefix="rosetta-")  # noqa: SIM115  # it lives as long as this
        os.ftruncate(self._kept.fileno(), facts.size)
        store.fetched_bytes += len(facts.head)
        whole = len(facts.head) if len(facts.head) == facts.size else len(facts.head) // BLOCK * BLOCK
        if whole:
            self._keep(0, facts.head[:whole])

    def descriptor(self) -> int:
        """A descriptor of what is kept, for the caller to close; of other bytes than those held it reads zeros."""
        return os.dup(self._kept.fileno())

    def hold(self, start: int, stop: int) -> None:
        """Have bytes start … stop on this machine."""
        self.store.hold(self, (start, stop))

    def whole(self) -> bytes:
        """All bytes of a small file."""
        self.hold(0, self.size)
        data, done = bytearray(self.size), 0
        while done < self.size:
            done += read_at(self._kept.fileno(), memoryview(data)[done:], done)
        return bytes(data)

    def missing(self, span: Span) -> Iterator[int]:
        """Blocks of a span that are not held."""
        first, last = span[0] // BLOCK, -(-min(span[1], self.size) // BLOCK)
        return (block for block in range(first, last) if not self._held[block])

    def fetch(self, blocks: Sequence[int]) -> None:
        """Have some blocks, ascending, which are not held."""
        if (sum(self._held) + len(blocks)) * BLOCK > ROOM:  # begin anew: what was of use is behind
            self._held = bytearray(len(self._held))
            os.ftruncate(self._kept.fileno(), 0)
            os.ftruncate(self._kept.fileno(), self.size)
        spans = [(start, min(stop, self.size)) for start, stop in _spans(blocks)]
        for (start, stop), data in zip(
            spans, self.store.files.ranges(self.name, spans, self.facts), strict=True
        ):
            if len(data) != stop - start:
                raise DamagedFileError(
                    f"gave {len(data):,} bytes for bytes {start:,} to {stop:,}",
                    file=self.store.shown(self.name),
                    remedy="do not change it while it is read",
                )
            self.store.fetched_bytes += len(data)
            self._keep(start, data)

    def _keep(self, start: int, data: bytes) -> None:
        done = 0
        while done < len(data):
            done += write_at(self._kept.fileno(), memoryview(data)[done:], start + done)
        for block in range(start // BLOCK, -(-(start + len(data)) // BLOCK)):
            self._held[block] = 1


def _spans(blocks: Sequence[int]) -> Iterator[Span]:
    """The bytes of some ascending blocks, those that lie near each other together, in pieces."""
    _, starts, ends = merge_offset_ranges(
        [""] * len(blocks),
        [block * BLOCK for block in blocks],
        [(block + 1) * BLOCK for block in blocks],
        max_gap=GAP * BLOCK,
        max_block=PIECE,
    )
    return zip(starts, ends, strict=True)
