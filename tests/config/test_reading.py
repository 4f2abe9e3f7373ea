"""Each container's settings in canonical form, and for a missing key what that container's own loader assumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import build, faults, model_spec
from fixtures.memory import MemoryContainer
from rosetta.architectures import find_architecture
from rosetta.config import Value, read_config
from rosetta.containers.container import Setting
from rosetta.containers.huggingface.settings import huggingface_settings
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError
from rosetta.rope_scaling import RopeScaling

NAMES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
REQUIRED = {
    "block_count": 2, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96,
    "attention.head_count": 4, "vocab_size": 300,
}  # fmt: skip
SHAPES = {"token_embd.weight": (300, 64), "blk.0.attn_q.weight": (64, 64)}


def config_of(
    settings: dict[str, Any], kind: str = "gguf", architecture: str = "llama", **more: Any
) -> dict[str, Value]:
    """The canonical config of settings that a container of the kind would have read."""
    own = find_architecture(architecture)
    assert own is not None
    container = MemoryContainer(settings, more.get("tensors", {}), kind, architecture, more.get("metadata"))
    return read_config(container, own, more.get("shapes", SHAPES), more.get("overrides", {}))[0]


def huggingface_config(values: dict[str, Any], architecture: str) -> dict[str, Value]:
    """The canonical config of a config.json."""
    return read_folder(values, architecture)[0]


def read_folder(values: dict[str, Any], architecture: str) -> tuple[dict[str, Value], tuple[Setting, ...]]:
    """The same, and what is not heeded."""
    own = find_architecture(architecture)
    assert own is not None
    container = MemoryContainer({}, {}, "huggingface", architecture, metadata=values)
    container.settings = huggingface_settings(Path("config.json"), values)
    return read_config(container, own, {}, {})


# A missing key: each container's own default


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"num_attention_heads": 8, "hidden_size": 512, "n_head": 8, "n_embd": 512},
        {"head_dim": 32},
        {"sliding_window": None},
        {"sliding_window": 64},
        {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1000},
        {"rms_norm_eps": 3e-4, "layer_norm_epsilon": 2e-4},
        {"layer_norm_epsilon": 1e-3}
        | {"norm_eps": 2e-3},  # transformers reads the architecture's own key alone
        {"rope_theta": 5e5},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {"hidden_act": "gelu", "activation_function": "gelu"},
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": False},
        {"n_inner": 100, "intermediate_size": 100},
        {
            "layer_types": ["full_attention"] * 12,
            "num_hidden_layers": 12,
            "use_sliding_window": True,
            "n_layer": 12,
        },
    ],
    ids=lambda stated: json.dumps(stated),
)
def test_huggingface_defaults_are_those_of_transformers(name: str, stated: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoConfig.for_model(name, **stated)
    ours = huggingface_config({"model_type": name, **stated}, name)
    heads, hidden = theirs.num_attention_heads, theirs.hidden_size
    # GPT2Attention has no other size, whatever the config carries.
    head_size = hidden // heads if name == "gpt2" else getattr(theirs, "head_dim", None) or hidden // heads
    expected: dict[str, Any] = {
        "block_count": theirs.num_hidden_layers,
        "context_length": theirs.max_position_embeddings,
        "embedding_length": hidden,
        "feed_forward_length": (theirs.n_inner or 4 * hidden) if name == "gpt2" else theirs.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": heads if name == "gpt2" else theirs.num_key_value_heads,
        "attention.key_length": head_size,
        "vocab_size": theirs.vocab_size,
        "attention.scale": head_size**-0.5,
        "tied_embeddings": theirs.tie_word_embeddings,
    }
    if name == "gpt2":
        expected["attention.layer_norm_epsilon"] = theirs.layer_norm_epsilon
        activation = theirs.activation_function
    else:
        expected["attention.layer_norm_rms_epsilon"] = theirs.rms_norm_eps
        expected["rope.freq_base"] = theirs.rope_parameters["rope_theta"]
        expected["rope.dimension_count"] = head_size
        activation = theirs.hidden_act
        slides = name == "mistral" or "sliding_attention" in getattr(theirs, "layer_types", ())
        window = (getattr(theirs, "sliding_window", None) or 0) if slides and name != "llama" else 0
        expected["attention.sliding_window"] = window if window < theirs.max_position_embeddings else 0
    expected["activation"] = {"gelu_new": "gelu_tanh"}.get(activation, activation)
    found = {key: ours[key].value for key in expected}
    assert found == {
        k: pytest.approx(v, rel=1e-7) if isinstance(v, float) else v for k, v in expected.items()
    }


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_an_explicit_null_of_kv_heads_means_all_heads(name: str) -> None:
    config = huggingface_config({"num_key_value_heads": None, "num_attention_heads": 8}, name)
    assert config["attention.head_count_kv"].value == 8


def test_a_window_of_some_layers_names_them() -> None:
    stated = {
        "use_sliding_window": True,
        "sliding_window": 64,
        "max_window_layers": 3,
        "num_hidden_layers": 4,
    }
    config = huggingface_config(stated, "qwen2")
    assert config["attention.sliding_window"].value == 64
    assert config["attention.sliding_window_pattern"].value == (False, False, False, True)


@pytest.mark.requires_transformers
@pytest.mark.parametrize("first", [0, 1, 3, 28])
@pytest.mark.parametrize("name", ["qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl"])
def test_a_window_is_in_the_layers_that_its_class_gives_one(name: str, first: int) -> None:
    transformers = pytest.importorskip("transformers")
    stated = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": first}
    sizes = {"num_hidden_layers": 4}
    theirs = transformers.AutoConfig.for_model(name, **stated, **sizes)
    theirs = getattr(theirs, "text_config", theirs)
    kinds = getattr(
        theirs, "layer_types", ["sliding_attention"] * 4
    )  # a class without the list has one for all
    ours = huggingface_config({**sizes, **stated}, name)
    every = ours["attention.sliding_window"].value == 64
    slides = ours.get("attention.sliding_window_pattern", Value(every, None)).value
    assert list(slides if isinstance(slides, tuple) else [slides] * 4) == [
        kind == "sliding_attention" for kind in kinds
    ]


def test_gpt2_can_switch_its_attention_scale_off() -> None:
    config = huggingface_config({"model_type": "gpt2", "scale_attn_weights": False}, "gpt2")
    assert (config["attention.scale"].value, config["attention.scale"].key) == (1.0, "scale_attn_weights")


# aprender's own loader, GGUFConfig::from_apr
APR = {
    "llama":   {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e4, "rope.type": 2},
    "mistral": {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e4, "rope.type": 2},
    "qwen2":   {"attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6, "rope.type": 2},
    "qwen3":   {"attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6, "rope.type": 2},
    "gpt2":    {"attention.layer_norm_epsilon": 1e-5},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_apr_defaults_are_those_of_its_own_loader(name: str) -> None:
    settings = {key: value for key, value in REQUIRED.items() if key not in ("vocab_size", "context_length")}
    config = config_of(settings, "apr", name, shapes={**SHAPES, "blk.0.attn_q.weight": (4 * 24, 64)})
    expected = APR[name] | {
        "attention.head_count_kv": 4, "vocab_size": 300, "attention.key_length": 24, "context_length": 0
    }  # fmt: skip
    assert {key: config[key].value for key in expected} == {
        key: pytest.approx(value, rel=1e-7) for key, value in expected.items()
    }
    assert all(config[key].defaulted and config[key].note for key in expected)


@pytest.mark.parametrize(
    "key", ["block_count", "embedding_length", "feed_forward_length", "attention.head_count"]
)
def test_apr_without_a_size_that_its_loader_demands_is_refused(key: str) -> None:
    settings = {name: value for name, value in REQUIRED.items() if name != key}
    with pytest.raises(DamagedFileError, match=f"no {key}"):
        config_of(settings, "apr")


@pytest.mark.parametrize(
    ("names", "expected"), [("blk.0.attn_q.weight", 0), ("model.layers.0.self_attn.q_proj.weight", 2)]
)
def test_apr_without_a_rope_type_has_the_row_order_of_its_names(names: str, expected: int) -> None:
    tensors = {names: ("F32", (64, 64), np.zeros(64 * 64 * 4, np.uint8))}
    order = config_of(REQUIRED, "apr", "llama", tensors=tensors)["rope.type"]
    assert (order.value, order.defaulted) == (expected, True)


@pytest.mark.parametrize("stated", [0, 2])
def test_apr_is_held_to_its_own_rope_type(stated: int) -> None:
    tensors = {"blk.0.attn_q.weight": ("F32", (64, 64), np.zeros(64 * 64 * 4, np.uint8))}
    order = config_of(REQUIRED | {"rope.type": stated}, "apr", "qwen2", tensors=tensors)["rope.type"]
    assert (order.value, order.defaulted) == (stated, False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "llama",
            {"rope.freq_base": 1e4, "rope.type": 0, "attention.head_count_kv": 4, "attention.key_length": 16},
        ),
        (
            "qwen2",
            {"rope.freq_base": 1e4, "rope.type": 2, "attention.head_count_kv": 4, "attention.key_length": 16},
        ),
        ("gpt2", {"attention.head_count_kv": 4, "attention.key_length": 16, "attention.sliding_window": 0}),
    ],
)
def test_gguf_defaults_are_those_of_llama_cpp(name: str, expected: dict[str, Any]) -> None:
    """llama-model.cpp, load_hparams; `test_transformer` holds the same keys to llama.cpp's logits."""
    config = config_of(REQUIRED, "gguf", name)
    assert {key: config[key].value for key in expected} == expected


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_epsilon_is_the_one_default_that_llama_cpp_does_not_have(tmp_path: Path, name: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    path = build(tmp_path, model_spec(name, layers=1), "gguf:F16", faults.norm_epsilon(None))
    with pytest.raises(ValueError, match="Failed to load model"):
        llama_cpp.Llama(model_path=str(path), verbose=False, n_ctx=16)
    own = find_architecture(name)
    assert own is not None
    assert "refuses" in config_of(REQUIRED, "gguf", name)[own.epsilon_key].note


# What the file says


@pytest.mark.parametrize("kind", ["apr", "gguf", "huggingface"])
def test_floats_are_rounded_to_float32_so_that_containers_agree(kind: str) -> None:
    stated = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e6 + 0.01, "attention.scale": 0.1}
    config = config_of(REQUIRED | stated, kind)
    for key, value in stated.items():
        assert config[key].value == float(np.float32(value)) != value or key == "rope.freq_base"
        assert not config[key].defaulted
    assert config["rope.freq_base"].value == 1e6


