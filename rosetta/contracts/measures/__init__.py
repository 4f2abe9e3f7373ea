"""What a falsifier may measure: every module here that has `ARGUMENTS` and
`measure(arguments, ground)`. A new one is a new file."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rosetta.containers.values import Kind
from rosetta.contracts.specimen import write_specimen
from rosetta.errors import UsageError

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Ground:
    """Where a falsifier runs.

    Args:
        home: the contract's folder, from which paths are counted.
        scratch: an empty folder for what is made.
    """

    home: Path
    scratch: Path

    def model(self, named: Any, place: str) -> str:
        """The operand that a contract names: a path, a specimen, or `RUNTIME:` before one.

        Args:
            named: a text, or a mapping with `specimen` or `path`, `dtype`, `change`, `runtime`, `cut`.
            place: a name for what is made of it, different for each operand of a run.

        Raises:
            UsageError: there is no such file, or the mapping says neither.
        """
        if isinstance(named, str):
            return str(self._existing(named))
        if not isinstance(named, Mapping) or not ({"specimen", "path"} & named.keys()):
            raise UsageError(f"{named!r:.80} names neither a path nor a specimen")
        folder = self.scratch / place
        folder.mkdir(parents=True)
        if "specimen" in named:
            path = write_specimen(folder, named["specimen"], named.get("dtype", "F16"), named.get("change"))
        else:
            path = self._existing(named["path"])
        if named.get("cut"):  # a copy that has lost its last bytes
            path = _cut(path, folder, int(named["cut"]))
        if named.get("harm"):  # a copy with one tensor's bytes turned round
            path = _harmed(path, folder / "harmed", str(named["harm"]))
        runtime = named.get("runtime")
        return str(path) if runtime is None else f"{runtime}:{path}"

    def _existing(self, named: str) -> Path:
        path = self.home / named
        if not path.exists():
            remedy = "paths are counted from the contract's folder"
            raise UsageError("no such file or directory", file=path, remedy=remedy)
        return path


def _cut(path: Path, folder: Path, nbytes: int) -> Path:
    target = folder / f"cut-{path.name}"
    shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)
    file = max(target.glob("*.safetensors")) if target.is_dir() else target
    with file.open("r+b") as out:
        out.truncate(max(file.stat().st_size - nbytes, 0))
    return target


def _harmed(path: Path, folder: Path, tensor: str) -> Path:
    """A copy in which one tensor's data runs backwards."""
    from rosetta.containers import open_container

    folder.mkdir()
    target = folder / path.name
    shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)
    container = open_container(target)
    try:
        if tensor not in container.tensors:
            raise UsageError(f"has no tensor {tensor!r:.80}", file=path, remedy="name one of the file's own")
        file, start = container.place(tensor)
        data = container.read(tensor)[::-1].tobytes()
    finally:
        container.close()
    with file.open("r+b") as out:
        out.seek(start)
        out.write(data)
    return target


@dataclass(frozen=True)
class Measure:
    """What may be measured.

    Args:
        arguments: that a run of it may have, and what each must be.
        measured: what comes of a run.
    """

    arguments: Mapping[str, Kind]
    measured: Callable[[Mapping[str, Any], Ground], Facts]


@cache
def all_measures() -> Mapping[str, Measure]:
    """Every measure by its name."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    return {
        module.__name__.rpartition(".")[2]: Measure(module.ARGUMENTS, module.measure)
        for module in modules
        if hasattr(module, "measure")
    }
