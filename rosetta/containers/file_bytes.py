"""A file read by position into fresh arrays: safe in threads, nothing mapped, every bound checked first.

Of a file that is read from afar the bytes asked for are fetched first (`rosetta.sources.afar.store`)."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rosetta.errors import DamagedFileError, UsageError, unreadable
from rosetta.sources.remote_path import RemotePath
from rosetta.system import open_to_read, read_at

if TYPE_CHECKING:
    from rosetta.sources.afar.store import Distant

_WINDOW = 1 << 18  # bytes that a cursor reads ahead


class FileBytes:
    """An open file. Counts and offsets are Python ints, held against the size before memory is taken.

    Args:
        path: a regular file.

    Raises:
        UsageError: the file is missing, may not be read, or is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._distant: Distant | None = None
        if isinstance(path, RemotePath):
            self._distant = path.store.opened(path.inside)
            self._descriptor, self.size = self._distant.descriptor(), self._distant.size
            return
        try:
            descriptor = open_to_read(path)
        except OSError as error:
            raise unreadable(path, error) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise UsageError("is not a regular file", file=path, remedy="give a file or a folder")
        self._descriptor, self.size = descriptor, status.st_size

    def array(self, start: int, nbytes: int) -> NDArray[np.uint8]:
        """Bytes `start … start+nbytes` as a fresh writable array.

        Raises:
            DamagedFileError: the file ends before.
            UsageError: the file has been closed.
        """
        if self._descriptor is None:
            raise UsageError("was read after it was closed", file=self.path)
        self.require(start, nbytes, "the data")
        if self._distant is not None:
            self._distant.hold(start, start + nbytes)
        data = np.empty(nbytes, np.uint8)
        done = 0
        while done < nbytes:
            count = read_at(self._descriptor, data[done:].data, start + done)
            if count == 0:
                raise DamagedFileError(
                    f"ends at byte {start + done:,}, and had {self.size:,} when it was opened",
                    file=self.path,
                    remedy="do not change it while it is read",
                )
            done += count
        return data

    def bytes(self, start: int, nbytes: int) -> bytes:
        """The same as immutable bytes."""
        return self.array(start, nbytes).tobytes()

    def require(self, start: int, nbytes: int, what: str) -> None:
        """Raise unless bytes `start … start+nbytes` lie in the file.

        Args:
            what: whose bytes they are, for the message: `the index`, `tensor 'a.weight'`.
        """
        if start < 0 or nbytes < 0 or start + nbytes > self.size:
            raise DamagedFileError(
                f"{what} ends at byte {start + nbytes:,}, after the end of the file ({self.size:,})",
                file=self.path,
                remedy="the file is truncated or damaged; copy it again",
            )

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()


class Cursor:
    """Walks through part of a file from front to back, reading ahead by the window.

    Args:
        file: the file.
        position: where the walk begins.
        end: where it must stop; the end of the file by default.
        what: the part's name in messages: `the header`.
    """

    def __init__(
        self, file: FileBytes, position: int, end: int | None = None, what: str = "the header"
    ) -> None:
        self.file, self.position, self.what = file, position, what
        self.end = file.size if end is None else min(end, file.size)
        self._window, self._from = b"", position

    def take(self, nbytes: int) -> bytes:
        """The next bytes.

        Raises:
            DamagedFileError: the part ends before.
        """
        self._require(nbytes)
        at = self.position - self._from
        if at + nbytes > len(self._window):
            ahead = min(max(nbytes, _WINDOW), self.end - self.position)
            self._window, self._from, at = self.file.bytes(self.position, ahead), self.position, 0
        self.position += nbytes
        return self._window[at : at + nbytes]

    def skip(self, nbytes: int) -> None:
        """Step over bytes without reading them."""
        self._require(nbytes)
        self.position += nbytes

    @property
    def left(self) -> int:
        """Bytes up to the end of the part."""
        return self.end - self.position

    def window(self) -> tuple[bytes, int]:
        """What has been read ahead, from the present position on, and more if that is little: for fast loops.

        Returns:
            bytes of the file, and the index among them of the present position.
        """
        if self.position - self._from + 8 > len(self._window):
            ahead = min(_WINDOW, self.left)
            self._window, self._from = self.file.bytes(self.position, ahead), self.position
        return self._window, self.position - self._from

    def _require(self, nbytes: int) -> None:
        if nbytes > self.left:
            raise DamagedFileError(
                f"{self.what} runs on to byte {self.position + nbytes:,}, and must end by {self.end:,}",
                file=self.file.path,
                where=f"byte {self.position:,}",
                remedy="the file is truncated or damaged; copy it again",
            )
