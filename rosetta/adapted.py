"""A LoRA adapter merged into canonical weights, row by row when they are asked for: nothing merged is kept.

An adapter speaks of tensors by the names and in the order of a folder, or of a GGUF file. It is read as if it were one
whose tensors are the products of its factors, so that names, fused and stacked tensors and the order of rotary rows
become canonical by the same rules, whatever the base is stored in.

Letters: R = rows, C = columns of a module's matrix, r = rank, E = experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rosetta.blocks.fields import SQRT12, unit
from rosetta.containers.adapters import AdaptedContainer, Adapter, Factor, Module
from rosetta.containers.adapters.peft import is_base
from rosetta.containers.container import Container, ContainerDefaults, Setting, TensorEntry
from rosetta.containers.span import slice_of
from rosetta.dtypes import PAIR
from rosetta.edits import ValuesEdit
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError
from rosetta.lazily import TorchDtypes, torch
from rosetta.weight import Weight, row_ranges

if TYPE_CHECKING:
    from torch import Tensor

DTYPE = "LORA:F32"  # a scheme's: values and their rounding, worked out from several tensors

HALVES = TorchDtypes({"F16": "float16", "BF16": "bfloat16"})

# Relative: of a column's length, which peft sums up in float32, and of what it gives.
FACTOR_ROUNDING = 2.0**-23

VOCABULARY = ("token_embd.weight", "output.weight")  # have a row a token

Read = Callable[[Container, str, TensorEntry], list[Weight]]
"""The canonical weights of an adapter's tensor, by its container, the name of the base's tensor and its entry."""


class Product(ContainerDefaults):
    """What an adapter says of one tensor, as a container of that one: each row worked out when it is read.

    Args:
        adapter: whose tensors these are.
        name: of the tensor, as the adapter's `kind` calls it.
        metadata: of the base, where it is of that kind; else empty.
        numbers: values and their rounding of rows start … stop, float32 [rows, C] each.
        dims: R, C; of experts E, R, C, whose rows are counted through.
        misread: the same, of the factors read as they are not meant.
    """

    label = "LoRA"
    architecture: str | None = None
    settings: Mapping[str, Setting] = {}
    file_bytes = 0
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        adapter: Adapter,
        name: str,
        metadata: Mapping[str, Any],
        numbers: Callable[[int, int], tuple[Tensor, Tensor]],
        dims: tuple[int, ...],
        misread: Mapping[str, Callable[[int, int], tuple[Tensor, Tensor]]] | None = None,
    ) -> None:
        self.kind, self.path, self.adapter = adapter.kind, adapter.path, adapter
        self.metadata, self._numbers, self.misread = metadata, numbers, misread or {}
        self.entry = TensorEntry(name, DTYPE, dims, math.prod(dims) * PAIR)
        self.tensors: Mapping[str, TensorEntry] = {name: self.entry}

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`: pairs of float32."""
        start, size = slice_of(self.entry, start, nbytes)
        row = self.entry.dims[-1] * PAIR
        if not size:
            return np.empty(0, np.uint8)
        first, last = start // row, -(-(start + size) // row)
        pairs = torch.stack(self._numbers(first, last), dim=-1).numpy().reshape(-1).view(np.uint8)
        return pairs[start - first * row :][:size].copy()

    def close(self) -> None:
        """The adapter's to do."""