def test_a_gguf_file_must_use_the_epsilon_key_of_its_architecture() -> None:
    """llama.cpp asks for that one alone; an `.apr` has one key for either norm."""
    other = {"attention.layer_norm_rms_epsilon": 1e-3}
    in_gguf = config_of(REQUIRED | other, "gguf", "gpt2")["attention.layer_norm_epsilon"]
    in_apr = config_of(REQUIRED | other, "apr", "gpt2")["attention.layer_norm_epsilon"]
    assert (in_gguf.value, in_gguf.defaulted) == (float(np.float32(1e-5)), True)
    assert (in_apr.value, in_apr.key) == (float(np.float32(1e-3)), "attention.layer_norm_rms_epsilon")


def test_a_size_for_each_layer_is_the_size_where_all_are_equal() -> None:
    config = config_of(REQUIRED | {"attention.head_count": [4, 4], "feed_forward_length": [96, 96]})
    assert (config["attention.head_count"].value, config["feed_forward_length"].value) == (4, 96)


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ("silu", "silu"), ("swish", "silu"), ("gelu", "gelu"), ("gelu_new", "gelu_tanh"),
        ("gelu_pytorch_tanh", "gelu_tanh"), ("gelu_fast", "gelu_tanh"), ("relu", "relu"),
    ],
)  # fmt: skip
def test_activations_have_one_name(spelled: str, expected: str) -> None:
    assert config_of(REQUIRED | {"activation": spelled}, "huggingface")["activation"].value == expected


