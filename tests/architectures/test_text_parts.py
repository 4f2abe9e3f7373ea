"""Folders of models that also see: their text part runs, held to transformers; the rest is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rosetta.architectures import architecture_of
from rosetta.containers import open_container
from rosetta.errors import UnsupportedError
from rosetta.model import open_model
from rosetta.transformer import Transformer

IDS = (17, 10, 17, 28, 300, 5, 63, 299)
SIGHT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 28,
    "patch_size": 14,
}
TEXT = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "tie_word_embeddings": False,
}
ROTATED_BY_THREE = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
    "mrope_section": [2, 1, 1],
}
GLM_SIGHT = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 64}


def llava(T: Any) -> Any:
    sight = T.CLIPVisionConfig(**SIGHT)
    return T.LlavaConfig(text_config=T.LlamaConfig(**TEXT), vision_config=sight, image_token_index=5)


def idefics(T: Any) -> Any:
    return T.Idefics3Config(text_config=T.LlamaConfig(**TEXT), vision_config=dict(SIGHT))


def onevision(T: Any) -> Any:
    sight = T.SiglipVisionConfig(**SIGHT)
    return T.LlavaOnevisionConfig(text_config=T.Qwen2Config(**TEXT), vision_config=sight)


def glm(T: Any) -> Any:
    text = {**TEXT, "head_dim": 16, "rope_parameters": ROTATED_BY_THREE}
    return T.Glm4vConfig(text_config=text, vision_config={**GLM_SIGHT, "image_size": 28, "patch_size": 14})


def listening(T: Any, name: str, text: dict[str, Any]) -> Any:
    sight = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 64}
    sound = {
        "d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "output_dim": 64,
        "num_mel_bins": 16,
    }  # fmt: skip
    turned = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    text = {**TEXT, "rope_parameters": turned, **text}
    return getattr(T, name)(text_config=text, vision_config=sight, audio_config=sound)


def thinker(T: Any) -> Any:
    return listening(T, "Qwen2_5OmniThinkerConfig", {})


def thinker_of_experts(T: Any) -> Any:
    text = {"head_dim": 16, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
    return listening(T, "Qwen3OmniMoeThinkerConfig", text)


def paddle(T: Any) -> Any:
    turned = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    text = {**TEXT, "head_dim": 16, "rope_parameters": turned}
    return T.PaddleOCRVLConfig(text_config=text, vision_config=dict(SIGHT))


def exaone(T: Any) -> Any:
    text = {**TEXT, "model_type": "exaone4", "sliding_window": None, "layer_types": ["full_attention"] * 2}
    return T.Exaone4_5_Config(text_config=text, vision_config=GLM_SIGHT)


CASES = {
    "PaddleOCRVLForConditionalGeneration": (paddle, "paddleocr"),
    "Qwen2_5OmniThinkerForConditionalGeneration": (thinker, "qwen2_5_vl"),
    "Qwen3OmniMoeThinkerForConditionalGeneration": (thinker_of_experts, "qwen3moe"),
    "Exaone4_5_ForConditionalGeneration": (exaone, "exaone4"),
    "LlavaForConditionalGeneration": (llava, "llama"),
    "Idefics3ForConditionalGeneration": (idefics, "llama"),
    "LlavaOnevisionForConditionalGeneration": (onevision, "qwen2"),
    "Glm4vForConditionalGeneration": (glm, "glm4"),
}


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", CASES)
def test_text_part_is_transformers_own(tmp_path: Path, name: str) -> None:
    T = pytest.importorskip("transformers")
    config, architecture = CASES[name]
    torch.manual_seed(0)
    original = getattr(T, name)(config(T)).float().eval()
    for parameter in original.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    original.save_pretrained(tmp_path)
    with torch.no_grad():
        theirs = original(input_ids=torch.tensor([IDS])).logits[0]
    model = open_model(tmp_path)
    assert model.architecture.name == architecture
    ours = Transformer(model)(IDS)
    assert (ours - theirs).abs().max() <= 5e-5 * theirs.std()
    assert model.unknown
    parts = ("vis", "projector", "connector", "audio", "mlp_AR")
    assert all(any(part in name for part in parts) for name in beside(model.unknown))


def beside(names: tuple[str, ...]) -> list[str]:
    """What is no part of the text, but for a vector that stands between lines of an image."""
    return [name for name in names if name != "image_newline"]


@pytest.mark.requires_transformers
def test_a_text_whose_tokens_see_those_behind_them_is_refused(tmp_path: Path) -> None:
    """PaliGemma's, where no class is told where the prompt ends."""
    T = pytest.importorskip("transformers")
    sight = {**SIGHT, "model_type": "siglip_vision_model", "vision_use_head": False, "projection_dim": 64}
    text = {**TEXT, "model_type": "gemma", "head_dim": 16}
    T.PaliGemmaForConditionalGeneration(
        T.PaliGemmaConfig(text_config=text, vision_config=sight)
    ).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match="use_bidirectional_attention is True"):
        open_model(tmp_path)


def test_part_of_an_architecture_that_is_not_run_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "blip-2", "text_config": {"model_type": "opt"}, "vocab_size": 8}'
    )
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert architecture_of(open_container(tmp_path)) is None
