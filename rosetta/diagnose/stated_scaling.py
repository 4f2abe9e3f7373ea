"""Rope scaling, which is compared as factors, in the form in which a container states it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rosetta.compare.settings import agree, plain
from rosetta.containers.container import Container, Setting
from rosetta.containers.huggingface.text_part import tables
from rosetta.diagnose.stating import Stating
from rosetta.errors import RosettaError, UnsupportedError
from rosetta.model import Model, build_model
from rosetta.rope_scaling import STILL, RopeScaling, scaling_from_gguf, scaling_from_parameters

PREFIX = "rope.scaling."
# As published; YaRN may have longrope's factors.
RULES = ("linear", "dynamic", "longrope", "yarn", "llama3", "proportional")
# GGUF's key -> the parameter that Hugging Face has for it (llama.cpp, convert_hf_to_gguf.py).
BESIDE_SCALING = ("rope_theta", "partial_rotary_factor")  # which stand in the same object
PARAMETERS = {
    "rope.scaling.type": "rope_type",
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}


Sizes = tuple[int, float, int]
"""Rotary pairs, base, context length."""


@dataclass(frozen=True)
class GgufScaling:
    """A rope scaling as a GGUF file states it.

    Args:
        keys: without the architecture; none where there is no rule.
        factors: of the tensor `rope_freqs.weight`; none where the keys say it all.
    """

    keys: Mapping[str, Any]
    factors: tuple[float, ...] = ()


def as_gguf(scaling: RopeScaling | None, model: Model, other: Container) -> GgufScaling:
    """A scaling in GGUF's form: the other file's own words where it has them, else a rule, else factors.

    Args:
        scaling: what is to be said.
        model: the repaired model, whose base and sizes it belongs to.
        other: the file it was taken from.

    Raises:
        UnsupportedError: it multiplies the rotated values, and no rule of GGUF's says by how much.
    """
    if scaling is None:
        return GgufScaling({})
    for candidate in gguf_words(scaling, other):
        keys = {
            key: value for key, value in candidate.items() if model.architecture.llamacpp.computes_by(key)
        }
        if agree("rope.scaling", _as_read(model, keys), scaling):
            return GgufScaling(keys)
    if scaling.magnitude == 1 and not scaling.beyond:
        return GgufScaling({}, scaling.factors)
    raise _unsaid(model)


def _as_read(model: Model, keys: Mapping[str, Any]) -> Any:
    """The scaling that the architecture reads out of these keys of a GGUF; None where they cannot be read."""
    if model.container.kind != "gguf":
        try:
            return scaling_from_gguf(keys, *_sizes(model))
        except (KeyError, ValueError, ZeroDivisionError):
            return None
    prefix = f"{model.container.architecture}."
    container = Stating(
        model.container, {key: Setting(said, prefix + key) for key, said in keys.items()}, without=PREFIX
    )
    overrides = {key: said for key, said in model.overrides.items() if key != "rope.scaling"}
    try:
        return build_model(container, overrides).config["rope.scaling"].value
    except RosettaError:
        return None


def as_parameters(scaling: RopeScaling, model: Model, other: Container) -> dict[str, Any]:
    """A scaling as a Hugging Face `rope_parameters` (or `rope_scaling`) object, without the base.

    Args:
        scaling, model, other: as for `as_gguf`.

    Raises:
        UnsupportedError: no rule that Hugging Face names gives these factors.
    """
    for sizes in _all_sizes(model, other):
        for parameters in _parameter_candidates(scaling, model, other, sizes):
            try:
                found = scaling_from_parameters(parameters, *sizes)
            except (KeyError, ValueError, ZeroDivisionError):
                continue
            if agree("rope.scaling", found, scaling):
                return parameters
    raise _unsaid(model)


def _sizes(model: Model) -> Sizes:
    return model["rope.dimension_count"] // 2, model["rope.freq_base"], model["context_length"]


def _all_sizes(model: Model, other: Container) -> list[Sizes]:
    """The model's sizes, and with the other file's base, which is lost together with the rule where both stand in one
    table."""
    pairs, base, context = own = _sizes(model)
    stated = other.settings.get("rope.freq_base")
    if stated is None or not isinstance(stated.value, int | float) or stated.value == base:
        return [own]
    return [own, (pairs, float(stated.value), context)]


def _unsaid(model: Model) -> UnsupportedError:
    container = model.container
    place = f"the {container.label} file {container.path}"
    if container.kind == "huggingface":
        place = f"{container.path}/config.json"
    remedy = f"write the scaling of the original model into {place}"
    return UnsupportedError(
        "the rope scaling fits no rule that it could state", file=container.path, remedy=remedy
    )


def gguf_words(scaling: RopeScaling, other: Container) -> Iterator[dict[str, Any]]:
    """What keys of a GGUF file might say of a scaling: those of the file that it was taken from first."""
    own = {key: found.value for key, found in other.settings.items() if key.startswith(PREFIX)}
    if own:
        yield own
    stated = other.settings.get("rope.scaling")
    if stated is not None and isinstance(stated.value, Mapping):
        table = dict(stated.value)
        table.setdefault("rope_type", table.get("type"))
        keys = {key: table[name] for key, name in PARAMETERS.items() if table.get(name) is not None}
        yield keys
        if table.get("mscale_all_dim"):  # DeepSeek's GGUF files have a tenth of it
            for share in (0.1, 1.0):
                yield {**keys, "rope.scaling.yarn_log_multiplier": share * float(table["mscale_all_dim"])}
    if len(set(scaling.factors)) == 1:
        yield {"rope.scaling.type": "linear", "rope.scaling.factor": plain(scaling.factors[0])}


def _parameter_candidates(
    scaling: RopeScaling, model: Model, other: Container, sizes: Sizes
) -> Iterator[dict[str, Any]]:
    stated = other.settings.get("rope.scaling")
    if stated is not None and isinstance(stated.value, Mapping):
        yield {key: value for key, value in stated.value.items() if key not in BESIDE_SCALING}
    for table in tables(model.container.metadata):  # all there but the rule's name
        lost = table.config.get("rope_parameters")
        lost = lost.get("full_attention", lost) if isinstance(lost, Mapping) else None
        if isinstance(lost, Mapping) and "rope_type" not in lost:
            kept = {key: said for key, said in lost.items() if key != "rope_theta"}
            yield from ({"rope_type": rule, **kept} for rule in RULES)
    keys = {name: other.settings[key].value for key, name in PARAMETERS.items() if key in other.settings}
    own = model.container.settings.get("rope.scaling")
    if own is not None and isinstance(own.value, Mapping):  # what else the file itself says of the rule stays
        kept = {name: said for name, said in {**own.value, **keys}.items() if name not in BESIDE_SCALING}
        yield kept
        if scaling.long:
            yield {**kept, **_lists(scaling, kept)}
        multiplier = other.settings.get(PREFIX + "yarn_log_multiplier")
        if "mscale_all_dim" in kept and multiplier is not None:  # of DeepSeek's GGUF files it is a tenth
            for times in (10, 1):
                yield {**kept, "mscale_all_dim": plain(float(np.float32(multiplier.value * times)))}
        if "mscale_all_dim" in kept:
            yield {**kept, "mscale": kept["mscale_all_dim"]}
        yield {**kept, "attention_factor": plain(scaling.magnitude)}
    if keys:
        yield {"rope_type": "linear", **keys}
        read = model.architecture.llamacpp.computes_by
        yield {
            name: said
            for key, name in PARAMETERS.items()
            if read(key) and (said := keys.get(name)) is not None
        }
    if len(set(scaling.factors)) == 1:
        yield {"rope_type": "linear", "factor": plain(scaling.factors[0])}
    yield from proportional(scaling.factors)
    yield from _llama3_candidates(scaling, sizes)


def _lists(scaling: RopeScaling, stated: Mapping[str, Any]) -> dict[str, list[float]]:
    """LongRoPE's two lists of factors, each in the words of the file where it says it rightly."""

    def words(name: str, factors: Sequence[float]) -> list[float]:
        said = stated.get(name)
        if isinstance(said, list) and len(said) == len(factors) and np.allclose(said, factors, rtol=1e-5):
            return list(said)
        return [plain(factor) for factor in factors]

    return {
        "short_factor": words("short_factor", scaling.factors),
        "long_factor": words("long_factor", scaling.long),
    }


