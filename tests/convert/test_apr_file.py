"""What an `.apr` says of a folder that no GGUF can: under our own words of it, or GGUF's key of a setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.architectures import build_tiny
from rosetta.compare.options import Options
from rosetta.containers import open_container
from rosetta.convert import convert
from rosetta.model import open_model

IDS = (5, 9, 17, 33, 2, 8, 40, 100)

pytestmark = pytest.mark.requires_transformers


@pytest.mark.parametrize(
    ("name", "changed", "key", "said"),
    [
        ("phimoe", {}, "norm_type", None),  # that of transformers' class, as is the mixer of its experts
        ("minicpm3", {"rms_norm_eps": 1e-3}, "attention.latent_norm_epsilon", 1e-6),
        ("deepseek2-glm4lite-eps", {}, "attention.latent_norm_epsilon", 1e-6),
    ],
)
def test_an_apr_says_what_no_gguf_does(
    tmp_path: Path, name: str, changed: dict[str, float], key: str, said: float | None
) -> None:
    folder = build_tiny(tmp_path / "hf", name)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), **changed}), encoding="utf-8")
    done = convert(str(folder), tmp_path / "model.apr", Options(tokens=IDS))
    assert done.comparison is not None
    assert done.comparison.verdict == "match", done.comparison.reason
    stated = open_container(tmp_path / "model.apr").metadata.get(key)
    assert stated == (None if said is None else pytest.approx(said))


def test_an_apr_of_a_gguf_says_the_norm_that_llamacpp_has(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path / "hf", "phimoe")
    convert(str(folder), tmp_path / "model.gguf", Options(), verify=False)
    done = convert(str(tmp_path / "model.gguf"), tmp_path / "model.apr", Options(tokens=IDS))
    assert done.comparison is not None
    assert done.comparison.verdict == "match"
    assert open_container(tmp_path / "model.apr").metadata["norm_type"] == "rms"


def test_an_apr_of_a_gguf_states_the_epsilon_of_the_file_and_not_what_llamacpp_takes(tmp_path: Path) -> None:
    """llama.cpp reads none of a Qwen2-VL, and computes with 0."""
    folder = build_tiny(tmp_path / "hf", "qwen2vl")
    convert(str(folder), tmp_path / "model.gguf", Options(), verify=False)
    done = convert(str(tmp_path / "model.gguf"), tmp_path / "model.apr", Options(tokens=IDS))
    assert not done.faults
    stated = open_container(tmp_path / "model.apr").metadata["rms_norm_eps"]
    key = "attention.layer_norm_rms_epsilon"
    assert stated == pytest.approx(open_container(tmp_path / "model.gguf").settings[key].value)
    assert stated > 0


def test_a_window_of_what_is_written_stays_where_a_prompt_has_none(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path / "hf", "unlimited-ocr")
    assert convert(str(folder), tmp_path / "out.apr", Options(), verify=False).done.lost == []
    written = open_model(tmp_path / "out.apr")
    assert written.container.metadata["sliding_window"] == 128
    assert written["attention.sliding_window"] == 0


def test_words_that_no_forward_pass_reads_come_back_from_an_apr(tmp_path: Path) -> None:
    """As they were stated, and none of the keys that the file has of its own."""
    folder = build_tiny(tmp_path / "hf", "unlimited-ocr")
    convert(str(folder), tmp_path / "out.apr", Options(), verify=False)
    convert(str(tmp_path / "out.apr"), tmp_path / "back", Options(), verify=False)
    stated, back = (
        json.loads((at / "config.json").read_text("utf-8"))["text_config"]
        for at in (folder, tmp_path / "back")
    )
    for key in ("sliding_window", "layer_types", "initializer_range", "attention_dropout", "use_cache"):
        assert back[key] == stated[key], key
    for key in ("attention_multiplier", "rotary_dim", "name", "original_format", "hf_model_type"):
        assert key not in back
    assert open_model(tmp_path / "back")["attention.sliding_window"] == 0
