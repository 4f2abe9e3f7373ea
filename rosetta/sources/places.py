"""What is at a path, here or afar."""

from __future__ import annotations

import os
from pathlib import Path

from rosetta.errors import unreadable
from rosetta.sources.remote_path import RemotePath


def is_file(path: Path) -> bool:
    """Whether there is a file; False, not an error, for a path that no system could have."""
    return path.is_file() if isinstance(path, RemotePath) else os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False, not an error, for a path that no system could have."""
    return path.is_dir() if isinstance(path, RemotePath) else os.path.isdir(path)


def is_nowhere(path: Path) -> bool:
    """Whether nothing is at a path that could be one."""
    if isinstance(path, RemotePath):
        return not path.exists()
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # said where the file is opened
        return False
    return False


def names_in(folder: Path) -> list[str]:
    """The names of a folder's files, sorted.

    Raises:
        UsageError: the folder may not be read.
    """
    if isinstance(folder, RemotePath):
        return sorted(folder.store.names_in(folder.inside))
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise unreadable(folder, error) from error
