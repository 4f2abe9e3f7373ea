"""The one forward pass at every stage: held to transformers, to llama.cpp's logits, to float64 arithmetic."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fixtures import Llama3Scaling, ModelSpec, build, faults, model_spec
from fixtures.faults import Fault
from fixtures.oracles import llamacpp_logits
from fixtures.stages import transformers_stages
from fixtures.weights import state_dict
from rosetta.architectures import INTERLEAVED
from rosetta.errors import is_out_of_memory
from rosetta.model import Model, open_model
from rosetta.ops.op import NotComputable, Step
from rosetta.transformer import Transformer, inputs_of
from rosetta.weight_cache import WeightCache

NAMES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
IDS = (17, 10, 17, 28, 300, 5, 63, 299, 128, 31, 31, 7)
ROUNDING = 5e-5  # of a stage's rms; measured 3e-5 where softmax meets scores of forty, 5e-6 elsewhere


def small(architecture: str, **changes: Any) -> ModelSpec:
    sizes: dict[str, Any] = {
        "layers": 2,
        "hidden": 64,
        "head_dim": 16,
        "ffn": 80 if architecture != "gpt2" else 256,
    }
    return model_spec(architecture, **(sizes | changes))


VARIANTS = {
    **{name: small(name) for name in NAMES},
    "llama 3.1": small("llama", rope_scaling=Llama3Scaling()),
    "llama tied, all heads": small("llama", tied=True, kv_heads=4),
    "llama wide heads": small("llama", heads=8),
    "qwen2 untied, small theta": small("qwen2", tied=False, theta=100.0),
    "gpt2 untied, narrow, large epsilon": small("gpt2", tied=False, ffn=96, epsilon=1e-2),
}
every_variant = pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS)


def stages_of(
    model: Model, ids: tuple[int, ...] = IDS, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    return dict(Transformer(model, dtype=dtype).stages(ids))


def assert_close(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float = ROUNDING
) -> None:
    """Every stage within `tolerance` of the reference's rms."""
    assert sorted(ours) == sorted(theirs)
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        gap = (ours[name].double() - expected.double()).abs().max()
        size = expected.double().square().mean().sqrt()
        assert gap <= tolerance * size, f"{name}: {gap:.2e} of {size:.2e}"


# Against transformers


@pytest.mark.requires_transformers
@every_variant
def test_every_stage_is_that_of_transformers(tmp_path: Path, spec: ModelSpec) -> None:
    pytest.importorskip("transformers")
    folder = build(tmp_path, spec, "hf:F32")
    model = open_model(folder)
    theirs = transformers_stages(folder, IDS, interleave=model.architecture.rope == INTERLEAVED)
    assert_close(stages_of(model), theirs)
    assert theirs["logits"].std() > 0.3, "the logits hardly differ: agreement would say nothing"


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", ["gpt2"])
def test_every_stage_is_that_of_transformers_in_float64(tmp_path: Path, name: str) -> None:
    """GPT-2 alone: transformers computes the norms and angles of the others in float32 whatever one asks for."""
    pytest.importorskip("transformers")
    folder = build(tmp_path, small(name), "hf:F32")
    model = open_model(folder)
    theirs = transformers_stages(folder, IDS, dtype=torch.float64)
    ours = stages_of(model, dtype=torch.float64)
    assert {tensor.dtype for tensor in ours.values()} == {torch.float64}
    assert_close(ours, theirs, 1e-8)  # the epsilon is float32's


ODD_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama with biases everywhere": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, linear scaling": (
        "Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}}
    ),
    "llama, yarn": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "yarn", "factor": 8.0, "rope_theta": 1000.0, "original_max_position_embeddings": 16,
                "beta_fast": 4.0, "mscale": 1.0, "mscale_all_dim": 0.5,
            }
        },
    ),
    "llama 3.1": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "llama3", "factor": 4.0, "rope_theta": 500.0, "low_freq_factor": 1.0,
                "high_freq_factor": 3.0, "original_max_position_embeddings": 32,
            }
        },
    ),
    "llama, gelu": ("Llama", {"hidden_act": "gelu"}),
    "llama, head size of its own": ("Llama", {"head_dim": 24}),
    "mistral, sliding window": ("Mistral", {"sliding_window": 3}),
    "qwen2, sliding window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
    "qwen2, window switched off": ("Qwen2", {"sliding_window": 4}),
    "qwen3 with biases": ("Qwen3", {"attention_bias": True, "head_dim": 8}),
    "qwen3, yarn": (
        "Qwen3",
        {
            "rope_parameters": {
                "rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6, "original_max_position_embeddings": 32
            }
        },
    ),
    "gpt2, relu": ("GPT2", {"activation_function": "relu"}),
    "gpt2, no attention scale": ("GPT2", {"scale_attn_weights": False}),
}  # fmt: skip


