"""Predicted noise: the local error of a stage that the declared dtypes and the arithmetic alone explain.

For each output element: σ² = Σⱼ xⱼ² (σ²ₗ + σ²ᵣ), each weight's σ from its own block's step, plus the floor of
the arithmetic. The laws and the constants are measured: docs/noise.md.

Letters: T = tokens, C = inputs, R = outputs of a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta import attention
from rosetta.architectures import INTERLEAVED
from rosetta.compare.local_error import Sums
from rosetta.compare.metrics import rms
from rosetta.compare.weights import WeightPair
from rosetta.model import Model
from rosetta.transformer import Op, Step, normalised, rotary_angles
from rosetta.weight import row_ranges
from rosetta.weight_cache import WeightCache
from rosetta.workers import spread

# Float32 floors in units of half a unit in the last place, measured with torch on CPU (docs/noise.md, "floor").
HALF_ULP = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
LINEAR_UNITS, LINEAR_UNITS_ONE_TOKEN = 5.0, 0.16  # the latter grows with √C: one token runs another kernel
NORM_UNITS, SOFTMAX_UNITS, CONTEXT_UNITS, ACTIVATION_UNITS, ADD_UNITS, ROTATION_UNITS = (
    3.4,
    20.0,
    5.0,
    7.0,
    1.0,
    2.0,
)

SMALLEST = 2.0**-60  # an attention score below it may as well be zero; its square is still a float32

LINEAR = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "attn_out": "attn_output",
    "ffn_gate": "ffn_gate",
    "ffn_up": "ffn_up",
    "ffn_out": "ffn_down",
    "logits": "output",
}
NORMS = {"attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "final_norm": "output_norm"}
HEAD_NORMS = {"q": "attn_q_norm", "k": "attn_k_norm"}


@dataclass(frozen=True)
class Noise:
    """Predicts the noise of stages between two models.

    Args:
        left, right: the models.
        pairs: what the comparison of each weight found, by full canonical name.
        dtype: of the arithmetic.
        recorded: of a recorded run, the rounding of each weight that it had, given the name and the other side's
            values; `left` then has no weights.
    """

    left: Model
    right: Model
    pairs: Mapping[str, WeightPair]
    dtype: torch.dtype
    recorded: Callable[[str, Tensor], Tensor] | None = None

    def sigma(self, op: Op, step: Step, output: Tensor) -> Tensor:
        """Standard deviation of each element of the local error, float32, shaped as (or broadcast to) `output`.

        Args:
            op: the operation.
            step: the reference's, with the reference's inputs.
            output: the reference's value of the stage.
        """
        if self._is_plain_linear(op, step):
            ranges = row_ranges(step.source(f"{LINEAR[op.name]}.weight"))
            parts = spread(lambda rows: self._linear_sigma(op, step, rows), ranges)
            return torch.cat(parts, dim=-1).view(output.shape)
        return (self._from_weights(op, step, output) + self._floor(op, step, output).square()).sqrt()

    def local(self, op: Op, step: Step, a: Tensor, b: Tensor) -> list[Sums]:
        """A stage's local error beside its prediction, in parts; see `local_error`.

        Args:
            op, step: as for `sigma`.
            a: the reference's value of the stage.
            b: the subject's from the same inputs, of the same shape and device.
        """
        if not a.numel():
            return []
        if self._is_plain_linear(op, step):
            # By rows of the weight: a prediction for all logits would be as large as they are.
            left, right = a.flatten(1), b.flatten(1)

            def of_rows(rows: tuple[int, int]) -> Sums:
                x, y = left[:, slice(*rows)], right[:, slice(*rows)]
                return Sums.of((y - x).float(), self._linear_sigma(op, step, rows), x)

            return spread(of_rows, row_ranges(step.source(f"{LINEAR[op.name]}.weight")))

        def of_some(step: Step, a: Tensor, b: Tensor) -> Sums:
            return Sums.of(b.sub(a).float(), self.sigma(op, step, a), a)

        if not op.by_head or a.numel() <= attention.SCORES_OF_A_CORE:
            return [of_some(step, a, b)]

        def of_head(head: int) -> Sums:
            one = slice(head, head + 1)
            inputs = {
                name: attention.of_heads(step.inputs[name], range(head, head + 1), len(a))
                for name in op.inputs
            }
            return of_some(Step(step.model, step.layer, inputs, step.cache), a[one], b[one])

        return spread(of_head, range(len(a)))

    def _is_plain_linear(self, op: Op, step: Step) -> bool:
        return op.name in LINEAR and not self._has_head_norm(op, step)

    def _linear_sigma(self, op: Op, step: Step, rows: tuple[int, int]) -> Tensor:
        """σ of some rows of x Wᵀ + b, [T, rows]: what the dtypes explain, and the rounding of the arithmetic."""
        x, stem = step.inputs[op.inputs[0]], LINEAR[op.name]
        full, weight = step.full_name(f"{stem}.weight"), step.source(f"{stem}.weight")
        squares, bias = x.float().square(), self._vector(step, f"{stem}.bias")
        floor = self._linear_unit(x) * (squares @ step.cache.rows(weight, *rows).square().T).sqrt()
        explained = (
            squares @ self._variance(full, step.cache, *rows).T
            if self._explains(full)
            else floor.new_zeros(())
        )
        explained = explained if bias is None else explained + bias[slice(*rows)]
        return torch.hypot(explained.sqrt(), floor)  # the square of float64's floor is no float32

    def _linear_unit(self, x: Tensor) -> float:
        """Rounding of a sum of products, relative to the root of the sum of their squares."""
        one_token = LINEAR_UNITS_ONE_TOKEN * math.sqrt(x.shape[-1]) if len(x) == 1 else 0.0
        return max(LINEAR_UNITS, one_token) * HALF_ULP[self.dtype] * math.sqrt(2)

    def _explains(self, full: str) -> bool:
        """Whether the dtypes of a weight's copies add noise: not where the copies are equal, nor where their
        difference is more than the dtypes explain."""
        if self.recorded is not None:
            return full in self.right.weights
        pair = self.pairs.get(full)
        return pair is not None and pair.explained

    def _variance(self, full: str, cache: WeightCache, start: int = 0, stop: int | None = None) -> Tensor:
        """Explained variance of the difference of a weight's two copies, [rows, C]."""
        own, device = self.right.weights[full], cache.device
        if self.recorded is None:
            other = self.left.weights[full]
            explained = cache.kept.variance(other, own, start, stop, device)
            neglected = self.pairs[full].given_up
            return explained if neglected is None else neglected.widened(explained, start)
        recorded = self.recorded(full, own.values(start, stop, device))
        return own.sigma(start, stop, device).square() + recorded.square()

    def _from_weights(self, op: Op, step: Step, output: Tensor) -> Tensor:
        if op.name == "embedding":
            return self._lookup(step, output)
        if op.name in NORMS:
            return self._norm(step, NORMS[op.name], step.inputs[op.inputs[0]])
        if op.name in LINEAR:
            x, stem = step.inputs[op.inputs[0]], LINEAR[op.name]
            before = self._linear(step, stem, x).view(output.shape)
            return self._through_head_norm(step, op.name, stem, x, before)
        return torch.zeros((), device=output.device)

    @staticmethod
    def _has_head_norm(op: Op, step: Step) -> bool:
        norm = HEAD_NORMS.get(op.name)
        qk_norm = step.model.architecture.qk_norm
        return norm is not None and qk_norm and step.full_name(f"{norm}.weight") in step.model.weights

    def _lookup(self, step: Step, output: Tensor) -> Tensor:
        tokens = step.inputs["tokens"].tolist()
        total = torch.zeros(output.shape, device=output.device)
        for name, rows in (("token_embd.weight", tokens), ("position_embd.weight", list(range(len(tokens))))):
            if self._explains(name):
                for model in (self.left, self.right):
                    if name in model.weights:
                        total += model.weights[name].sigma_rows(rows).to(output.device).square()
                if self.recorded is not None:
                    own = self.right.weights[name].rows(rows)
                    total += self.recorded(name, own).to(output.device).square()
        return total

    def _vector(self, step: Step, name: str) -> Tensor | None:
        """Explained variance of a vector (a bias, a norm's weight), [R]."""
        full = step.full_name(name)
        return self._variance(full, step.cache) if self._explains(full) else None

    def _norm(self, step: Step, stem: str, x: Tensor) -> Tensor:
        y = normalised(x, step["norm_type"], step[step.model.architecture.epsilon_key]).float()
        weight, bias = (self._vector(step, f"{stem}.{suffix}") for suffix in ("weight", "bias"))
        total = torch.zeros((), device=x.device)
        if weight is not None:
            total = total + y.square() * weight
        return total if bias is None else total + bias

    def _linear(self, step: Step, stem: str, x: Tensor) -> Tensor:
        """Variance of x Wᵀ + b, [T, R]."""
        full = step.full_name(f"{stem}.weight")
        bias = self._vector(step, f"{stem}.bias")
        rows = step.source(f"{stem}.weight").dims[0]
        total = torch.zeros(len(x), rows, device=x.device)
        if self._explains(full):
            squares = x.float().square()
            ranges = row_ranges(step.source(f"{stem}.weight"))
            parts = spread(lambda rows: squares @ self._variance(full, step.cache, *rows).T, ranges)
            total = torch.cat(parts, dim=-1)
        return total if bias is None else total + bias

    def _through_head_norm(self, step: Step, name: str, stem: str, x: Tensor, before: Tensor) -> Tensor:
        """Variance after the norm over each head, to first order: that of its input × gain², and of its weight."""
        tensor = HEAD_NORMS[name]
        z = step.linear(x, stem).view(before.shape)  # [T, N, D]
        epsilon = step[step.model.architecture.epsilon_key]
        gain = step.weight(f"{tensor}.weight") * torch.rsqrt(z.square().mean(-1, keepdim=True) + epsilon)
        own = self._norm(step, tensor, z)
        # The norm takes out the component along z itself; an upper bound leaves it in. What it divides by carries
        # the noise of the whole head: without it, a row that is exact (taken by a repair) would have none.
        squares = z.float().square()
        length = squares.sum(-1, keepdim=True) + z.shape[-1] * epsilon
        divisor: Tensor = squares * (squares * before).sum(-1, keepdim=True) / length.square()
        return (before + divisor) * gain.float().square() + own

    def _floor(self, op: Op, step: Step, output: Tensor) -> Tensor:
        """σ of the rounding of both sides' arithmetic: zero where one value serves both."""
        unit = HALF_ULP[self.dtype] * math.sqrt(2)
        size = output.float().abs()
        if op.name in LINEAR:  # under a norm of each head; see `_linear_sigma` for the others
            x, stem = step.inputs[op.inputs[0]], LINEAR[op.name]
            squares, weight = x.float().square(), step.source(f"{stem}.weight")
            magnitude = (squares @ weight.values(device=x.device).square().T).sqrt().view(output.shape)
            scale = size.square().mean(-1, keepdim=True).sqrt() / size.new_tensor(1e-30).maximum(
                step.linear(x, stem).view(output.shape).float().square().mean(-1, keepdim=True).sqrt()
            )
            return self._linear_unit(x) * magnitude * scale + NORM_UNITS * unit * size
        if op.name in ("q_rope", "k_rope"):
            x = step.inputs[op.inputs[0]].float()  # [T, N, D]
            # position × inverse frequency × 2⁻²³: what rounding the angle to float32 turns the pair by.
            turn = torch.zeros(len(x), 1, x.shape[-1])
            angles = 2 * rotary_angles(step.model, len(x))[0].float()[:, None, :]  # [T, 1, R]
            pairs = angles.shape[-1]
            halves = [slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)]
            if step.model.architecture.rope != INTERLEAVED:
                halves = [slice(0, pairs), slice(pairs, 2 * pairs)]
            for half in halves:
                turn[..., half] = angles
            turned = ROTATION_UNITS * unit + turn.to(x.device) * self._angle_unit(unit)
            return turned * x.abs().amax(-1, keepdim=True)
        if op.name == "attn_context":
            return CONTEXT_UNITS * unit * step.inputs["v"].float().abs().amax() * torch.ones_like(size)
        if op.name in NORMS:
            return NORM_UNITS * unit * _norm_terms(step, NORMS[op.name], step.inputs[op.inputs[0]])
        if op.name == "attn_scores":
            return (
                SOFTMAX_UNITS * unit * size + _through_softmax(step, op, size, LINEAR_UNITS * unit) + SMALLEST
            )
        if op.name == "ffn_act":
            return ACTIVATION_UNITS * unit * size.maximum(size.new_tensor(rms(output) * 0.1))
        return ADD_UNITS * unit * size

    def _angle_unit(self, unit: float) -> float:
        """Relative rounding of an angle: rope scaling is held as float32 factors, whatever the arithmetic, and
        converters that compute them in float32 round the last bit another way."""
        stated = [model.config.get("rope.scaling") for model in (self.left, self.right)]
        if len({found.value if found else None for found in stated}) == 1:
            return unit
        return max(unit, HALF_ULP[torch.float32] * math.sqrt(2))


