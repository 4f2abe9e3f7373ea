"""config.json of a model: each setting under the key by which its architecture reads it, found by reading a draft."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rosetta.architectures import Architecture, find_architecture
from rosetta.architectures.expert_settings import expert_step, leading_dense_count, shared_expert_count
from rosetta.compare.settings import agree, plain
from rosetta.config import Config, read_config
from rosetta.containers.container import Setting, TensorEntry
from rosetta.containers.huggingface.settings import HUGGINGFACE_FACTS, huggingface_settings
from rosetta.containers.spool import declared
from rosetta.convert.draft import Draft
from rosetta.convert.folder_tensors import setting_tensors
from rosetta.convert.gguf_settings import IMPLIED
from rosetta.diagnose.stated_scaling import PARAMETERS, PREFIX, as_parameters
from rosetta.errors import RosettaError, UnsupportedError
from rosetta.model import LAYER, Model
from rosetta.ops.latent import NOPE
from rosetta.ops.recurrent import GROUPS, INNER, KERNEL, RANK, STATE
from rosetta.rope_scaling import RopeScaling
from rosetta.settings_reader import ACTIVATIONS, PerLayer, listed

SPELLINGS = {fact.key: fact.spellings for fact in HUGGINGFACE_FACTS}
# Stated only where a reader comes to something else without them: classes that lack them may refuse them.
WHERE_NEEDED = (
    "attention.key_length", "attention.value_length", "attention.scale", "rope.dimension_count", "activation",
    "attention.head_count_kv", "feed_forward_length", "rope.freq_base", "expert_shared_feed_forward_length",
    "embedding_scale", "residual_scale", "logit_scale", "attn_logit_softcapping", "final_logit_softcapping",
    "use_parallel_residual", "expert_weights_norm",
)  # fmt: skip
NO_NUMBERS = (  # keys that hold something else
    "time_step_limit", "mamba_dt_limit", "sliding_window_pattern", "mamba_rms_norm", "rope_parameters", "rope_scaling",
)  # fmt: skip
GATING_WORDS = {1: "softmax", 2: "sigmoid", 4: "sqrtsoftplus"}
ROTATION = "rope_parameters"
RECURRENT = "attention.recurrent_layers"
PATTERN = "attention.sliding_window_pattern"


def _layer_types(config: Config) -> list[str] | None:
    """What each layer is: a window or none, recurrent or not."""
    if RECURRENT in config:
        kind = "conv" if "shortconv.l_cache" in config else "linear_attention"
        return [kind if on else "full_attention" for on in listed(config, RECURRENT)]
    if PATTERN in config or (
        config.get("attention.sliding_window") and config["attention.sliding_window"].value
    ):
        slides = listed(config, PATTERN) if PATTERN in config else [True] * config["block_count"].value
        return ["sliding_attention" if on else "full_attention" for on in slides]
    return None


def _of(key: str) -> Callable[[Config], Any]:
    return lambda c: plain(c[key].value) if key in c else None


def _share(config: Config, whole: str, of: str) -> int | None:
    return int(config[whole].value // config[of].value) if whole in config and of in config else None


def _sparse(config: Config) -> list[bool]:
    return listed(config, "expert_layers") if "expert_layers" in config else []


# Keys of config.json that say a setting in another form -> what they say.
OTHER_FORMS: Mapping[str, Callable[[Config], Any]] = {
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), leading_dense_count),
    **dict.fromkeys(
        ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
        shared_expert_count,
    ),
    **dict.fromkeys(
        ("scoring_func", "score_func", "score_function", "moe_router_activation_func"),
        lambda c: GATING_WORDS.get(c["expert_gating_func"].value) if "expert_gating_func" in c else None,
    ),
    "layer_types": _layer_types,
    "mlp_layer_types": lambda c: ["sparse" if on else "dense" for on in _sparse(c)] or None,
    "mlp_only_layers": lambda c: [n for n, on in enumerate(_sparse(c)) if not on],
    "decoder_sparse_step": lambda c: 1,
    "interleave_moe_layer_step": expert_step,
    "moe_layers": lambda c: [n for n, on in enumerate(_sparse(c)) if on] or None,
    "no_rope_layers": lambda c: [int(on) for on in listed(c, "rope.layers")] if "rope.layers" in c else None,
    "qk_nope_head_dim": _of(NOPE),
    "qk_rope_head_dim": _of("rope.dimension_count"),
    "v_head_dim": _of("attention.value_length"),
    **dict.fromkeys(("linear_conv_kernel_dim", "conv_kernel", "mamba_d_conv"), _of(KERNEL)),
    **dict.fromkeys(("linear_key_head_dim", "state_size", "ssm_state_size", "mamba_d_state"), _of(STATE)),
    **dict.fromkeys(("linear_num_key_heads", "n_groups", "mamba_n_groups"), _of(GROUPS)),
    **dict.fromkeys(
        ("linear_num_value_heads", "num_heads", "mamba_num_heads", "mamba_n_heads", "time_step_rank", "mamba_dt_rank"),
        _of(RANK),
    ),
    **dict.fromkeys(("linear_value_head_dim", "mamba_head_dim", "mamba_d_head"), lambda c: _share(c, INNER, RANK)),
    **dict.fromkeys(("expand", "mamba_expand"), lambda c: _share(c, INNER, "embedding_length")),
    "mamba_d_ssm": _of(INNER),
    "mamba_norm_before_gate": _of("ssm.norm_before_gate"),
    "attn_layer_indices": lambda c: [n for n, on in enumerate(listed(c, RECURRENT)) if not on],
    "position_embedding_type": lambda c: (
        None if "rope.scaling.finetuned" not in c else "rope" if c["rope.scaling.finetuned"].value else "nope"
    ),
    "mup_enabled": lambda c: "embedding_scale" in c and c["embedding_scale"].value != 1,
    "vocab_size_per_layer_input": _of("per_layer_vocab_size"),
    "attention_k_eq_v": lambda c: any(listed(c, "attention.keys_are_values")),
    "enable_moe_block": lambda c: bool(c["expert_count"].value),
    "global_head_dim": lambda c: max(listed(c, "attention.key_length")),
    "num_global_key_value_heads": lambda c: min(listed(c, "attention.head_count_kv")),
    "use_double_wide_mlp": lambda c: len(set(listed(c, "feed_forward_length"))) > 1,
    "intermediate_size_mlp": _of("feed_forward_length"),
    "new_decoder_architecture": lambda c: "parallel_norms" in c and c["parallel_norms"].value == 2,
    "num_ln_in_parallel_attn": _of("parallel_norms"),
    "multi_query": lambda c: c["attention.head_count_kv"].value == 1,
    "parallel_attn": lambda c: True,
    "hybrid_layer_pattern": lambda c: [int(on) for on in listed(c, PATTERN)] if PATTERN in c else None,
    "moe_layer_freq": lambda c: [int(on) for on in _sparse(c)] or None,
    "rope_local_base_freq": _of("rope.freq_base_swa"),
    "alibi": lambda c: True if c.get("attention.max_alibi_bias") and c["attention.max_alibi_bias"].value else None,
}  # fmt: skip


class _Events(dict[str, Any]):
    """config.json that notes which of its keys are asked for, and after which setting."""

    def __init__(self, values: Mapping[str, Any], asked: list[tuple[str, str]]) -> None:
        super().__init__(values)
        self.asked = asked

    def get(self, key: str, default: Any = None) -> Any:
        """See `dict.get`."""
        self.asked.append(("key", key))
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.append(("key", str(key)))
        return super().__contains__(key)


class _Settings(dict[str, Setting]):
    """Settings that note which of them are asked for."""

    def __init__(self, settings: Mapping[str, Setting], asked: list[tuple[str, str]]) -> None:
        super().__init__(settings)
        self.asked = asked

    def get(self, key: str, default: Any = None) -> Any:
        """See `dict.get`."""
        self.asked.append(("setting", key))
        return super().get(key, default)


class _Reader:
    """Reads drafts of config.json."""

    def __init__(
        self, model: Model, tensors: Mapping[str, TensorEntry], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        made = {tensor.name: tensor for tensor in setting_tensors(model)}
        self.model, self.shapes = model, shapes
        self.tensors = {**tensors, **{name: declared(tensor) for name, tensor in made.items()}}
        self.data = {name: tensor.data for name, tensor in made.items()}

    def read(self, config: Mapping[str, Any], events: list[tuple[str, str]] | None = None) -> Config:
        """What a reader makes of it."""
        asked: list[tuple[str, str]] = [] if events is None else events
        settings = _Settings(huggingface_settings(self.model.container.path, config), asked)
        draft = Draft(
            self.model.container.path,
            "huggingface",
            _Events(config, asked),
            settings,
            self.tensors,
            config["model_type"],
            data=self.data,
        )
        found, _ = read_config(draft, self.model.architecture, self.shapes, {})
        return found

    def differing(self, wanted: Config, config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Settings that do not come out as they went in."""
        try:
            found = self.read(config)
        except RosettaError:
            return {key: (value.value, None) for key, value in wanted.items()}
        return {
            key: (value.value, found[key].value if key in found else None)
            for key, value in wanted.items()
            if not (agree(key, found[key].value, value.value) if key in found else not value.value)
        }


