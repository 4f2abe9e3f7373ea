"""What each architecture says of itself, held to gguf-py's lists, transformers' classes and the built models' dims."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import rosetta
from fixtures import model_spec
from fixtures.architectures import ARCHITECTURES, blueprint
from rosetta.architectures import Architecture, Default, all_architectures, find_architecture

every_architecture = pytest.mark.parametrize("own", all_architectures(), ids=lambda own: own.name)


def config_of(architecture: str, **changes: Any) -> dict[str, Any]:
    spec = model_spec(architecture, **changes)
    return {
        "embedding_length": spec.hidden,
        "feed_forward_length": spec.ffn,
        "attention.head_count": spec.heads,
        "attention.head_count_kv": spec.kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "vocab_size": spec.vocab,
        "rope.dimension_count": spec.head_dim,
    }


# llama.cpp has them, the published gguf-py not yet; transformers 5 has no class of the others, their checkpoints had.
NEWER_THAN_GGUF_PY = {
    "cohere2moe",
    "deepseek32",
    "granite_swa",
    "hy_v3",
    "laguna",
    "mellum",
    "minimax-m3",
    "muse-glimmer",
}
OF_ANOTHER_CLASS = {
    "exaone",
    "internlm3",
    "nemotron_h_moe",
    "sarvam_moe",
}  # saved as llama's or another's class, or told apart by what they hold
FORMER = {  # of published checkpoints, under a name that transformers does not know, or knows no more
    "ExaoneForCausalLM", "InternLM3ForCausalLM", "KimiK2ForCausalLM", "Ernie4_5_ForCausalLM", "RWForCausalLM",
    "LFM2ForCausalLM", "SarvamMoEForCausalLM", "Step3p5ForCausalLM", "MiniMaxM3SparseForCausalLM",
    "MiMoV2ForCausalLM", "MPTForCausalLM", "PhiMoEForCausalLM", "StableLMEpochForCausalLM",
    "ernie4_5_moe_vl", "kimi_k2", "mimo_v2", "stablelm_epoch",
}  # fmt: skip
NOT_IN_GGUF = {"aria", "cosmos3_edge", "hyperclovax", "lfm3", "mllama"}
NOT_IN_TRANSFORMERS = {
    "baichuan", "bailingmoe", "bailingmoe2", "chatglm", "codeshell", "deepseek", "internlm2", "minicpm", "orion", "plm",
    "qwen", "refact", "xverse",
}  # fmt: skip


def test_the_package_lists_its_own_modules() -> None:
    assert {own.name for own in all_architectures()} >= {"llama", "mistral", "qwen2", "qwen3", "gpt2"}
    assert len({own.name for own in all_architectures()}) == len(all_architectures())


@every_architecture
def test_gguf_knows_the_architecture_by_its_name(own: Architecture) -> None:
    assert own.gguf in {*gguf.MODEL_ARCH_NAMES.values(), *NEWER_THAN_GGUF_PY, *NOT_IN_GGUF}


@pytest.mark.sample(54)
@pytest.mark.requires_transformers
@every_architecture
def test_a_folder_that_transformers_saved_finds_it(own: Architecture) -> None:
    """config.json says a model_type; a checkpoint of before may have had another class."""
    transformers = pytest.importorskip("transformers")
    known = [getattr(transformers, name) for name in own.classes if hasattr(transformers, name)]
    types = set(transformers.CONFIG_MAPPING)
    missing = {name for name in own.classes if not hasattr(transformers, name) and name not in types}
    assert missing <= FORMER or own.name in NOT_IN_TRANSFORMERS
    classes = [found for found in known if hasattr(found, "config_class")]
    assert classes or own.name in NOT_IN_TRANSFORMERS | OF_ANOTHER_CLASS
    for found in classes:
        assert find_architecture(found.config_class.model_type) is own, found.__name__


@every_architecture
def test_every_name_that_a_file_declares_finds_it(own: Architecture) -> None:
    for declared in (own.name, own.name.upper(), own.name.capitalize(), *own.classes):
        assert find_architecture(declared) is own


@pytest.mark.parametrize(
    "declared", ["", "bert", "llama9", "qwen9", "LlamaForSequenceClassification", "../llama"]
)
def test_other_names_find_nothing(declared: str) -> None:
    assert find_architecture(declared) is None


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_dims_are_those_of_the_models_as_they_are_built(name: str) -> None:
    """Heads × head size is not hidden here, so that no two dims are equal by chance."""
    changes = {"heads": 6, "kv_heads": 6 if name == "gpt2" else 3, "head_dim": 32, "hidden": 192, "ffn": 320}
    if name != "gpt2":
        changes["hidden"] = 128
    spec = model_spec(name, layers=1, tied=False, **changes)
    own, config = find_architecture(name), config_of(name, **changes)
    assert own is not None
    demanded = own.graph(lambda layer: config, 1).dims
    for parameter in blueprint(name).parameters(spec):
        dims = parameter.dims[::-1] if parameter.conv1d else parameter.dims
        if ".attn_qkv." in parameter.name:
            for part in "qkv":
                assert demanded[parameter.name.replace("qkv", part)] == (dims[0] // 3, *dims[1:])
            continue
        wanted = demanded[parameter.name]
        assert len(wanted) == len(dims), parameter.name
        assert all(want in (-1, dim) for want, dim in zip(wanted, dims, strict=True)), parameter.name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_published_models_have_the_parts_that_are_declared(name: str) -> None:
    own = find_architecture(name)
    assert own is not None
    names = {parameter.name for parameter in blueprint(name).parameters(model_spec(name, layers=1))}
    assert own.qk_norm == ("blk.0.attn_q_norm.weight" in names)
    assert own.gated == ("blk.0.ffn_gate.weight" in names)
    assert own.learned_positions == ("position_embd.weight" in names)
    demanded = own.graph(lambda layer: config_of(name), 1).dims
    assert {name for name in names if ".attn_qkv." not in name} <= set(demanded)


@every_architecture
def test_epsilon_has_the_key_of_its_norm(own: Architecture) -> None:
    expected = {"rms": "attention.layer_norm_rms_epsilon", "layer": "attention.layer_norm_epsilon"}
    assert own.epsilon_key == expected[own.norm]


def test_default_is_told_by_container() -> None:
    default = Default(apr=1, gguf=2, huggingface=3)
    assert [default.of(kind) for kind in ("apr", "gguf", "huggingface")] == [1, 2, 3]


@every_architecture
def test_epsilons_are_positive_and_known_to_float32(own: Architecture) -> None:
    for kind in ("apr", "gguf", "huggingface"):
        # llama.cpp does not read the key of these, and takes 0.
        none = own.gguf == "qwen2vl" and kind == "gguf"
        assert (0 if none else 1e-13) <= np.float32(own.norm_epsilon.of(kind)) <= (0 if none else 1e-5)


CORE = (
    "compare",
    "config",
    "graph.py",
    "model.py",
    "ops",
    "repair",
    "runtimes",
    "transformer.py",
    "weight.py",
)
"""What one forward pass and what is compared of it stand on. Tables of vocabularies, of llama.cpp's keys and of
wrappers' names lie elsewhere, and name models because what they list is named so."""