def _through_softmax(step: Step, op: Op, scores: Tensor, unit: float) -> Tensor:
    """What the rounding of the scaled products of queries and keys does to the scores, [N, T, T].

    A score changes by its own share of its product's error less the mean error: where products are large, as in
    sharp attention, that is far more than the softmax itself rounds.
    """
    q, k = (step.inputs[name].float().transpose(0, 1).square() for name in op.inputs)  # [N, T, D], [K, T, D]
    error = (q.reshape(len(k), -1, q.shape[-1]) @ k.transpose(1, 2)).sqrt().view(scores.shape)
    error *= unit * abs(step["attention.scale"])
    return scores * (error + (scores * error).sum(-1, keepdim=True))


def _norm_terms(step: Step, stem: str, x: Tensor) -> Tensor:
    """Sum of the sizes of what a norm adds up, float32 [T, H]: where mean or bias cancel, the rounding stays."""
    x = x.float()
    weight, bias = step.weight(f"{stem}.weight").float(), step.optional(f"{stem}.bias")
    parts, epsilon = x.abs(), step[step.model.architecture.epsilon_key]
    if step["norm_type"] == "layer":
        mean = x.mean(-1, keepdim=True)
        parts, x = parts + mean.abs(), x - mean
    size = parts * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight.abs()
    return size if bias is None else size + bias.float().abs()