def folder_config(
    model: Model, tensors: Mapping[str, TensorEntry], shapes: Mapping[str, tuple[int, ...]], dtype: str
) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """config.json.

    Args:
        model: from any container.
        tensors: of the folder, by name.
        shapes: stored dims by canonical name.
        dtype: torch's name of what most weights are.

    Returns:
        The object, and the settings that a reader will not find as they are: what it will have instead.
    """
    architecture = model.architecture
    wanted = {key: value for key, value in model.config.items() if key not in IMPLIED - {"tied_embeddings"}}
    config: dict[str, Any] = {
        "architectures": list(_classes(architecture)[:1]),
        "model_type": architecture.model_type or architecture.name,
        "torch_dtype": dtype,
        "tie_word_embeddings": wanted["tied_embeddings"].value,
        "pad_token_id": None,  # some classes have one of their own, which may lie behind the vocabulary
    }
    for key in ("bos_token_id", "eos_token_id"):
        if key in model.config:
            config[key] = model.config[key].value
    stated = _own_keys(model, wanted)
    _state(config, stated)
    for key, value in wanted.items():
        own_default = key in architecture.huggingface  # the class knows the key, and would take its own
        usual = key in SPELLINGS and key not in ("tied_embeddings", "norm.type")
        usual = usual and (own_default or key not in WHERE_NEEDED)
        if usual and not isinstance(value.value, PerLayer) and not _is_none(value.value):
            config[spelling(model, key)] = plain(value.value)
    reader = _Reader(model, tensors, shapes)
    if wanted.get("attention.sliding_window") and wanted["attention.sliding_window"].value:
        config["sliding_window"] = wanted["attention.sliding_window"].value
        if "use_sliding_window" in architecture.huggingface:
            config["use_sliding_window"] = True
    _take_asked(wanted, config, reader, {name.partition(".")[0] for name in stated})
    config |= _flags(model)
    for key, own in architecture.spellings.items():
        if key in wanted and not isinstance(wanted[key].value, PerLayer) and not _is_none(wanted[key].value):
            config.setdefault(own, plain(wanted[key].value))
    _take_rope(model, wanted, config, reader)
    _state(config, stated)
    for key in [*WHERE_NEEDED, *wanted]:
        if key in reader.differing(wanted, config):
            for name, value in _ways(model, wanted, key):
                if name in stated:
                    continue
                tried = {**config, name: value}
                if reader.differing(wanted, tried).keys() < reader.differing(wanted, config).keys():
                    config = tried
                    break
    if config.get("sliding_window", 0) is None and PATTERN in wanted:
        config["layer_types"] = _layer_types(wanted)  # else Exaone4Config divides by a pattern of 0
    one_rotation = "rope_scaling" not in config and "rope.freq_base_swa" not in wanted
    if "partial_rotary_factor" in config and one_rotation:
        # Twice, for the two versions of transformers: BambaConfig of the fifth heeds it nowhere but here.
        shared = {key: config[key] for key in ("rope_theta", "partial_rotary_factor")}
        config["rope_parameters"] = {"rope_type": "default", **shared}
    _state(config, stated)
    reader.read(config)  # or say what it is that cannot be read
    return config, reader.differing(wanted, config)


