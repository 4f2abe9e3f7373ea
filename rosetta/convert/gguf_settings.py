"""The keys in which a GGUF file states a model's settings: canonical ones as they are, others that stand for them.

A draft with the keys is read by the architecture's own declarations, and what does not come out as it went in is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rosetta.compare.other_forms import DERIVED
from rosetta.compare.settings import comes_out, plain
from rosetta.config import Config, Value, read_config, rope_scaling_from_tensors
from rosetta.containers.container import Setting, TensorEntry, TensorInput
from rosetta.convert.draft import Draft
from rosetta.convert.gguf_tensors import has_tensor
from rosetta.diagnose.stated_scaling import PARAMETERS, PREFIX
from rosetta.errors import RosettaError
from rosetta.model import Model
from rosetta.ops.experts import LARGEST_GATING
from rosetta.ops.latent import NOPE
from rosetta.rope_scaling import RopeScaling, scaling_from_gguf
from rosetta.setting_values import PerLayer, listed
from rosetta.settings_table import SETTINGS

# Keys that llama.cpp knows (llama-arch.cpp, LLM_KV_NAMES) and that are settings of ours, in its order.
KEYS = (
    "vocab_size", "context_length", "block_count", "embedding_length", "feed_forward_length",
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
    "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.group_norm_epsilon",
    "attention.q_lora_rank", "attention.kv_lora_rank", "attention.shared_kv_layers",
    "attention.sliding_window", "attention.sliding_window_pattern", "attention.clamp_kqv",
    "attention.max_alibi_bias", "attention.scale", "attention.output_scale", "attention.value_scale",
    "attention.indexer.head_count", "attention.indexer.key_length", "attention.indexer.top_k",
    "attention.indexer.block_size", "attention.indexer.local_blocks",
    "attention.temperature_length", "attention.temperature_scale", "attention.recurrent_layers",
    "rope.dimension_count", "rope.dimension_count_swa", "rope.dimension_sections", "rope.freq_base",
    "rope.freq_base_swa", "expert_count", "expert_used_count", "expert_feed_forward_length",
    "expert_shared_feed_forward_length", "expert_weights_scale", "expert_weights_norm", "expert_gating_func",
    "expert_group_count", "expert_group_used_count", "expert_group_scale", "moe_every_n_layers",
    "moe_latent_size", "logit_scale", "residual_scale", "embedding_scale", "attn_logit_softcapping",
    "router_logit_softcapping", "final_logit_softcapping", "use_parallel_residual",
    "embedding_length_per_layer_input", "activation_sparsity_scale", "altup.active_idx", "altup.num_inputs",
    "swiglu_clamp_exp", "swiglu_clamp_shexp", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size",
    "ssm.time_step_rank", "ssm.group_count", "ssm.dt_b_c_rms", "kda.head_dim", "shortconv.l_cache",
    "rope.scaling.finetuned",
)  # fmt: skip
# Stated without the architecture (conversion/, ApertusModel).
BARE_KEYS = ("xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps")
# Left out where a reader comes to the same without them and the source does not state them itself.
DERIVABLE = (
    "embedding_scale", "residual_scale", "logit_scale", "rope.freq_base_swa", "attention.max_alibi_bias",
)  # fmt: skip
# Left out where a reader comes to the same without them, whoever states them: llama.cpp has them fixed where it does
# not read them, and a list of layers where it reads a number stops it.
REDUNDANT = (
    "attention.scale", "attention.temperature_length", "attention.temperature_scale",
    "attention.sliding_window_pattern", "attention.recurrent_layers",
)  # fmt: skip
# Stated even where they say 0 or false: some loaders insist on them (src/models/*.cpp).
NEUTRAL_TOO = ("use_parallel_residual", "rope.scaling.finetuned", "altup.active_idx")

# Settings that say nothing of the forward pass, or that a GGUF implies by its architecture and tensors.
IMPLIED = frozenset(
    {
        "architecture",
        "norm_type",
        "tied_embeddings",
        "rope.type",
        "rope.still_pairs",
        "bos_token_id",
        "eos_token_id",
    }
)
IN_WEIGHTS = frozenset(key for key, row in SETTINGS.items() if row.in_weights)
"""Factors that are held in the values of the weights."""


@dataclass
class Stated:
    """How a GGUF file states the settings.

    Args:
        keys: in full, in order.
        factors: tensors that hold rope scaling, and vectors that stand for a setting.
        unsaid: canonical settings that a reader of the file will not find as they are: what it will have instead.
    """

    keys: dict[str, Any]
    factors: list[TensorInput] = field(default_factory=list)
    unsaid: dict[str, tuple[Any, Any]] = field(default_factory=dict)


class Asking(dict[str, Setting]):
    """Settings that remember which of them were asked for."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        super().__init__(settings)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """See `dict.get`."""
        self.asked.add(key)
        return super().get(key, default)


def gguf_settings(model: Model, tensors: Mapping[str, TensorEntry]) -> Stated:
    """State a model's settings.

    Args:
        model: from any container.
        tensors: those of the file to be written, by name.
    """
    wanted = _wanted(model)
    stated = {key: _plain(wanted[key].value) for key in KEYS if _is_stated(key, wanted.get(key))}
    reader = _Reader(model, tensors)
    _take_latent(wanted, stated, reader)
    _take_sizes_by_kind(wanted, stated, reader)
    stated |= {key: listed(wanted, key) for key in BARE_KEYS if key in wanted}
    asked_for = _asked_for(model, wanted)
    stated |= asked_for
    _take_commonest(stated, reader)
    _take_derived(wanted, stated, reader)
    factors = _take_scaling(model, wanted, stated, reader)
    _put_right(wanted, stated, reader, factors)
    for key in list(stated):
        neutral = key not in NEUTRAL_TOO and _is_neutral(stated[key]) and key not in asked_for
        derived = key in DERIVABLE and wanted[key].defaulted
        if neutral or derived or (key in REDUNDANT and key not in asked_for):
            _leave_out(key, wanted, stated, reader, factors)
    if "attention.temperature_scale" in stated:  # llama.cpp divides by the length
        stated["attention.temperature_length"] = wanted["attention.temperature_length"].value
    reader.read(stated, factors)  # or say what it is that cannot be read
    prefix = f"{model.architecture.gguf}."
    keys = {key if key in BARE_KEYS else prefix + key: value for key, value in stated.items()}
    unsaid = reader.differing(wanted, stated, factors)
    for vector, key in _vectors(model, wanted, tensors):
        factors.append(vector)
        unsaid.pop(key, None)
    return Stated(keys, factors, unsaid)


def _take_commonest(stated: dict[str, Any], reader: _Reader) -> None:
    """One number where a reader takes no list of layers: the commonest, and what it says wrongly is unsaid."""
    for key in [key for key, value in stated.items() if isinstance(value, list)]:
        if reader.reads(stated):
            return
        commonest = Counter(stated[key]).most_common(1)[0][0]
        if reader.reads({**stated, key: commonest}):
            stated[key] = commonest


def _asked_for(model: Model, wanted: Config) -> dict[str, Any]:
    """What llama.cpp's loader asks for beyond the settings, of them and of a folder's own words."""
    architecture, words = model.architecture, model.container.metadata
    said = {key: value(wanted) for key, value in architecture.llamacpp.keys.items()}
    said |= {key: value(words) for key, value in architecture.llamacpp.sight.items()}
    return {key: value for key, value in said.items() if value is not None}


def _vectors(
    model: Model, wanted: Config, tensors: Mapping[str, TensorEntry]
) -> Iterator[tuple[TensorInput, str]]:
    """Tensors that stand for settings, each with the setting's key; those that the model has anyway say it already."""
    for stem, (key, values) in model.architecture.llamacpp.vectors.items():
        names = [f"blk.{layer}.{stem}.weight" for layer in range(model.block_count)]
        yield from ((_factors(name, tuple(values(wanted))), key) for name in names if name not in tensors)


