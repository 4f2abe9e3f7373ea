"""Another base of the rotary frequencies (`config.rope_theta`), other frequencies than any base gives
(`config.rope_scaling`), or another number of turned dimensions (`config.rope_dimensions`), read off an observed run
whose settings may be its own.

Letters: T = tokens, N = heads, D = head size, R = rotary pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rosetta.compare.settings import plain
from rosetta.diagnose.hypotheses.other_operation import stated_otherwise
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.ops.edit import Exchanged, Followed
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op
from rosetta.ops.pointwise import Times
from rosetta.ops.rotary import Rotary
from rosetta.ops.temperature import Temperature
from rosetta.rope_scaling import STILL, RopeScaling

SLOWEST = 1e-4  # radians a token; below it a float32 angle says little
DIGITS = 3  # significant ones that a base is published with
FACTOR_DIGITS = 4  # and a factor
STRAY = 1e-3  # of an angle that one base gives, relative: what is beyond it is of other frequencies
EVEN = 1e-3  # of one factor for all pairs
ROPE_SCALING = "config.rope_scaling"


@dataclass(frozen=True)
class Turned:
    """How the pairs of a stage are turned.

    Args:
        angles: from one token to the next, float64 [R] in radians.
        magnitude: how many times longer they come out.
    """

    angles: Tensor
    magnitude: float


def propose(fault: Fault) -> Iterator[Proposal]:
    """The base whose frequencies turn the inputs into what was observed, and the round number beside it; where no base
    does, the frequencies themselves."""
    if not fault.settings_unknown:
        return
    yield from _of_unrecorded(fault)
    op, norm = _rotation(fault.node.op)
    if op is None:
        return
    if norm is None:
        yield from _of_dimensions(fault, op)
    turned = _turned(fault, op, norm)
    if turned is None:
        return
    own = fault.subject.model.config[op.base]
    divisors = _divisors(fault, op, len(turned.angles))
    # Pairs that both leave still.
    divisors = divisors.where((turned.angles != 0) | (divisors < STILL), math.nan)
    base = _fitting(turned.angles * divisors)
    if base is not None:
        for value in dict.fromkeys((float(f"{base:.{DIGITS}g}"), float(torch.tensor(base)))):
            if value != own.value:
                yield setting_proposal(fault, op.base, own, value)
    if base is not None and _of_base(turned.angles * divisors, base):
        yield from _of_magnitude(fault, op, turned)
        return
    plain_base = _with_plain_base(fault, op, turned)
    if plain_base is not None:
        yield plain_base
    else:
        yield from _scaled(fault, op, turned)


def _rotation(op: Op) -> tuple[Rotary | None, Norm | None]:
    """The rotation that a stage is, and the norm behind it, where it has one; None where it is another operation. A
    factor of the position behind it turns nothing."""
    match tuple(one for one in op.links if not isinstance(one, Temperature)):
        case (Rotary() as rotary,):
            return rotary, None
        case (Rotary() as rotary, Norm(kind="rms") as norm):
            return rotary, norm
    return None, None


def _of_unrecorded(fault: Fault) -> Iterator[Proposal]:
    """Half as many dimensions, twice as many, all of a head or none, where the rotation was not recorded."""
    rotations = [rotary for node in fault.stages[1:] if (rotary := _rotation(node.op)[0]) is not None]
    settings = fault.subject.model.settings_of(fault.layer)
    for key in dict.fromkeys(rotary.dimensions for rotary in rotations):
        own, head = int(settings[key]), int(settings["attention.key_length"])
        for number in dict.fromkeys((own // 4 * 2, own * 2, head)):
            if 0 < number <= head and number != own:
                yield _with_dimensions(fault, key, number)
        yield _turned_nowhere(fault, key, own)


def _turned_nowhere(fault: Fault, key: str, own: int) -> Proposal:
    """No layer's queries and keys turned."""
    turned = (
        (node.stage, op)
        for node in fault.subject.model.graph
        for op in node.op.links
        if isinstance(op, Rotary)
    )
    edits = tuple(Exchanged(stage, op, Times(1.0)) for stage, op in dict.fromkeys(turned))
    return stated_otherwise("config.rope_dimensions", key, own, 0, Repair(operations=edits))


def _with_dimensions(fault: Fault, key: str, number: int) -> Proposal:
    """Another number of turned dimensions in the layers of the fault's kind, which have as many."""
    own, here = fault.subject.model.config[key], fault.subject.model.settings_of(fault.layer)[key]
    if not isinstance(own.value, tuple):
        return setting_proposal(fault, key, own, number)
    return setting_proposal(fault, key, own, tuple(number if one == here else one for one in own.value))