def _classes(architecture: Architecture) -> tuple[str, ...]:
    """transformers' classes of an architecture, or of the one by whose name a folder of it goes."""
    named = find_architecture(architecture.model_type) if not architecture.classes else None
    return architecture.classes if named is None else named.classes


def _own_keys(model: Model, wanted: Config) -> dict[str, Any]:
    """What the architecture itself says of its config.json."""
    said = {}
    for name, form in model.architecture.folder_keys.items():
        with contextlib.suppress(KeyError):  # it speaks of something that the model has not
            said[name] = form(wanted)
    return {name: value for name, value in said.items() if value is not None}


def _state(config: dict[str, Any], keys: Mapping[str, Any]) -> None:
    """Put keys in place, those of a table into it: the rotation's is the one that is there."""
    for name, value in keys.items():
        outer, dot, inner = name.partition(".")
        if not dot:
            config[name] = value
        elif outer != ROTATION:
            config.setdefault(outer, {})[inner] = value
        elif isinstance(
            config.get("rope_scaling"), dict
        ):  # it comes first in the fifth version of transformers
            config["rope_scaling"][inner] = value
        elif "rope_theta" in config:  # else it is not yet known what else stands there
            shared = {key: config[key] for key in ("rope_theta", "partial_rotary_factor") if key in config}
            table = {"rope_type": "default", **config.get(ROTATION, {}), **shared}
            config[ROTATION] = {**table, inner: value}


