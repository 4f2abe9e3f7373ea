"""Two copies of one weight: equal bytes, apart by no more than their dtypes explain, or different.

Letters: R = rows, C = columns, G = weights that share one scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.compare.block_cuts import block_cut, common_ratio, plain_limit
from rosetta.compare.one_pass import OnePass
from rosetta.compare.one_quantisation import of_one_quantisation
from rosetta.compare.results import WeightDiff
from rosetta.compare.row_sums import RowSums, by_group, pass_over, row_sums
from rosetta.compare.salient_channels import SalientBlocks, salient_blocks
from rosetta.compare.structure import (
    COMPENSATED,
    SCALE_ROUNDING,
    compensates,
    tells_structure,
    traits,
)
from rosetta.compare.structure_sample import SampleTests, sampled_rows
from rosetta.compare.trait import Trait
from rosetta.containers.container import Place
from rosetta.digests import places_here
from rosetta.dtypes import FLOATS
from rosetta.same_weights import same_bytes, same_stored_rows
from rosetta.weight import Device, Weight, row_ranges
from rosetta.weight_cache import DecodedPair
from rosetta.workers import spread

# A whole tensor whose rms error is this many times its prediction is a fault: clean ones stay below 1.3, and no
# rounding of a single weight on both sides reaches √6.
FAULTY_TENSOR_RATIO = 2.5
SOME_BLOCKS_ONLY = 0.5  # two quantised copies whose blocks are mostly equal come from one quantiser

State = Literal["identical", "within_noise", "differing"]


@dataclass(frozen=True)
class WeightPair:
    """What the comparison of two copies of a weight found.

    Args:
        state: `identical` bytes or values; `within_noise` of what the dtypes explain; `differing`.
        explained: whether the dtypes' rounding enters the predicted noise of the stages that use the weight.
        worst_ratio: largest rms error of a block over its predicted rms, given up ones left out.
        worst_block: (row, first column) of that block.
        rel_rmse: rms of the difference over rms of the reference.
        predicted: the same, as the dtypes predict it.
        cosine: of the two copies.
        salient: blocks that an encoder sacrificed: their error is no fault, and is part of what is predicted.
        traits: what a difference within the noise has that rounding has not.
        widening: of the variance that the dtypes explain, where an encoder made errors larger to make others good.
        sampled: how many rows the figures are of; None: of all.
        strayed: of columns with weights smaller than the rounding, by how much their squared errors exceed its
            variance, [C]; see `SampleTests.strayed`.
        in_some_blocks: whether most blocks of two quantised copies are equal, and some are not.
    """

    state: State
    identical_bytes: bool = False
    explained: bool = False
    worst_ratio: float = 0.0
    worst_block: tuple[int, int] | None = None
    rel_rmse: float | None = None
    predicted: float | None = None
    cosine: float | None = None
    salient: SalientBlocks | None = field(default=None, compare=False)
    traits: tuple[Trait, ...] = ()
    widening: float = 1.0
    sampled: int | None = None
    strayed: Tensor | None = field(default=None, compare=False)
    in_some_blocks: bool = False


class Copies(NamedTuple):
    """Both copies of a weight, as stored.

    Args:
        left, right: where they lie.
        same_bytes: whether the same bytes are stored.
    """

    left: Weight
    right: Weight
    same_bytes: bool

    @property
    def places(self) -> tuple[Mapping[str, Place], Mapping[str, Place]]:
        """Where what each is made of lies, by its file's names, as far as it is here: what both have, on the left."""
        own, theirs = (places_here(weight.container, weight.entry.name) for weight in (self.left, self.right))
        if self.same_bytes and len(own) == len(theirs) == 1:  # a packed weight lies in several places
            theirs = dict(zip(theirs, own.values(), strict=True))
        return own, theirs


def compare_weights(
    reference: Weight,
    other: Weight,
    device: Device = "cpu",
    kept: DecodedPair | None = None,
    loops: OnePass | None = None,
) -> WeightPair:
    """Compare two canonical weights; of different dims they are `differing` without numbers.

    Args:
        reference, other: the copies; what is relative is so to the reference.
        device: where they are decoded.
        kept: takes what was decoded, for the stage that is computed next.
        loops: compiled ones, for what they do.
    """
    if not comparable(reference, other):
        return WeightPair("differing")
    if kept is None or len(reference.dims) < 2:  # a bias is no reason to forget its matrix
        kept = DecodedPair()
    if same_bytes(reference, other, kept.reads(reference, other)):
        return WeightPair("identical", identical_bytes=True)
    kept.start(reference, other, sampled_rows(reference), device)
    seen = _Seen.empty(reference, other, device)
    by_loops = loops if len(reference.dims) == 2 else None
    ranges = row_ranges(reference) if by_loops is None else by_loops.ranges(reference, kept)
    parts = spread(lambda rows: _measured(reference, other, rows, device, kept, seen, by_loops), ranges)
    return _judged(reference, other, parts, seen, device, kept, by_loops)


