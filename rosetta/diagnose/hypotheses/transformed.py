"""A function of each value left out, or applied once too often: A_log for A first of all (`value.transformed`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rosetta.diagnose.edits import rounding
from rosetta.diagnose.hypothesis import Fault, Proposal, Suspect
from rosetta.diagnose.patches import changed, sampled_blocks_of
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "value.transformed",
        means="A function of each value is left out, or applied once too often: A for A_log, say.",
        why="A state's A is trained as its logarithm. GGUF holds A = −exp(A_log), a Hugging Face folder A_log; a "
        "converter maps it twice, or passes on what it read.",
        repair="The function is undone, or applied. Map the values once.",
        order=45,
        whole=True,
    ),
)

DECAY = ".ssm_a"
NEGATED = "-x"  # which is a factor, and said to be one where the values themselves are at hand
CLOSER = 0.05  # of the difference may be left: another function of few values may fit half of it
FEWEST = 3  # values; to fewer than that some function fits by chance


@dataclass(frozen=True)
class Function:
    """What is done to stored values to have those that are meant.

    Args:
        said: what is wrong with them, of a tensor's name.
        advice: what an exporter must do.
        apply: stored -> meant values, of which NaN where there is none.
    """

    said: str
    advice: str
    apply: Callable[[Tensor], Tensor]


FUNCTIONS: Mapping[str, Function] = {
    "-exp": Function(
        "holds the logarithm of what is meant: −exp is left out", "as −exp of it", lambda x: -x.exp()
    ),
    "log(-x)": Function("is mapped twice by −exp", "once mapped", lambda x: (-x).log()),
    "-log(-x)": Function(
        "holds the size of what is meant, which is mapped by −exp once more",
        "as its logarithm",
        lambda x: -(-x).log(),
    ),
    NEGATED: Function("has the other sign", "with the other sign", lambda x: -x),
    "exp": Function("holds the logarithm of what is meant", "as exp of it", torch.exp),
    "log": Function("is mapped by exp once too often", "as its logarithm", torch.log),
    "softplus": Function("holds what softplus has still to map", "as softplus of it", F.softplus),
    "softplus⁻¹": Function(
        "is mapped by softplus once too often", "without it", lambda x: x + torch.log(-torch.expm1(-x))
    ),
}


@dataclass(frozen=True)
class Transformed:
    """Values of which a function is taken.

    Args:
        name: of `FUNCTIONS`.
        dtype: that they were stored in.
    """

    name: str
    dtype: str = "F32"

    def touches(self, start: int, stop: int) -> bool:
        """All of them."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """The function's values, computed in float64."""
        return FUNCTIONS[self.name].apply(values.double()).float()

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """To first order what a step of its size changes, that of the stored values' own rounding included."""
        step = torch.hypot(sigma, rounding(values, self.dtype))
        moved = (self.values(values + step, start) - self.values(values, start)).abs().nan_to_num()
        return torch.hypot(moved, rounding(self.values(values, start), "F32"))


def propose(fault: Fault) -> Iterator[Proposal]:
    """The function that makes most of each accused weight what the other side holds; beside a recorded run each that
    all factors by which a state decays have a value of."""
    if fault.recorded:
        yield from _of_decay(fault)
        return
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or other.dims != weight.dims:
            continue
        name = fitting(weight, other)
        if name is not None:
            yield _proposal(suspect, weight, name)


def _of_decay(fault: Fault) -> Iterator[Proposal]:
    for suspect, weight in fault.accused_weights():
        if not weight.name.endswith(DECAY):
            continue
        values = weight.values().double()
        for name, function in FUNCTIONS.items():
            if bool(function.apply(values).isfinite().all()):
                yield _proposal(suspect, weight, name)


def _proposal(suspect: Suspect, weight: Weight, name: str) -> Proposal:
    function = FUNCTIONS[name]
    return Proposal(
        kind="value.transformed",
        role=suspect.role,
        repair=changed(suspect.model, weight, Transformed(name, weight.dtype)),
        tensor=weight.name,
        message=f"{weight.name} {function.said}",
        recommendation=f"store {weight.entry.name} {function.advice}",
    )


def fitting(a: Weight, b: Weight) -> str | None:
    """The function of the first copy's values that comes nearest the second's; None where none comes near."""
    pairs = sampled_blocks_of(a, b)
    x = torch.cat([left.double().flatten() for left, _ in pairs])
    y = torch.cat([right.double().flatten() for _, right in pairs])
    left = {name: float((function.apply(x) - y).square().sum()) for name, function in FUNCTIONS.items()}
    possible = {name: gap for name, gap in left.items() if gap == gap and name != NEGATED}  # no NaN
    if x.numel() < FEWEST or not possible:
        return None
    best = min(possible, key=lambda name: possible[name])
    return best if possible[best] <= CLOSER**2 * float((x - y).square().sum()) else None
