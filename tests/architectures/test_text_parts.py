"""Folders of models that also see, hear or speak: their text part runs, held to transformers; the rest is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures.wholes import build_whole
from rosetta.architectures import architecture_of
from rosetta.containers import open_container
from rosetta.errors import UnsupportedError
from rosetta.model import open_model
from rosetta.transformer import Transformer

IDS = (17, 10, 17, 28, 300, 5, 63, 299, 44, 12, 250, 99)
EXACT = 5e-5  # times the spread of the logits
CLASSES = {  # transformers' model_type -> the architecture of the part that reads
    "aria": "aria",
    "aya_vision": "cohere2",
    "cohere2_vision": "cohere2",
    "cosmos3_omni": "qwen3vl",
    "deepseek_vl": "llama",
    "ernie4_5_vl_moe": "ernie4_5_vl_moe",
    "exaone4_5": "exaone4",
    "fun_asr_nano": "qwen3",
    "gemma3": "gemma3",
    "gemma4": "gemma4",
    "glm46v": "glm4v",
    "glm4v": "glm4v",
    "glm4v_moe": "glm4moe",
    "glm_ocr": "glm_ocr",
    "got_ocr2": "qwen2",
    "granite4_vision": "granite",
    "granite_docling": "granite_docling",
    "granite_speech": "granite",
    "idefics2": "mistral",
    "idefics3": "llama",
    "internvl": "qwen2",
    "kimi_k25": "deepseek_v3",
    "lfm2_vl": "lfm2",
    "lighton_ocr": "qwen3",
    "llama4": "llama4",
    "llava": "llama",
    "llava_next": "llama",
    "llava_onevision": "qwen2",
    "minicpm_ocr": "qwen35",
    "minicpmv4_6": "qwen35",
    "mistral3": "mistral3",
    "moss_transcribe_diarize": "qwen3",
    "muse_glimmer": "muse-glimmer",
    "nemotron_h_omni": "nemotron_h_moe",
    "ovis2": "qwen2",
    "phi4_multimodal": "phi4_multimodal",
    "qianfan_ocr": "qwen3",
    "qwen2_5_omni": "qwen2_5_vl",
    "qwen2_5_omni_thinker": "qwen2_5_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen2_audio": "qwen2",
    "qwen2_vl": "qwen2vl",
    "qwen3_5": "qwen35",
    "qwen3_5_moe": "qwen35moe",
    "qwen3_asr": "qwen3_asr",
    "qwen3_omni_moe": "qwen3_omni_moe",
    "qwen3_omni_moe_thinker": "qwen3_omni_moe",
    "qwen3_vl": "qwen3vl",
    "qwen3_vl_moe": "qwen3vlmoe",
    "smolvlm": "llama",
    "step3p7": "step35",
    "video_llama_3": "qwen2",
    "video_llava": "llama",
    "vipllava": "llama",
    "voxtral": "llama",
}
WITHOUT_TOWERS = {"gemma4"}  # whose class makes none by itself


@pytest.mark.sample(9)
@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", CLASSES)
def test_text_part_is_transformers_own(tmp_path: Path, name: str) -> None:
    pytest.importorskip("transformers")
    theirs = computed(build_whole(tmp_path, name))
    model = open_model(tmp_path)
    assert model.architecture.name == CLASSES[name]
    assert (Transformer(model)(IDS) - theirs).abs().max() <= EXACT * theirs.std()
    assert bool(model.unknown) == (name not in WITHOUT_TOWERS)
    assert not model.unheeded or name == "kimi_k25"


def computed(original: Any) -> torch.Tensor:
    """Logits of a text, by transformers."""
    with torch.no_grad():
        if original.config.model_type == "llama4":  # 5.24 asks the text's output for those of an image
            text = original.language_model
            return text(input_ids=torch.tensor([IDS])).logits[0]  # type: ignore[no-any-return]
        return original(input_ids=torch.tensor([IDS])).logits[0]  # type: ignore[no-any-return]


def nested(place: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """config.json with the part's own table under another key."""
    *outer, last = place.split(".")

    def change(config: dict[str, Any]) -> dict[str, Any]:
        inner = {last: config.pop("text_config"), "tie_word_embeddings": config["tie_word_embeddings"]}
        return config | ({outer[0]: inner} if outer else inner)

    return change