def comparable(left: Weight, right: Weight) -> bool:
    """Whether each number of two copies has one of the other to be held to."""
    return left.dims == right.dims and readable(left) and readable(right)


def readable(weight: Weight) -> bool:
    """Whether the weight's bytes can be decoded as its dtype and dims say."""
    return blocks.fits(weight.dtype, weight.nbytes, weight.stored_dims)


def describe(
    name: str, left: Weight | None, right: Weight | None, pair: WeightPair | None, note: str
) -> WeightDiff:
    """The report's row for a weight that differs."""
    return WeightDiff(
        name=name,
        left_name=left.entry.name if left else None,
        right_name=right.entry.name if right else None,
        left_dtype=left.entry.dtype if left else None,
        right_dtype=right.entry.dtype if right else None,
        left_dims=list(left.entry.dims) if left else None,
        right_dims=list(right.entry.dims) if right else None,
        rel_rmse=pair.rel_rmse if pair else None,
        predicted=pair.predicted if pair else None,
        cosine=pair.cosine if pair else None,
        note=note,
    )


@dataclass(frozen=True)
class _Sums:
    """What some rows of two copies add up to, by block columns [G].

    Args:
        errors, expected: squares of the difference, and the variance that the dtypes explain, float64 [G].
        norm_reference, norm_other: squared.
    """

    errors: Tensor
    expected: Tensor
    norm_reference: float
    norm_other: float