class _Reader:
    """Reads drafts of the file to be written."""

    def __init__(self, model: Model, tensors: Mapping[str, TensorEntry]) -> None:
        self.model, self.tensors = model, tensors
        self.shapes = {name: entry.dims for name, entry in tensors.items()}
        self.asked: set[str] = set()

    def read(self, stated: Mapping[str, Any], factors: list[TensorInput]) -> Config:
        """What a reader makes of the keys."""
        prefix = f"{self.model.architecture.gguf}."
        settings = Asking({key: Setting(value, prefix + key) for key, value in stated.items()})
        held = {
            **self.tensors,
            **{f.name: TensorEntry(f.name, f.dtype, f.dims, f.data.nbytes) for f in factors},
        }
        metadata = {key if key in BARE_KEYS else prefix + key: value for key, value in stated.items()}
        draft = Draft(
            self.model.container.path, "gguf", metadata, settings, held, self.model.architecture.gguf
        )
        self.asked = settings.asked
        config, _ = read_config(draft, self.model.architecture, self.shapes, {})
        if self.model.architecture.rope is not None:
            pairs = config["rope.dimension_count"].value // 2
            values = {f.name: f.data.view(np.float32).tolist() for f in factors if f.dims[0] == pairs}
            original = stated.get("rope.scaling.original_context_length", config["context_length"].value)
            found = rope_scaling_from_tensors(values, config["rope.scaling"].value, original)
            if found is not None:
                config["rope.scaling"] = Value(found, next(iter(values)))
        return config

    def reads(self, stated: Mapping[str, Any]) -> bool:
        """Whether a reader makes anything of the keys."""
        try:
            self.read(stated, [])
        except RosettaError:
            return False
        return True

    def differing(
        self, wanted: Config, stated: Mapping[str, Any], factors: list[TensorInput]
    ) -> dict[str, tuple[Any, Any]]:
        """Settings that do not come out as they went in: what is wanted, and what is read."""
        try:
            config = self.read(stated, factors)
        except RosettaError:
            return {key: (value.value, None) for key, value in wanted.items()}
        return {
            key: (value.value, config[key].value if key in config else None)
            for key, value in wanted.items()
            if not comes_out(key, value.value, config)
        }


