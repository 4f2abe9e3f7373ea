"""What every kind of adapter says of its base's tensors, and a base together with one.

Letters: R = rows, C = columns of a matrix of the base, r = rank, E = experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.container import ContainerDefaults, Place, Setting, StoredContainer, TensorEntry


@dataclass(frozen=True)
class Factor:
    """One of the two matrices whose product is added.

    Args:
        name: of the adapter's tensor.
        dims: that are meant by it, [R, r] or [r, C]; of experts [E, R, r] or [E, r, C].
        turned: whether the tensor holds the transpose.
        interleaved: whether the experts of an [R, r·E] lie side by side by turns (peft, ParamWrapper).
    """

    name: str
    dims: tuple[int, ...]
    turned: bool = False
    interleaved: bool = False


@dataclass(frozen=True)
class Module:
    """What an adapter adds to one tensor of its base.

    Args:
        name: how the adapter calls it.
        tensors: the base's tensor, by the names that `Adapter.kind` gives it: the first that has fitting dims.
        left, right: the factors.
        rank, alpha: what the adapter says of it.
        scale: of their product.
        magnitude: name of DoRA's lengths of the rows; None without DoRA.
    """

    name: str
    tensors: tuple[str, ...]
    left: Factor
    right: Factor
    rank: float
    alpha: float
    scale: float
    magnitude: str | None = None


class Adapter(Protocol):
    """An open adapter."""

    @property
    def kind(self) -> str:
        """Whose names of tensors and order of rows it has: `huggingface` or `gguf`."""
        ...

    @property
    def path(self) -> Path:
        """As it was given."""
        ...

    @property
    def weights(self) -> Path:
        """The file with its tensors."""
        ...

    @property
    def stored(self) -> StoredContainer:
        """Its tensors."""
        ...

    @property
    def modules(self) -> tuple[Module, ...]:
        """What it adds."""
        ...

    @property
    def whole(self) -> Mapping[str, str]:
        """Tensors in the place of the base's: their names there -> here."""
        ...

    @property
    def rows(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Rows in the place of some of the base's: the tensor's name there -> (name here, which rows)."""
        ...

    @property
    def ties(self) -> bool:
        """Whether a tensor in the place of one that the base ties to another is in the place of both."""
        ...

    @property
    def architecture(self) -> str | None:
        """That it says it is for, as GGUF files call it; None where it does not say."""
        ...

    @property
    def base(self) -> str | None:
        """The model that it says it was trained on."""
        ...

    @property
    def remedy(self) -> str:
        """What to do where it cannot be merged here."""
        ...

    @property
    def words(self) -> str:
        """What it is: `LoRA of 14 modules, scale 2`."""
        ...


class AdaptedContainer(ContainerDefaults):
    """A base and an adapter: what the base's files hold, and what is to be made of it.

    Args:
        base: open.
        adapter: open.
    """

    def __init__(self, base: StoredContainer, adapter: Adapter) -> None:
        self.base, self.adapter = base, adapter
        self.kind, self.path, self.architecture = base.kind, base.path, base.architecture
        self.label = f"{base.label}+LoRA"
        self.metadata: Mapping[str, Any] = base.metadata
        self.settings: Mapping[str, Setting] = base.settings
        self.tensors: Mapping[str, TensorEntry] = base.tensors
        self.file_bytes = base.file_bytes + adapter.stored.file_bytes
        self.notes: tuple[str, ...] = (
            *base.notes,
            f"{adapter.path} is merged in memory: {adapter.words}",
        )
        self.absent, self.refusal = base.absent, base.refusal
        self.transposed_linears, self.column_major = base.transposed_linears, base.column_major

    @property
    def is_native(self) -> bool:
        """See `Container`: of the base."""
        return self.base.is_native

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """See `Container`: of both."""
        return {**self.base.data_starts, **self.adapter.stored.data_starts}

    def places(self, name: str) -> Mapping[str, Place]:
        """See `Container`: of the base."""
        return self.base.places(name)

    def all_places(self) -> Mapping[str, Place]:
        """See `Container`: of both."""
        return {**self.base.all_places(), **self.adapter.stored.all_places()}

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`: of the base."""
        return self.base.read(name, start, nbytes)

    def place(self, name: str) -> tuple[Path, int]:
        """See `StoredContainer.place`: of the base."""
        return self.base.place(name)

    def close(self) -> None:
        """Release the files of both."""
        self.base.close()
        self.adapter.stored.close()


def scales_of(modules: tuple[Module, ...]) -> str:
    """`, scale 2`: of all modules, three of them at most."""
    scales = sorted({found.scale for found in modules})
    return f", scale {' and '.join(f'{scale:g}' for scale in scales[:3])}" if scales else ""
