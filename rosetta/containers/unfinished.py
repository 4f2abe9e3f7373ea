"""Where a file or folder lies while it is written, and how it comes by its name: whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rosetta.errors import UsageError
from rosetta.system import hold, put_on_disk, release

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # which the system says without a file's name
ANOTHER = "name a new file with -o"
SUFFIX = ".unfinished"


@contextmanager
def unfinished(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A place in a temporary folder beside `path`; what is written there gets the name when the block ends well.

    Args:
        path: the file or folder to be made.
        replace: whether an existing file may give way to it; nothing is waited for then. Else nothing is
            overwritten, and what gets the name is on the disk.

    Raises:
        UsageError: the folder of `path` does not exist or may not be written, or the name is taken.
    """
    with folder_beside(path) as folder:
        place = folder / path.name
        yield place
        if replace:
            os.replace(place, path)
        else:
            publish(place, path)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder next to `path`, removed at the end with whatever was not moved out of it; those that were left
    by processes which were killed over the same file are removed first.

    Raises:
        UsageError: the folder of `path` does not exist, may not be written or has no room.
    """
    prefix = f".{path.name[:64]}."
    try:
        _remove_abandoned(path.parent, prefix)
        made = tempfile.mkdtemp(prefix=prefix, dir=path.parent)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"cannot be written: {reason}", file=path) from error
    held = hold(Path(made))
    folder = Path(made).rename(made + SUFFIX)  # it has the ending once it is held
    try:
        yield folder
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        said = f"cannot be written: {os.strerror(error.errno).lower()}"
        raise UsageError(said, file=path, remedy="make room there, or name a file on another disk") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        release(held)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove unfinished folders that no process holds any more."""
    for name in os.listdir(parent):
        if name.startswith(prefix) and name.endswith(SUFFIX):
            held = hold(parent / name)
            if held is not None:
                shutil.rmtree(parent / name, ignore_errors=True)
                release(held)


def publish(finished: Path, target: Path) -> None:
    """Give a finished file or folder its name, once it is on the disk.

    Raises:
        UsageError: something has taken the name meanwhile.
    """
    for path in [finished] if finished.is_file() else [*finished.iterdir(), finished]:
        put_on_disk(path)
    refuse_existing(target)
    os.rename(finished, target)


def refuse_existing(target: Path) -> None:
    """Raise if there is anything of that name, a dangling link too.

    Raises:
        UsageError: there is.
    """
    if os.path.lexists(target):
        raise UsageError("exists already, and nothing is overwritten", file=target, remedy=ANOTHER)
