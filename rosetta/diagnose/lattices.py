"""The few levels on which the values of a float weight lie that was quantised before.

Letters: R = rows, C = columns, n = groups, g = weights of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rosetta.compare.kept_order import levels_out_of_order
from rosetta.compare.trait import LEAST
from rosetta.diagnose.levels import OnColumnLevels, OnEvenLevels, OnLevels, in_groups, on_levels, snapped
from rosetta.dtypes import FLOATS
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

ROWS = 8  # sampled
GROUPS = (256, 128, 64, 32, 16)  # weights that may share a scale, the most first
FOUR_BITS_EVEN, SIX_BITS = tuple(range(2, 16)), tuple(range(4, 64))  # steps of a group
TWO_ROUNDINGS = 2.0**-7  # of a group's largest value: of its source to BF16, and of the other side
HALF_OF_IT = 1.6  # times the levels of half a group: more are those of two scales
FOUR_BITS = 16  # levels of a group
SIGNIFICANDS = {8: "FP8 (E4M3)", 4: "FP8 (E5M2)"}  # of a float with so few bits, whatever the scale
HALVES = {"BF16": (torch.bfloat16, 128), "F16": (torch.float16, 1024)}  # floats of so many significands
FEWER = 0.75  # of the distinct values that the other side has in the same groups, at most: few by chance they are not
# So few weights have few values of any kind: of five bits 0.77, of four and a half (NVFP4) 0.63.
FEWER_OF_16 = 0.7
LEAST_LEVELS = 2  # in the middle group: one that is all zeros lies on every lattice
PRUNED = 0.9  # of the values that differ, those that are nought on one side alone
TERNARY = 3
NF4 = (  # Dettmers et al. 2023, QLoRA, appendix E: quantiles of the normal distribution
    -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.24611230, 0.33791524, 0.44070983, 0.56261700, 0.72295684, 1.0,
)  # fmt: skip
# bitsandbytes' E2M1 with its odd subnormal
FP4 = (0.0, 0.0625 / 12, 2 / 12, 3 / 12, 4 / 12, 6 / 12, 8 / 12, 1.0)
E2M1 = (0.0, 0.5 / 6, 1 / 6, 1.5 / 6, 2 / 6, 3 / 6, 4 / 6, 1.0)  # OCP Microscaling, 5.3.3
E2M1_NAME, POWERS_OF_TWO = "FP4 (E2M1, such as NVFP4)", "MXFP4 (E2M1, scales that are powers of two)"
OTHER_NAME = "a format of four bits and less (such as GPTQ, AWQ, Q4_0, Q2_K)"
TERNARY_NAME = "ternary weights (such as TQ1_0, TQ2_0, BitNet)"
LIKE = {POWERS_OF_TWO: "MXFP4", E2M1_NAME: "NVFP4", TERNARY_NAME: "TQ2_0"}
TABLES = {
    "NF4": NF4,
    "FP4": (*FP4, *(-x for x in FP4)),
    E2M1_NAME: (*E2M1, *(-x for x in E2M1)),
}
TOPS = (1.0, 4 / 6, 3 / 6)  # of E2M1: the level of a group's largest value, where the scale was rounded
SMALL = 2.0**-6  # of a group's largest value
KNOWN_PART = 2.0**-6  # of a value, by which it may be off and still tell its significand of three bits
ON_LEVELS = 0.9  # of the groups, how many lie on their levels
OFF_TABLE = 2.0**-7  # of a group's largest value: a bfloat16's rounding of value and scale


def sampled(weight: Weight) -> list[int]:
    """Some rows, from all over a matrix."""
    step = max(1, weight.dims[0] // ROWS)
    return list(range(step // 2, weight.dims[0], step))[:ROWS]


def lattice_of(weight: Weight, other: Weight) -> tuple[OnLevels | OnEvenLevels | OnColumnLevels, str] | None:
    """The lattice of a matrix and its name; None where its values are no fewer than the other side's."""
    rows = sampled(weight)
    a, theirs = weight.rows(rows), other.rows(rows)
    if other.dtype not in FLOATS:  # its levels are its own dtype's, and were none before
        drawn = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0))
        theirs = theirs + drawn * other.sigma_rows(rows)
    b = rounded(theirs, weight.dtype)
    found = (
        lattice_of_rows(a, b, unit_of(weight.dtype))
        or _one_grid(weight, other, a, b)
        or _of_columns(weight, other)
    )
    if found is None and weight.dtype == "F32":
        off = math.sqrt(3) * other.sigma_rows(rows)  # the largest error where √(s² / 12) is its deviation
        cut = _cut_off(a, other.rows(rows), weight.dtype, off) if other.dtype in FLOATS else None
        return cut or _halves(a, b)
    return found