@dataclass(frozen=True)
class _Seen:
    """What is seen of each row, in memory of its own: left between what passes, it would keep that from being used
    again.

    Args:
        ratios: of each block, [R, G]; a vector is one row.
        rows: sums of each row; None of a vector.
    """

    ratios: Tensor
    rows: RowSums | None

    @staticmethod
    def empty(reference: Weight, other: Weight, device: Device) -> _Seen:
        """Of two copies that are to be compared."""
        rows = reference.dims[0] if len(reference.dims) > 1 else 1
        groups = -(-(reference.count // max(1, rows)) // common_group(reference, other))
        sums = RowSums.empty(rows) if len(reference.dims) > 1 else None
        return _Seen(torch.empty(rows, groups, device=device), sums)

    def put(self, start: int, ratios: Tensor, rows: RowSums | None) -> None:
        """Take over what was seen of some rows, from `start` on."""
        self.ratios[start : start + len(ratios)] = ratios
        if self.rows is not None and rows is not None:
            self.rows.put(start, rows)


def _measured(
    reference: Weight,
    other: Weight,
    rows: tuple[int, int],
    device: Device,
    kept: DecodedPair,
    seen: _Seen,
    loops: OnePass | None,
) -> _Sums:
    """Compare some rows of two copies; a vector counts as one row."""
    group, vector = common_group(reference, other), len(reference.dims) < 2
    proportional = {reference.dtype, other.dtype} <= {*FLOATS} and not vector
    if loops is not None:
        passed = loops.pass_over(reference, other, rows, kept, group, proportional)
    else:
        a, b, explained = _decoded(reference, other, rows, device)
        kept.put(rows, a, b, explained)
        a, b, explained = (x[None] if vector else x for x in (a, b, explained))
        passed = pass_over(a, b, explained, group, proportional)
    error, allowed = passed.error, passed.explained
    sizes = torch.full((error.shape[1],), group, dtype=torch.float64)
    sizes[-1] -= len(sizes) * group - reference.count // (
        1 if vector else reference.dims[0]
    )  # it may be short
    seen.put(0 if vector else rows[0], _ratio(error, allowed), None if vector else row_sums(passed, sizes))
    return _Sums(
        errors=error.sum(0, dtype=torch.float64).cpu() * sizes,
        expected=allowed.sum(0, dtype=torch.float64).cpu() * sizes,
        norm_reference=float(passed.size_a.sum()),
        norm_other=float(passed.size_b.sum()),
    )


def _decoded(
    reference: Weight, other: Weight, rows: tuple[int, int], device: Device
) -> tuple[Tensor, Tensor, Tensor]:
    """Some rows of both copies, and the variance of their difference that the dtypes explain."""
    if reference.dtype in FLOATS:
        # Their variance is made of their values, and costs least where it is only added.
        b, explained = other.values_and_variance(*rows, device)
        a, explained = reference.values_and_variance(*rows, device, explained)
        return a, b, explained
    a, explained = reference.values_and_variance(*rows, device)
    if same_stored_rows(reference, other, *rows):
        return a, a, explained.mul_(2)
    b, explained = other.values_and_variance(*rows, device, explained)
    return a, b, explained


def common_group(reference: Weight, other: Weight) -> int:
    """Values that two copies are compared by: those that share a scale. In a float dtype none do, and its neighbours
    are no reason to look at two blocks of the other copy as one."""
    quantised = [weight.dtype for weight in (reference, other) if weight.dtype not in FLOATS]
    return max(blocks.group_of(dtype) for dtype in quantised or (reference.dtype, other.dtype))


def _judged(
    reference: Weight,
    other: Weight,
    parts: Sequence[_Sums],
    seen: _Seen,
    device: Device,
    kept: DecodedPair,
    loops: OnePass | None,
) -> WeightPair:
    """What all rows together say."""
    errors, allowed = (torch.stack([getattr(p, x) for p in parts]).sum(0) for x in ("errors", "expected"))
    squares, expected = float(errors.sum()), float(allowed.sum())
    if squares == 0:
        return WeightPair("identical")
    edited = reference.repaired or other.repaired  # what went wrong may have quantised every block anew
    quantised = reference.dtype == other.dtype and reference.dtype not in FLOATS and not edited
    group, ratios = common_group(reference, other), seen.ratios
    some_only = quantised and int((ratios == 0).sum()) > SOME_BLOCKS_ONLY * ratios.numel()
    size_reference, size_other = sum(p.norm_reference for p in parts), sum(p.norm_other for p in parts)
    apart = squares > SCALE_ROUNDING**2 * min(size_reference, size_other)
    rescaled = apart and of_one_quantisation(reference, other)
    unexplained = some_only or rescaled  # nothing was rounded a second time
    tests = None
    if tells_structure(reference, other):
        tests = SampleTests(reference, other, kept, None if loops is None else loops.of_sample)
    if tests is not None and not unexplained and squares <= FAULTY_TENSOR_RATIO**2 * expected:
        tests.start()  # beside what follows; of what is at fault anyway it would be for nothing
    common = common_ratio(ratios)
    cut = block_cut(reference, other, common)
    salient = (
        None
        if unexplained or len(reference.dims) < 2
        else salient_blocks(reference, other, ratios, group, kept, device, common)
    )
    if salient is not None:
        ratios = ratios.masked_fill(salient.blocks(ratios), 0.0)
        errors[salient.columns], allowed[salient.columns] = 0.0, 0.0
    compensated = compensates(reference, other)
    largest = COMPENSATED if compensated else FAULTY_TENSOR_RATIO
    whole = float(errors.sum()) > largest**2 * float(allowed.sum())
    place = int(ratios.argmax())
    worst, (row, column) = float(ratios.flatten()[place]), divmod(place, ratios.shape[1])
    norm_reference, norm_other = math.sqrt(size_reference), math.sqrt(size_other)
    dot = (size_reference + size_other - squares) / 2  # ‖a−b‖² = ‖a‖² + ‖b‖² − 2a·b
    faulty = unexplained or whole or worst > cut
    beneath: tuple[Trait, ...] = ()
    if not faulty and tests is not None and seen.rows is not None:
        weighed = salient is not None or common > plain_limit(reference, other)
        given_up = None if salient is None else salient.given_up(reference.dims[1])
        beneath = traits(tests, seen.rows, weighed, given_up)
    return WeightPair(
        state="differing" if faulty or beneath else "within_noise",
        explained=not unexplained,
        worst_ratio=worst,
        worst_block=(row, column * group),
        rel_rmse=math.sqrt(squares) / norm_reference if norm_reference else math.inf,
        predicted=(0.0 if unexplained else math.sqrt(expected)) / norm_reference if norm_reference else 0.0,
        cosine=dot / (norm_reference * norm_other) if norm_reference and norm_other else 0.0,
        salient=salient,
        traits=beneath,
        widening=max(1.0, squares / expected)
        if compensated and expected and not faulty and not beneath
        else 1.0,
        strayed=None if faulty or tests is None else tests.strayed(),
        in_some_blocks=some_only,
    )


def group_ratios(gap: Tensor, explained: Tensor, group: int) -> Tensor:
    """Rms error of each group over its predicted rms, [rows, groups]; infinite where nothing explains it.

    Args:
        gap: difference of the two copies, [rows, C] or [C].
        explained: its variance that the dtypes explain, of the same shape.
        group: values of a group.
    """
    rows = (1, -1) if gap.dim() < 2 else gap.shape
    return _ratio(by_group(gap.square().view(rows), group), by_group(explained.view(rows), group))


def _ratio(error: Tensor, allowed: Tensor) -> Tensor:
    ratio = torch.where(error == 0, 0.0, (error / allowed).sqrt())  # x / 0 is inf: a fault
    return ratio.nan_to_num(nan=math.inf, posinf=math.inf)