def _flags(model: Model) -> dict[str, bool]:
    """What tensors there are, which classes ask their config: biases and norms of heads."""
    ends = {name.split(".", 2)[2] for name in model.weights if LAYER.match(name)}
    return {
        "attention_bias": "attn_q.bias" in ends,
        "attention_out_bias": "attn_output.bias" in ends,
        "mlp_bias": "ffn_up.bias" in ends,
        "use_qkv_bias": "attn_q.bias" in ends,
        "use_bias": "ffn_up.bias" in ends,
        "use_qk_norm": "attn_q_norm.weight" in ends,
        "mamba_rms_norm": "ssm_norm.weight" in ends,
    }


def _is_none(value: Any) -> bool:
    """Whether a value says that there is none of something: a config leaves that out, or says null."""
    return value is None or (not isinstance(value, bool) and value in (0, ""))


def spelling(model: Model, key: str) -> str:
    """What the architecture's config.json calls a setting."""
    return model.architecture.spellings.get(key, SPELLINGS[key][0])


def _ways(model: Model, wanted: Config, key: str) -> Iterator[tuple[str, Any]]:
    """Keys that may say a setting."""
    value = wanted[key].value if key in wanted else None
    if value is None:
        return
    if key == PATTERN and not wanted["attention.sliding_window"].value:
        yield "sliding_window", None
    if _is_none(value):
        names = [spelling(model, key), *SPELLINGS[key]] if key in SPELLINGS else [key.rpartition(".")[2]]
        yield from ((name, None) for name in dict.fromkeys(names))
    if key == "activation":
        for name, ours in ACTIVATIONS.items():
            if ours == value:
                yield spelling(model, key), name
    elif key == "attention.scale":
        scalar = value**-2
        yield "query_pre_attn_scalar", round(scalar) if abs(scalar - round(scalar)) < 1e-3 else scalar
        yield "attention_multiplier", plain(value)
    elif key == "rope.dimension_count" and "attention.key_length" in wanted:
        whole = wanted["attention.key_length"].value
        whole = max(whole) if isinstance(whole, PerLayer) else whole
        yield "partial_rotary_factor", value / whole
        yield "rotary_dim", value
    elif key in SPELLINGS:
        # One number where the layers differ: of those that have any, or that of the layers another key tells apart.
        stated = dict.fromkeys(
            [value, *sorted(filter(None, value))] if isinstance(value, PerLayer) else [value]
        )
        for name in dict.fromkeys([spelling(model, key), *SPELLINGS[key]]):
            for said in stated:
                yield name, list(said) if isinstance(said, PerLayer) else plain(said)
    elif isinstance(value, int | float | str) and key != PATTERN:
        own = model.architecture.spellings.get(key)
        yield from ((name, plain(value)) for name in (own, key.rpartition(".")[2]) if name)
    yield from _other_forms(wanted)