@pytest.mark.requires_transformers
@pytest.mark.parametrize("case", ODD_CONFIGS.values(), ids=ODD_CONFIGS)
def test_every_option_computes_as_transformers_own_model_does(
    tmp_path: Path, case: tuple[str, dict[str, Any]]
) -> None:
    transformers = pytest.importorskip("transformers")
    name, options = case
    sizes = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 64,
    }  # fmt: skip
    if name == "GPT2":
        sizes = {"n_embd": 64, "n_inner": 96, "n_layer": 2, "n_head": 4, "vocab_size": 320, "n_positions": 64}
    config = getattr(transformers, f"{name}Config")(**sizes, initializer_range=0.3, **options)
    torch.manual_seed(0)
    original = getattr(transformers, "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")(config)
    for parameter in original.parameters():
        if parameter.dim() == 1:  # norm weights of 1 and biases of 0 would hide where they go
            torch.nn.init.normal_(parameter, float(parameter.detach().mean()), 0.2)
    original.save_pretrained(tmp_path)
    model = open_model(tmp_path)
    theirs = transformers_stages(tmp_path, IDS, interleave=model.architecture.rope == INTERLEAVED)
    assert_close(stages_of(model), theirs)


# Against llama.cpp


@pytest.mark.requires_llamacpp
@every_variant
def test_logits_are_those_of_llama_cpp(tmp_path: Path, spec: ModelSpec) -> None:
    pytest.importorskip("llama_cpp")
    path = build(tmp_path, spec, "gguf:F32")
    assert_logits(path, spec)


def assert_logits(path: Path, spec: ModelSpec) -> None:
    ours, theirs = Transformer(open_model(path))(IDS).numpy(), llamacpp_logits(path, IDS)
    # GELU of llama.cpp goes through a table of half precision; nothing else does.
    tolerance = 2e-3 if spec.architecture == "gpt2" else ROUNDING
    assert np.abs(ours - theirs).max() <= tolerance * theirs.std()


DEFAULTS: dict[str, tuple[ModelSpec, Fault]] = {
    "rope base": (small("qwen2"), faults.rope_theta(None)),
    "kv heads": (small("llama", kv_heads=4), faults.config_removed("attention.head_count_kv")),
    "head size": (small("llama"), faults.config_removed("attention.key_length")),
    "linear scaling without a type": (small("llama"), faults.config_set("rope.scaling.factor", 4.0)),
    "linear scaling by its old key": (small("llama"), faults.config_set("llama.rope.scale_linear", 2.0)),
}


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("case", DEFAULTS.values(), ids=DEFAULTS)
def test_keys_that_a_gguf_file_lacks_mean_what_they_mean_to_llama_cpp(
    tmp_path: Path, case: tuple[ModelSpec, Fault]
) -> None:
    pytest.importorskip("llama_cpp")
    spec, fault = case
    assert_logits(build(tmp_path, spec, "gguf:F32", fault), spec)


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("attn_factor", [None, 1.5])
def test_yarn_of_a_gguf_file_is_llama_cpps(tmp_path: Path, attn_factor: float | None) -> None:
    pytest.importorskip("llama_cpp")
    spec = small("qwen2", theta=1000.0)
    keys = {
        "rope.scaling.type": "yarn", "rope.scaling.factor": 8.0, "rope.scaling.original_context_length": 32,
    } | ({"rope.scaling.attn_factor": attn_factor} if attn_factor else {})  # fmt: skip
    setters = [faults.config_set(f"qwen2.{key}", value) for key, value in keys.items()]
    assert_logits(build(tmp_path, spec, "gguf:F32", setters), spec)