@pytest.mark.requires_transformers
def test_activations_of_one_name_compute_the_same_in_transformers() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from transformers.activations import ACT2FN

    from rosetta.ops.pointwise import ACTIVATIONS
    from rosetta.settings_reader import ACTIVATIONS as SPELLINGS

    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    for theirs, ours in SPELLINGS.items():
        if ours == "xielu":  # an operation of its own, with weights
            continue
        torch.testing.assert_close(ACTIVATIONS[ours](x), ACT2FN[theirs](x), rtol=1e-6, atol=1e-8, msg=theirs)


def test_rope_scaling_of_parameters_and_of_gguf_keys_is_one_value() -> None:
    parameters = {"rope_type": "linear", "factor": 2.0}
    ours = config_of(REQUIRED | {"rope.scaling": parameters}, "apr")["rope.scaling"]
    theirs = config_of(REQUIRED | {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}, "gguf")[
        "rope.scaling"
    ]
    assert ours.value == theirs.value == RopeScaling((2.0,) * 8)
    assert not ours.defaulted
    assert not theirs.defaulted


def test_a_window_that_no_context_fills_is_kept() -> None:
    """It is computed with all the same; whether two files mean the same by it is for a comparison to say."""
    assert config_of(REQUIRED | {"attention.sliding_window": 128})["attention.sliding_window"].value == 128