SPELLINGS: Mapping[str, tuple[str, str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "transformers 4": ("language_model.model.", "language_model.lm_head.", lambda config: config),
    "transformers 5": ("model.language_model.", "lm_head.", lambda config: config),
    "Idefics and SmolVLM": ("model.text_model.", "lm_head.", lambda config: config),
    "ShieldGemma 2": ("model.language_model.model.", "model.language_model.lm_head.", lambda config: config),
    "InternVL": ("language_model.model.", "language_model.lm_head.", nested("llm_config")),
    "MiniCPM-V": ("llm.model.", "llm.lm_head.", nested("llm_config")),
    "DeepSeek-VL2": ("language.model.", "language.lm_head.", nested("language_config")),
    "Qwen's Omni": ("thinker.model.", "thinker.lm_head.", nested("thinker_config.text_config")),
    "LightOn-OCR": ("language_model.model.", "language_model.lm_head.", nested("lm_config")),
    "layers renamed": ("language_model.model.encoder.", "lm_head.", lambda config: config),
}


@pytest.mark.requires_transformers
@pytest.mark.parametrize("spelled", SPELLINGS)
def test_text_part_is_found_under_every_name_that_wholes_give_it(tmp_path: Path, spelled: str) -> None:
    pytest.importorskip("transformers")
    prefix, head, change = SPELLINGS[spelled]
    theirs = computed(build_whole(tmp_path, "llava"))
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    text, lm_head = "language_model.model.", "language_model.lm_head."
    layers = text + "layers." if prefix.endswith("encoder.") else text
    named = {
        (name.replace(layers, prefix + "layers." * (layers != text), 1).replace(lm_head, head, 1)): tensor
        for name, tensor in load_file(file).items()
    }
    save_file(named, file)
    config.write_text(json.dumps(change(json.loads(config.read_text()))))
    model = open_model(tmp_path)
    assert (Transformer(model)(IDS) - theirs).abs().max() <= EXACT * theirs.std()
    assert all(name.startswith(("vision_tower", "multi_modal")) for name in model.unknown)


def test_what_stands_outside_of_a_part_that_names_its_class_is_none_of_its_settings(tmp_path: Path) -> None:
    outer = {"model_type": "musicflamingo", "head_dim": 1280, "rope_theta": 7.0}
    inner = {"model_type": "qwen2", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    found = opened(tmp_path / "named", {**outer, "text_config": inner})
    assert (found["attention.key_length"], found["rope.freq_base"]) == (4, 10000.0)
    del inner["model_type"]
    found = opened(tmp_path / "unnamed", {**outer, "model_type": "qwen2", "text_config": inner})
    assert (found["attention.key_length"], found["rope.freq_base"]) == (1280, 7.0)


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"model_type": "internvl"}, True),  # its class's default, whatever is said of the part
        ({"model_type": "internvl", "tie_word_embeddings": False}, False),
        ({"model_type": "llava"}, False),
        ({"model_type": "llava", "tie_word_embeddings": True}, True),
    ],
)
def test_head_is_tied_by_what_is_said_of_the_whole(
    tmp_path: Path, config: dict[str, Any], tied: bool
) -> None:
    inner = {"model_type": "qwen2", "tie_word_embeddings": False, "hidden_size": 8, "num_attention_heads": 2}
    assert opened(tmp_path, {**config, "text_config": inner})["tied_embeddings"] is tied


def test_a_head_that_is_stored_is_not_tied_by_default(tmp_path: Path) -> None:
    """transformers warns of two different ones, and ties neither."""
    inner = {"model_type": "qwen2", "hidden_size": 8, "num_attention_heads": 2}
    opened(tmp_path, {"model_type": "internvl", "text_config": inner})
    stored = {"model.embed_tokens.weight": torch.zeros(4, 8), "lm_head.weight": torch.ones(4, 8)}
    save_file(stored, tmp_path / "model.safetensors")
    assert open_model(tmp_path)["tied_embeddings"] is False


def opened(folder: Path, config: dict[str, Any]) -> Any:
    """A folder of such a config.json, of which no more is asked than its settings."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"model.embed_tokens.weight": torch.zeros(4, 8)}, folder / "model.safetensors")
    return open_model(folder)


@pytest.mark.requires_transformers
def test_a_text_whose_tokens_see_those_behind_them_is_refused(tmp_path: Path) -> None:
    """PaliGemma's, where no class is told where the prompt ends."""
    pytest.importorskip("transformers")
    build_whole(tmp_path, "paligemma")
    with pytest.raises(UnsupportedError, match="use_bidirectional_attention is True"):
        open_model(tmp_path)


def test_part_of_an_architecture_that_is_not_run_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "blip-2", "text_config": {"model_type": "opt"}, "vocab_size": 8}'
    )
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert architecture_of(open_container(tmp_path)) is None