def _wanted(model: Model) -> Config:
    return {key: value for key, value in model.config.items() if key not in IMPLIED | IN_WEIGHTS}


def _is_stated(key: str, found: Value | None) -> bool:
    if found is None or found.value is None or isinstance(found.value, RopeScaling):
        return False
    return key != "expert_gating_func" or found.value <= LARGEST_GATING  # beyond it are ours


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _take_latent(wanted: Config, stated: dict[str, Any], reader: _Reader) -> None:
    """Latent attention: GGUF counts heads as those of the latent, of which there is one, and calls each head's own
    sizes so (conversion/deepseek.py)."""
    if NOPE not in wanted:
        return
    _read_quietly(reader, stated)
    if "attention.key_length_mla" not in reader.asked or not has_tensor(
        reader.model.architecture, "attn_k_b"
    ):
        return
    latent, rotated = stated["attention.kv_lora_rank"], stated["rope.dimension_count"]
    for name in ("key_length", "value_length"):
        stated[f"attention.{name}_mla"] = stated[f"attention.{name}"]
    stated["attention.key_length"], stated["attention.value_length"] = latent + rotated, latent
    heads = wanted["attention.head_count_kv"].value
    kept = [1 if count else 0 for count in heads] if isinstance(heads, PerLayer) else 1
    stated["attention.head_count_kv"] = kept


def _take_sizes_by_kind(wanted: Config, stated: dict[str, Any], reader: _Reader) -> None:
    """Sizes of heads that differ between layers with a window and those that see all: a key for each kind."""
    both = ("attention.key_length", "attention.value_length")
    _read_quietly(reader, {**stated, **{key: 2 for key in both if key in stated}})
    pattern = wanted.get("attention.sliding_window_pattern")
    slides = listed(wanted, "attention.sliding_window_pattern") if pattern is not None else []
    for key in both:
        if f"{key}_swa" not in reader.asked or key not in wanted:
            continue
        sizes = listed(wanted, key)
        whole = [size for size, slid in zip(sizes, slides, strict=False) if not slid]
        part = [size for size, slid in zip(sizes, slides, strict=False) if slid]
        stated[key] = (whole or sizes)[0]
        stated[f"{key}_swa"] = (part or sizes)[0]


def _take_derived(wanted: Config, stated: dict[str, Any], reader: _Reader) -> None:
    """Keys that the architecture asks of a GGUF for settings that are ours by another name. One that it cannot do
    without keeps it from asking for those behind: it is asked again until it asks for no more."""
    shared, more = "expert_shared_feed_forward_length", True
    while more:
        _read_quietly(reader, {key: value for key, value in stated.items() if key != shared})
        asked = set(reader.asked)
        _read_quietly(reader, stated)
        asked |= reader.asked
        derived = {
            key: derive(wanted) for key, derive in DERIVED.items() if key in asked and key not in stated
        }
        found = {key: value for key, value in derived.items() if value is not None}
        stated |= found
        more = bool(found)


def _read_quietly(reader: _Reader, stated: Mapping[str, Any]) -> None:
    """Find out what is asked for, of keys that may not be complete."""
    try:
        reader.read(stated, [])
    except RosettaError:
        return


def _is_neutral(value: Any) -> bool:
    """Whether a value says that there is none of something."""
    return not any(value) if isinstance(value, list) else not value