@pytest.mark.parametrize(("stored", "tied"), [(True, False), (False, True)])
def test_without_a_word_the_head_is_tied_where_none_is_stored(stored: bool, tied: bool) -> None:
    shapes = SHAPES | ({"output.weight": (300, 64)} if stored else {})
    value = config_of(REQUIRED, shapes=shapes)["tied_embeddings"]
    assert (value.value, value.defaulted) == (tied, True)


def test_a_repairs_settings_win_over_the_files() -> None:
    overrides = {"attention.layer_norm_rms_epsilon": 0.5, "attention.head_count": 2, "rope.freq_base": 7.0}
    config = config_of(REQUIRED | {"attention.layer_norm_rms_epsilon": 1e-5}, overrides=overrides)
    assert {key: config[key].value for key in overrides} == overrides
    assert config["attention.key_length"].value == 32


# Hostile values


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"block_count": 0}, "count between"),
    ({"block_count": -1}, "count between"),
    ({"block_count": 4097}, "count between"),
    ({"block_count": 1.5}, "count between"),
    ({"block_count": True}, "count between"),
    ({"block_count": "2"}, "count between"),
    ({"block_count": float("nan")}, "count between"),
    ({"embedding_length": 1 << 40}, "count between"),
    ({"vocab_size": [300, 301]}, "differs from layer to layer"),
    ({"attention.head_count": [4, "2"]}, "not a count"),
    ({"attention.head_count": []}, "differs from layer to layer"),
    ({"attention.layer_norm_rms_epsilon": float("inf")}, "finite number"),
    ({"attention.layer_norm_rms_epsilon": 1e39}, "finite number"),  # infinite as float32
    ({"attention.layer_norm_rms_epsilon": "1e-5"}, "finite number"),
    ({"attention.layer_norm_rms_epsilon": -1e-5}, "negative"),
    ({"attention.scale": True}, "finite number"),
    ({"rope.freq_base": 0.0}, "not positive"),
    ({"rope.freq_base": -10000.0}, "not positive"),
    ({"rope.freq_base": 1e-60}, "not positive"),
    ({"rope.dimension_count": 7}, "rope.dimension_count is 7"),
    (
        {"rope.dimension_count": 1 << 30},
        "rope.dimension_count is 1073741824, not a count between 1 and 65536",
    ),
    ({"rope.scaling.type": "spiral", "rope.scaling.factor": 2.0}, "spiral"),
    ({"rope.scaling": {"rope_type": "longrope", "short_factor": 2.0}}, "short_factor is no list"),
    ({"rope.scaling.type": "linear", "rope.scaling.factor": -2.0}, "factor"),
    ({"rope.scaling": {"rope_type": "spiral"}}, "the type 'spiral' is not supported"),
    ({"rope.scaling": {"rope_type": "linear"}}, "rope scaling: it has no factor"),
    ({"rope.scaling": {"rope_type": "llama3", "factor": 8.0}}, "it has no low_freq_factor"),
    ({"activation": "tanhexp"}, "tanhexp"),
    ({"attention.scale_by_inverse_layer": True}, "scale for each layer"),
]


