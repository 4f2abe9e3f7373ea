"""Falcon-H1: attention and a Mamba-2 state side by side, their sum and then a network added. A folder keeps a factor of
nearly every matrix in its config; GGUF has them multiplied into the weights, which is the canonical form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, scores_of
from rosetta.architectures.parts.folder_names import MAMBA_NAMES, MAMBA_PARAMETERS, gated
from rosetta.architectures.parts.readings import Reading, Stored, standard_readings
from rosetta.architectures.parts.recurrent import (
    mamba2,
    state_readings,
    state_sizes,
    stated_head_size,
    time_step_limits,
)
from rosetta.graph import Stage
from rosetta.lazily import torch
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Add
from rosetta.ops.recurrent import GROUPS, INNER, KERNEL, RANK, STATE
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.setting_values import Config
from rosetta.settings_reader import SettingsReader

if TYPE_CHECKING:
    from torch import Tensor


SPELLINGS = {
    KERNEL: ("mamba_d_conv",),
    STATE: ("mamba_d_state",),
    GROUPS: ("mamba_n_groups",),
    RANK: ("mamba_n_heads",),
    INNER: ("mamba_d_ssm",),
}
DEFAULTS = {
    "mamba_d_conv": 4,
    "mamba_d_state": 256,
    "mamba_n_groups": 1,
    "mamba_n_heads": 128,
    "mamba_d_ssm": 1024,
}
NORM_FIRST = "ssm.norm_before_gate"
FACTORS = {  # settings by stem, those of a list by their places: of the weights, and of the biases
    "token_embd": (("embedding_multiplier",), ()),
    "output": (("lm_head_multiplier",), ()),
    "attn_q": (("attention_in_multiplier",), ()),
    "attn_k": (("key_multiplier", "attention_in_multiplier"), ("key_multiplier",)),
    "attn_v": (("attention_in_multiplier",), ()),
    "attn_output": (("attention_out_multiplier",),) * 2,
    "ssm_out": (("ssm_out_multiplier",),) * 2,
    "ffn_gate": (("mlp_multipliers.0",),) * 2,
    "ffn_down": (("mlp_multipliers.1",),) * 2,
}
OF_STATE, OF_PARTS = "ssm_in_multiplier", tuple(f"ssm_multipliers.{part}" for part in range(5))
NAMES = dict.fromkeys(
    [*(name for pair in FACTORS.values() for names in pair for name in names), OF_STATE, *OF_PARTS]
)


@dataclass(frozen=True)
class Factors:
    """An edit that multiplies each row, by one number after another as the converter does.

    Args:
        of: (last row, (setting, its number) for each), in the order of the rows.
    """

    of: tuple[tuple[int, tuple[tuple[str, float], ...]], ...]

    @property
    def of_settings(self) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        """(first row, last row, settings) of each part, in the order of the rows."""
        first = 0
        for stop, numbers in self.of:
            yield first, stop, tuple(name for name, _ in numbers)
            first = stop

    def touches(self, start: int, stop: int) -> bool:
        """All rows."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """Products."""
        y = values.clone()
        for rows, numbers in self._pieces(start, len(values)):
            for number in numbers:
                y[rows] = y[rows] * number
        return y

    def stored(self, values: Tensor, start: int) -> Tensor:
        """Quotients."""
        y = values.clone()
        for rows, numbers in self._pieces(start, len(values)):
            for number in reversed(numbers):
                y[rows] = y[rows] / number
        return y

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """Likewise, and the rounding of each product."""
        rounded = self.values(values, start).abs() * 2.0**-24
        return torch.hypot(self.values(sigma, start).abs(), rounded)

    def _pieces(self, start: int, count: int) -> Sequence[tuple[slice, tuple[float, ...]]]:
        found, first = [], 0
        for stop, numbers in self.of:
            low, high = max(first - start, 0), min(stop - start, count)
            if low < high:
                found.append((slice(low, high), tuple(number for _, number in numbers)))
            first = stop
        return found


def settings(read: SettingsReader) -> None:
    """Sizes of the state, and the factors, which are of the weights here."""
    state_sizes(read, SPELLINGS, DEFAULTS)
    stated_head_size(read, "mamba_d_head")
    time_step_limits(read, "time_step_limit")
    normed, first = read.spelled("mamba_rms_norm"), read.spelled("mamba_norm_before_gate")
    folder = read.container.kind == "huggingface"
    norm_first = folder and bool(normed and normed.value) and (first is None or bool(first.value))
    read.by_layer(NORM_FIRST, [norm_first], stated=first.key if norm_first and first is not None else None)
    for key in ("embedding_scale", "logit_scale"):  # the same factors under their usual names
        read.raw(key)
    for name in NAMES if read.container.kind != "gguf" else ():
        key, _, place = name.partition(".")
        stated = read.spelled(key)
        number = _number(None if stated is None else stated.value, place)
        own = None if stated is None or number is None else stated.key
        read.by_layer(name, [1.0 if number is None else number], "default of transformers", stated=own)


def _number(value: Any, place: str) -> float | None:
    """A number, or the one at a place of a list; None where that is none."""
    if place:
        value = value[int(place)] if isinstance(value, list) and int(place) < len(value) else None
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """The weights times their factors. The converter calls one norm by a name without an ending."""
    if stored.stem == "ffn_norm" and not stored.suffix:
        return [Reading("ffn_norm.weight")]
    if not stored.foreign:
        return _plain(stored, c)
    name = f"{stored.stem}.{stored.suffix}"
    if stored.stem == "ssm_in":
        return [Reading(name, edit=Factors(_of_parts(stored, c)))]
    found = [Reading(name, edit=_edit(stored, stored.stem, c))] if stored.stem in FACTORS else None
    if found and stored.stem == "token_embd" and c["tied_embeddings"]:
        found.append(Reading("output.weight", edit=_edit(stored, "output", c)))
    return found or _plain(stored, c)


def _plain(stored: Stored, c: Settings) -> list[Reading] | None:
    found = state_readings(stored, c, per_head=True) or standard_readings(stored, c)
    return None if found is None else list(found)


def _edit(stored: Stored, stem: str, c: Settings) -> Factors:
    names = FACTORS[stem][stored.suffix == "bias"]
    rows = stored.dims[0] if stored.dims else 0
    return Factors(((rows, _numbers(names, c)),))


def _numbers(names: Sequence[str], c: Settings) -> tuple[tuple[str, float], ...]:
    return tuple((name, c.get(name, 1.0)) for name in names)  # a GGUF has them in its weights


def _of_parts(stored: Stored, c: Settings) -> tuple[tuple[int, tuple[tuple[str, float], ...]], ...]:
    """Of the projection into the state: gate, x, B, C and time steps have a factor each."""
    shared, inner = c[GROUPS] * c[STATE], c[INNER]
    stops = [inner, 2 * inner, 2 * inner + shared, 2 * inner + 2 * shared, stored.dims[0]]
    before = () if stored.suffix == "bias" else (OF_STATE,)
    return tuple((stop, _numbers((*before, own), c)) for stop, own in zip(stops, OF_PARTS, strict=True))


def _listed(key: str, c: Config) -> list[float] | None:
    """What the config lists of factors."""
    return [c[name].value for name in NAMES if name.startswith(f"{key}.") and name in c] or None


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Both mixers read one norm."""
    x = output_of(n - 1)
    attending = attention(norm=a.norm_of("attn_norm"), rope=Rotary(SPLIT_HALF), scores=scores_of(c))(x)
    state = mamba2(c, None, a.epsilon_key, gate_first=not c[NORM_FIRST])("attn_norm")
    network = feed_forward(norm=a.norm_of("ffn_norm"))("attn_residual")
    return [
        *attending,
        *state,
        Stage("attn_residual", Add(), (x, attending[-1].name, state[-1].name)),
        *network,
        Stage("residual", Add(), ("attn_residual", network[-1].name)),
    ]


