"""Rope scaling in its one canonical form: a divisor for each rotary pair's frequency.

GGUF stores Llama 3.1's divisors as a tensor (`rope_freqs`), Hugging Face the parameters that they come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

STILL = 1e30  # what GGUF divides the frequency of a pair by that is not rotated (Gemma 4)


class UnknownRuleError(ValueError):
    """A rule of rope scaling that rosetta does not compute."""


@dataclass(frozen=True)
class RopeScaling:
    """Divisors of the rotary frequencies, one a pair, and what multiplies the rotated values (YaRN, LongRoPE).

    Args:
        factors: the divisors.
        magnitude: what multiplies the rotated values.
        beyond: tokens up to which these divisors hold, where longer runs have others; 0: they always hold.
        long: the divisors of longer runs (LongRoPE).
        growth: by how much the base of longer runs grows with their length (dynamic NTK); 0: it does not.
    """

    factors: tuple[float, ...]
    magnitude: float = 1.0
    beyond: int = 0
    long: tuple[float, ...] = ()
    growth: float = 0.0

    @property
    def stated(self) -> dict[str, Any]:
        """What it says, without what it does not have."""
        always = {"factors": self.factors, "magnitude": self.magnitude}
        some = {"beyond": self.beyond, "long": self.long, "growth": self.growth}
        return always | {name: value for name, value in some.items() if value}

    def at(self, tokens: int) -> tuple[float, ...]:
        """The divisors of a run of so many tokens.

        Source: transformers, modeling_rope_utils, _compute_dynamic_ntk_parameters: there the base grows, which divides
        the frequency of pair i of n by growth^(i / (n - 1)).
        """
        if not self.beyond or tokens <= self.beyond:
            return self.factors
        if self.long:
            return self.long
        grown, last = self.growth * tokens / self.beyond - (self.growth - 1), max(len(self.factors) - 1, 1)
        return tuple(factor * grown ** (i / last) for i, factor in enumerate(self.factors))


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
    if rule == "longrope" or (rule in ("su", "yarn") and "long_factor" in parameters):
        return _longrope(parameters, pairs, original, context_length)
    if rule == "proportional":  # pairs behind the rotated ones stand still, as GGUF has it: divided by 1e30
        turned = int(_positive(parameters, "partial_rotary_factor", 1.0) * pairs)
        factor = _positive(parameters, "factor", 1.0)
        return _scaling(np.array([factor] * turned + [STILL] * (pairs - turned)))
    if rule in ("dynamic", "xdrope"):  # the latter as HunYuan-VL was published
        growth = _positive(parameters, "factor")
        return RopeScaling((1.0,) * pairs, beyond=context_length, growth=growth)
    if rule not in ("linear", "llama3", "yarn"):
        raise UnknownRuleError(f"the type {rule!r} is not supported")
    factor = _positive(parameters, "factor")
    if rule == "linear":
        return None if factor == 1 else RopeScaling((factor,) * pairs)
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


def _longrope(parameters: Mapping[str, Any], pairs: int, original: float, context_length: int) -> RopeScaling:
    """Two lists of divisors, of which the prompt's length chooses (transformers, _compute_longrope_parameters)."""
    lists = []
    for key in ("short_factor", "long_factor"):
        stated = parameters.get(key)
        if not isinstance(stated, list) or len(stated) != pairs:
            raise ValueError(f"{key} is no list of {pairs} numbers")
        lists.append(tuple(float(np.float32(_positive({key: value}, key))) for value in stated))
    scale = _positive(parameters, "factor", context_length / original if context_length else 1.0)
    grown = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 and original > 1 else 1.0
    magnitude = _positive(parameters, "attention_factor", grown)
    return RopeScaling(lists[0], float(np.float32(magnitude)), int(original), lists[1])


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
    # llama.cpp: linear unless the file says otherwise.
    rule = str(settings.get("rope.scaling.type", "linear"))
    factor = settings.get("rope.scaling.factor", settings.get("rope.scale_linear"))
    magnitude = _positive(settings, "rope.scaling.attn_factor", 1.0)
    parameters = {
        "rope_type": "linear" if rule == "longrope" else rule,  # whose own factors are tensors
        "factor": factor,
        # llama.cpp takes 0 for none stated (llama-context.cpp, n_ctx_orig_yarn)
        "original_max_position_embeddings": settings.get("rope.scaling.original_context_length") or None,
        "beta_fast": settings.get("rope.scaling.yarn_beta_fast"),
        "beta_slow": settings.get("rope.scaling.yarn_beta_slow"),
    }
    multiplier = settings.get("rope.scaling.yarn_log_multiplier")
    if multiplier:  # llama.cpp, llama-context.cpp: the other of the two is taken for 1
        parameters |= {"mscale": 1.0, "mscale_all_dim": multiplier}
    known = {key: value for key, value in parameters.items() if value is not None}
    scaling = None
    if rule != "none" and factor not in (None, 0, 1):
        scaling = scaling_from_parameters(known, pairs, theta, context_length)
    if magnitude == 1:
        return scaling
    # llama.cpp multiplies the rule's own magnitude by it, none's too (llama-context.cpp, yarn_attn_factor).
    whole = scaling or RopeScaling((1.0,) * pairs)
    return replace(whole, magnitude=whole.magnitude * magnitude)


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
