"""What a scheme is given and what it gives back: a folder's tensors by name, and the weights that they are parts of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = ("F16", "BF16", "F32")  # of scales
LARGEST_NOTE = 1 << 16  # bytes of a tensor that says how others are read
READ_AGAIN = "download the folder again, or quantise the model again"
INSTEAD = (
    "compare the folder that it was quantised from, or dequantise it with transformers and save_pretrained"
)


class Entry(Protocol):
    """A tensor as its file declares it."""

    @property
    def dtype(self) -> str: ...
    @property
    def dims(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...


class Parts(Protocol):
    """Tensors as the folder holds them, read when asked for; each number is of the dtype that the file declares."""

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows start … stop, all dims but the last one counted as rows, [rows, C]; of a vector its numbers, [rows]."""
        ...

    def columns(self, name: str, start: int, stop: int) -> Tensor:
        """Columns start … stop of a matrix, [R, columns]."""
        ...


Scales = Literal["as stored", "ignored", "divided by", "transposed"]


@dataclass(frozen=True)
class Way:
    """How a packed weight is read; the defaults are the scheme's own rules, and the rest what goes wrong in practice.

    Args:
        zero_shift: added to every zero point.
        swapped: the parts, `codes` or `zeros`, whose codes are in another order.
        order: which order that is: the two of a `byte` exchanged, or those of a word in `turn`.
        scales: what is done with them.
        in_order: columns are taken to belong to groups in turn, whatever the group index says.
    """

    zero_shift: int = 0
    swapped: tuple[str, ...] = ()
    order: Literal["byte", "turn"] = "byte"
    scales: Scales = "as stored"
    in_order: bool = False


