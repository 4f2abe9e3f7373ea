"""MPT: ALiBi in place of rotary, LayerNorms without bias, q, k and v clamped in some."""

from __future__ import annotations

import re

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, scores_of, sequential
from rosetta.errors import UnsupportedError
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.settings_reader import NOT_RUN, SettingsReader

ALIBI = "attention.max_alibi_bias"
MORE = re.compile(r"blk\.\d+\.(attn_[qk]_norm|ffn\.act)\.")  # llama.cpp, models/mpt.cpp
EXPANSION = 4  # transformers, modeling_mpt.py, MptMLP: whatever expansion_ratio says
LARGEST = 8.0  # transformers, modeling_mpt.py, build_mpt_alibi_tensor: nothing hands it another


def settings(read: SettingsReader) -> None:
    """ALiBi's largest exponent, 0 where there is none; where q, k and v are clamped; the width of the network."""
    _refuse_what_only_llamacpp_runs(read)
    read.take("attention.clamp_kqv", "number", 0.0, ("attn_config.clip_qkv",), note="not clamped")
    read.take(ALIBI, "number", 0.0, ("attn_config.alibi_bias_max",))
    if read.container.kind == "huggingface":
        read.fixed(ALIBI, LARGEST, "the class's own, whatever its config says")
        for key, computed in (("attn_config.alibi", True), ("attn_config.alibi_bias_max", LARGEST)):
            stated = read.spelled(key)
            if stated is not None and stated.value != computed:
                read.deny(stated)
    scale = read.spelled("attn_config.softmax_scale")
    if scale is not None and read.container.kind == "huggingface":
        read.by_layer("attention.scale", [scale.value], stated=scale.key)
    if read.container.kind == "huggingface":
        width = EXPANSION * read.config["embedding_length"].value
        read.fixed("feed_forward_length", width, f"{EXPANSION} × the embedding length")
        ratio = read.spelled("expansion_ratio")
        if ratio is not None and ratio.value != EXPANSION:
            read.deny(ratio)


def _refuse_what_only_llamacpp_runs(read: SettingsReader) -> None:
    """Normed queries and keys, and divisors of the activation, which AWQ wrote: no folder that is read has them."""
    more = next((name for name in read.container.tensors if MORE.search(name)), None)
    if read.container.kind == "gguf" and more is not None:
        raise UnsupportedError(
            "rosetta runs mpt without it", file=read.container.path, where=f"tensor '{more}'", remedy=NOT_RUN
        )


def _whole(number: float) -> float:
    """A count where it is one."""
    return int(number) if number == int(number) else number


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention whose scores fall with distance, then a network without a gate."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=None,
            clamp="attention.clamp_kqv",
            scores=scores_of(c, alibi=ALIBI),
        ),
        feed_forward(norm=a.norm_of("ffn_norm"), gated=False),
    )


MPT = Architecture(
    "mpt",
    gguf="mpt",
    classes=("MptForCausalLM", "MPTForCausalLM"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu",
    gated=False,
    rope=None,
    learned_positions=True,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        unread=frozenset(
            {"activation", "attention.head_count_kv", "attention.key_length", "attention.value_length"}
        ),
        defaults={  # transformers, MptConfig
            "block_count": 24,
            "context_length": 2048,
            "embedding_length": 2048,
            "attention.head_count": 16,
            "vocab_size": 50368,
            "tied_embeddings": True,
        },
        spellings={
            "embedding_length": "d_model",
            "block_count": "n_layers",
            "attention.head_count": "n_heads",
            "context_length": "max_seq_len",
        },
        keys={
            "attn_config.alibi": lambda c: bool(c[ALIBI].value),
            "attn_config.alibi_bias_max": lambda c: int(c[ALIBI].value) or None,
            "attn_config.clip_qkv": lambda c: c["attention.clamp_kqv"].value or None,
            "expansion_ratio": lambda c: _whole(c["feed_forward_length"].value / c["embedding_length"].value),
        },
        idle=frozenset(
            f"attn_config.{key}"
            for key in (
                "attn_impl",
                "attn_type",
                "attn_pdrop",
                "dtype",
                "id2label",
                "label2id",
                "return_dict",
            )
        )
        | {"embedding_fraction", "init_device", "learned_pos_emb", "norm_type"},
        names={
            "transformer.blocks.{bid}.attn.Wqkv": "blk.{bid}.attn_qkv",
            "transformer.blocks.{bid}.attn.out_proj": "blk.{bid}.attn_output",
            "transformer.blocks.{bid}.ffn.down_proj": "blk.{bid}.ffn_down",
            "transformer.blocks.{bid}.ffn.up_proj": "blk.{bid}.ffn_up",
            "transformer.blocks.{bid}.norm_1": "blk.{bid}.attn_norm",
            "transformer.blocks.{bid}.norm_2": "blk.{bid}.ffn_norm",
            "transformer.norm_f": "output_norm",
            "transformer.wte": "token_embd",
        },
    ),
    llamacpp=LlamaCpp(reads=frozenset({"attention.clamp_kqv", "attention.max_alibi_bias"})),
)
