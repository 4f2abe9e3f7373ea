"""An adapter that is at hand on one side, merged on the other one not once or in another way (`value.low_rank`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from rosetta.adapted import Merged, merge_of, without_merge
from rosetta.compare.pairing import other_role
from rosetta.diagnose.edits import HALF_ULP
from rosetta.diagnose.hypothesis import Fault, Proposal, Suspect
from rosetta.diagnose.patches import changed
from rosetta.edits import ValuesEdit
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

TAKES_FROM_REFERENCE = True
CERTAIN = 6  # standard errors
CLOSE = 0.01  # of being merged once, or twice, or by another rule
LEAST_CERTAIN = 0.5  # of what is told by the factors being read otherwise: the error of how many times


@dataclass(frozen=True)
class Times:
    """Values and some times more of what an adapter makes of its base.

    Args:
        merged, base: the same weight with the adapter and without.
        amount: how many times more; below 0 less.
    """

    fitted: ClassVar[bool] = True  # to the other side's copy

    merged: Weight
    base: Weight
    amount: float

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        rows = start, start + len(values), values.device
        return values + self.amount * (self.merged.values(*rows) - self.base.values(*rows))

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """The rounding of what was stored, and of what is added: in values that hold it once both are of one sign."""
        rows = start, start + len(values), values.device
        added = (self.merged.sigma(*rows).square() - self.base.sigma(*rows).square()).clamp(min=0)
        return (sigma.square() + ((1 + abs(self.amount)) ** 2 - 1) * added).sqrt()


@dataclass(frozen=True)
class Exchanged:
    """Values with what one merge makes of the base taken off, and what another makes of it put there.

    Args:
        held, wanted: the same weight, merged in one way and in the other.
    """

    fitted: ClassVar[bool] = True  # to the other side's copy

    held: Weight
    wanted: Weight

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        wanted, held = self._read(values, start)
        return values + (wanted - held)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """The rounding of what was stored, and what float32 rounds in either merge and in their exchange."""
        wanted, held = self._read(values, start)
        return torch.hypot(sigma, (values.abs() + wanted.abs() + held.abs()) * (2 * HALF_ULP))

    def _read(self, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        rows = start, start + len(values), values.device
        return self.wanted.values(*rows), self.held.values(*rows)


def propose(fault: Fault) -> Iterator[Proposal]:
    """How often, and in which way, the side without the adapter at hand holds it."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims or len(weight.dims) != 2:
            continue
        merge = merge_of(weight) or merge_of(other)
        if merge is not None:
            yield from _of_adapter(fault, suspect, (weight, other), merge)


def _of_adapter(
    fault: Fault, suspect: Suspect, sides: tuple[Weight, Weight], merge: Merged
) -> Iterator[Proposal]:
    """How often the side without the adapter at hand holds it, where that is not once; where both have one, the accused
    side, of whose scale the other one is believed."""
    weight, other = sides
    both = merge_of(weight) is not None and merge_of(other) is not None
    if both and suspect.role != "subject":
        return
    merged, plain = (weight, other) if merge_of(other) is None else (other, weight)
    merge = merge_of(merged) or merge
    base = without_merge(merged)
    if not both:
        yield from _misread(fault, suspect, sides, merge)
    times, error = times_merged(plain, merged, base)
    close = max(CERTAIN * error, CLOSE)
    if abs(times - 1) <= close:
        return
    amount = 1 - times if plain is weight else times - 1
    where = fault.side(suspect.role if plain is weight else other_role(suspect.role))
    yield Proposal(
        kind="value.low_rank",
        role=suspect.role,
        repair=changed(suspect.model, weight, Times(merged, base, amount)),
        tensor=weight.name,
        declared=1,
        actual=round(times) if abs(times - round(times)) <= close else round(times, 2),
        message=f"{weight.name}: the adapter is {how_often(times, close, merge)} in the {where} file",
        recommendation=f"merge the adapter into {weight.entry.name} once, with the scale "
        f"{merge.module.scale:.6g}, before it is quantised, and export again",
        from_reference="1 number: how many times the adapter is merged",
    )


def _misread(
    fault: Fault, suspect: Suspect, sides: tuple[Weight, Weight], merge: Merged
) -> Iterator[Proposal]:
    """The ways in which the side without the adapter may have read its factors, where what it holds is that."""
    weight, other = sides
    merged, plain = (weight, other) if merge_of(weight) is not None else (other, weight)
    base = without_merge(merged)
    where = fault.side(suspect.role if plain is weight else other_role(suspect.role))
    for words, ways in _other_merges(merge, base, plain):
        wrong = replace(merged, values_edits=tuple(_in_place_of(merge, ways, merged.values_edits)))
        times, error = times_merged(plain, wrong, base)
        if CERTAIN * error > LEAST_CERTAIN or abs(times - 1) > max(CERTAIN * error, CLOSE):
            continue
        change = Exchanged(wrong, merged) if plain is weight else Exchanged(merged, wrong)
        yield Proposal(
            # Lengths are no matrix of low rank, and lie in the adapter: no factors of rows are to be found.
            kind="adapter.merge" if ways[0].lengths is not merge.lengths else "value.low_rank",
            role=suspect.role,
            repair=changed(suspect.model, weight, change),
            tensor=weight.name,
            declared="merged once",
            actual=words,
            message=f"{weight.name}: the adapter is {words} in the {where} file",
            recommendation=f"merge B·A, [out, r] times [r, in], into {weight.entry.name} once, and export again",
            from_reference="no number: what the adapter's own tensors make when they are merged so"
            if ways[0].times == 1
            else "1 number: the scale that the adapter is merged with",
        )


