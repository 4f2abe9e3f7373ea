"""config.json of a model: each setting under the key by which its architecture reads it, found by reading a draft."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rosetta.architectures import Architecture, find_architecture
from rosetta.architectures.parts.stated_kinds import PATTERN
from rosetta.compare.other_forms import OTHER_FORMS, layer_types
from rosetta.compare.settings import comes_out, in_json, plain
from rosetta.config import Config, read_config
from rosetta.containers.container import Setting, TensorEntry
from rosetta.containers.huggingface.settings import HUGGINGFACE_FACTS, huggingface_settings
from rosetta.containers.huggingface.text_part import NESTING
from rosetta.containers.spool import declared
from rosetta.convert.draft import Draft
from rosetta.convert.folder_rotation import ROTATION, SCALING, plain_table, take_plain_table, take_rotation
from rosetta.convert.folder_tensors import numbers_of, setting_tensors
from rosetta.convert.gguf_settings import IMPLIED
from rosetta.convert.stated_words import with_stated_words
from rosetta.errors import RosettaError
from rosetta.model import Model
from rosetta.names import without_numbers
from rosetta.rope_scaling import RopeScaling
from rosetta.setting_values import PerLayer
from rosetta.settings_reader import ACTIVATIONS
from rosetta.tensor_flags import LEFT_OUT, left_out

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
    "linear_attn_config", "attention_other_setting",
)  # fmt: skip


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
        self.model, self.shapes = model, shapes
        self.tensors = {**tensors, **{made.name: declared(made) for made in setting_tensors(model)}}
        self.data = numbers_of(model, self.tensors)

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

    def asked(self, config: Mapping[str, Any]) -> frozenset[str]:
        """The keys that a reader of config.json looks for, whether they are there or not."""
        events: list[tuple[str, str]] = []
        huggingface_settings(self.model.container.path, _Events(config, events))
        self.read(config, events)
        return frozenset(name for what, name in events if what == "key")

    def differing(self, wanted: Config, config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Settings that do not come out as they went in."""
        try:
            found = self.read(config)
        except RosettaError:
            return {key: (value.value, None) for key, value in wanted.items()}
        return {
            key: (value.value, found[key].value if key in found else None)
            for key, value in wanted.items()
            if not comes_out(key, value.value, found)
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
        "model_type": architecture.huggingface.model_type or architecture.name,
        "torch_dtype": dtype,
        "tie_word_embeddings": wanted["tied_embeddings"].value,
        "pad_token_id": None,  # some classes have one of their own, which may lie behind the vocabulary
    }
    for key in ("bos_token_id", "eos_token_id"):
        if key in model.config:
            config[key] = model.config[key].value
    stated = own_keys(model, wanted)
    _state(config, stated)
    for key, value in wanted.items():
        # The class knows such a key, and would take its own value.
        own_default = key in architecture.huggingface.defaults
        usual = key in SPELLINGS and key not in ("tied_embeddings", "norm.type")
        usual = usual and (own_default or key not in WHERE_NEEDED)
        if usual and not isinstance(value.value, PerLayer) and not _is_none(value.value):
            config[spelling(model, key)] = plain(value.value)
    reader = _Reader(model, tensors, shapes)
    if wanted.get("attention.sliding_window") and wanted["attention.sliding_window"].value:
        config["sliding_window"] = wanted["attention.sliding_window"].value
        if "use_sliding_window" in architecture.huggingface.defaults:
            config["use_sliding_window"] = True
    _take_asked(wanted, config, reader, {name.partition(".")[0] for name in stated})
    config |= _flags(model)
    for key, own in architecture.huggingface.spellings.items():
        if key in wanted and not isinstance(wanted[key].value, PerLayer) and not _is_none(wanted[key].value):
            config.setdefault(
                own, _named(wanted[key].value) if key == "activation" else plain(wanted[key].value)
            )
    take_rotation(model, wanted, config, lambda tried: len(reader.differing(wanted, tried)))
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
        config["layer_types"] = layer_types(wanted)  # else Exaone4Config divides by a pattern of 0
    take_plain_table(wanted, config)
    _state(config, stated)
    unsaid = reader.differing(wanted, config)
    config = with_stated_words(
        model, config, reader.asked(config), lambda tried: reader.differing(wanted, tried) == unsaid
    )
    config = _nested(architecture, config)
    reader.read(config)  # or say what it is that cannot be read
    return config, reader.differing(wanted, config)


def _classes(architecture: Architecture) -> tuple[str, ...]:
    """transformers' classes of an architecture, or of the one by whose name a folder of it goes."""
    named = find_architecture(architecture.huggingface.model_type) if not architecture.classes else None
    return architecture.classes if named is None else named.classes


