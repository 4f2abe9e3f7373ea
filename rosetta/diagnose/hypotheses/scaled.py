"""All values of a weight times one factor, which may be negative (`value.scaled`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from torch import Tensor

from rosetta.diagnose.edits import Scaled
from rosetta.diagnose.hypotheses.cell_factors import lines_have_factors
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import changed, edited, fitted, sampled_blocks_of
from rosetta.diagnose.runtime_at_fault import runs_otherwise
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight
from rosetta.workers import spread

KINDS = (
    FindingKind(
        "value.scaled",
        means="All values of a weight are multiplied by one factor, which may be negative.",
        why="A scale of the embedding, the residual or the logits is folded into a weight and applied again by the "
        "runtime, or the one scale of a quantised tensor is left out.",
        repair="The values are divided by the factor. Do not multiply them on export.",
        order=50,
        whole=True,
        together="are off by factors: scales of a quantisation, or of the architecture, were left out or applied twice",
    ),
)

ROUNDS = 8  # at most, of leaving out what does not fit
SETTLED = 1e-7  # change of the factor between two rounds
CERTAIN = 6.0  # standard deviations, from one, of a factor that is fitted to so many errors
OUTLIER = 6.0  # times the rms of what the factor leaves: a weight so far off has another fault
NEGLIGIBLE = 1e-6  # of the values' rms: float32 rounds the product
FAR = 100.0  # times the largest tenth of the values, from a sample: no weight is so large
SAMPLED = 10_000
LEAST_CORRELATION = 0.8  # between the two copies; a copy in two bits still has 0.9


def propose(fault: Fault) -> Iterator[Proposal]:
    """The factor that fits each accused weight best."""
    for suspect, weight, factor in fitted(fault, factor_from_stage, fitted_factor):
        if fault.in_some_blocks_only(weight.name):
            continue  # a factor of the whole tensor would leave no block equal
        other = suspect.counterpart(weight)
        if other is not None and not fault.recorded and lines_have_factors(weight, other):
            continue
        edit = Scaled(factor, weight.dtype)
        repair = changed(suspect.model, weight, edit)
        # A runtime may do so where it reads one weight of two that are tied.
        if runs_otherwise(fault) is not None:
            repair = Repair(patches={weight.name: edited(edit)})
        yield Proposal(
            kind="value.scaled",
            role=suspect.role,
            repair=repair,
            tensor=weight.name,
            actual=factor,
            message=f"{weight.name} is {factor:.6g} times what the other side holds",
            recommendation=f"divide {weight.entry.name} by {factor:.6g} on export, or do not multiply it",
        )


def factor_from_stage(fault: Fault, weight: Weight) -> float | None:
    """The factor that fits a recorded stage best: the stage is a multiple of the weight, plus what else it adds."""
    whole, rest = fault.computed(), fault.computed(changed(fault.subject.model, weight, Scaled(math.inf)))
    truth = fault.recorded_value
    if whole is None or rest is None or truth is None or truth.shape != whole.shape:
        return None
    part, wanted = (whole - rest).double().flatten(), (truth - rest).double().flatten()
    dot, squares = float(part @ wanted), float(part @ part)
    if not squares or not dot or not abs(dot) >= LEAST_CORRELATION * squares**0.5 * float(wanted.norm()):
        return None
    factor = squares / dot
    return None if abs(factor - 1) < 1e-6 else factor


def fitted_factor(a: Weight, b: Weight) -> float | None:
    """The factor of least squares between two copies; None where it is 1 or the copies have little in common.

    Zeroed rows, NaN and damaged blocks of the first copy are no evidence of its factor and are left out.
    """
    factor, limit, chance, blocks = 0.0, math.inf, 0.0, sampled_blocks_of(a, b)
    for _ in range(ROUNDS):
        sums = spread(partial(_sums, factor=factor, limit=limit), blocks)
        dot, norm_a, norm_b, count = (sum(numbers) for numbers in zip(*sums, strict=True))
        if not norm_a or not norm_b or not abs(dot) >= LEAST_CORRELATION * (norm_a * norm_b) ** 0.5:
            return None
        factor, before = dot / norm_b, factor
        residual = max(norm_a - factor * dot, norm_a * NEGLIGIBLE**2)
        limit = OUTLIER * (residual / count) ** 0.5
        chance = (residual / count / norm_b) ** 0.5
        if abs(factor - before) <= SETTLED * abs(factor):
            break
    return None if not math.isfinite(factor) or abs(factor - 1) < max(1e-6, CERTAIN * chance) else factor


def _sums(pair: tuple[Tensor, Tensor], factor: float, limit: float) -> tuple[float, float, float, float]:
    """Σxy, Σx², Σy² and the number of the values of two copies that a factor may be fitted to."""
    x, y = _comparable(*pair, factor, limit)
    return float(x @ y), float(x @ x), float(y @ y), float(x.numel())


def _comparable(x: Tensor, y: Tensor, factor: float, limit: float) -> tuple[Tensor, Tensor]:
    """The values of two copies, flat, that a factor may be fitted to."""
    kept = x.isfinite() & y.isfinite()
    if x.dim() == 2:
        kept &= (x != 0).any(-1, keepdim=True)
    usual = x[kept].abs()
    if not usual.numel():
        return x[kept], y[kept]
    largest = FAR * float(usual[:: -(-usual.numel() // SAMPLED)].quantile(0.9))
    kept &= (x.abs() <= largest) & ((x - factor * y).abs() <= limit)
    return x[kept], y[kept]
