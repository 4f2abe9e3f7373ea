"""What a file would call a tensor that it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import build, faults, model_spec
from rosetta.errors import UnsupportedError
from rosetta.model import open_model
from rosetta.repair.names import own_name

CASES = [
    # architecture, operand, dropped, wanted name, canonical name of the tensor so called
    ("llama", "hf:F16", "blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight", None),
    ("llama", "gguf:F16", "blk.1.attn_q.weight", "blk.1.attn_q.weight", None),
    ("llama", "apr:F16", "output_norm.weight", "model.norm.weight", None),
    ("llama", "apr-gguf:F16", "output.weight", "output.weight", None),
    ("qwen2", "hf:F16", "blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias", None),
    ("gpt2", "hf:F16", "position_embd.weight", "transformer.wpe.weight", None),
    ("gpt2", "apr:F16", "position_embd.weight", "model.position_embedding.weight", None),
    ("gpt2", "hf:F16", "blk.1.attn_qkv.bias", "transformer.h.1.attn.c_attn.bias", "blk.1.attn_qkv.bias"),
    ("gpt2", "gguf:F16", "blk.0.attn_qkv.weight", "blk.0.attn_qkv.weight", "blk.0.attn_qkv.weight"),
    ("gpt2", "hf:F16", "output_norm.bias", "transformer.ln_f.bias", None),
]


@pytest.mark.parametrize(("architecture", "operand", "dropped", "wanted", "canonical"), CASES)
def test_missing_tensor_is_called_as_the_clean_file_calls_it(
    tmp_path: Path, architecture: str, operand: str, dropped: str, wanted: str, canonical: str | None
) -> None:
    model = open_model(build(tmp_path, model_spec(architecture), operand, faults.dropped(dropped)))
    asked = dropped.replace("attn_qkv", "attn_v")
    assert own_name(model, asked) == (wanted, canonical or dropped)
    clean = open_model(build(tmp_path / "clean", model_spec(architecture), operand))
    assert wanted in clean.container.tensors


def test_only_layer_gets_the_names_of_its_style(tmp_path: Path) -> None:
    spec = model_spec("qwen3", layers=1)
    model = open_model(build(tmp_path, spec, "hf:F16", faults.dropped("blk.0.attn_q_norm.weight")))
    assert own_name(model, "blk.0.attn_q_norm.weight")[0] == "model.layers.0.self_attn.q_norm.weight"


def test_a_name_that_nobody_would_find_again_is_refused(tmp_path: Path) -> None:
    model = open_model(build(tmp_path, model_spec("llama"), "hf:F16"))
    with pytest.raises(UnsupportedError, match=r"blk\.0\.unheard_of\.weight.*cannot be told"):
        own_name(model, "blk.0.unheard_of.weight")