@dataclass(frozen=True)
class Merged:
    """An edit that merges an adapter into a matrix.

    Args:
        module: what the adapter says of it.
        added: what is added to it, scaled.
        lengths: DoRA's lengths of the rows, [R, 1], or those of the columns, [C, 1]; None without DoRA.
        dtype: of the base: what is added may be rounded to it first (peft, Embedding.merge).
        times: of what is added; 1 unless it is known to be merged with another scale.
        base: of an embedding, whose columns have the lengths: what it is added to (peft, DoraEmbeddingVariant).
    """

    module: Module
    added: Weight
    lengths: Weight | None = None
    dtype: str = "F32"
    times: float = 1.0
    base: Weight | None = None

    def touches(self, start: int, stop: int) -> bool:
        """All rows."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """W + s·B·A; of DoRA each row of it stretched to its length (Liu et al. 2024, eq. 5), of an embedding each
        column."""
        merged = values + self._added(values, start)
        return merged if self.lengths is None else merged * self._stretch(merged, start)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """The rounding of both."""
        of_added = self.added.sigma(start, start + len(values), values.device)
        found = torch.hypot(sigma, abs(self.times) * of_added)
        added = self._added(values, start)
        if self.dtype in HALVES:
            found = torch.hypot(found, unit(added, HALVES[self.dtype]) / SQRT12)
        if self.lengths is None:
            return found
        stretch = self._stretch(values + added, start).abs()
        of_factor = 0.0 if self.base is None else FACTOR_ROUNDING * (values + added).abs() * stretch
        return torch.hypot(found * stretch, torch.as_tensor(of_factor))

    def misread(self) -> Iterator[tuple[str, Merged]]:
        """How else a merge may have read the factors, in words, and what it then merges."""
        product = self.added.container
        if not isinstance(product, Product):
            return
        for words, numbers in product.misread.items():
            other = Product(
                product.adapter, product.entry.name, product.metadata, numbers, product.entry.dims
            )
            yield words, replace(self, added=replace(self.added, container=other))

    def _added(self, values: Tensor, start: int) -> Tensor:
        return self.times * self.added.values(start, start + len(values), values.device)

    def _stretch(self, merged: Tensor, start: int) -> Tensor:
        assert self.lengths is not None
        if self.base is not None:
            return self._stretch_of_columns.to(merged.device)
        lengths = self.lengths.values(start, start + len(merged), merged.device)
        stretch: Tensor = lengths / merged.norm(dim=1, keepdim=True)
        return stretch

    @cached_property
    def _stretch_of_columns(self) -> Tensor:
        """By how much each column of the whole sum is stretched, [1, C]."""
        assert self.lengths is not None
        assert self.base is not None
        base, squares = self.base, torch.zeros(self.base.dims[1], dtype=torch.float64)
        for start, stop in row_ranges(base):
            whole = base.values(start, stop) + self.times * self.added.values(start, stop)
            squares += whole.double().square().sum(0)
        stretch: Tensor = self.lengths.values().view(1, -1) / squares.sqrt().float()
        return stretch


@dataclass(frozen=True)
class Instead:
    """An edit that puts a tensor that was trained as a whole in the place of the base's, or some rows of one.

    Args:
        other: that tensor, [R, C], or its rows, [n, C].
        rows: where those belong; None: it is all of the tensor.
    """

    other: Weight
    rows: tuple[int, ...] | None = None

    def touches(self, start: int, stop: int) -> bool:
        """All rows, or those that it has."""
        return self.rows is None or any(start <= row < stop for row in self.rows)

    def values(self, values: Tensor, start: int) -> Tensor:
        """The other's."""
        return self._instead_of(values, start, self.other.values)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """The other's."""
        return self._instead_of(sigma, start, self.other.sigma)

    def fits(self, dims: tuple[int, ...]) -> bool:
        """Whether a tensor of these dims has a place for it."""
        if self.rows is None:
            return self.other.dims == dims
        return self.other.dims[1:] == dims[1:] and max(self.rows) < dims[0]

    def _instead_of(self, own: Tensor, start: int, read: Callable[..., Tensor]) -> Tensor:
        stop = start + len(own)
        if self.rows is None:
            return read(start, stop, own.device)
        here = [n for n, row in enumerate(self.rows) if start <= row < stop]
        found = own.clone()
        found[[self.rows[n] - start for n in here]] = read(0, None, own.device)[here]
        return found


