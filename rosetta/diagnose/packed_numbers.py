"""The scales and zero points of a packed weight by row and group, beside those that the other side's values ask for.

Of each scale it is known which one its codes ask for: the slope of the other side's values on the codes.

Letters: R = rows of the weight, C = its columns, n = rows of its scales, G = groups of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from rosetta.blocks.schemes import Packed, PlacesOf, Way
from rosetta.blocks.schemes.rewriting import zeros_as_stored, zeros_by_row
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.weight import Weight, row_ranges

Pairs = Sequence[tuple[Weight, Weight]]
Beside = Callable[[str], Pairs]

NEGATIVE = 4.0  # farther apart than the logarithms of two scales of a weight


@dataclass(frozen=True)
class PlacedReading:
    """A packed weight read with some of its tensors as they must have been.

    Args:
        container: the folder read so.
        stored: what is wrong with a folder whose weight is right when it is read so.
        decoded: what somebody did wrong whose values are these.
        kind: of the finding.
        from_reference: what was taken from the other side.
        partner: weights that are read otherwise as well, because theirs lies here.
    """

    container: QuantisedContainer
    stored: str
    decoded: str
    kind: str = "config.quantization"
    from_reference: str | None = None
    partner: Sequence[Weight] = ()


@dataclass(frozen=True)
class Scales:
    """The scales of a packed weight, [n, G] each, not a number where none of its weights has one.

    Args:
        size: what its codes are multiplied with.
        asked: what the other side's values ask for in its place.
        raw: as stored.
        codes, values: means of the codes less their zero points, and of the other side's values.
        fit: how much of the other side's squares lies on the codes, 0 to 1.
    """

    size: Tensor
    asked: Tensor
    raw: Tensor
    codes: Tensor
    values: Tensor
    fit: float

    @cached_property
    def own(self) -> Tensor:
        """Logarithms of `size`."""
        return logarithm(self.size)

    @cached_property
    def wanted(self) -> Tensor:
        """Logarithms of `asked`."""
        return logarithm(self.asked)

    @property
    def rows(self) -> Tensor:
        """Which rows the weight has scales of: all but where it is a part of a fused tensor."""
        return (self.own.isfinite() & self.wanted.isfinite()).all(1).nonzero().flatten()


def logarithm(scale: Tensor) -> Tensor:
    """Natural logarithms; of a negative scale (AutoRound, MLX) that of its size and `NEGATIVE`."""
    return scale.abs().log() + NEGATIVE * (scale < 0)


@dataclass(frozen=True)
class Known:
    """A packed weight and what it should be.

    Args:
        packed: the weight.
        container: the folder that it lies in.
        pairs: what of it the model has, as it is stored, and the other side's of equal dims: one matrix, or the
            parts of a fused one, or all of a stack.
        beside: the same of another packed weight of the folder by its name, nothing where it is not known.
    """

    packed: Packed
    container: QuantisedContainer
    pairs: Pairs
    beside: Beside

    @property
    def matrices(self) -> int:
        """How many matrices of a stack they are."""
        return len({weight.slot for weight, _ in self.pairs})

    def read_as(self, packed: Packed) -> Iterator[tuple[Weight, Weight]]:
        """The pairs with the packed weight read as another."""
        container = self.container.read_as(packed)
        yield from ((replace(weight, container=container), truth) for weight, truth in self.pairs)

    def codes(self) -> Iterator[tuple[Weight, Weight]]:
        """The pairs without the scales."""
        yield from self.read_as(replace(self.packed, way=Way(scales="ignored")))

    def numbers(self, part: str) -> Tensor | None:
        """A part's numbers by row of scales [n, G], zero points as integers, scales as they are stored; None where it
        has no such part, or they are no groups of columns."""
        if part not in self.packed.parts:
            return None
        stored = self.container.part(self.packed.parts[part])
        return zeros_by_row(self.packed, stored) if part == "zeros" else self.packed.scales_by_row(stored)

    @property
    def beside_scales(self) -> tuple[str, ...]:
        """The parts that go where the scales go: zero points, or biases."""
        return tuple(part for part in ("biases", "zeros") if self.numbers(part) is not None)

    def with_parts(self, **others: Tensor) -> QuantisedContainer:
        """The folder with other tensors as parts of the weight."""
        return self.container.read_as(
            self.packed, {self.packed.parts[part]: tensor for part, tensor in others.items()}
        )

    def with_numbers(self, **others: Tensor) -> QuantisedContainer:
        """The folder with other numbers as parts of the weight, each as `numbers` has them."""
        return self.with_parts(**{part: self._as_stored(part, numbers) for part, numbers in others.items()})

    def _as_stored(self, part: str, by_row: Tensor) -> Tensor:
        stored, seen = self.container.part(self.packed.parts[part]), self.numbers(part)
        if part == "zeros":
            return zeros_as_stored(self.packed, by_row, stored)
        along = (by_row.T if self.packed.turned else by_row).contiguous()
        if seen is not None and seen.dtype != stored.dtype:  # floats that the file calls bytes
            along = along.to(seen.dtype).view(stored.dtype)
        return along.view(stored.shape)

    def alike(self) -> Iterator[Known]:
        """Weights of the folder that are packed in the same way under a name that differs in numbers alone, or in one
        module with this one."""
        for packed in self.container.packed.values():
            if (
                packed.name != self.packed.name
                and type(packed) is type(self.packed)
                and _near(packed.name, self.packed.name)
            ):
                yield Known(packed, self.container, self.beside(packed.name), self.beside)


def _near(a: str, b: str) -> bool:
    digits = str.maketrans("", "", "0123456789")
    return a.translate(digits) == b.translate(digits) or _module(a) == _module(b)


def _module(name: str) -> str:
    """The module around the one that has a weight."""
    return name.rpartition(".")[0].rpartition(".")[0]


def of_another(known: Known, other: Known, parts: Sequence[str], both: bool) -> PlacedReading:
    """A weight read with what lies beside the codes of another one.

    Args:
        known, other: the two.
        parts: what is read from there.
        both: whether the other one's lies beside this one's codes.
    """
    ways = [(known, other), (other, known)] if both else [(known, other)]
    others = {
        here.packed.parts[part]: known.container.part(there.packed.parts[part])
        for here, there in ways
        for part in parts
    }
    said, reverse = in_words(parts), ", and the reverse" * both
    return PlacedReading(
        known.container.read_as(known.packed, others),
        f"its own {said} are those that lie beside the codes of {other.packed.name}{reverse}",
        f"with the {said} of {other.packed.name}{reverse}",
        partner=[weight for weight, _ in other.pairs] if both else (),
    )


def in_words(parts: Sequence[str]) -> str:
    """Names of parts.

    >>> in_words(["scales", "zeros"])
    'scales and zero points'
    """
    return " and ".join("zero points" if part == "zeros" else part for part in parts)


def scales_of(known: Known) -> Scales | None:
    """The scales as they are and as the other side's values ask for; None where groups are no columns."""
    packed, raw = known.packed, known.numbers("scales")
    if raw is None or not raw.numel():
        return None
    count, groups = raw.shape
    sums = torch.zeros(8, count * groups, dtype=torch.float64)
    read = zip(known.codes(), known.read_as(places_of(packed, groups)), known.pairs, strict=True)
    for (plain, truth), (places, _), (weight, _) in read:
        for rows in row_ranges(weight):
            u, t, w = (x.values(*rows).double() for x in (plain, truth, weight))
            cell = places.values(*rows).long() * groups + places.sigma(*rows).long()
            terms = torch.ones_like(u), u, t, w, u * u, u * t, u * w, t * t
            for total, term in zip(sums, terms, strict=True):
                total.index_add_(0, cell.flatten(), term.flatten())
    n, su, st, sw, suu, sut, suw, stt = sums
    shifted = "zeros" in packed.parts or "biases" in packed.parts  # whose zero points may be off as well
    mean = su / n if shifted else torch.zeros_like(su)
    spread = suu - mean * su
    both, kept = sut - mean * st, stt - (st * st / n if shifted else 0)
    # What a code is off by has nothing to do with the value that it was made of: the slope of codes on values is the
    # scale's inverse, where that of values on codes would be the smaller the coarser the codes are.
    wanted, own = kept / both, (suw - mean * sw) / spread
    lying = both.square() / spread
    seen = kept.isfinite() & lying.isfinite()
    fit = float(lying[seen].sum() / kept[seen].sum().clamp(min=1e-30))
    size, asked, codes, values = (x.float().reshape(count, groups) for x in (own, wanted, su / n, st / n))
    return Scales(size, asked, raw, codes, values, fit)


def places_of(packed: Packed, groups: int, by_row: bool = True) -> PlacesOf:
    return PlacesOf(packed.name, packed.dims, packed.parts, of=packed, groups=groups, by_row=by_row)
