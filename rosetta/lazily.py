"""torch, imported when it is first computed with: what only reads headers does without, and torch takes seconds.

For modules that readers of headers import, too; they name types in annotations alone, which nothing evaluates. What is
a table by dtype there is one of the two below.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["ByDtype", "TorchDtypes", "functional", "torch"]

Value = TypeVar("Value")

if TYPE_CHECKING:
    import torch as torch
    import torch.nn.functional as functional
else:

    class Later:
        """A module that is imported when something of it is first asked for."""

        def __init__(self, name: str) -> None:
            self._name, self._module = name, None

        def __getattr__(self, name: str) -> Any:
            if self._module is None:
                self._module = importlib.import_module(self._name)
            return getattr(self._module, name)

    torch, functional = Later("torch"), Later("torch.nn.functional")


class TorchDtypes(Mapping[str, "torch.dtype"]):
    """torch's dtypes by other names.

    Args:
        names: what torch calls each: `{"F32": "float32"}`.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)

    def __getitem__(self, name: str) -> torch.dtype:
        found: torch.dtype = getattr(torch, self._names[name])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class ByDtype(Mapping["torch.dtype", Value]):
    """Something of each of torch's dtypes: `ByDtype(float32=23)[torch.float32]` is 23."""

    def __init__(self, **values: Value) -> None:
        self._values = values

    def __getitem__(self, dtype: torch.dtype) -> Value:
        return self._values[str(dtype).removeprefix("torch.")]

    def __iter__(self) -> Iterator[torch.dtype]:
        return (getattr(torch, name) for name in self._values)

    def __len__(self) -> int:
        return len(self._values)
