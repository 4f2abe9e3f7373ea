"""One run of one model: its ids, its stages in order, its facts; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import Llama3Scaling, build, contents, faults
from fixtures.comparing import TOKENS, tiny
from fixtures.forward import run, settings_of, weights_of
from fixtures.tokenizer import vocabulary
from rosetta.errors import DamagedFileError, UsageError
from rosetta.model import Model, open_model
from rosetta.runtimes.torch import prompt_ids, run_facts, run_stages


def opened(
    folder: Path, name: str = "llama", operand: str = "gguf:F32", fault: Any = (), **changes: Any
) -> Model:
    return open_model(build(folder, tiny(name, **changes), operand, fault))


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
def test_stages_are_those_of_a_second_forward_pass(tmp_path: Path, name: str) -> None:
    spec, operand = tiny(name), "gguf:F32"
    file = contents(spec, operand)
    wanted = run(weights_of(file), settings_of(file), TOKENS, spec.layers)
    found = dict(run_stages(open_model(build(tmp_path, spec, operand)), TOKENS, dtype="float64"))
    assert (next(iter(found)), next(reversed(found))) == ("embedding", "logits")
    assert not [key for key in wanted if key not in found and not key.endswith("stream")]
    for stage, values in found.items():
        gap = np.abs(values.numpy().reshape(-1) - np.asarray(wanted[stage]).reshape(-1)).max()
        assert gap < 1e-5, f"{stage} is {gap:.2g} off"


def test_prompt_is_cut_by_the_models_own_tokenizer(tmp_path: Path) -> None:
    ids = [vocabulary().tokens.index(piece) for piece in "2+2="]
    assert prompt_ids(opened(tmp_path).container, "2+2=") == ids


def test_prompt_without_a_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tokens"):
        prompt_ids(opened(tmp_path).container, "")


def test_model_without_a_tokenizer_asks_for_ids(tmp_path: Path) -> None:
    def bare(file: Any) -> Any:
        def edit(metadata: dict[str, Any]) -> None:
            for key in [key for key in metadata if key.startswith("tokenizer.")]:
                del metadata[key]

        return file.with_metadata(edit)

    with pytest.raises(UsageError, match="--tokens"):
        prompt_ids(opened(tmp_path, fault=bare).container, "2+2=")


def test_token_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="token id 384 is beyond the vocabulary of 384 tokens"):
        list(run_stages(opened(tmp_path), [1, 384]))


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    model = open_model(build(tmp_path, tiny("gpt2", layers=1, context=16), "gguf:F32"))
    with pytest.raises(UsageError, match="17 tokens, and the model positions for 16"):
        list(run_stages(model, range(17)))


def test_device_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        list(run_stages(opened(tmp_path), TOKENS, device="cuda"))


@pytest.mark.parametrize(
    ("fault", "before"),
    [
        (faults.dims_swapped("blk.1.ffn_up.weight"), "layers.1.ffn_gate"),
        (faults.dropped("blk.0.attn_output.weight"), "layers.0.attn_context"),
        (faults.dropped("token_embd.weight"), "tokens"),
        (faults.layer_dropped(1), "layers.0.residual"),
    ],
)
def test_file_that_cannot_be_computed_is_told_with_the_last_stage(
    tmp_path: Path, fault: Any, before: str
) -> None:
    with pytest.raises(DamagedFileError) as raised:
        list(run_stages(opened(tmp_path, tied=False, fault=fault), TOKENS))
    assert f"the stage after {before} cannot be computed" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_facts_say_what_the_run_was_in_json(tmp_path: Path, name: str) -> None:
    scaling = {"rope_scaling": Llama3Scaling()} if name == "llama" else {}
    model = opened(tmp_path, name, "apr:F16", **scaling)
    facts = json.loads(json.dumps(run_facts(model, "left.apr", "2+2=", TOKENS, "float32"), allow_nan=False))
    assert (facts["operand"], facts["prompt"], facts["tokens"]) == ("left.apr", "2+2=", list(TOKENS))
    assert (facts["container"], facts["runtime"], facts["dtype"]) == ("apr", "torch", "float32")
    assert facts["architecture"] == name
    assert facts["stages"] == [stage for stage, _ in run_stages(model, TOKENS)]
    assert facts["config"]["block_count"] == 2
    assert set(facts["weights"]) == set(model.weights)


def test_facts_say_how_coarse_each_weight_is(tmp_path: Path) -> None:
    """Rounding to F16 is at most half a unit in the eleventh bit; of F32 to half a unit in the 24th."""
    coarse = run_facts(opened(tmp_path, operand="gguf:F16"), "m", None, TOKENS, "float32")["weights"]
    values = contents(tiny("llama"), "gguf:F32").values("blk.0.ffn_up.weight")
    rounded = np.float16(values).astype(np.float32)
    measured = float(np.sqrt(np.mean((rounded - values) ** 2)))
    assert coarse["blk.0.ffn_up.weight"]["dtype"] == "F16"
    assert coarse["blk.0.ffn_up.weight"]["rms_sigma"] == pytest.approx(measured, rel=0.1)
    assert coarse["blk.0.attn_norm.weight"]["rms_sigma"] < 2**-24


def test_nan_is_a_value_like_any_other(tmp_path: Path) -> None:
    """A trace of a broken file is worth having."""
    stages = dict(run_stages(opened(tmp_path, fault=faults.nonfinite("blk.0.ffn_up.weight", 5)), TOKENS))
    assert bool(stages["layers.0.ffn_up"].isnan().any())
    assert "logits" in stages