@dataclass(frozen=True)
class Packed:
    """A weight that several tensors hold.

    Args:
        name: the weight's own name, as a folder that is not quantised would have it.
        dims: its dims, row-major.
        parts: the tensors that belong to it, by what they are for.
        way: how they are read.
    """

    name: str
    dims: tuple[int, ...]
    parts: Mapping[str, str] = field(hash=False)
    way: Way = Way()

    @property
    def dtype(self) -> str:
        """The scheme, a colon, and what a code is: `GPTQ:INT4`."""
        raise NotImplementedError

    @property
    def ways(self) -> Sequence[Way]:
        """How such a weight is wrongly written or read in practice."""
        raise NotImplementedError

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Values and the standard deviation of their rounding, float32 [rows, C] each.

        Args:
            parts: where the tensors are read.
            start, stop: the rows, all dims but the last one counted as rows.
        """
        raise NotImplementedError

    @property
    def ggml(self) -> str | None:
        """The dtype of ggml's blocks that hold the same codes and scales; None where there is none."""
        return None

    def blocks(self, parts: Parts, start: int, stop: int) -> Tensor:
        """Rows start … stop as blocks of `ggml`, uint8 [rows, bytes of a row]; nothing is decoded."""
        raise NotImplementedError

    turned: ClassVar[bool] = False
    """Whether codes and scales lie by input and output, [C, R] and [G, R]."""

    zeros_packed: ClassVar[Literal["", "along columns", "along rows"]] = ""
    """Whether zero points lie in words, those of a group or those of a row."""

    row_places: ClassVar[tuple[int, ...]] = ()
    """Where in a word the code of each of its rows lies; in turn where empty."""

    @property
    def code_bits(self) -> int:
        """Of a code, and of a zero point that is packed."""
        return 4

    def zero_point(self, stored: int) -> int:
        """What a stored zero point stands for."""
        return stored

    def reordered(self, stored: Tensor) -> Tensor:
        """Codes, or packed zero points, that are in the order of the way, in that in which the scheme reads them."""
        data = stored.contiguous().view(-1).view(torch.uint8)
        codes_of = exchanged(codes(data.view(-1, 1), self.code_bits), 8 // self.code_bits).int()
        powers = 1 << torch.arange(0, 8, self.code_bits)
        return (codes_of * powers).sum(-1).to(torch.uint8).view(stored.dtype).view(stored.shape)

    @property
    def scale_rows(self) -> int:
        """How many rows of scales there are; several rows of the weight may share one."""
        return self.rows

    def scales_by_row(self, stored: Tensor) -> Tensor | None:
        """The stored scales as a view [rows of scales, G]; None where groups run on from row to row."""
        if self.turned:
            return stored.reshape(-1, self.rows).T
        return stored.reshape(self.scale_rows, -1) if stored.numel() % self.scale_rows == 0 else None

    def codes_by_row(self, stored: Tensor) -> Tensor | None:
        """The stored codes as a view [R, …]; None where several rows share a word."""
        if self.turned:
            return stored.T
        return stored.reshape(self.rows, -1) if stored.numel() % self.rows == 0 else None

    def places(self, parts: Parts, start: int, stop: int, groups: int) -> tuple[Tensor, Tensor]:
        """Which scale goes with each weight of some rows: the row of scales, int64 [rows], and which of so many groups
        each column belongs to, int64 [C]."""
        return torch.arange(start, stop), in_turn(self.columns, -(-self.columns // groups))

    @property
    def columns(self) -> int:
        """C."""
        return self.dims[-1]

    @property
    def rows(self) -> int:
        """R, all dims but the last."""
        return prod(self.dims[:-1])


@dataclass(frozen=True)
class PlacesOf(Packed):
    """In the place of each weight the scale that goes with it, and of its rounding the group of columns.

    Args:
        of: the packed weight.
        groups: of its columns.
        by_row: whether the row of scales is meant; else the row of the weight itself.
    """

    of: Packed | None = None
    groups: int = 1
    by_row: bool = True

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return "PLACES:ROWS"

    @property
    def ways(self) -> Sequence[Way]:
        """None."""
        return []

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`: whole numbers, which float32 holds up to 2²⁴."""
        assert self.of is not None
        row, group = self.of.places(parts, start, stop, self.groups)
        row = row if self.by_row else torch.arange(start, stop)
        shape = stop - start, self.columns
        return row.float()[:, None].expand(shape), group.float().expand(shape)


@dataclass(frozen=True, eq=False)
class OtherParts:
    """Parts some of which are others than the folder has.

    Args:
        stored: the folder's.
        others: what is read instead, by name.
    """

    stored: Parts
    others: Mapping[str, Tensor]

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """See `Parts`."""
        found = self.others.get(name)
        if found is None:
            return self.stored.rows(name, start, stop)
        return (found.reshape(-1, found.shape[-1]) if found.dim() > 1 else found.reshape(-1))[start:stop]

    def columns(self, name: str, start: int, stop: int) -> Tensor:
        """See `Parts`."""
        found = self.others.get(name)
        return self.stored.columns(name, start, stop) if found is None else found[:, start:stop]


@dataclass(frozen=True)
class Packing:
    """All packed weights of a folder.

    Args:
        words: what people call the scheme: `GPTQ, 4 bits, groups of 128`.
        weights: in the order of the folder.
    """

    words: str
    weights: tuple[Packed, ...]


@dataclass(frozen=True)
class Folder:
    """A quantised folder, before anything of it is read.

    Args:
        path: for messages.
        config: its `quantization_config`.
        tensors: by name.
        read: what its tensors hold, for those that say how the others are read.
    """

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Entry]
    read: Parts

    @property
    def method(self) -> str:
        """`quant_method`; MLX names none, and calls its codes affine."""
        stated = self.config.get("quant_method")
        if stated is None and "group_size" in self.config:
            return "mlx"
        return str(stated)

    def stems(self, ending: str) -> Iterator[str]:
        """What stands before an ending in the names that have it."""
        for name in self.tensors:
            if name.endswith(ending):
                yield name.removesuffix(ending)

    def parts(self, stem: str, **endings: str) -> dict[str, str]:
        """The tensors beside a stem that are there, by what they are for."""
        return {part: stem + end for part, end in endings.items() if stem + end in self.tensors}

    def dims(self, name: str) -> tuple[int, ...]:
        """Dims of a tensor that must be there."""
        if name not in self.tensors:
            raise DamagedFileError(
                "is missing, without which the codes beside it mean nothing",
                file=self.path,
                where=f"tensor {name!r}",
                remedy=READ_AGAIN,
            )
        return self.tensors[name].dims

    def matrix(self, name: str) -> tuple[int, int]:
        """Dims of a tensor that must be a matrix."""
        dims = self.dims(name)
        if len(dims) != 2:
            raise self.misfit(name, "a matrix")
        return dims[0], dims[1]

    def hold(self, name: str, *allowed: tuple[int, ...]) -> None:
        """Refuse a tensor that has none of the dims that its weight demands."""
        if self.dims(name) not in allowed:
            raise self.misfit(name, " or ".join(str(list(dims)) for dims in allowed))

    def hold_dtype(self, name: str, *allowed: str) -> None:
        """Refuse by name a tensor whose numbers are none that the scheme keeps there."""
        self.dims(name)
        if self.tensors[name].dtype not in allowed:
            raise self.unsupported(f"keeps {name} as {self.tensors[name].dtype}")

    def numbers(self, name: str) -> list[int]:
        """The integers of a small tensor."""
        self.hold_dtype(name, "I32", "I64")
        return [int(number) for number in self._small(name).flatten().tolist()]

    def text(self, name: str) -> bytes:
        """The bytes of a small tensor."""
        self.hold_dtype(name, "U8")
        return bytes(self._small(name).flatten().tolist())

    def _small(self, name: str) -> Tensor:
        self.dims(name)
        if self.tensors[name].nbytes > LARGEST_NOTE:
            raise self.misfit(name, f"{LARGEST_NOTE:,} bytes at most")
        return self.read.rows(name)

    def misfit(self, name: str, wanted: str) -> DamagedFileError:
        """The error for a tensor whose dims do not go with its weight."""
        return DamagedFileError(
            f"is {list(self.dims(name))}, and its weight needs {wanted}",
            file=self.path,
            where=f"tensor {name!r}",
            remedy=READ_AGAIN,
        )

    def unsupported(self, message: str) -> UnsupportedError:
        """The error for a scheme, or a field of one, that is not decoded."""
        return UnsupportedError(f"{message}, which rosetta does not decode", file=self.path, remedy=INSTEAD)

    def stated(self, key: str, default: Any, *known: Any) -> Any:
        """A field of the config that must be one of the known values."""
        value = self.config.get(key, default)
        if value not in known:
            raise self.unsupported(f"states {key} {value!r:.60} for {self.method}")
        return value

    @cached_property
    def exclusions(self) -> Mapping[str, tuple[str, ...]]:
        """Lists of modules that the config says are not quantised, by their key: `modules_to_not_convert` …"""
        keys = (
            "modules_to_not_convert",
            "ignore",
            "ignored_layers",
            "llm_int8_skip_modules",
            "exclude_modules",
        )
        lists = {key: self.config.get(key) for key in keys}
        return {key: tuple(map(str, names)) for key, names in lists.items() if isinstance(names, list)}

    @staticmethod
    def excludes(listed: tuple[str, ...], module: str) -> bool:
        """Whether a list names a module: whole, by its last parts, by those above it, or by `re:` and a pattern."""
        parts = module.split(".")
        ways = {".".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)}
        return any(_matches(name[3:], module) if name.startswith("re:") else name in ways for name in listed)


def _matches(pattern: str, module: str) -> bool:
    try:
        return re.match(pattern, module) is not None
    except re.error:
        return False


def codes(words: Tensor, bits: int) -> Tensor:
    """Codes that lie in rows of words one after another, the lowest bits first, as uint8.

    Args:
        words: integers of any width, contiguous [R, words], little-endian.
        bits: of a code, 8 at most.

    Returns:
        uint8 [R, codes that the words have room for].
    """
    # Flat first: of a column that was a row, torch keeps the row's stride, and sees no bytes in it.
    data = words.contiguous().view(-1).view(torch.uint8)
    data = data.view(*words.shape[:-1], words.shape[-1] * words.element_size())
    if bits == 8:
        return data
    if 8 % bits == 0:
        shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
        return ((data[..., None] >> shifts) & ((1 << bits) - 1)).flatten(-2)
    single = ((data[..., None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten(-2)
    whole = single.shape[-1] // bits * bits
    powers = 2 ** torch.arange(bits, dtype=torch.uint8)
    return (in_runs(single[..., :whole], bits) * powers).sum(-1, dtype=torch.uint8)


def exchanged(values: Tensor, run: int) -> Tensor:
    """Codes in the reverse order within each run of `run` along the last dim, which it must divide."""
    return in_runs(values, run).flip(-1).flatten(-2)


def in_runs(values: Tensor, run: int) -> Tensor:
    """The last dim cut into runs: [..., C] -> [..., C / run, run]."""
    return values.reshape(*values.shape[:-1], -1, run)


def in_turn(columns: int, group: int) -> Tensor:
    """The group of each column where they lie one after another, int64 [C]."""
    return torch.arange(columns) // group