@dataclass(frozen=True)
class _Factors:
    """The factors of one module, read when asked for.

    Args:
        adapter: whose they are.
        of: the module.
        turned: whether the base's tensor is the product's transpose.
        misread: factors whose numbers are taken in their order, and for those of the transpose.
    """

    adapter: Adapter = field(hash=False, compare=False)
    of: Module
    turned: bool = False
    misread: tuple[Factor, ...] = ()

    @property
    def dims(self) -> tuple[int, ...]:
        """R, C; of experts E, R, C."""
        rows, columns = self.of.left.dims[-2], self.of.right.dims[-1]
        return (*self.of.left.dims[:-2], *((columns, rows) if self.turned else (rows, columns)))

    def numbers(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """s·B·A of some rows, those of experts counted through, and what the rounding of both factors makes of it."""
        left, right = self._read(self.of.left), self._read(self.of.right)
        if self.turned:
            left, right = ([x.mT for x in factor] for factor in (right, left))
        height, parts = self.dims[-2], []
        for e in range(start // height, -(-stop // height)):
            rows = slice(max(start - e * height, 0), min(stop - e * height, height))
            a, a_sigma = (x[e, rows] for x in left)
            b, b_sigma = (x[e] for x in right)
            variance = a_sigma.square() @ b.square() + a.square() @ b_sigma.square()
            parts.append((self.of.scale * (a @ b), abs(self.of.scale) * variance.sqrt()))
        values, sigma = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(sigma)

    def otherwise(self) -> dict[str, Callable[[int, int], tuple[Tensor, Tensor]]]:
        """`numbers` of factors that were taken for their transposes, by words."""
        a, b, square = self.of.right, self.of.left, self.dims[-1] == self.dims[-2]
        ways = (
            {"with the product of its factors turned": replace(self, turned=not self.turned)}
            if square
            else {}
        )
        ways["with A read as its transpose"] = replace(self, misread=(a,))
        ways["with B read as its transpose"] = replace(self, misread=(b,))
        ways["with A and B read as their transposes"] = replace(self, misread=(a, b))
        return {words: way.numbers for words, way in ways.items()}

    def lengths(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """DoRA's lengths of some rows, [rows, 1]."""
        held = _tensor(self.adapter, str(self.of.magnitude))
        return held.values(start, stop).view(-1, 1), held.sigma(start, stop).view(-1, 1)

    def _read(self, factor: Factor) -> list[Tensor]:
        """Values of a factor and their rounding, [E, R, r] or [E, r, C] each; E is 1 where there are no experts."""
        held, turned = _tensor(self.adapter, factor.name), factor in self.misread
        dims = (factor.dims[0] if len(factor.dims) == 3 else 1, *factor.dims[-2:])

        def meant(stored: Tensor) -> Tensor:
            if turned:
                stored = stored.reshape(*stored.shape[:-2], *stored.shape[:-3:-1]).mT
            if factor.interleaved:
                return stored.view(dims[1], dims[2], dims[0]).permute(2, 0, 1)
            return stored.T[None] if factor.turned else stored.reshape(dims)

        return [meant(held.values()), meant(held.sigma())]


def adapted(
    container: AdaptedContainer,
    weights: Mapping[str, Weight],
    canonical: Callable[[str], str | None],
    read: Read,
) -> dict[str, Weight]:
    """The base's weights with the adapter merged into them.

    Args:
        container: both.
        weights: the base's, canonical.
        canonical: the canonical name of one of the adapter's names of tensors.
        read: see `Read`.

    An embedding and a head that have other rows than the base's take their place: tokens were added to the vocabulary.

    Raises:
        UsageError: the adapter is one of another model: it has modules or shapes that the base has not.
        UnsupportedError: it is none that is merged row by row.
    """
    found = dict(weights)
    adapter, base = container.adapter, container.base
    metadata = base.metadata if base.kind == adapter.kind else {}
    for source, edits in _edits(adapter, metadata, read, weights):
        for name, edit in edits:
            if canonical(source) is None or name not in weights:
                raise _of_another_model(container, source, f"the base {base.path} has no such tensor")
            own, theirs = weights[name].dims, (edit.added if isinstance(edit, Merged) else edit.other).dims
            fits = own == theirs if isinstance(edit, Merged) else edit.fits(own)
            whole = isinstance(edit, Instead) and edit.rows is None
            if whole and name in VOCABULARY and not fits and own[1:] == theirs[1:]:
                assert isinstance(edit, Instead)
                found[name] = replace(edit.other, name=name)  # tokens were added, and trained with it
                continue
            if not fits:
                message = f"is {list(theirs)} in the adapter and {list(own)} in the base {base.path}"
                raise _of_another_model(container, source, message)
            same = [other for other, weight in weights.items() if weight.same_place(weights[name])]
            if (
                isinstance(edit, Instead)
                and whole
                and not adapter.ties
                and not is_base(edit.other.entry.name)
            ):
                same = [name]  # of a module to be saved peft trains a copy, which is tied to nothing
            if isinstance(edit, Merged):
                edit = replace(edit, dtype=weights[name].dtype)
                if edit.lengths is not None and module_is_embedding(edit.module):
                    edit = replace(edit, base=weights[name])
            # What is added to one tensor is added to the tied head, too, as peft merges it.
            for other in same:
                found[other] = replace(found[other], values_edits=(*found[other].values_edits, edit))
    return found


def _of_another_model(container: AdaptedContainer, source: str, message: str) -> UsageError:
    trained_on = container.adapter.base
    remedy = "give the model that the adapter was trained on" + (f", {trained_on:.200}" if trained_on else "")
    return UsageError(message, file=container.adapter.weights, where=f"{source!r}", remedy=remedy)


def _edits(
    adapter: Adapter, metadata: Mapping[str, Any], read: Read, weights: Mapping[str, Weight]
) -> Iterator[tuple[str, list[tuple[str, Merged | Instead]]]]:
    """(name of a tensor, [(canonical name, edit)]) of all that the adapter holds: tensors and rows first."""
    for name, stored in adapter.whole.items():
        read_as = read(adapter.stored, name, adapter.stored.tensors[stored])
        yield name, [(weight.name, Instead(weight)) for weight in read_as]
    for name, (stored, rows) in adapter.rows.items():
        read_as = read(adapter.stored, name, adapter.stored.tensors[stored])
        yield name, [(weight.name, Instead(weight, rows)) for weight in read_as]
    for module in adapter.modules:
        yield _merged(adapter, module, metadata, read, weights)


def _merged(
    adapter: Adapter, module: Module, metadata: Mapping[str, Any], read: Read, weights: Mapping[str, Weight]
) -> tuple[str, list[tuple[str, Merged | Instead]]]:
    """What is added to which canonical weights: of the ways to read it the first whose dims are the base's, else the
    first."""

    def added(name: str, turned: bool) -> tuple[str, _Factors, list[Weight]]:
        factors = _Factors(adapter, module, turned)
        product = Product(adapter, name, metadata, factors.numbers, factors.dims, factors.otherwise())
        return name, factors, read(product, name, product.entry)

    def fits(read_as: list[Weight]) -> bool:
        return all(weight.name in weights and weight.dims == weights[weight.name].dims for weight in read_as)

    stacked = len(module.left.dims) == 3  # whose matrices some architectures keep turned in a folder
    ways = [added(name, turned) for name in module.tensors for turned in (False, True)[: 1 + stacked]]
    ways.sort(key=lambda way: any(weight.transposed for weight in way[2]) != way[1].turned)
    name, factors, read_as = next((way for way in ways if fits(way[2])), ways[0])
    lengths: list[Weight | None] = [None] * len(read_as)
    if module.magnitude is not None:
        lengths = [*_lengths(adapter, module, factors, name, metadata, read, read_as)]
    edits = [
        (weight.name, Merged(module, weight, length)) for weight, length in zip(read_as, lengths, strict=True)
    ]
    return name, [*edits]


def _lengths(
    adapter: Adapter,
    module: Module,
    factors: _Factors,
    name: str,
    metadata: Mapping[str, Any],
    read: Read,
    read_as: list[Weight],
) -> list[Weight]:
    """DoRA's lengths of the rows of each weight, or of the columns of an embedding."""
    where = f"module {module.name!r}"
    held = adapter.stored.tensors[str(module.magnitude)].dims
    of_columns = module_is_embedding(module)
    count = factors.dims[1 if of_columns else 0]
    if held != (count,):
        raise DamagedFileError(
            f"lora_magnitude_vector is {list(held)}, lora_B has {count} rows",
            file=adapter.weights,
            where=where,
            remedy="save the adapter again",
        )
    if any(weight.transposed or weight.columns is not None for weight in read_as):
        message = "DoRA of a matrix that is read turned is not merged here"
        raise UnsupportedError(message, file=adapter.weights, where=where, remedy=adapter.remedy)
    if of_columns:
        return [_tensor(adapter, str(module.magnitude))]
    column = Product(adapter, name, metadata, factors.lengths, (count, 1))
    return read(column, name, column.entry)


def module_is_embedding(module: Module) -> bool:
    """Whether it is looked up and not multiplied with: both factors lie turned."""
    return module.left.turned and module.right.turned


def merge_of(weight: Weight) -> Merged | None:
    """How an adapter is merged into a weight; None where none is."""
    return next((edit for edit in weight.values_edits if isinstance(edit, Merged)), None)


def is_replaced(weight: Weight) -> bool:
    """Whether an adapter has a tensor in the place of a weight."""
    return any(isinstance(edit, Instead) for edit in weight.values_edits)


def without_merge(weight: Weight) -> Weight:
    """The weight as its base holds it."""
    kept: tuple[ValuesEdit, ...] = tuple(
        edit for edit in weight.values_edits if not isinstance(edit, Merged | Instead)
    )
    return replace(weight, values_edits=kept)


def _tensor(adapter: Adapter, name: str) -> Weight:
    """A tensor of the adapter as it is."""
    entry = adapter.stored.tensors[name]
    return Weight(name, adapter.stored, entry, entry.dtype, entry.dims)