def _of_dimensions(fault: Fault, op: Rotary) -> Iterator[Proposal]:
    """As many dimensions as come out otherwise than they went in: the others pass as they are."""
    x, y = fault.input(), fault.recorded_value  # [T, N, D]
    if x is None or y is None or x.shape != y.shape or op.last:
        return
    turned = (x != y).flatten(0, 1).any(0).nonzero()
    number = 2 * -(-(int(turned.max()) + 1) // 2) if len(turned) else 0
    if number not in (0, fault.subject.model.settings_of(fault.layer)[op.dimensions]):
        yield _with_dimensions(fault, op.dimensions, number)


def _turned(fault: Fault, op: Rotary, norm: Norm | None) -> Turned | None:
    """By how much each pair is turned, all heads and tokens together. A norm behind that leaves the angles, once its
    weight is taken off, and no magnitude."""
    x, y = fault.input(), fault.recorded_value
    if x is None or y is None or x.shape != y.shape or len(x) < 2:
        return None
    if norm is not None and norm.stem is not None:
        weight = fault.subject.model.weights.get(f"blk.{fault.layer}.{norm.stem}.weight")
        if weight is None or weight.count != y.shape[-1]:
            return None
        y = y / weight.values()
    first, second = op.halves(fault.pair.subject.runtime.step(fault.node), x.shape[-1])
    # [T, N, R]
    before, after = (torch.complex(z[..., first].double(), z[..., second].double()) for z in (x, y))
    turned = (after * before.conj()).sum(1)  # of all heads together, [T, R]
    angles = (turned[1:] * turned[:-1].conj()).sum(0).angle()
    size = float(before.abs().square().sum().sqrt())
    if norm is not None:
        return Turned(angles, 1.0)
    return Turned(angles, float(after.abs().square().sum().sqrt()) / size) if size else None


def _divisors(fault: Fault, op: Rotary, pairs: int) -> Tensor:
    """What the file's own scaling divides the frequencies by, [R]."""
    x = fault.input()
    tokens = 0 if x is None else len(x)
    scaling = None if op.scaling is None else fault.subject.model.settings_of(fault.layer)[op.scaling]
    factors = (1.0,) * pairs if scaling is None else scaling.at(tokens)
    return torch.tensor(factors, dtype=torch.float64)


def _fitting(angles: Tensor) -> float | None:
    """The base b of the angles b^(−j/R) by which pair j is turned from one token to the next."""
    pairs = torch.arange(len(angles), dtype=torch.float64)
    seen = (angles > SLOWEST) & (pairs > 0)
    if not bool(seen.any()):
        return None
    logs = -angles[seen].log() * len(angles) / pairs[seen]
    base = float(logs.median().exp())
    return base if base > 1 else None


def _of_base(angles: Tensor, base: float) -> bool:
    """Whether the angles are those of a base, apart from those that are NaN."""
    expected = base ** (-torch.arange(len(angles), dtype=torch.float64) / len(angles))
    strays = (angles - expected).abs() > STRAY * expected + SLOWEST  # NaN does not
    return not bool(strays.any())


def _of_magnitude(fault: Fault, op: Rotary, turned: Turned) -> Iterator[Proposal]:
    """The file's own factors, and another number that what is turned is multiplied by."""
    own = _scaling(fault, op)
    stated = RopeScaling((1.0,) * len(turned.angles)) if own is None else own
    if abs(turned.magnitude / stated.magnitude - 1) <= EVEN:
        return
    if fault.node.stage == "k_rope":  # of the rotation it would have shown in the queries
        factor = _rounded(turned.magnitude / stated.magnitude)
        repair = Repair(operations=(Followed(fault.node.stage, Times(factor)),))
        yield stated_otherwise("config.attention_scale", "attention.key_scale", 1.0, factor, repair)
    else:
        yield from _with_scaling(fault, op, replace(stated, magnitude=_rounded(turned.magnitude)))


def _with_plain_base(fault: Fault, op: Rotary, turned: Turned) -> Proposal | None:
    """Another base, whose frequencies turn the inputs without the file's scaling: that of another kind of layers. None
    where there is none."""
    base = _fitting(turned.angles)
    if _scaling(fault, op) is None or base is None or not _of_base(turned.angles, base):
        return None
    own = fault.subject.model.config[op.base]
    base = float(f"{base:.{DIGITS}g}")
    if base == fault.subject.model.settings_of(fault.layer)[op.base]:
        return None
    found = setting_proposal(fault, op.base, own, base)
    overrides = {**found.repair.overrides, str(op.scaling): None}
    return replace(found, repair=Repair(overrides=overrides), message=f"{found.message}, unscaled")


def _scaling(fault: Fault, op: Rotary) -> RopeScaling | None:
    """The file's own, in this layer."""
    return None if op.scaling is None else fault.subject.model.settings_of(fault.layer)[op.scaling]


def _with_scaling(fault: Fault, op: Rotary, right: RopeScaling | None) -> Iterator[Proposal]:
    """Another scaling of this layer and those of its kind, which may be of a kind that no file scales."""
    if op.scaling is not None:
        yield setting_proposal(fault, op.scaling, fault.subject.model.config[op.scaling], right)
        return
    by = replace(op, scaled=right)
    stages = {node.stage for node in fault.subject.model.graph if op in node.op.links}
    repair = Repair(operations=tuple(Exchanged(stage, op, by) for stage in sorted(stages)))
    shown = None if right is None else plain(right)
    yield stated_otherwise(ROPE_SCALING, "rope.scaling", None, shown, repair)


def _rounded(magnitude: float) -> float:
    """A factor as it is published, where it may be that."""
    told = float(f"{magnitude:.{FACTOR_DIGITS}g}")
    return told if abs(told - magnitude) < STRAY / 100 else magnitude


def _scaled(fault: Fault, op: Rotary, turned: Turned) -> Iterator[Proposal]:
    """The file's base, its frequencies divided by what gives the angles; one number, where one does."""
    base = float(fault.subject.model.settings_of(fault.layer)[op.base])
    expected = base ** (-torch.arange(len(turned.angles), dtype=torch.float64) / len(turned.angles))
    if bool((turned.angles < 0).any()):
        return
    still = torch.full_like(expected, STILL)
    factors = torch.where(turned.angles > 0, expected / turned.angles, still)
    seen = factors[turned.angles > SLOWEST]
    magnitude = _rounded(turned.magnitude)
    if len(seen) and float(seen.max() / seen.min()) - 1 < EVEN:
        factor = float(f"{math.exp(float(seen.log().mean())):.{FACTOR_DIGITS}g}")
        even = None if factor == 1 and magnitude == 1 else RopeScaling((factor,) * len(factors), magnitude)
        yield from _with_scaling(fault, op, even)
    yield from _with_scaling(fault, op, RopeScaling(tuple(factors.tolist()), magnitude))