def _leave_out(
    key: str, wanted: Config, stated: dict[str, Any], reader: _Reader, factors: list[TensorInput]
) -> None:
    """Drop a key where a reader comes to no other settings without it."""
    without = {name: value for name, value in stated.items() if name != key}
    before = reader.differing(wanted, stated, factors)
    if reader.differing(wanted, without, factors).keys() <= before.keys():
        del stated[key]


def _put_right(wanted: Config, stated: dict[str, Any], reader: _Reader, factors: list[TensorInput]) -> None:
    """Numbers that a reader halves or the like are stated so that it comes to the right one."""
    for key, (value, read) in reader.differing(wanted, stated, factors).items():
        numbers = isinstance(value, int | float) and isinstance(read, int | float)
        if key not in stated or not numbers or not read or isinstance(value, bool):
            continue
        other = value * value / read
        tried = {**stated, key: int(other) if isinstance(value, int) and other == int(other) else other}
        if key not in reader.differing(wanted, tried, factors):
            stated[key] = tried[key]


def _take_scaling(model: Model, wanted: Config, stated: dict[str, Any], reader: _Reader) -> list[TensorInput]:
    """State rope scaling: as the rule that the source names where GGUF has it, else as a tensor of divisors; returns
    such tensors."""
    found = wanted.get("rope.scaling")
    if found is None or not isinstance(found.value, RopeScaling):
        return []
    without = {key: value for key, value in stated.items() if key != "attention.scale"}
    nearest: tuple[int, dict[str, Any], list[TensorInput]] | None = None
    for keys, factors in _scaling_forms(model, found.value):
        missed = len(reader.differing(wanted, {**without, **keys}, factors))
        if nearest is None or missed < nearest[0]:
            nearest = missed, keys, factors
    if nearest is None:
        return []
    stated |= nearest[1]
    return nearest[2]


def _scaling_forms(model: Model, scaling: RopeScaling) -> Iterator[tuple[dict[str, Any], list[TensorInput]]]:
    """Keys and tensors that may say it; of those that say it equally well the first is taken."""
    if scaling.long:
        keys = {PREFIX + "original_context_length": scaling.beyond, PREFIX + "attn_factor": scaling.magnitude}
        parts = {"rope_factors_long.weight": scaling.long, "rope_factors_short.weight": scaling.factors}
        yield keys, [_factors(name, values) for name, values in parts.items()]
        return
    own = {key: found.value for key, found in model.container.settings.items() if key.startswith(PREFIX)}
    if own:
        yield own, []
    stated = model.container.settings.get("rope.scaling")
    table = dict(stated.value) if stated is not None and isinstance(stated.value, Mapping) else {}
    table.setdefault("rope_type", table.get("type"))
    if table["rope_type"] in ("linear", "yarn") and table.get("factor") is not None:
        rule = {key: table[name] for key, name in PARAMETERS.items() if table.get(name) is not None}
        every = table.get("mscale_all_dim") or table.get("mscale")
        multipliers = [0.1 * every, every] if isinstance(every, int | float) and every else []
        for more in (*multipliers, None):
            for factor in (None, *_own_magnitude(model, scaling, rule)):
                said = {PREFIX + "yarn_log_multiplier": more, PREFIX + "attn_factor": factor}
                yield {**rule, **{key: value for key, value in said.items() if value is not None}}, []
    if len(set(scaling.factors)) == 1 and scaling.magnitude == 1 and not scaling.beyond:
        yield {PREFIX + "type": "linear", PREFIX + "factor": plain(scaling.factors[0])}, []
    if scaling.magnitude == 1 and not scaling.beyond:
        yield {}, [_factors("rope_freqs.weight", scaling.factors)]


def _own_magnitude(model: Model, scaling: RopeScaling, rule: Mapping[str, Any]) -> list[float]:
    """What a reader multiplies the rule's own magnitude with, where the source states another one."""
    try:
        read = scaling_from_gguf(rule, len(scaling.factors), model["rope.freq_base"], model["context_length"])
    except (KeyError, ValueError, ZeroDivisionError):
        return []
    return [] if read is None or read.magnitude == scaling.magnitude else [scaling.magnitude / read.magnitude]


def _factors(name: str, values: tuple[float, ...]) -> TensorInput:
    return TensorInput(name, "F32", (len(values),), np.array(values, np.float32).view(np.uint8))


def unsaid_words(unsaid: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    """What a GGUF file does not hold, one sentence each."""
    for key, (value, read) in unsaid.items():
        yield f"{key} is {value}, for which the file has no place: its reader will take {read}"