def _other_forms(wanted: Config) -> Iterator[tuple[str, Any]]:
    """What other keys of any class would say."""
    for name, form in OTHER_FORMS.items():
        # Suppressed: what speaks of something that the model has not.
        with contextlib.suppress(KeyError, TypeError, ZeroDivisionError):
            value = form(wanted)
            if value is not None:
                yield name, value


def _take_rope(model: Model, wanted: Config, config: dict[str, Any], reader: _Reader) -> None:
    """Base and scaling of the rotation, in the form that transformers 4 and 5 read."""
    if "rope.freq_base" not in wanted:
        return
    config["rope_theta"] = plain(wanted["rope.freq_base"].value)
    scaling = wanted["rope.scaling"].value if "rope.scaling" in wanted else None
    if isinstance(scaling, RopeScaling):
        if scaling.long:
            pairs = {"short_factor": scaling.factors, "long_factor": scaling.long}
            factors = {name: [plain(f) for f in values] for name, values in pairs.items()}
            config["rope_scaling"] = {"rope_type": "longrope", **factors}
            config["rope_scaling"]["attention_factor"] = plain(scaling.magnitude)
            config["original_max_position_embeddings"] = scaling.beyond
            return
        forms = list(_scaling_forms(model, scaling))
        if forms:
            tried = [{**config, "rope_scaling": form} for form in forms]
            config["rope_scaling"] = min(tried, key=lambda t: len(reader.differing(wanted, t)))[
                "rope_scaling"
            ]


def _scaling_forms(model: Model, scaling: RopeScaling) -> Iterator[dict[str, Any]]:
    """Objects that may say a rope scaling; of those that say it equally well the first is taken."""
    with contextlib.suppress(UnsupportedError):
        yield as_parameters(scaling, model, model.container)
    settings = model.container.settings
    rule = {name: settings[key].value for key, name in PARAMETERS.items() if key in settings}
    if rule.get("factor") is not None:
        rule = {"rope_type": "linear", **rule}
        multiplier = settings.get(PREFIX + "yarn_log_multiplier")
        scales = [] if multiplier is None else [plain(multiplier.value * times) for times in (10, 1)]
        for scale in scales:
            yield {**rule, "mscale": scale, "mscale_all_dim": scale}
        yield {**rule, "attention_factor": plain(scaling.magnitude)}


def _take_asked(wanted: Config, config: dict[str, Any], reader: _Reader, said: set[str]) -> None:
    """State what the architecture's own reading asks for: a setting under the first key that it looks under, but for
    keys and tables that are `said`."""
    events: list[tuple[str, str]] = []
    with contextlib.suppress(RosettaError):  # what is missing is among what was asked for
        reader.read(config, events)
    setting = ""
    for what, name in events:
        if what == "setting":
            setting = name
        elif name == "text_config" or name in said:  # the one is looked into before the key itself
            continue
        elif name in OTHER_FORMS:
            value = OTHER_FORMS[name](wanted)
            if value is not None:
                config.setdefault(name, value)
        elif setting in wanted and setting not in SPELLINGS and "." not in name and name not in NO_NUMBERS:
            value = wanted[setting].value
            if not isinstance(value, PerLayer | RopeScaling) and not _is_none(value):
                config.setdefault(reader.model.architecture.spellings.get(setting, name), plain(value))
            setting = ""  # the first of its spellings says it


def torch_dtype(dtype: str) -> str:
    """torch's name of a dtype."""
    return {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}.get(dtype, "float32")


def unsaid_words(unsaid: Mapping[str, tuple[Any, Any]], path: Path) -> Iterator[str]:
    """What a folder does not hold, one sentence each."""
    for key, (value, read) in unsaid.items():
        yield f"{key} is {value}, for which config.json has no place: transformers will take {read}"
