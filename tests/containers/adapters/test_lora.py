"""A GGUF LoRA beside its base, held to peft's adapter of the same numbers and to llama.cpp; and its errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray

import rosetta
from fixtures import build
from fixtures.adapters import write_adapter, write_gguf_adapter, write_lora
from fixtures.comparing import TOKENS, compared_files, tiny
from fixtures.oracles import llamacpp_logits
from fixtures.recipes import Recipe, build_folder
from rosetta.errors import RosettaError
from rosetta.model import open_model

SPEC = tiny("llama")
LAYERS, R, ALPHA = 2, 4, 6
UP = "blk.1.ffn_up.weight"
Tensors = dict[str, NDArray[np.float32]]


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path, Path, Path]:
    """A folder, peft's adapter of it, the GGUF file of each."""
    base = build(tmp_path / "base", SPEC, "hf:F32")
    adapter = write_adapter(tmp_path / "adapter", base, LAYERS, rank=R, alpha=ALPHA)
    heads = {"self_attn.q_proj": SPEC.heads, "self_attn.k_proj": SPEC.kv_heads}
    lora = write_lora(tmp_path / "lora.gguf", adapter, heads)
    return base, adapter, build(tmp_path / "own", SPEC, "gguf:F32"), lora


def held(lora: Path) -> Tensors:
    return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(lora).tensors}


def test_it_matches_pefts_adapter_beside_the_folder_exactly(parts: tuple[Path, ...]) -> None:
    base, adapter, own, lora = parts
    report = compared_files(f"lora:{own}+{lora}", f"peft:{base}+{adapter}")
    assert report.verdict == "match"
    assert max(stage.max_diff or 0 for stage in report.stages) == 0
    assert compared_files(own, f"peft:{base}+{adapter}").verdict == "divergent"


@pytest.mark.parametrize("container", ["hf:F32", "apr:F32"])
def test_any_base_will_do(tmp_path: Path, parts: tuple[Path, ...], container: str) -> None:
    base, adapter, _, lora = parts
    own = build(tmp_path / "other", SPEC, container)
    found, wanted = (
        open_model(f"{text}").weights for text in (f"lora:{own}+{lora}", f"peft:{base}+{adapter}")
    )
    assert all((found[name].values() == wanted[name].values()).all() for name in wanted)


@pytest.mark.requires_llamacpp
def test_it_computes_what_llamacpp_does_with_it(parts: tuple[Path, ...]) -> None:
    _, _, own, lora = parts
    tokens = [*TOKENS[:6]]
    ours = rosetta.trace(f"lora:{own}+{lora}", tokens=tokens)["logits"].numpy()
    theirs = llamacpp_logits(own, tokens, lora)
    assert np.abs(ours - llamacpp_logits(own, tokens)).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("alpha", [0, 3])
def test_embedding_and_alpha_of_zero_are_read_as_llamacpp_does(tmp_path: Path, alpha: float) -> None:
    own, draw, tokens = build(tmp_path / "own", SPEC, "gguf:F32"), np.random.default_rng(0), [*TOKENS[:6]]
    vocabulary, hidden = open_model(own).weights["token_embd.weight"].dims
    dims = {"token_embd.weight.lora_a": (vocabulary, R), "token_embd.weight.lora_b": (hidden, R)}
    tensors = {name: 0.3 * draw.standard_normal(size).astype(np.float32) for name, size in dims.items()}
    lora = write_gguf_adapter(tmp_path / "lora.gguf", tensors, alpha, "llama")
    ours = rosetta.trace(f"lora:{own}+{lora}", tokens=tokens)["logits"].numpy()
    theirs = llamacpp_logits(own, tokens, lora)
    assert np.abs(ours - llamacpp_logits(own, tokens)).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.requires_transformers