@pytest.mark.requires_samples
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("file", ["hf", "model-f32.gguf"])
def test_logits_of_the_samples_are_those_on_record(samples: Path, name: str, file: str) -> None:
    recorded = np.load(samples / "models" / name / "logits.npz")
    prompts = json.loads((samples / "models" / name / "expected.json").read_text())
    model = open_model(samples / "models" / name / file)
    assert len(prompts) == 3
    for number, prompt in enumerate(prompts):
        ours = Transformer(model)(prompt["ids"]).numpy()
        for runtime, tolerance in (("hf", ROUNDING), ("lcpp", 2e-3 if name == "gpt2" else ROUNDING)):
            theirs = recorded[f"{runtime}{number}"]
            assert np.abs(ours - theirs).max() <= tolerance * theirs.std(), f"{runtime} prompt {number}"


# Against float64 arithmetic written out


def by_hand(spec: ModelSpec, ids: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Logits of a llama-family model in float64 numpy, [T, V]: q and k in split halves, one head at a time."""
    state = {name: values.astype(np.float64) for name, values in state_dict(spec).items()}
    epsilon, size, tokens = float(np.float32(spec.epsilon)), spec.head_dim, np.arange(len(ids))
    turn = np.exp(1j * np.outer(tokens, spec.theta ** (-np.arange(size // 2) / (size // 2))))  # [T, D/2]

    def norm(x: Any, weight: Any) -> Any:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight

    def rotated(x: Any) -> Any:
        z = (x[:, : size // 2] + 1j * x[:, size // 2 :]) * turn
        return np.concatenate([z.real, z.imag], axis=1)

    x = state["model.embed_tokens.weight"][list(ids)]
    for layer in range(spec.layers):
        own = {
            key.split(f"layers.{layer}.", 1)[1]: v for key, v in state.items() if f"layers.{layer}." in key
        }
        h = norm(x, own["input_layernorm.weight"])
        q, k, v = (
            h @ own[f"self_attn.{p}_proj.weight"].T + own.get(f"self_attn.{p}_proj.bias", 0.0) for p in "qkv"
        )
        heads = []
        for head in range(spec.heads):
            mine, shared = (
                slice(n * size, (n + 1) * size) for n in (head, head * spec.kv_heads // spec.heads)
            )
            a, b = q[:, mine], k[:, shared]
            if spec.architecture == "qwen3":
                a, b = norm(a, own["self_attn.q_norm.weight"]), norm(b, own["self_attn.k_norm.weight"])
            scores = rotated(a) @ rotated(b).T / math.sqrt(size)
            scores = np.exp(np.where(np.tri(len(ids), dtype=bool), scores, -np.inf))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, shared])
        x = x + np.concatenate(heads, axis=1) @ own["self_attn.o_proj.weight"].T
        h = norm(x, own["post_attention_layernorm.weight"])
        gate = h @ own["mlp.gate_proj.weight"].T
        x = (
            x
            + (gate / (1 + np.exp(-gate)) * (h @ own["mlp.up_proj.weight"].T)) @ own["mlp.down_proj.weight"].T
        )
    head_weight = state["model.embed_tokens.weight" if spec.tied else "lm_head.weight"]
    return np.asarray(norm(x, state["model.norm.weight"]) @ head_weight.T)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("operand", ["apr:F32", "gguf:F32"])
def test_float64_is_float64_throughout(tmp_path: Path, name: str, operand: str) -> None:
    spec = small(name)
    ours = Transformer(open_model(build(tmp_path, spec, operand)), dtype=torch.float64)(IDS)
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours.numpy(), by_hand(spec, IDS), atol=1e-12)


# The stages themselves


@pytest.mark.parametrize("name", NAMES)
def test_stages_have_the_names_order_and_shapes_of_the_contract(tmp_path: Path, name: str) -> None:
    spec, tokens = small(name, tied=False), len(IDS)
    layer = {
        "attn_norm": (tokens, spec.hidden),
        "q": (tokens, spec.heads, spec.head_dim),
        "k": (tokens, spec.kv_heads, spec.head_dim),
        "v": (tokens, spec.kv_heads, spec.head_dim),
        "q_rope": (tokens, spec.heads, spec.head_dim),
        "k_rope": (tokens, spec.kv_heads, spec.head_dim),
        "attn_scores": (spec.heads, tokens, tokens),
        "attn_context": (tokens, spec.heads * spec.head_dim),
        "attn_out": (tokens, spec.hidden),
        "attn_residual": (tokens, spec.hidden),
        "ffn_norm": (tokens, spec.hidden),
        "ffn_gate": (tokens, spec.ffn),
        "ffn_up": (tokens, spec.ffn),
        "ffn_act": (tokens, spec.ffn),
        "ffn_out": (tokens, spec.hidden),
        "residual": (tokens, spec.hidden),
    }
    if name == "gpt2":
        for stage in ("q_rope", "k_rope", "ffn_gate"):
            del layer[stage]
    expected = [("embedding", (tokens, spec.hidden))]
    expected += [(f"layers.{n}.{op}", shape) for n in range(spec.layers) for op, shape in layer.items()]
    expected += [("final_norm", (tokens, spec.hidden)), ("logits", (tokens, spec.vocab))]
    model = open_model(build(tmp_path, spec, "gguf:F16"))
    found = [(stage, tuple(tensor.shape)) for stage, tensor in Transformer(model).stages(IDS)]
    assert found == expected
    assert all(tensor.is_contiguous() for tensor in stages_of(model).values())


def test_stages_are_let_go_of_while_the_logits_are_computed(tmp_path: Path) -> None:
    """All stages of a long prompt together take many times what one layer takes."""
    model = open_model(build(tmp_path, small("llama"), "gguf:F16"))
    transformer, heard = Transformer(model), list[weakref.ref[Tensor]]()
    alive = list[int]()

    def hear(stage: str, value: Tensor) -> None:
        heard.append(weakref.ref(value))
        alive.append(sum(reference() is not None for reference in heard))

    transformer.register_hook(hear)
    transformer(IDS)
    assert max(alive) < len(heard) / 2


def test_hooks_hear_every_stage_in_order_until_they_are_taken_off(tmp_path: Path) -> None:
    transformer = Transformer(open_model(build(tmp_path, small("llama", layers=1), "gguf:F16")))
    heard: list[str] = []
    seen: dict[str, Tensor] = {}
    remove_first = transformer.register_hook(lambda stage, tensor: heard.append(stage))
    remove_second = transformer.register_hook(seen.__setitem__)
    stages = dict(transformer.stages(IDS))
    assert heard == list(stages)
    assert all(seen[name] is tensor for name, tensor in stages.items())
    remove_first()
    before = len(heard)
    transformer(IDS)
    assert len(heard) == before
    remove_second()


class Recording(Step):
    """A step that remembers what was read."""

    def __init__(self, model: Model, layer: int | None, cache: WeightCache) -> None:
        self.keys: set[str] = set()
        self.read: set[str] = set()
        super().__init__(model, layer, cache)

    def __getitem__(self, key: str) -> Any:
        self.keys.add(key)
        return super().__getitem__(key)

    def source(self, name: str) -> Any:
        self.read.add(self.full_name(name))
        return super().source(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_declares_exactly_what_it_reads(tmp_path: Path, name: str) -> None:
    """Computing once what is equal, repairs and predicted noise all stand on these declarations."""
    spec = small(name, layers=1, tied=False, rope_scaling=Llama3Scaling() if name == "llama" else None)
    model = open_model(build(tmp_path, spec, "gguf:F16"))
    values: dict[str, Tensor] = {"tokens": torch.tensor(IDS)}
    for node in model.graph:
        step = Recording(model, node.layer, WeightCache())
        values[node.name] = node.op.compute(step, *inputs_of(node, values))
        assert step.keys == set(node.keys), node.name
        assert set(node.required) <= step.read, node.name
        assert step.read == set(node.required) | (set(node.optional) & set(model.weights)), node.name


@pytest.mark.parametrize("name", NAMES)
def test_every_input_is_a_stage_before(tmp_path: Path, name: str) -> None:
    known = {"tokens"}
    for node in open_model(build(tmp_path, small(name), "gguf:F16")).graph:
        assert set(node.inputs) <= known, node.name
        known.add(node.name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunks", [(1,), (3, 1), (2, 2), (100,)])
def test_chunks_of_tokens_give_what_all_at_once_give(
    tmp_path: Path, name: str, chunks: tuple[int, ...]
) -> None:
    """Keys and values are carried on, positions go on where the chunk before ended."""
    model = open_model(build(tmp_path, small(name), "gguf:F32"))
    whole = stages_of(model, dtype=torch.float64)
    in_chunks = dict(Transformer(model, dtype=torch.float64, chunks=chunks).stages(IDS))
    assert_close(in_chunks, whole, 1e-12)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("operand", ["gguf:F16", "hf:F16", "apr:Q8_0"])
def test_matrix_multiplied_by_blocks_of_rows_is_the_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, operand: str
) -> None:
    model = open_model(build(tmp_path, small(name, ffn=96), operand))
    whole = stages_of(model, dtype=torch.float64)
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", 7 * 64)  # seven rows, and a rest
    assert_close(stages_of(model, dtype=torch.float64), whole, 1e-13)


# What cannot be computed


@pytest.mark.parametrize(
    ("fault", "stage", "tensor"),
    [
        (faults.dropped("blk.1.ffn_up.weight"), "layers.1.ffn_up", "blk.1.ffn_up.weight"),
        (faults.dims_swapped("blk.0.attn_k.weight"), "layers.0.k", "blk.0.attn_k.weight"),
        (faults.dropped("output_norm.weight"), "final_norm", "output_norm.weight"),
        (faults.layer_dropped(1), "layers.1.attn_norm", "blk.1.attn_norm.weight"),
        (faults.dropped("token_embd.weight"), "embedding", "token_embd.weight"),
    ],
)
def test_stage_that_cannot_be_computed_names_its_weight(
    tmp_path: Path, fault: Fault, stage: str, tensor: str
) -> None:
    model = open_model(build(tmp_path, small("llama", tied=False), "apr:F16", fault))
    transformer, reached = Transformer(model), []
    transformer.register_hook(lambda name, value: reached.append(name))
    with pytest.raises(NotComputable, match=tensor.replace(".", r"\.")) as raised:
        transformer(IDS)
    assert raised.value.tensor == tensor
    assert [node.name for node in model.graph][len(reached)] == stage


def test_more_rotary_dimensions_than_a_head_has_cannot_be_computed(tmp_path: Path) -> None:
    model = open_model(build(tmp_path, small("qwen2"), "gguf:F16"))
    with pytest.raises(NotComputable):
        Transformer(model.repaired({"rope.dimension_count": 18}))(IDS)


def test_optional_weights_that_are_absent_take_no_part(tmp_path: Path) -> None:
    model = open_model(build(tmp_path, small("qwen2"), "gguf:F32", faults.dropped("blk.0.attn_q.bias")))
    whole = stages_of(open_model(build(tmp_path / "whole", small("qwen2"), "gguf:F32")))
    bias = torch.from_numpy(state_dict(small("qwen2"))["model.layers.0.self_attn.q_proj.bias"])
    lacking = stages_of(model)["layers.0.q"] + bias.view(4, 16)
    torch.testing.assert_close(lacking, whole["layers.0.q"])


@pytest.mark.parametrize("ids", [(), (5,), (383,) * 3])
def test_any_number_of_tokens_is_run(tmp_path: Path, ids: tuple[int, ...]) -> None:
    model = open_model(build(tmp_path, small("llama", layers=1), "gguf:F16"))
    if not ids:
        with pytest.raises(NotComputable):
            Transformer(model)(ids)
        return
    assert Transformer(model)(ids).shape == (len(ids), 384)
    assert torch.isfinite(Transformer(model)(ids)).all()


@pytest.mark.parametrize("ids", [(384,), (5, 1 << 40), (-1,)])
def test_a_token_beyond_the_embedding_is_not_computable(tmp_path: Path, ids: tuple[int, ...]) -> None:
    model = open_model(build(tmp_path, small("llama", layers=1), "gguf:F16"))
    with pytest.raises(NotComputable, match="384 rows"):
        Transformer(model)(ids)


def test_a_stage_that_has_no_room_is_no_stage_that_cannot_be_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer = Transformer(open_model(build(tmp_path, "llama", "gguf:F32")))
    node = next(iter(transformer.graph))
    monkeypatch.setattr(type(node.op), "compute", lambda *_: torch.empty(1 << 47))
    with pytest.raises(RuntimeError) as caught:
        transformer.compute(node, [torch.tensor([1, 2])])
    assert is_out_of_memory(caught.value)