@pytest.mark.parametrize(("stated", "words"), HOSTILE, ids=[json.dumps(stated)[:60] for stated, _ in HOSTILE])
def test_a_value_that_cannot_be_meant_is_refused_in_words(stated: dict[str, Any], words: str) -> None:
    with pytest.raises(RosettaError, match=words) as raised:
        config_of(REQUIRED | stated)
    assert "\n" not in str(raised.value)
    assert "memory" in str(raised.value), "the message does not name the file"
    assert raised.value.remedy, "the message does not say what to do"


def test_more_experts_than_any_model_has_are_refused() -> None:
    with pytest.raises(DamagedFileError, match="expert_count is 8193, not a count up to 8192"):
        config_of(
            REQUIRED | {"expert_count": 8193, "attention.layer_norm_rms_epsilon": 1e-6}, "gguf", "qwen3moe"
        )


@pytest.mark.parametrize("share", [-1, 1.5, 1e30])
def test_a_share_of_a_head_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(DamagedFileError, match="not between 0 and 1"):
        huggingface_config(
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": share}}, "glm4"
        )


@pytest.mark.parametrize("stated", [1, 3, -2, "neox"])
def test_an_unknown_row_order_is_refused(stated: Any) -> None:
    with pytest.raises(DamagedFileError, match="neither 0 nor 2"):
        config_of(REQUIRED | {"rope.type": stated}, "apr")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
KEYS = [
    *REQUIRED, "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.freq_base",
    "attention.layer_norm_rms_epsilon", "rope.dimension_count", "rope.type", "rope.scaling", "rope.scaling.type",
    "rope.scaling.factor", "rope.partial_rotary_factor", "attention.scale", "attention.sliding_window",
    "attention.sliding_window_pattern", "tied_embeddings", "activation", "eos_token_id", "bos_token_id",
    "attention.scale_by_inverse_layer",
]  # fmt: skip


@given(
    stated=st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=4),
    kind=st.sampled_from(["apr", "gguf", "huggingface"]),
    name=st.sampled_from(NAMES),
)
def test_any_settings_give_a_config_or_one_clear_error(stated: dict[str, Any], kind: str, name: str) -> None:
    own = find_architecture(name)
    assert own is not None
    try:
        config = config_of(REQUIRED | stated, kind, name)
    except (DamagedFileError, UnsupportedError):
        return
    for key in ("block_count", "attention.head_count", "attention.key_length"):
        assert isinstance(config[key].value, int)
        assert config[key].value > 0
    epsilon = config[own.epsilon_key].value
    assert 0 <= epsilon < np.inf


@pytest.mark.parametrize(
    ("name", "stray", "key"),
    [
        ("llama", {"attention_multiplier": 0.5}, "attention.scale"),
        ("qwen3", {"query_pre_attn_scalar": 144}, "attention.scale"),
        ("olmo2", {"scale_attn_weights": False}, "attention.scale"),
        ("llama", {"partial_rotary_factor": 0.5}, "rope.dimension_count"),
        (
            "gemma3",
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "rope.dimension_count",
        ),
        ("qwen2", {"rotary_dim": 8}, "rope.dimension_count"),
    ],
)
def test_a_key_that_the_class_does_not_ask_for_is_not_heeded(
    name: str, stray: dict[str, Any], key: str
) -> None:
    """It is noted instead; what its class asks for is heeded beside it."""
    sizes = {"head_dim": 16, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 384}
    assert huggingface_config(sizes | stray, name)[key].value == huggingface_config(sizes, name)[key].value
    (unheeded,) = read_folder(sizes | stray, name)[1]
    assert unheeded.key.rpartition(".")[2] in str(stray)


