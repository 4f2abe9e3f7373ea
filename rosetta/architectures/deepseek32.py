"""DeepSeek-V3.2 and GLM-5: DeepSeek-V3 whose tokens see no more than the best few of those before them.

Which these are, an indexer says, which is not run: of a sequence that is no longer than their number all are seen.
"""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import Default
from rosetta.architectures.deepseek2 import DEEPSEEK_V3, sigmoid_experts, yarn_scales
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.expert_settings import (
    expert_groups,
    latent_settings,
    leading_dense,
    of_folder,
)
from rosetta.ops.indexer import TOP_K
from rosetta.setting_values import listed
from rosetta.settings_reader import SettingsReader

INDEX_HEADS, INDEX_SIZE = "attention.indexer.head_count", "attention.indexer.key_length"
INDEXED = "attention.indexer.types"  # which layers choose anew, and do not see what the one before chose


def v32_settings(read: SettingsReader) -> None:
    """DeepSeek-V3's, and how many tokens are seen."""
    latent_settings(read, query_rank=1536, rank=512, own=128, value=128)
    sigmoid_experts(read, count=256, used=8, width=2048, scale=2.5, gating=2)
    expert_groups(read, of_folder(8), of_folder(4))
    _indexed(read, heads=64)


def glm_settings(read: SettingsReader) -> None:
    """The same in other sizes; llama.cpp takes a sigmoid where a file names no function (models/glm-dsa.cpp)."""
    latent_settings(read, query_rank=2048, rank=512, own=192, value=256)
    sigmoid_experts(read, count=256, used=8, width=2048, scale=2.5, gating=2)
    expert_groups(read, of_folder(1), of_folder(1))
    _indexed(read, heads=32)
    stated, kinds = read.raw(INDEXED), read.spelled("indexer_types")
    if kinds is not None:
        read.by_layer(INDEXED, [kind == "full" for kind in kinds.value], stated=kinds.key)
    elif stated is not None:
        read.take(INDEXED, "flag")


def _indexed(read: SettingsReader, heads: int) -> None:
    leading_dense(read, of_folder(3), "first_k_dense_replace")
    yarn_scales(read)
    read.take(TOP_K, "count", of_folder(2048, None), ("index_topk",))
    read.take(INDEX_HEADS, "count", of_folder(heads, None), ("index_n_heads",))
    read.take(INDEX_SIZE, "count", of_folder(128, None), ("index_head_dim",))


DEEPSEEK32 = replace(
    DEEPSEEK_V3,
    name="deepseek32",
    gguf="deepseek32",
    classes=("DeepseekV32ForCausalLM", "deepseek_v32"),
    settings=v32_settings,
    huggingface=replace(
        DEEPSEEK_V3.huggingface,
        model_type="deepseek_v32",
        defaults={  # transformers, DeepseekV32Config
            "block_count": 61,
            "context_length": 163840,
            "embedding_length": 7168,
            "feed_forward_length": 18432,
            "attention.head_count": 128,
            "attention.head_count_kv": 128,
            "rope.dimension_count": 64,
            "vocab_size": 129280,
            "tied_embeddings": False,
        },
        names={
            **DEEPSEEK_V3.huggingface.names,
            "model.layers.{bid}.self_attn.indexer.wq_b": "blk.{bid}.indexer.attn_q_b",
            "model.layers.{bid}.self_attn.indexer.wk": "blk.{bid}.indexer.attn_k",
            "model.layers.{bid}.self_attn.indexer.k_norm": "blk.{bid}.indexer.k_norm",
            "model.layers.{bid}.self_attn.indexer.weights_proj": "blk.{bid}.indexer.proj",
        },
    ),
    llamacpp=replace(
        DEEPSEEK_V3.llamacpp,
        reads=llamacpp_keys.EXPERTS
        | llamacpp_keys.LATENT
        | llamacpp_keys.INDEXER
        | {"rope.dimension_sections", "rope.scaling.yarn_log_multiplier"},
        factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS | factors.SHARED,
    ),
)
GLM_DSA = replace(
    DEEPSEEK32,
    name="glm-dsa",
    gguf="glm-dsa",
    classes=("GlmMoeDsaForCausalLM", "glm_moe_dsa"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=glm_settings,
    huggingface=replace(
        DEEPSEEK32.huggingface,
        model_type="glm_moe_dsa",
        defaults={  # transformers, GlmMoeDsaConfig
            "block_count": 78,
            "context_length": 202752,
            "embedding_length": 6144,
            "feed_forward_length": 12288,
            "attention.head_count": 64,
            "attention.head_count_kv": 64,
            "rope.dimension_count": 64,
            "vocab_size": 154880,
            "tied_embeddings": False,
        },
        keys={"indexer_types": lambda c: ["full" if on else "shared" for on in listed(c, INDEXED)]},
    ),
    llamacpp=replace(
        DEEPSEEK32.llamacpp,
        reads=llamacpp_keys.EXPERTS
        | llamacpp_keys.LATENT
        | llamacpp_keys.INDEXER
        | {"attention.indexer.types", "rope.dimension_sections"},
        keys={INDEXED: lambda c: listed(c, INDEXED) if INDEXED in c else None},
        factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS | factors.SHARED,
    ),
)
