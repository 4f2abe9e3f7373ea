"""The activation xIELU (Huang and Schlag 2024), of which each layer has learned two numbers.

Letters: T = tokens, H = features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import functional as F
from rosetta.lazily import torch
from rosetta.ops.op import Op, Rounding, Settings, Spread, Step, Tensors
from rosetta.ops.pointwise import activation_spread

if TYPE_CHECKING:
    from torch import Tensor

ALPHA_P, ALPHA_N, BETA, EPSILON = KEYS = ("xielu.alpha_p", "xielu.alpha_n", "xielu.beta", "xielu.eps")
"""Config keys; the two α as they are stored, before their softplus."""


@dataclass(frozen=True)
class Xielu(Op):
    """αp x² + βx where x > 0, else αn (e^min(x, ε) − 1 − x) + βx, with αp = softplus(a) and αn = β + softplus(b).

    Args:
        layer: whose it is: a Hugging Face folder has the numbers as tensors of the layer.
    """

    layer: int

    @property
    def keys(self) -> tuple[str, ...]:
        return KEYS

    def tensors(self, c: Settings) -> Tensors:
        return Tensors(settings={tensor_name(self.layer, key): (-1,) for key in KEYS})

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        [x] = inputs
        alpha_p, alpha_n, beta, epsilon = self._numbers(s, x)
        curved = torch.where(x > 0, alpha_p * x * x, (torch.expm1(x.clamp(max=epsilon)) - x) * alpha_n)
        return curved + beta * x

    def _numbers(self, s: Step, x: Tensor) -> tuple[Tensor, Tensor, float, float]:
        """αp, αn, β, ε."""
        beta, epsilon = float(s[BETA]), float(s[EPSILON])
        alpha_p, alpha_n = (F.softplus(x.new_tensor(float(s[key]))) for key in (ALPHA_P, ALPHA_N))
        return alpha_p, beta + alpha_n, beta, epsilon

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        x = inputs[0].float().abs()
        _, alpha_n, beta, _ = self._numbers(s, x)
        # Terms that cancel left of zero leave their rounding; far from there a product's own is the larger.
        terms = y.float().abs().maximum((alpha_n + abs(beta)) * x)
        return activation_spread(y, terms, rounding)


def tensor_name(layer: int, key: str) -> str:
    """Canonical name of the tensor in which a Hugging Face folder keeps one of the numbers."""
    return f"blk.{layer}.{key}"