@pytest.mark.parametrize(
    ("name", "stated", "scale"),
    [
        ("granite", {"attention_multiplier": 0.5, "query_pre_attn_scalar": 144}, 0.5),
        ("gemma2", {"attention_multiplier": 0.5, "query_pre_attn_scalar": 64}, 0.125),
        ("gpt2", {"scale_attn_weights": False, "attention_multiplier": 0.5}, 1.0),
    ],
)
def test_of_two_scales_the_one_that_the_class_asks_for_is_taken(
    name: str, stated: dict[str, Any], scale: float
) -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "n_embd": 64, "n_head": 4, "vocab_size": 384}
    assert huggingface_config(sizes | stated, name)["attention.scale"].value == scale


def test_what_a_file_states_and_nothing_computes_is_kept_by_name() -> None:
    """A llama folder with a softcap and eight experts is no plain llama, though its runtime takes it for one."""
    stated = {**REQUIRED, "attn_logit_softcapping": 50.0, "expert_used_count": 2, "rope.freq_base": 10000.0}
    container = MemoryContainer(stated, {}, kind="huggingface")
    own = find_architecture("llama")
    assert own is not None
    config, unheeded = read_config(container, own, {}, {})
    assert "attn_logit_softcapping" not in config
    assert {setting.key: setting.value for setting in unheeded} == {
        "attn_logit_softcapping": 50.0,
        "expert_used_count": 2,
    }
    neutral = {**REQUIRED, "attn_logit_softcapping": None, "attention.scale_by_inverse_layer": False}
    assert read_config(MemoryContainer(neutral, {}, kind="huggingface"), own, {}, {})[1] == ()


@pytest.mark.parametrize("name", ["qwen35", "nemotron_h"])
def test_layers_that_predict_further_tokens_are_left_out_once(name: str) -> None:
    sizes = ("state_size", "conv_kernel", "inner_size", "group_count", "time_step_rank")
    stated = REQUIRED | {"block_count": 9, "nextn_predict_layers": 1} | {f"ssm.{size}": 4 for size in sizes}
    stated |= {"attention.layer_norm_rms_epsilon": 1e-6, "attention.head_count_kv": 4}
    assert config_of(stated, architecture=name)["block_count"].value == 8


@pytest.mark.parametrize(
    ("name", "stated", "words"),
    [
        ("qwen2moe", {"decoder_sparse_step": 0}, "qwen2moe cannot be worked out"),
        ("dots1", {"first_k_dense_replace": "x"}, "dots1 cannot be worked out"),
        ("kimi-linear", {"layer_types": ["full_attention"]}, "kimi-linear cannot be worked out"),
        ("minicpm", {"dim_model_base": 0}, "minicpm cannot be worked out"),
        ("dots1", {"scoring_func": "tanh"}, "scoring_func is 'tanh', none of softmax"),
        ("dots1", {"scoring_func": ["sigmoid"]}, "scoring_func is"),
        ("codeshell", {"activation_function": "swooshy"}, "'swooshy' is none of"),
        ("codeshell", {"n_inner": "a"}, "n_inner': is 'a'"),
        ("llama4", {"intermediate_size_mlp": ""}, "intermediate_size_mlp is '', not a count"),
    ],
)
def test_an_architectures_own_settings_are_held_to_sense(
    name: str, stated: dict[str, Any], words: str
) -> None:
    sizes = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    sizes |= {"num_hidden_layers": 4, "num_experts": 4, "num_experts_per_token": 2}
    sizes |= {"n_shared_experts": 1, "num_shared_experts": 1, "q_lora_rank": 8}
    huggingface_config(sizes, name)
    with pytest.raises(RosettaError, match=words):
        huggingface_config(sizes | stated, name)


def test_a_switch_that_is_off_is_off() -> None:
    shared = {"multi_query_group_num": 1, "num_attention_heads": 8}
    heads = [
        huggingface_config(shared | {"multi_query_attention": on}, "chatglm")["attention.head_count_kv"].value
        for on in (True, False)
    ]
    assert heads == [1, 8]


