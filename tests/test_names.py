"""Every name that a file may give a tensor leads to the one GGUF name, and no other name does."""

from __future__ import annotations

import gguf
import pytest

from fixtures import contents, model_spec
from fixtures.architectures import ARCHITECTURES, blueprint
from rosetta.architectures import find_architecture
from rosetta.architectures.parts.architecture import Architecture
from rosetta.names import ROPE_FACTORS, canonical_name, canonical_names, shared_prefix

LAYERS = 3


def architecture(name: str) -> Architecture:
    found = find_architecture(name)
    assert found is not None
    return found


def rename(names: list[str], of: str) -> dict[str, str | None]:
    return canonical_names(names, architecture(of), LAYERS)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_huggingface_name_has_its_gguf_name(name: str) -> None:
    parameters = blueprint(name).parameters(model_spec(name, layers=LAYERS, tied=False))
    expected = {parameter.hf: parameter.name for parameter in parameters}
    assert rename(list(expected), name) == expected


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("container", ["apr", "apr-gguf", "gguf"])
def test_every_name_of_a_converter_has_its_gguf_name(name: str, container: str) -> None:
    file = contents(
        model_spec(name, layers=LAYERS, hidden=64, ffn=64, heads=4, head_dim=16), f"{container}:F16"
    )
    expected = {tensor.name: canonical for canonical, tensor in file.tensors.items()}
    assert rename(list(expected), name) == expected


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bare_names_of_an_exporter_that_strips_the_outer_module_are_known(name: str) -> None:
    parameters = blueprint(name).parameters(model_spec(name, layers=LAYERS))
    expected = {
        parameter.hf.removeprefix("model.").removeprefix("transformer."): parameter.name
        for parameter in parameters
    }
    assert rename(list(expected), name) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("model.position_embedding.weight", "position_embd.weight"),
        ("model.embed_positions.weight", "position_embd.weight"),
        ("model.layers.2.self_attn.qkv_proj.weight", "blk.2.attn_qkv.weight"),
        ("model.layers.2.self_attn.c_attn.bias", "blk.2.attn_qkv.bias"),
        ("rope_freqs.weight", "rope_freqs.weight"),
        ("lm_head.weight", "output.weight"),
        (
            "h.2.attn.q_proj.weight",
            "blk.2.attn_q.weight",
        ),  # only with its outermost module in gguf-py's tables
        ("layers.2.self_attn.q_proj_no_perm.weight", "blk.2.attn_q.weight"),
        ("model.layers.2.self_attn.q_proj", "blk.2.attn_q"),  # a parameter of a module itself
    ],
)
def test_spellings_that_only_some_writers_use_are_known(source: str, expected: str) -> None:
    assert canonical_name(source, architecture("gpt2"), LAYERS) == expected


@pytest.mark.parametrize(
    "source",
    [
        "h.0.attn.bias",  # a causal mask, not a bias of attention
        "transformer.h.0.attn.masked_bias",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
        "model.layers.0.self_attn.q_proj.weight_scale",
        "blk.999999999.attn_q.weight",
        "blk.-1.attn_q.weight",
        "weight",
        ".weight",
        "",
        "model.layers.0.self_attn.q_proj.weight\0",
    ],
)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_what_no_forward_pass_reads_has_no_name(name: str, source: str) -> None:
    assert canonical_name(source, architecture(name), LAYERS) is None


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_weight_of_an_architecture_is_a_name_of_gguf_py(name: str) -> None:
    own = architecture(name)
    slug = {text: arch for arch, text in gguf.MODEL_ARCH_NAMES.items()}[own.gguf]
    known = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[slug]}
    config = dict.fromkeys(
        (
            "embedding_length", "feed_forward_length", "attention.head_count", "attention.head_count_kv",
            "attention.key_length", "attention.value_length", "vocab_size", "rope.dimension_count",
        ),
        2,
    )  # fmt: skip
    dims = own.graph(lambda layer: config, 1).dims
    ours = {tensor.replace("blk.0.", "blk.{bid}.") for tensor in dims}
    split = {
        "blk.{bid}.attn_q",
        "blk.{bid}.attn_k",
        "blk.{bid}.attn_v",
    } | ROPE_FACTORS  # a GGUF file of GPT-2 has q, k and v fused; any that rotates may have factors
    assert {tensor.rpartition(".")[0] for tensor in ours} <= known | split


@pytest.mark.parametrize(
    ("architecture", "module"),
    [("granitemoe", "block_sparse_moe"), ("jamba", "feed_forward"), ("lfm2moe", "feed_forward")],
)
def test_experts_as_transformers_holds_them_have_names(architecture: str, module: str) -> None:
    """What save_pretrained writes with save_original_format=False."""
    own = find_architecture(architecture)
    assert own is not None
    stem = f"model.layers.1.{module}.experts"
    assert canonical_name(f"{stem}.gate_up_proj", own, 2) == "blk.1.ffn_gate_up_exps"
    assert canonical_name(f"{stem}.down_proj", own, 2) == "blk.1.ffn_down_exps"


@pytest.mark.parametrize("prefix", ["policy.", "model.", "actor.module_0."])
def test_names_within_a_module_of_any_name_are_known_without_it(prefix: str) -> None:
    parameters = blueprint("llama").parameters(model_spec("llama", layers=LAYERS, tied=False))
    expected = {prefix + parameter.hf: parameter.name for parameter in parameters}
    assert rename([*expected], "llama") == expected
    assert shared_prefix([*expected], architecture("llama"), LAYERS) == prefix


def test_names_that_are_known_share_no_prefix() -> None:
    parameters = blueprint("llama").parameters(model_spec("llama", layers=LAYERS, tied=False))
    assert shared_prefix([parameter.hf for parameter in parameters], architecture("llama"), LAYERS) == ""
