"""Where the scales, codes and groups of a packed weight belong, told by the other side's values of that weight.

Of each scale it is known which one its codes ask for: the slope of the other side's values on the codes. Where those
are the stored scales in another order, the order is what is wrong; codes and the group index are placed likewise.

Letters: R = rows of the weight, C = its columns, n = rows of its scales, G = groups of columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta.blocks.schemes import Packed, PlacesOf, Way
from rosetta.blocks.schemes.bitsandbytes import BlockWeight
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.diagnose.hypotheses.permuted import matched, permutation_in_words
from rosetta.weight import Weight, row_ranges

NEARER = 0.35  # of the distance of scales from those that are asked for: what is left where they are in place
LARGEST = 20_000  # rows of scales that are matched with each other
ROUNDS, FARTHEST = 16, 32  # of taking one's place, and rows that are looked at in each for an exchange
WOVEN = (2, 4, 8, 16, 32, 64, 128)
SAMPLED_ROWS = 64  # by which the group of each column is told
ALIKE = 0.5  # of the squares of rows on their codes, below which the codes are other rows'
NEGATIVE = 4.0  # farther apart than the logarithms of two scales of a weight
NEARER_FLOAT = 2.0**-4  # of a logarithm: scales told from the codes are off by less
MIXED_UP = {"F16": torch.bfloat16, "BF16": torch.float16}


@dataclass(frozen=True)
class PlacedReading:
    """A packed weight read with some of its tensors as they must have been.

    Args:
        container: the folder read so.
        stored: what is wrong with a folder whose weight is right when it is read so.
        decoded: what somebody did wrong whose values are these.
        kind: of the finding.
        from_reference: what was taken from the other side.
    """

    container: QuantisedContainer
    stored: str
    decoded: str
    kind: str = "config.quantization"
    from_reference: str | None = None


@dataclass(frozen=True)
class Scales:
    """The scales of a packed weight, natural logarithms [n, G] each, not a number where none of its weights has one;
    of a negative scale (AutoRound, MLX) the logarithm of its size and `NEGATIVE`.

    Args:
        own: as they are multiplied with.
        wanted: as the other side's values ask for.
        times: how many times its own one that is, no logarithm.
        raw: as stored, no logarithms.
        rest: the mean of what the other side's values have beside codes times the scales that they ask for.
        fit: how much of the other side's squares lies on the codes, 0 to 1.
    """

    own: Tensor
    wanted: Tensor
    times: Tensor
    raw: Tensor
    rest: Tensor
    fit: float

    @property
    def rows(self) -> Tensor:
        """Which rows the weight has scales of: all but where it is a part of a fused tensor."""
        return (self.own.isfinite() & self.wanted.isfinite()).all(1).nonzero().flatten()


@dataclass(frozen=True)
class Known:
    """A packed weight and what it should be.

    Args:
        packed: the weight.
        container: the folder that it lies in.
        pairs: what of it the model has, as it is stored, and the other side's of equal dims: one matrix, or the
            parts of a fused one, or all of a stack.
    """

    packed: Packed
    container: QuantisedContainer
    pairs: Sequence[tuple[Weight, Weight]]

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

    def scales(self) -> Tensor | None:
        """See `Packed.scales_by_row`."""
        return self.packed.scales_by_row(self.container.part(self.packed.parts["scales"]))

    def with_parts(self, **others: Tensor) -> QuantisedContainer:
        """The folder with other tensors as parts of the weight."""
        return self.container.read_as(
            self.packed, {self.packed.parts[part]: tensor for part, tensor in others.items()}
        )


def placed_readings(pairs: Sequence[tuple[Weight, Weight]]) -> Iterator[PlacedReading]:
    """A packed weight with its scales, its codes or its groups where the other side's values say that they belong.

    Args:
        pairs: see `Known`.
    """
    container = pairs[0][0].container
    assert isinstance(container, QuantisedContainer)
    packed = container.packed[pairs[0][0].entry.name]
    plain = all(not weight.values_edits and len(weight.dims) == 2 for weight, _ in pairs)
    if not plain or "scales" not in packed.parts or packed.way != Way():
        return
    known = Known(packed, container, pairs)
    yield from _indexed(known)
    scales = scales_of(known)
    if scales is None:
        return
    if scales.fit < ALIKE:
        yield from _codes_elsewhere(known)
    else:
        yield from _scales_elsewhere(known, scales)


def scales_of(known: Known) -> Scales | None:
    """The scales as they are and as the other side's values ask for; None where groups are no columns."""
    packed, raw = known.packed, known.scales()
    if raw is None or not raw.numel():
        return None
    count, groups = raw.shape
    sums = torch.zeros(8, count * groups, dtype=torch.float64)
    read = zip(known.codes(), known.read_as(_places(packed, groups)), known.pairs, strict=True)
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
    rest = (st - wanted * su) / n
    own, wanted, rest = (x.float().reshape(count, groups) for x in (own, wanted, rest))
    return Scales(_logarithm(own), _logarithm(wanted), wanted / own, raw, rest, fit)