@pytest.mark.parametrize("stated", [True, False])
def test_a_gguf_key_that_llamacpp_does_not_read_is_no_setting_of_the_file(stated: bool) -> None:
    sizes = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32}
    mixture = {**REQUIRED, **sizes, "expert_weights_norm": stated}
    found = config_of(mixture, architecture="qwen3moe")["expert_weights_norm"]
    assert (found.value, found.defaulted) == (True, True), "llama.cpp always normalises there"
    assert "llama.cpp does not read it" in found.note
    assert config_of(mixture, "apr", "qwen3moe")["expert_weights_norm"].value is stated
    repaired = config_of(mixture, architecture="qwen3moe", overrides={"expert_weights_norm": False})
    assert repaired["expert_weights_norm"].value is False, "what a repair would have it compute can be tried"


FACTORS = ("attention.scale", "embedding_scale", "residual_scale", "logit_scale")


@pytest.mark.parametrize("key", FACTORS)
def test_a_factor_of_zero_in_a_gguf_is_none(key: str) -> None:
    """llama.cpp writes it of models that have none of their own."""
    plain = config_of(REQUIRED, architecture="granite")
    assert config_of({**REQUIRED, key: 0.0}, architecture="granite")[key] == plain[key]
    assert config_of({**REQUIRED, key: 0.25}, architecture="granite")[key].value == 0.25
    assert config_of({**REQUIRED, key: 0.0}, "apr", "granite")[key].value == 0


def test_experts_that_an_architecture_does_not_run_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"expert_count is 4, and rosetta runs refact without experts"):
        config_of({**REQUIRED, "expert_count": 4}, architecture="refact")
    config_of({**REQUIRED, "expert_count": 0}, architecture="refact")


def test_norms_of_cohere2moe_are_those_whose_epsilon_a_gguf_states() -> None:
    sizes = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32, "logit_scale": 1.0}
    own = {**REQUIRED, **sizes, "attention.layer_norm_epsilon": 1e-5, "attention.sliding_window": 8}
    assert config_of(own, architecture="cohere2moe")["norm_type"].value == "layer"
    stated = config_of({**own, "attention.layer_norm_rms_epsilon": 1e-4}, architecture="cohere2moe")
    assert stated["norm_type"].value == "rms"
    assert stated["attention.layer_norm_epsilon"].value == pytest.approx(1e-4)


def test_every_layer_of_bailingmoe_in_a_gguf_has_experts() -> None:
    sizes = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32}
    stated = {**REQUIRED, **sizes, "leading_dense_block_count": 1}
    assert config_of(stated, architecture="bailingmoe")["expert_layers"].value is True


@pytest.mark.parametrize(("sections", "order"), [([2, 1, 1, 0], 2), ([0, 0, 0, 0], 0)])
def test_rows_of_a_glm_that_also_sees_lie_in_halves(sections: list[int], order: int) -> None:
    """llama.cpp turns halves there, and its converter orders the rows so."""
    stated = {**REQUIRED, "rope.dimension_sections": sections}
    assert config_of(stated, architecture="glm4")["rope.type"].value == order


# What config.json says of its own, and what nothing reads


def test_the_key_that_a_class_has_of_its_own_is_read_before_the_usual_one() -> None:
    """ChatGLM's config.json has rms_norm_eps too, where llama.cpp's converter has been; its code reads the other."""
    stated = {"layernorm_epsilon": 1e-3, "rms_norm_eps": 1e-5, "num_layers": 3, "num_hidden_layers": 28}
    found = huggingface_config(stated, "chatglm")
    assert found["attention.layer_norm_rms_epsilon"] == Value(np.float32(1e-3).item(), "layernorm_epsilon")
    assert found["block_count"] == Value(3, "num_layers")


def test_a_usual_key_that_denies_the_own_one_is_said() -> None:
    own = find_architecture("chatglm")
    assert own is not None
    stated = {"layernorm_epsilon": 1e-3, "rms_norm_eps": 1e-5, "num_layers": 28, "num_hidden_layers": 28}
    settings = huggingface_settings(Path("config.json"), stated)
    plain = {key: setting.value for key, setting in settings.items()}
    container = MemoryContainer(plain, {}, "huggingface", "chatglm", stated)
    _, left = read_config(container, own, {}, {})
    assert [setting.value for setting in left] == [1e-5]


