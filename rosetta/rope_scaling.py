"""Rope scaling in its one canonical form: a divisor for each rotary pair's frequency.

GGUF stores Llama 3.1's divisors as a tensor (`rope_freqs`), Hugging Face the parameters that they come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


class UnknownRuleError(ValueError):
    """A rule of rope scaling that rosetta does not compute."""


@dataclass(frozen=True)
class RopeScaling:
    """Divisors of the rotary frequencies, one a pair, and what multiplies the rotated values (YaRN)."""

    factors: tuple[float, ...]
    magnitude: float = 1.0


def scaling_from_parameters(
    parameters: Mapping[str, Any], pairs: int, theta: float, context_length: int
) -> RopeScaling | None:
    """The scaling that a Hugging Face `rope_parameters` (or `rope_scaling`) object means; None for none.

    Args:
        parameters: the object; `rope_type` (or `type`) names the rule.
        pairs: number of rotary pairs, half the rotary dimensions.
        theta: base of the frequencies.
        context_length: the model's own, where the object names no original one.

    Raises:
        UnknownRuleError: the rule is none that rosetta knows.
        ValueError: a parameter that the rule needs is missing, or is no positive number.
    """
    rule = str(parameters.get("rope_type", parameters.get("type", "default")))
    original = _positive(parameters, "original_max_position_embeddings", context_length)
    if rule in ("default", "none", "mrope"):
        return None
    if rule == "dynamic":  # stretches only beyond the context length
        return None
    if rule not in ("linear", "llama3", "yarn"):
        raise UnknownRuleError(f"the type {rule!r} is not supported")
    factor = _positive(parameters, "factor")
    if rule == "linear":
        return RopeScaling((factor,) * pairs)
    frequency = theta ** (-np.arange(pairs) / pairs)  # radians a position
    if rule == "llama3":  # transformers, modeling_rope_utils, _compute_llama3_parameters
        low = _positive(parameters, "low_freq_factor")
        high = _positive(parameters, "high_freq_factor")
        if not low < high:
            raise ValueError(f"high_freq_factor is {high}, not above low_freq_factor, {low}")
        turns = original * frequency / (2 * math.pi)  # rotations over the original context
        smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return _scaling(1 / ((1 - smooth) / factor + smooth))
    fast = _positive(parameters, "beta_fast", 32.0)  # YaRN: Peng et al. 2023, eq. 19 to 22
    slow = _positive(parameters, "beta_slow", 1.0)
    bounds = [pairs * math.log(original / (beta * 2 * math.pi)) / math.log(theta) for beta in (fast, slow)]
    if parameters.get("truncate", True):
        bounds = [math.floor(bounds[0]), math.ceil(bounds[1])]
    first, last = max(bounds[0], 0), min(bounds[1], 2 * pairs - 1)
    ramp = np.clip((np.arange(pairs) - first) / max(last - first, 0.001), 0.0, 1.0)
    return _scaling(1 / (ramp / factor + (1 - ramp)), _yarn_magnitude(parameters, factor))


def _yarn_magnitude(parameters: Mapping[str, Any], factor: float) -> float:
    """What multiplies the rotated values: as stated, else by the rule (transformers, _compute_yarn_parameters)."""
    if parameters.get("attention_factor") is not None:
        return _positive(parameters, "attention_factor")

    def grown(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    if parameters.get("mscale") and parameters.get("mscale_all_dim"):
        return grown(_positive(parameters, "mscale")) / grown(_positive(parameters, "mscale_all_dim"))
    return grown(1.0)


def scaling_from_gguf(
    settings: Mapping[str, Any], pairs: int, theta: float, context_length: int
) -> RopeScaling | None:
    """The scaling that GGUF's `rope.scaling.*` keys mean (Llama 3.1's is a tensor instead); None for none."""
    rule = str(
        settings.get("rope.scaling.type", "linear")
    )  # llama.cpp: linear unless the file says otherwise
    factor = settings.get("rope.scaling.factor", settings.get("rope.scale_linear"))
    if rule == "none" or factor in (None, 0, 1):
        return None
    magnitude = settings.get("rope.scaling.attn_factor", 1.0)
    parameters = {
        "rope_type": rule,
        "factor": factor,
        "original_max_position_embeddings": settings.get("rope.scaling.original_context_length"),
        "beta_fast": settings.get("rope.scaling.yarn_beta_fast"),
        "beta_slow": settings.get("rope.scaling.yarn_beta_slow"),
    }
    known = {key: value for key, value in parameters.items() if value is not None}
    scaling = scaling_from_parameters(known, pairs, theta, context_length)
    if scaling is None or magnitude == 1:
        return scaling
    # llama.cpp multiplies the rule's own magnitude by it (llama-context.cpp, yarn_attn_factor).
    return replace(
        scaling, magnitude=scaling.magnitude * _positive({"attn_factor": magnitude}, "attn_factor")
    )


def _scaling(factors: np.ndarray[Any, Any], magnitude: float = 1.0) -> RopeScaling:
    return RopeScaling(tuple(float(np.float32(f)) for f in factors), magnitude)


def _positive(parameters: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = parameters.get(key)
    if value is None:
        if default is None:
            raise ValueError(f"it has no {key}")
        value = default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{key} is {value!r}, not a positive number")
    return float(value)