def _other_merges(merge: Merged, base: Weight, plain: Weight) -> Iterator[tuple[str, tuple[Merged, ...]]]:
    """How else an adapter may have been merged, in words, and what is merged then. Of LoRA another scale is a number of
    times; of DoRA, whose rows have lengths of their own, it is not."""
    yield from ((f"merged {words}", (way,)) for words, way in merge.misread())
    if merge.lengths is None:
        return
    yield "merged twice", (merge, merge)
    yield "merged without the lengths that DoRA gives its rows", (replace(merge, lengths=None),)
    times, error = _times_stretched(plain, base, merge)
    close = max(CERTAIN * error, CLOSE)
    if abs(times) > close and abs(times - 1) > close:
        yield _with_scale(times, close, merge), (replace(merge, times=times),)


def _times_stretched(plain: Weight, base: Weight, merge: Merged) -> tuple[float, float]:
    """How many times a weight holds what DoRA adds to its base, before rows get their lengths, and the standard error.

    Of each row p, c · (w + t · d) with a length of its own, t is the ratio of what p has along d and along w.
    """

    def sums(rows: tuple[int, int]) -> Tensor:
        p, w, d = (x.values(*rows).double() for x in (plain, base, merge.added))
        ww, wd, dd, pw, pd = ((x * y).sum(1) for x, y in ((w, w), (w, d), (d, d), (p, w), (p, d)))
        beside = dd - wd * wd / ww  # of d, what does not lie along w
        along_d = (pd - pw * wd / ww) / beside
        along_w = (pw - along_d * wd) / ww
        left = (p.square().sum(1) - along_w * pw - along_d * pd).clamp(min=0)
        terms = torch.stack([along_w * along_d * beside, along_w.square() * beside, left])
        return terms[:, beside > 0].sum(1)

    product, size, left = torch.stack(spread(sums, row_ranges(plain))).sum(0).tolist()
    if not (size > 0 and math.isfinite(product) and math.isfinite(left)):
        return 1.0, 0.0
    return product / size, math.sqrt(left / plain.count / size)


def _in_place_of(
    merge: Merged, ways: tuple[Merged, ...], edits: tuple[ValuesEdit, ...]
) -> Iterator[ValuesEdit]:
    for edit in edits:
        yield from ways if edit is merge else (edit,)


def times_merged(plain: Weight, merged: Weight, base: Weight) -> tuple[float, float]:
    """How many times a weight holds what the adapter makes of its base, and the standard error of that."""

    def sums(rows: tuple[int, int]) -> tuple[float, float, float]:
        start = base.values(*rows).double()
        added, held = merged.values(*rows).double() - start, plain.values(*rows).double() - start
        return float((held * added).sum()), float(added.square().sum()), float(held.square().sum())

    along, size, whole = map(sum, zip(*spread(sums, row_ranges(plain)), strict=True))
    if not (size > 0 and math.isfinite(along) and math.isfinite(whole)):
        return 1.0, 0.0
    left = max(whole - along * along / size, 0.0)
    return along / size, math.sqrt(left / plain.count / size)


def how_often(times: float, close: float, merge: Merged) -> str:
    """`merged`, `not merged`, `merged twice`, `merged with the scale 4 (alpha/√r) in place of 2`."""
    if abs(times) <= close:
        return "not merged"
    if times == 1:
        return "merged"
    module = merge.module
    if abs(times - 2) <= close:
        is_root = (
            merge.lengths is None
            and abs(module.alpha / math.sqrt(module.rank) / module.scale / 2 - 1) <= close
        )
        return "merged twice" + (f", or with the scale {2 * module.scale:.4g} (alpha/√r)" if is_root else "")
    if merge.lengths is not None:
        return f"merged {times:.3g} times"
    return _with_scale(times, close, merge)


def _with_scale(times: float, close: float, merge: Merged) -> str:
    """`merged with the scale 4 (alpha/√r) in place of 2`, of how many times what is added is added."""
    module = merge.module
    rules = {
        "alpha/r": module.alpha / module.rank,
        "alpha/√r": module.alpha / math.sqrt(module.rank),
        "alpha": module.alpha,
        "1, without alpha/r": 1.0,
        "1/r": 1 / module.rank,
    }
    scale = times * module.scale
    near = [(value, f" ({words})") for words, value in rules.items() if abs(scale / value - 1) <= close]
    value, named = near[0] if near else (scale, "")
    return f"merged with the scale {value:.4g}{named} in place of {module.scale:.6g}"