def test_a_base_is_stated_as_a_ratio_by_chatglm() -> None:
    found = huggingface_config({"rope_ratio": 50}, "chatglm")
    assert replace(found["rope.freq_base"], asked=()) == Value(500000.0, "rope_ratio")


def test_phimoe_takes_two_experts_whatever_its_folder_says() -> None:
    """transformers' sparsemixer is given how many, and does not look."""
    found = huggingface_config({"num_experts_per_tok": 3, "num_local_experts": 8}, "phimoe")
    assert found["expert_used_count"].value == 2
    assert "two" in found["expert_used_count"].note


@pytest.mark.parametrize(
    ("stated", "unheeded"),
    [
        ({"attention_softmax_offset": 0.5}, ["attention_softmax_offset"]),
        (
            {"initializer_range": 0.02, "attention_dropout": 0.1, "pad_token_id": 7},
            [],
        ),  # say nothing of a text
        ({"another_switch": False, "another_list": []}, []),  # nothing is to be computed otherwise
        ({"text_config": {"attention_softmax_offset": 0.5}}, ["text_config.attention_softmax_offset"]),
    ],
)
def test_a_key_that_nothing_reads_is_said(stated: dict[str, Any], unheeded: list[str]) -> None:
    own = find_architecture("llama")
    assert own is not None
    container = MemoryContainer({}, {}, "huggingface", "llama", stated)
    _, left = read_config(container, own, {}, {})
    assert [setting.key for setting in left] == unheeded


@pytest.mark.parametrize(
    ("local", "unheeded"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, []),
        ({"rope_type": "default", "partial_rotary_factor": 0.2}, ["sliding_attention.partial_rotary_factor"]),
        ({"rope_type": "linear", "factor": 2.0}, ["sliding_attention.rope_type"]),
    ],
)
def test_a_rotation_of_windows_that_is_not_run_is_said(local: dict[str, Any], unheeded: list[str]) -> None:
    whole = {"rope_type": "default", "rope_theta": 1e6}
    stated = {"rope_parameters": {"full_attention": whole, "sliding_attention": local}}
    assert _unheeded("gemma3", stated) == [f"rope_parameters.{key}" for key in unheeded]


@pytest.mark.parametrize(("heads", "unheeded"), [(128, []), (3, ["num_key_value_heads"])])
def test_heads_of_keys_that_latent_attention_has_not_are_said(heads: int, unheeded: list[str]) -> None:
    assert _unheeded("deepseek_v3", {"num_attention_heads": 128, "num_key_value_heads": heads}) == unheeded


def test_a_size_of_the_latent_that_llama_cpp_refuses_is_refused() -> None:
    own = find_architecture("deepseek2")
    assert own is not None
    sizes = {"key_length": 287, "key_length_mla": 192, "value_length": 512, "value_length_mla": 128}
    stated = {
        **REQUIRED, **{f"attention.{name}": size for name, size in sizes.items()}, "rope.dimension_count": 64,
        "attention.kv_lora_rank": 512, "expert_feed_forward_length": 32, "expert_shared_count": 1,
    }  # fmt: skip
    container = MemoryContainer(stated, {}, "gguf", "deepseek2")
    with pytest.raises(DamagedFileError, match=r"attention\.key_length is 287, and llama\.cpp asks for 576"):
        read_config(container, own, SHAPES, {})


def _unheeded(architecture: str, stated: dict[str, Any]) -> list[str]:
    """The keys of a config.json that nothing heeds."""
    own = find_architecture(architecture)
    assert own is not None
    settings = huggingface_settings(Path("config.json"), stated)
    plain = {key: setting.value for key, setting in settings.items()}
    container = MemoryContainer(plain, {}, "huggingface", architecture, stated)
    container.settings = settings
    _, left = read_config(container, own, {}, {})
    return [setting.key for setting in left]
