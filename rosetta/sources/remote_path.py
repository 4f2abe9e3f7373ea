"""A path of a file or folder that is read from afar: what the code that opens models asks of a path, and no more."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rosetta.sources.afar.store import Store

    _Local = Path
else:
    _Local = type(Path())


class RemotePath(_Local):
    """A file or folder of a store.

    Args:
        store: what reads it.
        inside: its name in the store, parts joined by slashes; empty for the store's own folder.
    """

    store: Store
    inside: str

    def __new__(cls, store: Store, inside: str) -> RemotePath:  # Path's own takes any arguments
        made = super().__new__(cls, store.shown(inside))
        made.store, made.inside = store, inside
        return made

    def __init__(self, store: Store, inside: str) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(store.shown(inside))

    def __str__(self) -> str:
        """Its address, without what only its owner may know."""
        return self.store.shown(self.inside)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __truediv__(self, name: str | os.PathLike[str]) -> RemotePath:
        return RemotePath(self.store, "/".join(filter(None, (self.inside, str(name)))))

    @property
    def parent(self) -> RemotePath:
        """The folder around it; of a store's own folder itself."""
        return RemotePath(self.store, self.inside.rpartition("/")[0])

    def with_name(self, name: str) -> RemotePath:
        """Another file beside it."""
        return self.parent / name

    def resolve(self, strict: bool = False) -> RemotePath:
        """Itself."""
        return self

    def is_file(self, **_: Any) -> bool:
        """Whether there is such a file."""
        return self.store.file(self.inside) is not None

    def is_dir(self, **_: Any) -> bool:
        """Whether it is a folder that holds a model, or any where the store can list."""
        return self.store.is_folder(self.inside)

    def exists(self, **_: Any) -> bool:
        """Whether there is anything."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Generator[RemotePath, None, None]:
        """What lies in it; nothing where the store cannot list."""
        return (self / name for name in self.store.names_in(self.inside))

    def stat(self, **_: Any) -> os.stat_result:
        """Its size, as that of a regular file."""
        return os.stat_result(
            (stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, self.store.opened(self.inside).size, 0, 0, 0)
        )

    def read_bytes(self) -> bytes:
        """All of it."""
        return self.store.opened(self.inside).whole()