def test_what_computes_and_compares_names_no_model() -> None:
    names = {name for own in all_architectures() for name in (own.name, own.gguf, *own.classes)}
    package = Path(rosetta.__file__).parent
    files = [
        file
        for part in CORE
        for file in ([package / part] if "." in part else (package / part).rglob("*.py"))
    ]
    assert len(files) > 50
    named = {
        f"{file.relative_to(package)}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert not named


@pytest.mark.requires_transformers
@every_architecture
def test_it_heeds_what_transformers_class_asks_for(own: Architecture) -> None:
    """Of the keys that only some classes ask for: those that the class, or its config, names."""
    transformers = pytest.importorskip("transformers")
    names = {own.huggingface.model_type or own.name, *own.classes} & set(transformers.CONFIG_MAPPING)
    modules = {transformers.CONFIG_MAPPING[name].__module__ for name in names}
    modules |= {getattr(transformers, name).__module__ for name in own.classes if hasattr(transformers, name)}
    if not modules or not own.huggingface.in_transformers or own.name in OF_ANOTHER_CLASS:
        pytest.skip("transformers has no class of it")
    modules |= {module.replace("configuration_", "modeling_") for module in modules}
    known = [module for module in sorted(modules) if importlib.util.find_spec(module) is not None]
    source = "".join(inspect.getsource(importlib.import_module(module)) for module in known)
    for key in (
        "partial_rotary_factor",
        "query_pre_attn_scalar",
        "scale_attn_weights",
        "attention_multiplier",
        "embedding_multiplier",
        "residual_multiplier",
        "kv_channels",
        "n_inner",
    ):
        assert own.huggingface.asks_for(key) == (re.search(rf"\b{key}\b", source) is not None), key
