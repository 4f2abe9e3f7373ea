"""gpt-oss: attention sinks, biases everywhere, a window in every other layer, experts with a clamped gate."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import scores_of
from rosetta.architectures.parts.expert_settings import (
    clamped_gate_settings,
    expert_settings,
    of_folder,
    refuse_base_of_windows,
)
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.architectures.parts.readings import EXPERTS_GATE_UP, Reading, Stored, experts, standard_readings
from rosetta.graph import Stage
from rosetta.ops.clamped_gate import ClampedGate
from rosetta.ops.experts import SOFTMAX_OF_CHOSEN
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The experts, and the constants of their gate, which GGUF has no place for."""
    stated = read.spelled("intermediate_size")
    expert_settings(
        read,
        count=of_folder(128, None),
        used=of_folder(4, None),
        width=of_folder(2880 if stated is None else stated.value, None),
        gating=SOFTMAX_OF_CHOSEN,
        normalised=False,
    )
    clamped_gate_settings(read)
    refuse_base_of_windows(read)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with sinks, then experts."""
    scores = scores_of(c, sinks="attn_sinks")
    return mixture_layer(a, c, n, ffn_norm="post_attention_norm", act=ClampedGate(), mixer={"scores": scores})


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """A folder stores each expert's matrix `[in, out]`, a packed one `[out, in]`; outputs of gate and up by turns."""
    turned = not stored.packed
    if stored.foreign and stored.stem == "ffn_gate_up_exps":
        outputs = stored.dims[1:][-1 if turned else 0] if len(stored.dims) > 1 else 0
        return experts(stored, EXPERTS_GATE_UP, groups=outputs // 2, transposed=turned)
    if stored.foreign and stored.stem == "ffn_down_exps":
        return experts(stored, transposed=turned)
    found = standard_readings(stored, c)
    return None if found is None else list(found)


GPT_OSS = Architecture(
    "gpt-oss",
    gguf="gpt-oss",
    classes=("GptOssForCausalLM", "gpt_oss"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope_theta=Default(apr=150000.0, gguf=10000.0, huggingface=150000.0),
    full_attention_every=2,
    settings=settings,
    readings=readings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="gpt_oss",
        defaults={  # transformers, GptOssConfig
            "block_count": 36,
            "context_length": 131072,
            "embedding_length": 2880,
            "feed_forward_length": 2880,
            "attention.head_count": 64,
            "attention.head_count_kv": 8,
            "attention.key_length": 64,
            "attention.sliding_window": 128,
            "rope.scaling": {
                "rope_type": "yarn",
                "factor": 32.0,
                "original_max_position_embeddings": 4096,
                "truncate": False,
            },
            "vocab_size": 201088,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "num_local_experts",
        },
        flags={"attention_bias": True},
        names={
            "model.layers.{bid}.mlp.router": "blk.{bid}.ffn_gate_inp",
            "model.layers.{bid}.post_attention_layernorm": "blk.{bid}.post_attention_norm",
        },
        parameters={
            "model.layers.{bid}.mlp.experts.down_proj": "blk.{bid}.ffn_down_exps",
            "model.layers.{bid}.mlp.experts.down_proj_bias": "blk.{bid}.ffn_down_exps.bias",
            "model.layers.{bid}.mlp.experts.gate_up_proj": "blk.{bid}.ffn_gate_up_exps",
            "model.layers.{bid}.mlp.experts.gate_up_proj_bias": "blk.{bid}.ffn_gate_up_exps.bias",
            "model.layers.{bid}.self_attn.sinks": "blk.{bid}.attn_sinks.weight",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"expert_feed_forward_length", "rope.freq_base_swa"}),
        windows="stretched",
    ),
)