def _of_columns(weight: Weight, other: Weight) -> tuple[OnLevels | OnColumnLevels, str] | None:
    """The eight bits that columns of a matrix have, each with a scale of its own, where the other side's do not."""
    step = max(1, weight.dims[1] // ROWS)
    some = list(range(step // 2, weight.dims[1], step))[:ROWS]
    a, theirs = (_some_columns(copy, some) for copy in (weight, other))
    b = rounded(theirs, weight.dtype)
    if not bool(a.isfinite().all() and b.isfinite().all()) or _is_pruned(a, b):
        return None
    way = OnEvenLevels(a.shape[1], (), unit_of(weight.dtype))
    if _even_levels(a, b, [way]) is not None:
        steps, _ = way.steps(weight.values().T.contiguous())
        return OnColumnLevels(steps, _keeps_order(a, b, way.group)), "eight bits with a scale for each column"
    if (found := _few_significands(a, b)) is not None:
        return replace(found[0], nearest=_keeps_order(a, b, found[0].group)), found[1]
    return None


def _some_columns(weight: Weight, some: Sequence[int]) -> Tensor:
    """Some columns of a matrix, turned: [n, R]."""
    of_ranges = spread(lambda rows: weight.values(*rows)[:, some], row_ranges(weight))
    return torch.cat(of_ranges).T.contiguous()


def _one_grid(weight: Weight, other: Weight, a: Tensor, b: Tensor) -> tuple[OnEvenLevels, str] | None:
    """The steps that all values of a matrix are whole numbers of, where the other side's are not; see `_few_levels`."""
    if not bool(a.isfinite().all() and b.isfinite().all()):
        return None
    way = OnEvenLevels(a.shape[1], (), unit_of(weight.dtype), ends=_ends(weight))
    mine = float(way.steps(a)[1].float().mean())
    if mine < ON_LEVELS or float(replace(way, ends=_ends(other)).steps(b)[1].float().mean()) > mine / 2:
        return None
    return replace(way, nearest=_keeps_order(a, b, a.shape[1])), "eight bits with one scale"


def _ends(weight: Weight) -> tuple[float, float]:
    """The least and the largest value of a matrix."""
    of_ranges = spread(lambda rows: weight.values(*rows).aminmax(), row_ranges(weight))
    return float(min(r.min for r in of_ranges)), float(max(r.max for r in of_ranges))


def lattice_of_rows(
    a: Tensor, b: Tensor, unit: float, known: Tensor | None = None
) -> tuple[OnLevels | OnEvenLevels, str] | None:
    """The lattice that some rows lie on and others do not, and its name.

    Args:
        a, b: rows of both copies, b rounded as a is, [R, C].
        unit: relative rounding of the values themselves.
        known: how far each value of both may be off its level at most, [R, C]; None: not at all.
    """
    if not bool(a.isfinite().all() and b.isfinite().all()) or _is_pruned(a, b):
        return None
    found = (
        _few_levels(a, b, unit, known)
        or _even_levels(a, b, [OnEvenLevels(group, (), unit) for group in (a.shape[1], 128, 64, 32)], known)
        or _even_levels(a, b, [OnEvenLevels(group, SIX_BITS, unit) for group in (32, 16)], known)
        or _few_significands(a, b, known)
    )
    if found is None:
        return None
    edit, name = found
    return replace(edit, nearest=_keeps_order(a, b, edit.group)), name


def unit_of(dtype: str) -> float:
    """By how much a float dtype rounds a value at most, relative to it."""
    return 2.0 ** -(FLOATS[dtype].mantissa_bits or 23) / 2


def rounded(values: Tensor, dtype: str) -> Tensor:
    """Values as a float dtype holds them."""
    return values.to(_torch_dtype(dtype)).float()


def _is_pruned(a: Tensor, b: Tensor) -> bool:
    """Whether two copies differ in little but values that one of them has lost: few are left then, and on no levels."""
    differ = (a - b).abs() > TWO_ROUNDINGS * b.abs()
    return int((differ & (a == 0)).sum()) > PRUNED * int(differ.sum())


def _few_levels(
    a: Tensor, b: Tensor, unit: float, known: Tensor | None = None
) -> tuple[OnLevels, str] | None:
    """The levels of four bits and less that some rows lie on, by the largest groups that share one scale; see
    `lattice_of_rows`."""
    for group in GROUPS:
        if a.shape[1] % group:
            continue
        mine, theirs = (on_levels(x, known, group) for x in (a, b))
        levels = _distinct(mine)
        fewer = FEWER_OF_16 if group == min(GROUPS) else FEWER
        if not _fewer(levels, _distinct(theirs), FOUR_BITS, fewer):
            continue
        halves = _distinct(in_groups(mine, group // 2))
        usual, of_half = (float(x.double().median()) for x in (levels, halves))
        if group > min(GROUPS) and usual > HALF_OF_IT * of_half:
            continue
        name = _name(mine, unit)
        like = LIKE.get(name, "Q2_K" if group == min(GROUPS) else "Q4_K")
        edit = OnLevels(group, 0, 2.0 if name == POWERS_OF_TWO else 1.0, like=like)
        return edit, f"{name} in groups of {group}"
    return None


def _few_significands(a: Tensor, b: Tensor, known: Tensor | None = None) -> tuple[OnLevels, str] | None:
    """The floats of eight bits that some rows are, whatever their scale, by the largest groups that share one; see
    `lattice_of_rows`."""
    for group in (min(128, a.shape[1]), 64, 32):
        off = None if known is None else in_groups(known, group)
        mine, theirs = (_distinct(_significands(in_groups(x, group), off)) for x in (a, b))
        for count, name in sorted(SIGNIFICANDS.items()):
            if _fewer(mine, theirs, count):
                return OnLevels(group, count), name
    return None


def _halves(a: Tensor, b: Tensor) -> tuple[OnLevels, str] | None:
    """The floats of sixteen bits that some rows were; see `_few_levels`."""
    for name, (dtype, count) in HALVES.items():
        was, is_other = (bool((x.to(dtype).float() == x).all()) for x in (a, b))
        if was and not is_other:
            return OnLevels(min(128, a.shape[1]), count), name
    return None


def halves_of_vector(weight: Weight, other: Weight) -> tuple[OnLevels, str] | None:
    """The float of sixteen bits that a norm or a bias was rounded to before it was stored as float32."""
    a, b = weight.values()[None], other.values()[None]
    if (cut := _cut_off(a, b, weight.dtype)) is not None:
        return cut
    found = _halves(a, b) if weight.dtype == "F32" else None
    if found is None or not bool(((a - b).abs() <= 2 / found[0].significands * b.abs()).all()):
        return None
    return found


def _cut_off(a: Tensor, b: Tensor, dtype: str, off: Tensor | float = 0.0) -> tuple[OnLevels, str] | None:
    """The float of sixteen bits that some values were cut off to instead of rounded: none is farther from nought than
    the other side's, nor nearer by a step, and those that differ are many.

    Args:
        a, b: the values of both copies, [R, C].
        dtype: that the first are stored as.
        off: how far the other side's may be off by its own rounding, [R, C].
    """
    for name, (half, count) in HALVES.items():
        if dtype not in ("F32", name) or not bool((a.to(half).float() == a).all()):
            continue
        less = b.abs() - a.abs()
        towards_nought = (
            (less >= -off) & (less <= b.abs() / count + off) & ((a * b > 0) | (less.abs() <= off))
        )
        # Rounded, as many would be farther as are nearer: that all are nearer is chance once in 2^n.
        if bool(towards_nought.all()) and int((less > off).sum()) >= LEAST:
            return OnLevels(min(128, a.shape[1]), count, cut=True), f"{name}, cut off instead of rounded"
    return None


def _even_levels(
    a: Tensor, b: Tensor, ways: Sequence[OnEvenLevels], known: Tensor | None = None
) -> tuple[OnEvenLevels, str] | None:
    """The evenly spaced levels of more than four bits that some rows lie on, where the other side's do not; see
    `lattice_of_rows`."""
    for way in ways:
        if way.group > a.shape[1] or a.shape[1] % way.group:
            continue
        off = None if known is None else in_groups(known, way.group)
        mine, theirs = (float(way.steps(in_groups(x, way.group), off)[1].float().mean()) for x in (a, b))
        if mine >= ON_LEVELS and theirs <= mine / 2:
            return way, f"{'five or six' if way.counts else 'eight'} bits in groups of {way.group}"
    return None


def _keeps_order(a: Tensor, b: Tensor, group: int) -> bool:
    """Whether of two weights of a group the larger one never lies on a lower level: an encoder that rounds each by
    itself leaves that, whatever its scale was fitted to, and other weights do not (docs/noise.md, "Order").

    Args:
        a, b: rows on levels, and those that they may have been made from, [R, C].
        group: weights that share the levels.
    """
    v, x = in_groups(a, group), in_groups(b, group)
    broken, _ = levels_out_of_order(v, x, x.abs().amax(1, keepdim=True) * TWO_ROUNDINGS)
    return broken == 0


def _distinct(grouped: Tensor) -> Tensor:
    """How many values each group has, [n]."""
    return (grouped.sort(dim=1).values.diff(dim=1) != 0).sum(1) + 1


def _significands(x: Tensor, known: Tensor | None = None) -> Tensor:
    """The significands of each group's larger values; in the smaller ones' place the largest one's, for they may be
    subnormal in either format.

    Args:
        x: values, [n, g].
        known: how far each may be off at most: those that may be off by more than a part are small, too.
    """
    size = x.abs()
    largest, at = size.max(1, keepdim=True)
    tells = size >= SMALL * largest
    if known is None:
        return torch.frexp(torch.where(tells, size, largest)).mantissa
    tells &= known <= KNOWN_PART * size
    size, known = torch.where(tells, size, largest), torch.where(tells, known, known.gather(1, at))
    # On a circle: a significand just below one is next to one just above a half.
    turns = torch.log2(size.clamp(min=1e-30)).remainder(1)
    ordered = turns.sort(dim=1).values
    gaps = torch.cat([ordered.diff(dim=1), ordered[:, :1] + 1 - ordered[:, -1:]], dim=1)
    start = ordered.gather(1, (gaps.argmax(1, keepdim=True) + 1) % x.shape[1])
    return snapped((turns - start).remainder(1), known / size.clamp(min=1e-30) / math.log(2))


def _fewer(mine: Tensor, theirs: Tensor, most: int, part: float = FEWER) -> bool:
    """Whether all groups have few values, and the other side's more: a small group has few of any kind."""
    if int(mine.max()) > most:
        return False
    usual = float(mine.double().median())
    return usual >= min(LEAST_LEVELS, most) and usual <= part * float(theirs.double().median())


def _name(grouped: Tensor, unit: float) -> str:
    """What format has such levels: one whose table holds them, or evenly spaced ones.

    Args:
        grouped: values, [n, g].
        unit: their relative rounding.
    """
    largest = grouped.abs().amax(1, keepdim=True)
    used = largest[:, 0] > 0
    scaled = (grouped / largest.clamp(min=1e-30))[used]
    if int(_distinct(grouped).max()) <= TERNARY and bool(((scaled == 0) | (scaled.abs() == 1)).all()):
        return TERNARY_NAME
    for name, table in TABLES.items():
        levels = scaled.new_tensor(table)
        if float((scaled[..., None] - levels).abs().amin(-1).max()) <= OFF_TABLE:
            return name
    levels, tops = scaled.new_tensor(TABLES[E2M1_NAME]), scaled.new_tensor(TOPS)
    off = ((scaled[:, None] * tops[:, None])[..., None] - levels).abs().amin(-1).amax(-1)  # [n, tops]
    evenly = OnEvenLevels(grouped.shape[1], FOUR_BITS_EVEN, unit).steps(grouped)[1].float().mean()
    if float(off.amin(1).max()) > OFF_TABLE or float(evenly) >= ON_LEVELS:
        return OTHER_NAME
    top = tops[(off <= OFF_TABLE).int().argmax(1)]
    mantissa = torch.frexp(largest[used, 0] / (6 * top)).mantissa
    return POWERS_OF_TWO if float((mantissa - 0.5).abs().max()) <= OFF_TABLE else E2M1_NAME


def _torch_dtype(dtype: str) -> torch.dtype:
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(dtype, torch.float32)