def _places(packed: Packed, groups: int, by_row: bool = True) -> PlacesOf:
    return PlacesOf(packed.name, packed.dims, packed.parts, of=packed, groups=groups, by_row=by_row)


def _scales_elsewhere(known: Known, scales: Scales) -> Iterator[PlacedReading]:
    """Scales of other rows, of other groups, of another weight, of another float, or lost."""
    own, wanted, raw, rows = scales.own, scales.wanted, scales.raw, scales.rows
    if not len(rows) or raw.numel() < 2:
        return
    held = raw[rows].float() if raw.element_size() > 1 else raw.float()[rows]
    if float(held.max()) == float(held.min()):
        number = float(held.max())
        yield from _lost(known, scales, f"all {number:g}", "without its scales")
        return
    packed, off = known.packed, _distance(wanted[rows], own[rows])
    height = -(-packed.rows // packed.scale_rows)
    if _distance(wanted, _across(own)) < NEARER * off and all(
        way.scales != "transposed" for way in packed.ways
    ):
        yield from _reordered(known, "rows", "they lie by column and row", _across)
    # Before rows: where scales are powers of two, another expert's are its own in some order of rows as well.
    yield from _of_another_expert(known, scales, off)
    yield from _of_another(known, scales, off)
    order = _order(own[rows].T, wanted[rows].T)
    if order is not None:
        index, said = torch.from_numpy(order), permutation_in_words(order, 0, "groups")
        yield from _reordered(known, "groups", said, lambda by_row: _taken(by_row, 1, index))
    order = _order(own[rows], wanted[rows], known.matrices)
    if order is not None:
        taken = np.arange(len(raw))
        taken[rows.numpy()] = rows.numpy()[order]
        things, said = _order_in_words(order, known.matrices, height)
        yield from _reordered(known, things, said, lambda by_row: _taken(by_row, 0, torch.from_numpy(taken)))
    yield from _of_another_float(known, scales)


def _order_in_words(order: NDArray[np.int64], matrices: int, height: int) -> tuple[str, str]:
    """What lies in an order of rows of scales, and what order it is: that of whole experts, or of rows.

    Args:
        order: for each right place where it lies.
        matrices: how many experts' rows lie one after another.
        height: rows of the weight that share a row of scales.
    """
    if matrices > 1 and len(order) % matrices == 0:
        each = order.reshape(matrices, -1)
        if bool(
            (each - each[:, :1] == np.arange(each.shape[1])).all() and (each[:, 0] % each.shape[1] == 0).all()
        ):
            return "experts", permutation_in_words(each[:, 0] // each.shape[1], 0, "experts")
    return "rows", permutation_in_words(order, 0, "rows" if height == 1 else f"blocks of {height} rows")


def _across(by_row: Tensor) -> Tensor:
    """Numbers that were written column by column, [n, G]."""
    return by_row.reshape(by_row.shape[1], by_row.shape[0]).T


def _distance(a: Tensor, b: Tensor) -> float:
    """Root mean square of what logarithms are apart, where both are numbers."""
    gap = (a - b)[(a - b).isfinite()]
    return float(gap.square().mean().sqrt()) if len(gap) else math.inf


def _order(own: Tensor, wanted: Tensor, matrices: int = 1) -> NDArray[np.int64] | None:
    """For each row the one whose scales it asks for; None where all are in place, or they are no rows of these.

    Args:
        own, wanted: logarithms [n, G], all numbers.
        matrices: how many lie one after another: rows may be rolled or woven within each.
    """
    count = len(own)
    if not 1 < count <= LARGEST:
        return None
    off = _distance(wanted, own)
    orders = [*_simple_orders(own, wanted)]
    if matrices > 1 and count % matrices == 0:
        height = count // matrices
        starts = torch.arange(0, count, height)[:, None]
        orders += ((starts + order).flatten() for order in _simple_orders(own[:height], wanted[:height]))
        orders += _order_of_matrices(own, wanted, height)
    found = [order for order in orders if _distance(wanted, own[order]) < NEARER * off]
    best = min(found, key=lambda order: _distance(wanted, own[order]), default=None)
    if best is None:
        best = _exchanged(_one_to_one(own, wanted), own, wanted)
        if _distance(wanted, own[best]) >= NEARER * off:
            return None
    order = best.numpy()
    return order if bool((order != np.arange(count)).any()) else None


def _order_of_matrices(own: Tensor, wanted: Tensor, height: int) -> Iterator[Tensor]:
    """The order of whole matrices of a stack, each where it is nearest, where that is one for each."""
    held = own.reshape(-1, height * own.shape[1])
    asked = torch.cdist(wanted.reshape(held.shape), held).argmin(1)
    if len(set(asked.tolist())) == len(asked):
        yield (asked[:, None] * height + torch.arange(height)).flatten()


def _simple_orders(own: Tensor, wanted: Tensor) -> Iterator[Tensor]:
    """Orders that have a name: rolled, backwards, woven."""
    here = torch.arange(len(own))
    nearest = torch.cat([torch.cdist(some, own).argmin(1) for some in torch.split(wanted, 1024)])
    shifts = (nearest - here) % len(own)
    yield (here + shifts.mode().values) % len(own)
    yield here.flip(0)
    for n in WOVEN:
        if len(own) % n == 0 and n < len(own):
            woven = here.view(n, -1).T.reshape(-1)
            yield from (woven, woven.argsort())


def _one_to_one(own: Tensor, wanted: Tensor) -> Tensor:
    """The nearest row for each, one for each; of rows of one number, those of the same place by size."""
    order = torch.full((len(own),), -1)
    if own.shape[1] == 1:
        order[wanted[:, 0].argsort()] = own[:, 0].argsort()
        return order
    # Scales that are powers of two are often equal.
    kinds, kind = torch.unique(own, dim=0, return_inverse=True)
    members, room = kind.argsort(stable=True), torch.bincount(kind)
    taken, first = torch.zeros_like(room), room.cumsum(0) - room
    left = torch.arange(len(own))
    for _ in range(ROUNDS):
        free = (taken < room).nonzero().flatten()
        found = [torch.cdist(some, kinds[free]).min(1) for some in torch.split(wanted[left], 1024)]
        asked = free[torch.cat([x.indices for x in found])]
        by_kind = torch.cat([x.values for x in found]).argsort()
        # The nearest of those that ask for one kind first.
        by_kind = by_kind[asked[by_kind].argsort(stable=True)]
        claims = torch.bincount(asked, minlength=len(kinds))
        place = torch.arange(len(left)) - (claims.cumsum(0) - claims)[asked[by_kind]] + taken[asked[by_kind]]
        has = place < room[asked[by_kind]]
        winners = by_kind[has]
        order[left[winners]] = members[first[asked[winners]] + place[has]]
        taken += torch.bincount(asked[winners], minlength=len(kinds))
        left = left[order[left] < 0]
        if not len(left):
            return order
    order[left] = torch.arange(len(own))[~torch.isin(torch.arange(len(own)), order)]
    return order


def _exchanged(order: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """The order with pairs of rows exchanged where both together are nearer so: who came last took what was left."""
    order = order.clone()
    for _ in range(ROUNDS):
        far = (wanted - own[order]).square().sum(1)
        exchanges = 0
        for i in far.topk(min(FARTHEST, len(far))).indices.tolist():
            held = own[order]
            far = (wanted - held).square().sum(1)
            with_theirs = (wanted[i] - held).square().sum(1) + (wanted - held[i]).square().sum(1)
            gain = far[i] + far - with_theirs
            j = int(gain.argmax())
            if gain[j] > 0:
                order[i], order[j] = int(order[j]), int(order[i])
                exchanges += 1
        if not exchanges:
            break
    return order


def _reordered(
    known: Known, things: str, said: str, moved: Callable[[Tensor], Tensor]
) -> Iterator[PlacedReading]:
    """The scales, and biases where there are such, in another order."""
    packed = known.packed
    for parts in [("scales", "biases"), ("scales",)] if "biases" in packed.parts else [("scales",)]:
        others = {}
        for part in parts:
            stored = known.container.part(packed.parts[part])
            by_row = packed.scales_by_row(stored)
            if by_row is None:
                return
            others[part] = _as_stored(packed, moved(by_row), stored)
        yield PlacedReading(
            known.with_parts(**others),
            f"its {' and '.join(parts)} belong to other {things}: {said}",
            f"with the {' and '.join(parts)} of other {things}: {said}",
        )


def _taken(by_row: Tensor, dim: int, index: Tensor) -> Tensor:
    """Rows or columns of a matrix, of any dtype: of floats of eight bits torch moves none."""
    if by_row.element_size() == 1:
        return by_row.view(torch.uint8).index_select(dim, index).view(by_row.dtype)
    return by_row.index_select(dim, index)


def _as_stored(packed: Packed, by_row: Tensor, like: Tensor) -> Tensor:
    """What `scales_by_row` made rows of, as it is stored."""
    return (by_row.T if packed.turned else by_row).contiguous().view(like.shape)


def _lost(known: Known, scales: Scales, said: str, decoded: str) -> Iterator[PlacedReading]:
    """Scales in whose place others stand, so that the codes' own are told from the other side's values.

    Args:
        known, scales: the weight's.
        said: what its scales are now.
        decoded: see `PlacedReading`.
    """
    packed, by_row = known.packed, scales.raw
    stored = known.container.part(packed.parts["scales"])
    times = torch.where(scales.times.isfinite(), scales.times, 1.0)
    if stored.dtype == torch.uint8:
        if isinstance(packed, BlockWeight) and packed.nested:
            found = _in_table(known, packed, by_row, times)
        else:
            found = (by_row.float() + times.log2()).round().clamp(0, 254).to(torch.uint8)
    else:
        found = by_row.float() * times
    for parts in [("scales",), ("scales", "biases")] if "biases" in packed.parts else [("scales",)]:
        others = {"scales": _as_stored(packed, found, stored)}
        if "biases" in parts:
            bias = known.container.part(packed.parts["biases"])
            others["biases"] = _biases_of(scales, bias, found)
        yield _as_lost(known, scales, parts, others, said, decoded)


def _in_table(known: Known, packed: BlockWeight, by_row: Tensor, times: Tensor) -> Tensor:
    """Nested magnitudes that are so many times those of some rows, as numbers of their table, uint8 [n, G]."""
    table, outer = (
        known.container.part(packed.parts[part]).float() for part in ("outer_levels", "outer_scales")
    )
    number = by_row.flatten().long()
    size = outer[torch.arange(len(number)) // packed.nested]
    wanted = (table[number] * size + packed.offset) * times.flatten()
    return (
        ((wanted - packed.offset) / size)[:, None]
        .sub(table)
        .abs()
        .argmin(1)
        .to(torch.uint8)
        .view(by_row.shape)
    )


def _biases_of(scales: Scales, bias: Tensor, found: Tensor) -> Tensor:
    """The amounts that the other side's values have beside codes times scales, where the weight is seen."""
    held = bias.reshape(found.shape).float()
    amount = scales.rest + found * held / scales.raw.float()
    return torch.where(amount.isfinite(), amount, held).view(bias.shape)


def _as_lost(
    known: Known, scales: Scales, parts: Sequence[str], others: dict[str, Tensor], said: str, decoded: str
) -> PlacedReading:
    count, total = len(scales.rows) * scales.raw.shape[1], scales.raw.numel()
    return PlacedReading(
        known.with_parts(**others),
        f"its {' and '.join(parts)} are {said}: those that its codes were made with are lost",
        decoded,
        from_reference=f"{count} of {total} scales",
    )


def _of_another_expert(known: Known, scales: Scales, off: float) -> Iterator[PlacedReading]:
    """The scales of another matrix of a stack."""
    slot, raw = known.pairs[0][0].slot, scales.raw
    if slot is None or len(raw) % slot[1]:
        return
    (which, count), logs = slot, _log(raw)
    high = len(raw) // count
    own = slice(which * high, (which + 1) * high)
    size, wanted = (scales.own - logs)[own].nanmedian(), scales.wanted[own]
    far = [
        math.inf if e == which else _distance(wanted, logs[e * high :][:high] + size) for e in range(count)
    ]
    same = [
        e
        for e in range(count)
        if e != which and torch.equal(raw[e * high :][:high].float(), raw[own].float())
    ]
    best = min(range(count), key=far.__getitem__)
    if same and off > NEARER_FLOAT:
        yield from _lost(known, scales, f"those of expert {same[0]}", f"with the scales of expert {same[0]}")
    elif far[best] < NEARER * off:
        index = torch.arange(len(raw))
        index[own] = torch.arange(best * high, (best + 1) * high)
        said = f"those of expert {which} lie at expert {best}"
        yield from _reordered(known, "experts", said, lambda by_row: _taken(by_row, 0, index))


def _of_another(known: Known, scales: Scales, off: float) -> Iterator[PlacedReading]:
    """The scales of another weight: of another expert, another layer, or the one beside it."""
    packed, container = known.packed, known.container
    name, stored = packed.parts["scales"], container.part(packed.parts["scales"])
    by_size = (scales.own - _log(scales.raw)).nanmedian()
    best: tuple[float, Packed] | None = None
    for other in container.packed.values():
        theirs = other.parts.get("scales")
        alike = theirs not in (None, name) and type(other) is type(packed) and _near(other.name, packed.name)
        if theirs is None or not alike:
            continue
        tensor = container.part(theirs)
        by_row = packed.scales_by_row(tensor)
        if tensor.shape != stored.shape or tensor.dtype != stored.dtype or by_row is None:
            continue
        if torch.equal(by_row.float(), scales.raw.float()) and off > NEARER_FLOAT:
            yield from _lost(known, scales, f"those of {other.name}", f"with the scales of {other.name}")
            return
        far = _distance(scales.wanted, _log(by_row) + by_size)
        if far < NEARER * off and (best is None or far < best[0]):
            best = far, other
    if best is not None:
        _, other = best
        moved = [part for part in ("scales", "biases") if part in packed.parts and part in other.parts]
        yield PlacedReading(
            known.with_parts(**{part: container.part(other.parts[part]) for part in moved}),
            f"its own {' and '.join(moved)} are those that lie beside the codes of {other.name}",
            f"with the {' and '.join(moved)} of {other.name}",
        )


def _near(a: str, b: str) -> bool:
    """Whether two names differ in numbers alone, or are of modules in one module."""
    digits = str.maketrans("", "", "0123456789")
    return a.translate(digits) == b.translate(digits) or _module(a) == _module(b)


def _module(name: str) -> str:
    """The module around the one that has a weight."""
    return name.rpartition(".")[0].rpartition(".")[0]


def _log(raw: Tensor) -> Tensor:
    """Logarithms of scales; of exponents of two, which bytes are, themselves."""
    return raw.float() * math.log(2) if raw.dtype == torch.uint8 else _logarithm(raw.float())


def _logarithm(scale: Tensor) -> Tensor:
    """See `Scales`."""
    return scale.abs().log() + NEGATIVE * (scale < 0)


def _of_another_float(known: Known, scales: Scales) -> Iterator[PlacedReading]:
    """Scales that are F16 under the name of BF16, or the reverse."""
    name = known.packed.parts["scales"]
    declared = known.container.stored.tensors[name].dtype
    if declared not in MIXED_UP or name in known.container.others:  # a repair has put others in their place
        return
    found = known.container.part(name).contiguous().view(MIXED_UP[declared])
    by_row = known.packed.scales_by_row(found)
    if by_row is None or not _distance(scales.wanted, _log(by_row)) < NEARER_FLOAT:
        return
    actual = "BF16" if declared == "F16" else "F16"
    yield PlacedReading(
        known.with_parts(scales=found),
        f"its scales are declared {declared} and hold {actual}",
        f"with scales of {actual} read as {declared}",
        kind="dtype.mislabeled",
    )


def _codes_elsewhere(known: Known) -> Iterator[PlacedReading]:
    """Codes that lie in other rows, or in other columns, than their scales."""
    if max(sum(weight.dims[0] for weight, _ in known.pairs), known.packed.columns) > LARGEST:
        return
    read = [(plain.values(), truth.values()) for plain, truth in known.codes()]
    codes, values = (torch.cat(parts) for parts in zip(*read, strict=True))
    order = matched(codes, values)
    if order is not None:
        yield from _of_other_rows(known, order)
    elif not any(weight.transposed or weight.columns is not None for weight, _ in known.pairs):
        order = matched(codes.T, values.T)
        if order is not None:
            yield from _of_other_columns(known, order)


def _of_other_rows(known: Known, order: NDArray[np.int64]) -> Iterator[PlacedReading]:
    packed, stored = known.packed, known.container.part(known.packed.parts["codes"])
    by_row = packed.codes_by_row(stored)
    if by_row is None:
        return
    read = known.read_as(_places(packed, 1, by_row=False))
    place = torch.cat([own.values()[:, 0] for own, _ in read]).long().numpy()  # where each row is stored
    taken = np.arange(len(by_row))
    taken[place] = place[order]
    moved, stored_rows = _taken(by_row, 0, torch.from_numpy(taken)), np.sort(place)
    said = permutation_in_words(np.searchsorted(stored_rows, taken[stored_rows]), 0, "rows")
    yield PlacedReading(
        known.with_parts(codes=_as_stored(packed, moved, stored)),
        f"its codes lie in other rows than their scales: {said}",
        f"with the codes of other rows: {said}",
        kind="layout.permuted",
    )


def _of_other_columns(known: Known, order: NDArray[np.int64]) -> Iterator[PlacedReading]:
    """Of codes of which several columns share a word, those that move together."""
    packed, stored = known.packed, known.container.part(known.packed.parts["codes"])
    by_column = stored if packed.turned else stored.reshape(packed.rows, -1).T
    run = len(order) // len(by_column)
    words = order.reshape(-1, run) if run and len(order) == run * len(by_column) else None
    if words is None or len(packed.dims) != 2:
        return
    if bool((words - words[:, :1] != np.arange(run)).any()) or bool((words[:, 0] % run).any()):
        return
    moved = _taken(by_column, 0, torch.from_numpy(words[:, 0] // run))
    said = permutation_in_words(order, 0, "columns")
    yield PlacedReading(
        known.with_parts(codes=(moved if packed.turned else moved.T).contiguous().view(stored.shape)),
        f"its codes lie in other columns than their scales: {said}",
        f"with the codes of other columns: {said}",
        kind="layout.permuted",
    )


def _indexed(known: Known) -> Iterator[PlacedReading]:
    """A group index that says of each column the group whose scales and zero points give the other side's values."""
    name, raw, (weight, truth) = known.packed.parts.get("index"), known.scales(), known.pairs[0]
    if name is None or raw is None or raw.shape[1] < 2 or weight.transposed or weight.columns is not None:
        return
    groups, first = raw.shape[1], max(0, (weight.dims[0] - SAMPLED_ROWS) // 2)
    rows, index = (first, min(first + SAMPLED_ROWS, weight.dims[0])), known.container.part(name)
    wanted, off = truth.values(*rows), []
    for group in range(groups):
        read = replace(weight, container=known.with_parts(index=torch.full_like(index, group)))
        off.append((read.values(*rows) - wanted).square().sum(0))
    errors = torch.stack(off)  # [G, C]
    found = errors.argmin(0).to(index.dtype)
    here = errors.gather(0, index.long()[None])[0]
    moved = int((found != index).sum())
    if not moved or not float(errors.amin(0).sum()) < NEARER**2 * float(here.sum()):
        return
    yield PlacedReading(
        known.with_parts(index=found),
        f"its group index puts {moved} of {len(index)} columns in another group than their scales are of",
        f"with {moved} of {len(index)} columns in other groups than the group index says",
    )
