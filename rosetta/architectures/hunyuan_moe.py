"""Hunyuan-A13B: queries and keys normed after they are turned, softmax experts beside a shared one."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.hunyuan_dense import raised_base
from rosetta.architectures.parts.expert_settings import expert_settings, of_folder
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader

SHARED = "expert_shared_feed_forward_length"


def settings(read: SettingsReader) -> None:
    """The experts, all as wide as the dense network would be; and the base of the rotation, which `alpha` stretches."""
    dense = read.config["feed_forward_length"].value
    expert_settings(read, count=of_folder(1, None), used=of_folder(1, None), width=dense)
    read.take(SHARED, "count", dense)
    if read.container.kind == "gguf" and not read.config[SHARED].value:  # llama.cpp takes 0 for none stated
        read.put(SHARED, None, dense, "the dense network's")
    raised_base(read)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention of queries and keys normed after the rotation, then experts."""
    return mixture_layer(
        a, c, n, mixer={"head_norm": None, "after_rope": lambda part: a.head_norm(f"attn_{part}_norm")}
    )


HUNYUAN_MOE = Architecture(
    "hunyuan-moe",
    gguf="hunyuan-moe",
    classes=("HunYuanMoEV1ForCausalLM", "hunyuan_v1_moe"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    qk_norm=True,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="hunyuan_v1_moe",
        defaults={  # transformers, HunYuanMoEV1Config
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "vocab_size": 290943,
            "tied_embeddings": False,
        },
        spellings={"expert_used_count": "moe_topk"},
        flags={"attention_bias": False},
        names={
            **gated("mlp.shared_mlp", "_shexp"),
            "model.layers.{bid}.mlp.gate.wg": "blk.{bid}.ffn_gate_inp",
            "model.layers.{bid}.self_attn.key_layernorm": "blk.{bid}.attn_k_norm",
            "model.layers.{bid}.self_attn.query_layernorm": "blk.{bid}.attn_q_norm",
        },
    ),
    llamacpp=LlamaCpp(
        # It asks for the width of experts as well, and takes the network's.
        reads=frozenset({"expert_shared_feed_forward_length"})
    ),
)
