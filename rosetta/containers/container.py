"""What every container offers: its metadata and its tensors, opened lazily. Knows nothing of models.

Letters: n = number of weights of a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


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


@runtime_checkable
class Container(Protocol):
    """A file or folder that holds a model."""

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


@dataclass(frozen=True)
class TensorInput:
    """A tensor to be written: raw bytes already encoded as `dtype`, dims row-major."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    data: NDArray[np.uint8] = field(repr=False)