FALCON_H1 = Architecture(
    "falcon-h1",
    gguf="falcon-h1",
    classes=("FalconH1ForCausalLM", "falcon_h1"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=settings,
    readings=readings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="falcon_h1",
        reads=frozenset({"embedding_multiplier"}),
        defaults={  # transformers, FalconH1Config
            "block_count": 32,
            "context_length": 8192,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 128000,
            "tied_embeddings": False,
        },
        spellings={name: name for name in NAMES if "." not in name},
        keys={key: partial(_listed, key) for key in ("mlp_multipliers", "ssm_multipliers")},
        flags={
            "attention_bias": False,
            "mlp_bias": False,
            "mamba_rms_norm": False,
            "mamba_conv_bias": True,
            "mamba_proj_bias": False,
            "projectors_bias": False,
        },
        idle=frozenset({"mamba_expand"}),  # mamba_d_ssm says it
        names={
            **MAMBA_NAMES,
            **gated("feed_forward"),
            "model.final_layernorm": "output_norm",
            "model.layers.{bid}.pre_ff_layernorm": "blk.{bid}.ffn_norm",
            "model.layers.{bid}.mamba.norm": "blk.{bid}.ssm_norm",
        },
        parameters=MAMBA_PARAMETERS,
        folded=frozenset({"k", "attn_out", "ssm_in", "ssm_out", "ffn_gate", "ffn_out"}),
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.STATE,
        bare=("ffn_norm",),
        factors=factors.ATTENTION | factors.STATE,
        idle=frozenset({"attn_output.bias", "rope_freqs.weight"}),
    ),
)
