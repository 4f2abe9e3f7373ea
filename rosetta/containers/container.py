"""What every container offers: its metadata and its tensors, opened lazily. Knows nothing of models.

Letters: n = number of weights of a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rosetta.errors import RosettaError


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as its file declares it.

    Args:
        name: the name that the file uses.
        dtype: canonical dtype name: gguf-py's (`F32`, `Q4_K`, …), `APR_Q4`, `APR_Q8`, `U8`, `BOOL`, …
        dims: row-major, outermost first, as stored (GGUF's reversed `ne` are already turned round).
        nbytes: bytes of data; 0 with dims that are not empty marks a placeholder (a tied head). An `.apr` index
            says it beside dtype and dims, and may contradict them.
        room: bytes up to the next tensor's data, where they are not those that dtype and dims take (GGUF);
            they may be read, too.
        held: bytes that the file spends on it, where they are not those of its data as it is read: a packed weight
            with its scales is read as numbers.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    nbytes: int
    room: int | None = None
    held: int | None = None

    @property
    def file_bytes(self) -> int:
        """Bytes that the file spends on it."""
        return self.nbytes if self.held is None else self.held


@dataclass(frozen=True)
class Setting:
    """A configuration value as the file declares it: `key` is the file's own spelling."""

    value: Any
    key: str


class Place(NamedTuple):
    """Bytes of a file: which, from where on, how many."""

    path: Path
    start: int
    nbytes: int


@runtime_checkable
class Container(Protocol):
    """A file or folder that holds a model. Most of what not every one has something to say of stands in
    `ContainerDefaults`."""

    @property
    def kind(self) -> str:
        """`apr`, `gguf` or `huggingface`."""
        ...

    @property
    def label(self) -> str:
        """How people call it: `APR`, `GGUF`, `HF`."""
        ...

    @property
    def path(self) -> Path: ...

    @property
    def architecture(self) -> str | None:
        """As declared, not interpreted: `qwen2`, `LlamaForCausalLM`; None when the file does not say."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """All keys as the file spells them; large arrays are decoded when first asked for."""
        ...

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What the file declares of its configuration, under GGUF keys without the architecture
        (`attention.head_count`); only keys that are present. Non-GGUF facts have names of the same style:
        `rope.type` (0 interleaved, 2 split-half), `activation`, `tied_embeddings`."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorEntry]:
        """In file order."""
        ...

    @property
    def file_bytes(self) -> int: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Irregularities that were tolerated, each one sentence."""
        ...

    @property
    def absent(self) -> Mapping[str, str]:
        """Tensors that an index places in a file that does not hold them, and which file."""
        ...

    @property
    def refusal(self) -> RosettaError | None:
        """Why it is no model that could be run; it may be inspected."""
        ...

    @property
    def transposed_linears(self) -> bool:
        """Whether the file says that it stores its two-dimensional linears `[in, out]`."""
        ...

    @property
    def column_major(self) -> bool:
        """Whether the file says so of all its data; no loader accepts that, and it is a layout fault."""
        ...

    @property
    def is_native(self) -> bool:
        """Whether its data lie in this machine's byte order, and are read as they lie."""
        ...

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """Where the data begins in each of its files; empty where it names none."""
        ...

    def places(self, name: str) -> Mapping[str, Place]:
        """Where files store what is read of a tensor, by their own names: itself, or what it is packed in; nothing of
        what a repair holds in memory."""
        ...

    def all_places(self) -> Mapping[str, Place]:
        """Where files store all that they hold."""
        ...

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """Bytes `start … start+nbytes` of a tensor's data (all by default), in the machine's byte order,
        as a fresh writable array: nothing stays mapped.

        Raises:
            DamagedFileError: the file has become shorter than it was when opened.
        """
        ...

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        ...


@runtime_checkable
class StoredContainer(Container, Protocol):
    """A container whose tensors lie in files as they are."""

    def place(self, name: str) -> tuple[Path, int]:
        """The file that holds a tensor's data, and the byte of it where they begin."""
        ...


class ContainerDefaults:
    """A container that has nothing to say of these, and lies in no file; see `Container`."""

    absent: Mapping[str, str] = MappingProxyType({})
    refusal: RosettaError | None = None
    transposed_linears: bool = False
    column_major: bool = False

    @property
    def is_native(self) -> bool:
        """See `Container`."""
        return True

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """See `Container`."""
        return {}

    def places(self, name: str) -> Mapping[str, Place]:
        """See `Container`."""
        return {}

    def all_places(self) -> Mapping[str, Place]:
        """See `Container`."""
        return {}


class StoredDefaults(ContainerDefaults):
    """A container each tensor of which lies in one place of one file."""

    tensors: Mapping[str, TensorEntry]

    def place(self, name: str) -> tuple[Path, int]:
        """See `StoredContainer`."""
        raise NotImplementedError

    def places(self, name: str) -> Mapping[str, Place]:
        """See `Container`."""
        return {name: Place(*self.place(name), self.tensors[name].nbytes)}

    def all_places(self) -> Mapping[str, Place]:
        """See `Container`."""
        return {name: place for tensor in self.tensors for name, place in self.places(tensor).items()}


@dataclass(frozen=True)
class TensorInput:
    """A tensor to be written: raw bytes already encoded as `dtype`, dims row-major."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    data: NDArray[np.uint8] = field(repr=False)