def own_keys(model: Model, wanted: Config) -> dict[str, Any]:
    """What the architecture itself says of its config.json."""
    said = {}
    for name, form in model.architecture.huggingface.keys.items():
        with contextlib.suppress(KeyError):  # it speaks of something that the model has not
            said[name] = in_json(form(wanted))
    return {name: value for name, value in said.items() if value is not None}


def _state(config: dict[str, Any], keys: Mapping[str, Any]) -> None:
    """Put keys in place, those of a table into it: the rotation's is the one that is there."""
    for name, value in keys.items():
        outer, dot, inner = name.partition(".")
        if not dot:
            config[name] = value
        elif outer != ROTATION:
            config.setdefault(outer, {})[inner] = value
        elif isinstance(config.get(SCALING), dict):  # it comes first in the fifth version of transformers
            config[SCALING][inner] = value
        elif "rope_theta" in config:  # else it is not yet known what else stands there
            config[ROTATION] = {**plain_table(config), inner: value}


def _nested(architecture: Architecture, config: dict[str, Any]) -> dict[str, Any]:
    """The same with the text's keys by themselves, where the class is that of a model that also sees."""
    if not architecture.huggingface.senses:
        return config
    outside = ("architectures", "model_type", "torch_dtype", "tie_word_embeddings")
    text = {key: value for key, value in config.items() if key not in outside[:2]}
    return {**{key: config[key] for key in outside}, "text_config": text, **architecture.huggingface.senses}


def _flags(model: Model) -> dict[str, bool]:
    """What tensors there are, which classes ask their config: biases and norms of heads."""
    ends = set(map(without_numbers, model.weights))
    flags = model.architecture.huggingface.flags
    own = {flag: any(stem in ends for stem in left_out(flags, flag)) for flag in flags}
    usual = {
        "attention_bias": "attn_q.bias" in ends,
        "attention_out_bias": "attn_output.bias" in ends,
        "mlp_bias": "ffn_up.bias" in ends,
        "use_qkv_bias": "attn_q.bias" in ends,
        "use_bias": "ffn_up.bias" in ends,
        "use_qk_norm": "attn_q_norm.weight" in ends,
        "mamba_rms_norm": "ssm_norm.weight" in ends,
    }
    denying = {flag for flag, set_ in usual.items() if not set_ and ends & set(LEFT_OUT[flag])}
    return {flag: set_ for flag, set_ in usual.items() if flag not in denying} | own


def _is_none(value: Any) -> bool:
    """Whether a value says that there is none of something: a config leaves that out, or says null."""
    return value is None or (not isinstance(value, bool) and value in (0, ""))


def spelling(model: Model, key: str) -> str:
    """What the architecture's config.json calls a setting."""
    return model.architecture.huggingface.spellings.get(key, SPELLINGS[key][0])


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
        own = model.architecture.huggingface.spellings.get(key)
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


def _take_asked(wanted: Config, config: dict[str, Any], reader: _Reader, said: set[str]) -> None:
    """State what the architecture's own reading asks for: a setting under the first key that it looks under, but for
    keys and tables that are `said`."""
    events: list[tuple[str, str]] = []
    with contextlib.suppress(RosettaError):  # what is missing is among what was asked for
        reader.read(config, events)
    setting, told, forms = "", set[str](), set[Any]()
    for what, name in events:
        if what == "setting":
            setting = "" if name in told else name
        elif name in NESTING or name in said:  # the one is looked into before the key itself
            continue
        elif name in OTHER_FORMS:
            form, own = OTHER_FORMS[name], reader.model.architecture.huggingface.spellings.get(setting, name)
            value = form(wanted)
            if value is not None and form not in forms:  # the first of several names of one thing says it
                config.setdefault(own if OTHER_FORMS.get(own) is form else name, value)
                forms.add(form)
        elif setting in wanted and setting not in SPELLINGS and "." not in name and name not in NO_NUMBERS:
            value = wanted[setting].value
            if not isinstance(value, PerLayer | RopeScaling) and not _is_none(value):
                config.setdefault(
                    reader.model.architecture.huggingface.spellings.get(setting, name), plain(value)
                )
            told.add(setting)  # the first of its spellings says it
            setting = ""


def _named(activation: str) -> str:
    """transformers' name of an activation."""
    return next((name for name, ours in ACTIVATIONS.items() if ours == activation), activation)


def torch_dtype(dtype: str) -> str:
    """torch's name of a dtype."""
    return {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}.get(dtype, "float32")


def unsaid_words(unsaid: Mapping[str, tuple[Any, Any]], path: Path) -> Iterator[str]:
    """What a folder does not hold, one sentence each."""
    for key, (value, read) in unsaid.items():
        yield f"{key} is {value}, for which config.json has no place: transformers will take {read}"