def proportional(factors: Sequence[float]) -> Iterator[dict[str, Any]]:
    """The rule by which the last pairs stand still and the others are divided alike (Gemma 4)."""
    turned = [factor for factor in factors if not math.isclose(factor, STILL, rel_tol=1e-6)]
    if turned and len(set(turned)) == 1 and len(turned) < len(factors):
        rule = {"rope_type": "proportional", "partial_rotary_factor": share_of(len(turned), len(factors))}
        yield rule if turned[0] == 1 else {**rule, "factor": plain(turned[0])}


def share_of(turned: int, size: int) -> float:
    """The share of a head that is turned, so many dims of its size, such that no rounding down loses a dim."""
    share = turned / size
    return share if int(size * share) == turned else math.nextafter(share, 2)


def _llama3_candidates(scaling: RopeScaling, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Parameters of Llama 3.1's rule that could have given the factors.

    Between its two bounds the blend s = (1/f - 1/F) / (1 - 1/F) is linear in the frequency: s = slope * frequency
    + start, where slope = context / (2π (high - low)) and start = -low / (high - low). Three unknowns and two
    equations: low is 1, as published (transformers, modeling_rope_utils).
    """
    pairs, theta, _ = sizes
    factors = np.array(scaling.factors, dtype=np.float64)
    largest = float(factors.max())
    if largest <= 1 or len(factors) != pairs:
        return
    frequency = theta ** (-np.arange(pairs) / pairs)
    blend = (1 / factors - 1 / largest) / (1 - 1 / largest)
    between = (blend > 1e-4) & (blend < 1 - 1e-4)
    spans = [3.0]  # high - low as published
    if between.sum() >= 2:
        _, start = np.polyfit(frequency[between], blend[between], 1)
        spans = [float(round(-1 / start, 3)), *spans] if start < 0 else spans
    for span in spans:
        if between.any():
            each = (blend[between] * span + 1) * 2 * math.pi / frequency[between]
            contexts = [float(each[0]), float(np.median(each))]
        else:  # any context that puts the bounds between two frequencies
            inside = frequency[blend >= 0.5]
            contexts = [] if not len(inside) else [(span + 1) * 2 * math.pi / float(inside.min())]
        for context in contexts:
            yield {
                "rope_type": "llama3",
                "factor": plain(float(np.float32(largest))),
                "low_freq_factor": 1.0,
                "high_freq_factor": 1.0 + span,
                "original_max_position_embeddings": round(context),
            }