def test_each_expert_has_its_own_factors(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"moe_intermediate_size": 32, "num_experts": 3, "num_experts_per_tok": 2}
    base = build_folder(tmp_path / "base", Recipe("Qwen3MoeConfig", {**sizes, "num_hidden_layers": 1}))
    draw, dims = np.random.default_rng(0), {"a": (3, R, 64), "b": (3, 32, R)}
    a, b = (draw.standard_normal(size).astype(np.float32) for size in dims.values())
    tensors = {"blk.0.ffn_up_exps.weight.lora_a": a, "blk.0.ffn_up_exps.weight.lora_b": b}
    lora = write_gguf_adapter(tmp_path / "lora.gguf", tensors, ALPHA, "qwen3moe")
    plain, found = open_model(base).weights, open_model(f"lora:{base}+{lora}").weights
    for e in range(3):
        name = f"blk.0.ffn_up_exps.{e}.weight"
        added = (found[name].values(5, 20) - plain[name].values(5, 20)).numpy()
        np.testing.assert_allclose(added, (ALPHA / R * b[e] @ a[e])[5:20], atol=1e-5)
    assert (
        found["blk.0.ffn_gate_exps.0.weight"].values() == plain["blk.0.ffn_gate_exps.0.weight"].values()
    ).all()


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def renamed(tensors: Tensors) -> Tensors:
    return {name.replace("blk.1.ffn_up", "blk.7.ffn_up"): value for name, value in tensors.items()}


def narrowed(tensors: Tensors) -> Tensors:
    name = f"{UP}.lora_a"
    return {**tensors, name: np.ascontiguousarray(tensors[name][:, :-8])}


def turned(tensors: Tensors) -> Tensors:
    name = f"{UP}.lora_a"
    return {**tensors, name: np.ascontiguousarray(tensors[name].T)}


@pytest.mark.parametrize(
    ("change", "keys", "said"),
    [
        (renamed, {}, "'blk.7.ffn_up.weight': the base"),
        (narrowed, {}, "is [96, 56] in the adapter and [96, 64] in the base"),
        (turned, {}, ".lora_a of dims [64, 4] and .lora_b of dims [96, 4] make no product"),
        (without(f"{UP}.lora_b"), {}, f"tensor '{UP}': has no .lora_b"),
        (lambda tensors: {**tensors, "blk.0.odd": np.ones(4, np.float32)}, {}, "'blk.0.odd': is none of"),
        (lambda tensors: {}, {}, "has no .lora_a and .lora_b"),
        (dict, {"architecture": "gemma2"}, "is an adapter for gemma2, and the base"),
        (dict, {"alpha": float("nan")}, "key 'adapter.lora.alpha': is nan, not a number"),
        (dict, {"tokens": [3, 4]}, "is an aLoRA, which acts only behind the tokens that invoke it"),
        (dict, {"adapter_type": "control"}, "adapter.type 'control' is not merged here"),
        (dict, {"general_type": "model"}, "holds no adapter: its general.type is 'model'"),
    ],
)
def test_an_error_is_one_sentence(
    tmp_path: Path,
    parts: tuple[Path, ...],
    change: Callable[[Tensors], Tensors],
    keys: dict[str, Any],
    said: str,
) -> None:
    *_, own, lora = parts
    stated = {"alpha": ALPHA, "architecture": "llama", **keys}
    broken = write_gguf_adapter(tmp_path / "broken.gguf", change(held(lora)), **stated)
    with pytest.raises(RosettaError) as caught:
        open_model(f"lora:{own}+{broken}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_adapter_is_said(tmp_path: Path, parts: tuple[Path, ...]) -> None:
    base, adapter, own, lora = parts
    with pytest.raises(RosettaError, match="is a folder: give lora:BASE"):
        open_model(f"lora:{own}+{adapter}")
    with pytest.raises(RosettaError, match=r"holds no adapter: its general\.type is"):
        open_model(f"lora:{own}+{own}")
    with pytest.raises(RosettaError, match="is no GGUF file"):
        open_model(f"lora:{own}+{base / 'config.json'}")
    with pytest.raises(RosettaError, match=rf"holds an adapter, not a model: give lora:BASE\+{lora}"):
        open_model(lora)


def test_norms_are_left_out_and_said(tmp_path: Path, parts: tuple[Path, ...]) -> None:
    *_, own, lora = parts
    tensors = {**held(lora), "output_norm.weight": np.ones(64, np.float32)}
    path = write_gguf_adapter(tmp_path / "norms.gguf", tensors, ALPHA, "llama")
    assert any(
        "1 tensors of norms are left out" in note for note in open_model(f"lora:{own}+{path}").container.notes
    )
