"""Norms over the last dimension, of a token or of each head.

Letters: T = tokens, H = features, N = heads, D = head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rosetta.lazily import torch
from rosetta.ops.op import Op, Rounding, Settings, Size, Spread, Step, Tensors, nothing, size, unit_of

if TYPE_CHECKING:
    from torch import Tensor

UNITS = 3.4  # float32 floor, see `linear.UNITS`
TYPE = "norm_type"
Kind = Literal["rms", "layer"]


@dataclass(frozen=True)
class Norm(Op):
    """RMSNorm or LayerNorm over the last dimension.

    Args:
        stem: of the tensors' names: `attn_norm`; None: it has no weight.
        epsilon: config key of its epsilon.
        width: dims of its weight, outermost first.
        kind: `rms` or `layer`; None: what the config says under `norm_type`.
        optional: left out where the file has no weight for it.
        bias: whether the file may have one.
    """

    stem: str | None
    epsilon: str
    width: tuple[Size, ...] = ("embedding_length",)
    kind: Kind | None = None
    optional: bool = False
    bias: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        return (TYPE, self.epsilon) if self.kind is None else (self.epsilon,)

    def tensors(self, c: Settings) -> Tensors:
        if self.stem is None:
            return Tensors()
        dims = tuple(size(c, width) for width in self.width)
        weight = {f"{self.stem}.weight": dims}
        bias = {f"{self.stem}.bias": dims} if self.bias else {}
        return Tensors({}, weight | bias) if self.optional else Tensors(weight, bias)

    def takes_part(self, s: Step) -> bool:
        return not self.optional or s.has(f"{self.stem}.weight")

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        [x] = inputs
        if not self.takes_part(s):
            return x
        y = self._normalised(s, x)
        if self.stem is None:
            return y
        y = y * self._gain(s, x)
        bias = s.optional(f"{self.stem}.bias") if self.bias else None
        return y if bias is None else y + bias

    def _normalised(self, s: Step, x: Tensor) -> Tensor:
        return normalised(x, self._kind(s), s[self.epsilon])

    def _kind(self, s: Step) -> str:
        return s[TYPE] if self.kind is None else self.kind

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        [x] = inputs
        if not self.takes_part(s):
            return Spread(nothing(y), nothing(y)) if before is None else before
        own = self._from_weights(s, rounding, x)
        if before is None:
            return Spread(own, UNITS * unit_of(rounding) * self._terms(s, x))
        return self._through(s, rounding, y, x, own, before)

    def _from_weights(self, s: Step, rounding: Rounding, x: Tensor) -> Tensor:
        total = torch.zeros((), device=x.device)
        if self.stem is None:
            return total
        y = self._normalised(s, x).float()
        variance, bias = self._gain_variance(s, rounding), s.full_name(f"{self.stem}.bias")
        if variance is not None:
            total = total + y.square() * variance
        return total + rounding.variance(bias, s.cache) if self.bias and rounding.explains(bias) else total

    def _gain(self, s: Step, like: Tensor) -> Tensor:
        return like.new_ones(()) if self.stem is None else s.weight(f"{self.stem}.weight")

    def _gain_variance(self, s: Step, rounding: Rounding) -> Tensor | None:
        """Explained variance of the weight; None where its dtypes explain nothing."""
        weight = s.full_name(f"{self.stem}.weight")
        return rounding.variance(weight, s.cache) if rounding.explains(weight) else None

    def _through(
        self, s: Step, rounding: Rounding, y: Tensor, given: Tensor, own: Tensor, before: Spread
    ) -> Spread:
        """To first order: the variance of its input × gain², and that of its weight.

        The norm takes out the component along x itself; an upper bound leaves it in. What it divides by carries the
        noise of the whole head, and so does the mean that LayerNorm takes off: without them, an element that is exact
        (taken by a repair), or next to nothing and rounded as finely, would have none.
        """
        epsilon, explained = s[self.epsilon], before.explained
        x = given.float()
        if self._kind(s) == "layer":
            x = x - x.mean(-1, keepdim=True)
            explained = explained + explained.expand_as(x).mean(-1, keepdim=True) / x.shape[-1]
        squares = x.square()
        gain = self._gain(s, x) * torch.rsqrt(squares.mean(-1, keepdim=True) + epsilon)
        length = squares.sum(-1, keepdim=True) + x.shape[-1] * epsilon
        divisor: Tensor = squares * (squares * explained).sum(-1, keepdim=True) / length.square()
        explained = (explained + divisor) * gain.float().square() + own
        magnitude = y.float().abs()
        scale = magnitude.square().mean(-1, keepdim=True).sqrt() / magnitude.new_tensor(1e-30).maximum(
            squares.mean(-1, keepdim=True).sqrt()
        )
        return Spread(explained, before.floor * scale + UNITS * unit_of(rounding) * self._terms(s, given))

    def _terms(self, s: Step, x: Tensor) -> Tensor:
        """Sum of the sizes of what it adds up, float32 [T, H]: where mean or bias cancel, the rounding stays.

        So does the mean's own: the sum of H values strays by as much as √H of them are rounded by, which is all there
        is of an element where it and the mean are both next to nothing.
        """
        x = x.float()
        weight = self._gain(s, x).float()
        bias = s.optional(f"{self.stem}.bias") if self.bias and self.stem is not None else None
        parts, epsilon = x.abs(), s[self.epsilon]
        if self._kind(s) == "layer":
            mean = x.mean(-1, keepdim=True)
            stray = x.square().mean(-1, keepdim=True).sqrt() / x.shape[-1] ** 0.5
            parts, x = parts + mean.abs() + stray, x - mean
        terms = parts * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight.abs()
        return terms if bias is None else terms + bias.float().abs()


@dataclass(frozen=True)
class FactorNorm(Norm):
    """A norm whose gain is one number, unless the file has a weight for it, as converters write one full of it.

    Args:
        factor: config key of that number; None: it is 1.
    """

    factor: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return (*super().keys, *(() if self.factor is None else (self.factor,)))

    def tensors(self, c: Settings) -> Tensors:
        return Tensors({}, super().tensors(c).required)

    def takes_part(self, s: Step) -> bool:
        return True

    def _gain(self, s: Step, like: Tensor) -> Tensor:
        if s.has(f"{self.stem}.weight"):
            return s.weight(f"{self.stem}.weight")
        return like.new_tensor(1.0 if self.factor is None else float(s[self.factor]))


@dataclass(frozen=True)
class HeadNorms(Norm):
    """A norm over each head, whose weight is its own: a tensor each, [T, N, D]; left out where the file has none.

    Args:
        heads: config key of N.
    """

    heads: str = "attention.head_count"

    def _names(self, heads: int) -> list[str]:
        return [f"{self.stem}.{head}.weight" for head in range(heads)]

    def tensors(self, c: Settings) -> Tensors:
        dims = tuple(size(c, width) for width in self.width)
        return Tensors({}, dict.fromkeys(self._names(size(c, self.heads)), dims))

    def takes_part(self, s: Step) -> bool:
        return s.has(f"{self.stem}.0.weight")

    def _gain(self, s: Step, like: Tensor) -> Tensor:
        return torch.stack([s.weight(name) for name in self._names(int(s[self.heads]))])

    def _gain_variance(self, s: Step, rounding: Rounding) -> Tensor | None:
        full = [s.full_name(name) for name in self._names(int(s[self.heads]))]
        if not any(rounding.explains(name) for name in full):
            return None
        zero = self._gain(s, torch.zeros(())).new_zeros(1)
        return torch.stack(
            [
                rounding.variance(name, s.cache).view(-1) if rounding.explains(name) else zero.expand(width)
                for name in full
                for width in [s.model.weights[name].count]
            ]
        )


def normalised(x: Tensor, norm: str, epsilon: float) -> Tensor:
    """x divided by its root mean square over the last dimension; LayerNorm takes the mean off first."""
    if norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)
