"""Rotary position embedding (Su et al. 2021, eq. 34).

Letters: T = tokens, N = heads, D = head size, R = rotary pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.op import (
    HALF_ULP,
    NotComputable,
    Op,
    Rounding,
    Settings,
    Spread,
    Step,
    Tensors,
    nothing,
    size,
    unit_of,
)
from rosetta.rope_scaling import RopeScaling
from rosetta.row_order import INTERLEAVED, SPLIT_HALF

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["INTERLEAVED", "SECTIONS", "SPLIT_HALF", "STILL", "Rotary"]

FACTORS = ("freqs", "factors_short", "factors_long")  # tensors of GGUF that hold rope scaling
STILL, SECTIONS = "rope.still_pairs", "rope.dimension_sections"
UNITS = 2.0  # float32 floor, see `linear.UNITS`


@dataclass(frozen=True)
class Rotary(Op):
    """Turns the first 2R dimensions of each head, [T, N, D], or the last ones; the others pass.

    Args:
        order: of the pairs within a head: interleaved or split-half.
        dimensions, base, scaling: config keys: 2R, the base of the frequencies, what these are divided by; None: by
            nothing.
        last: whether the last dimensions are turned.
        where: config key of whether any are, in this layer; None: they are. So a layer that turns none has the same
            stages as one that does, and the two can be compared.
        first: position of the first token of a text.
        regrouped: whether adjacent pairs are brought into halves before they are turned, and back behind it: what a
            runtime does to a folder's rows, which lie in halves, and turns as pairs.
        still: config key of the numbers of pairs that are not turned; None: all are.
        backwards: whether pairs are turned against the sense of the formula.
        angles: in which order the angles lie among a head's dimensions, where that is another one than the pairs', as
            of a runtime that mixes two forms of the formula; None: in the pairs' own. Of regrouped pairs: in halves.
        running: whether the angle of a pair is that of the pair before, times a ratio, all in float32, as ggml works
            them out: the last ones are off by as many roundings as there are pairs.
        scaled: a scaling that no setting states, in place of the one that `scaling` names.
    """

    order: int
    dimensions: str = "rope.dimension_count"
    base: str = "rope.freq_base"
    scaling: str | None = "rope.scaling"
    last: bool = False
    where: str | None = None
    first: int = 0
    regrouped: bool = False
    still: str | None = None
    backwards: bool = False
    angles: int | None = None
    running: bool = False
    scaled: RopeScaling | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        of_sections = () if self.still is None else (self.still, SECTIONS)  # which they are worked out from
        stated = (self.dimensions, self.base, self.scaling, self.where, *of_sections)
        return tuple(key for key in stated if key is not None)

    def _turns(self, s: Step) -> bool:
        return self.where is None or bool(s[self.where])

    def tensors(self, c: Settings) -> Tensors:
        if self.scaling is None:
            return Tensors()
        pairs = (size(c, self.dimensions) // 2,)
        return Tensors(settings={f"rope_{name}.weight": pairs for name in FACTORS})

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        [x] = inputs
        if not self._turns(s):
            return x
        if s[self.dimensions] > x.shape[-1]:
            raise NotComputable(
                f"{self.dimensions} is {s[self.dimensions]}, and a head has {x.shape[-1]} dims"
            )
        angles, magnitude = self._angles(s, len(x))
        if self.backwards:
            angles = -angles
        cos, sin = ((f(angles) * magnitude).to(x)[:, None, :] for f in (torch.cos, torch.sin))  # [T, 1, R]
        first, second = self.halves(s, x.shape[-1])
        if self.regrouped:
            return self._regrouped(s, x, cos, sin)
        y, a, b = x.clone(), x[..., first], x[..., second]
        if self.angles is None:
            y[..., first], y[..., second] = a * cos - b * sin, b * cos + a * sin
            return y
        (cos_a, cos_b), (sin_a, sin_b) = (self._by_dimension(s, part, x.shape[-1]) for part in (cos, sin))
        y[..., first], y[..., second] = a * cos_a - b * sin_a, b * cos_b + a * sin_b
        return y

    def _by_dimension(self, s: Step, part: Tensor, head_size: int) -> tuple[Tensor, Tensor]:
        """A sine or cosine of each pair, [T, 1, R], as the first and the second of each pair find it where the angles
        lie in an order of their own."""
        assert self.angles is not None
        wide = part.new_zeros(*part.shape[:-1], head_size)
        for half in replace(self, order=self.angles).halves(s, head_size):
            wide[..., half] = part
        first, second = self.halves(s, head_size)
        return wide[..., first], wide[..., second]

    def _regrouped(self, s: Step, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Adjacent values turned of rows whose pairs lie in halves, which are adjacent in x."""
        first, second = self.halves(s, x.shape[-1])
        y, rows = x.clone(), torch.cat([x[..., first], x[..., second]], -1)
        a, b = rows[..., ::2], rows[..., 1::2]
        (cos_a, cos_b), (sin_a, sin_b) = (
            (part, part) if self.angles is None else (wide[..., ::2], wide[..., 1::2])
            for part, wide in ((part, torch.cat([part, part], -1)) for part in (cos, sin))
        )
        turned = torch.stack([a * cos_a - b * sin_a, b * cos_b + a * sin_b], -1).flatten(-2)
        y[..., first], y[..., second] = turned.chunk(2, -1)
        return y

    def halves(self, s: Step, head_size: int) -> tuple[slice, slice]:
        """Where the first and the second of each pair lie in a head."""
        pairs = s[self.dimensions] // 2
        start = max(head_size - 2 * pairs, 0) if self.last else 0
        if self.order == INTERLEAVED:
            return slice(start, start + 2 * pairs, 2), slice(start + 1, start + 2 * pairs, 2)
        return slice(start, start + pairs), slice(start + pairs, start + 2 * pairs)

    def _angles(self, s: Step, tokens: int) -> tuple[Tensor, float]:
        """Angles of all tokens and rotary pairs, float64 [T, R] in radians, and YaRN's magnitude."""
        pairs, scaling = s[self.dimensions] // 2, self.scaled
        if scaling is None and self.scaling is not None:
            scaling = s[self.scaling]
        assert scaling is None or isinstance(scaling, RopeScaling)
        places = s.positions(tokens)
        position = torch.arange(places.start, places.stop, dtype=torch.float64) + self.first
        angles = (_running if self.running else _angles)(position, s[self.base], pairs)
        if scaling is not None:
            angles = angles / torch.tensor(scaling.at(places.stop), dtype=torch.float64)
        if self.still is not None:
            angles[:, list(s[self.still])] = 0.0
        return angles, scaling.magnitude if scaling else 1.0

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        x, unit = inputs[0].float(), unit_of(rounding)
        if not self._turns(s):
            return before or Spread(nothing(x), nothing(x))
        # position × inverse frequency × 2⁻²³: what rounding the angle to float32 turns the pair by.
        turn = torch.zeros(len(x), 1, x.shape[-1])
        angles = 2 * self._angles(s, len(x))[0].abs().float()[:, None, :]  # [T, 1, R]
        for half in self.halves(s, x.shape[-1]):
            turn[..., half] = angles
        turned = UNITS * unit + turn.to(x.device) * self._angle_unit(rounding, unit)
        floor = turned * x.abs().amax(-1, keepdim=True)
        if before is None:
            return Spread(torch.zeros((), device=x.device), floor)
        explained, earlier = before.explained.expand_as(x).clone(), before.floor.expand_as(x).clone()
        first, second = self.halves(s, x.shape[-1])
        # a' = a cos − b sin, b' = b cos + a sin: whatever the angle, neither is off by more than both together.
        explained[..., first] = explained[..., second] = explained[..., first] + explained[..., second]
        earlier[..., first] = earlier[..., second] = torch.hypot(earlier[..., first], earlier[..., second])
        return Spread(explained, torch.hypot(floor, earlier))

    def _angle_unit(self, rounding: Rounding, unit: float) -> float:
        """Relative rounding of an angle: rope scaling is held as float32 factors, whatever the arithmetic, and
        converters that compute them in float32 round the last bit another way."""
        if self.scaling is None or rounding.agree(self.scaling):
            return unit
        return max(unit, HALF_ULP[torch.float32] * math.sqrt(2))


def _angles(position: Tensor, base: float, pairs: int) -> Tensor:
    """Unscaled angles of all pairs, float64 [T, R]."""
    return torch.outer(position, base ** (-torch.arange(pairs, dtype=torch.float64) / pairs))


def _running(position: Tensor, base: float, pairs: int) -> Tensor:
    """The same, one from another in float32; see `Rotary.running`.

    Source: ggml-cpu, ops.cpp, ggml_rope_cache_init.
    """
    angle, ratio = position.float(), torch.tensor(base ** (-1 / max(pairs, 1)), dtype=torch.float32)
    angles = torch.empty(len(position), pairs, dtype=torch.float64)
    for pair in range(pairs):
        angles[:, pair], angle = angle, angle * ratio
    return angles
