"""MiniMax-M3: normed heads, part rotary, leading dense layers, then sigmoid experts beside a shared one, all with the
gate of gpt-oss; layers with experts see the best few blocks of tokens, which an indexer chooses and is not run."""

from __future__ import annotations

from collections.abc import Sequence

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.builders import scores_of
from rosetta.architectures.parts.expert_settings import (
    clamped_gate_settings,
    expert_layers,
    expert_settings,
    leading_dense,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import BLOCK_SPARSE, gated, in_layers
from rosetta.architectures.parts.mixtures import SHARED, mixture_layer
from rosetta.architectures.parts.readings import (
    GATE_UP,
    Reading,
    Stored,
    first_of,
    fused,
    one_more_where,
    standard_readings,
)
from rosetta.architectures.parts.stated_kinds import network_kinds
from rosetta.graph import Stage
from rosetta.ops.clamped_gate import ClampedGate
from rosetta.ops.indexer import BLOCK_SIZE, TOP_K, BlockScores
from rosetta.ops.op import Settings
from rosetta.setting_values import Config, listed
from rosetta.settings_reader import SettingsReader

NORMS = (
    "attn_norm",
    "ffn_norm",
    "attn_q_norm",
    "attn_k_norm",
    "output_norm",
    "indexer.q_norm",
    "indexer.k_norm",
)
INDEXED = "attention.indexer.types"
PUBLISHED = "sparse_attention_config."  # the table of the indexer in published folders
INDEXER = {  # canonical key -> what the class calls it, what published folders do, and the class's default
    "attention.indexer.head_count": ("index_n_heads", "sparse_num_index_heads", 4),
    "attention.indexer.key_length": ("index_head_dim", "sparse_index_dim", 128),
    BLOCK_SIZE: ("index_block_size", "sparse_block_size", 128),
    TOP_K: ("index_topk_blocks", "sparse_topk_blocks", 16),
    "attention.indexer.local_blocks": ("index_local_blocks", "sparse_local_block", 1),
}


def settings(read: SettingsReader) -> None:
    """The experts, the constants of the gate, which GGUF has no place for, and what the indexer chooses."""
    stated = read.spelled("intermediate_size")
    expert_settings(
        read,
        count=of_folder(128, None),
        used=of_folder(4, None),
        width=of_folder(3072 if stated is None else stated.value, None),
        gating=2,
        normalised=of_folder(True, False),
        scale=of_folder(2.0, 1.0),
    )
    if read.container.kind == "huggingface":
        read.take(SHARED, "count", 3072, ("shared_intermediate_size",))
    else:
        shared_expert(read, of_folder(1, None))
    clamped_gate_settings(read)
    _dense_layers(read)
    for key, (own, published, default) in INDEXER.items():
        read.take(key, "count", of_folder(default, None), (PUBLISHED + published, own))
    _indexed_layers(read)


def _dense_layers(read: SettingsReader) -> None:
    """Those without experts: the first ones of a GGUF, those that a folder lists as such."""
    flags, kinds = read.spelled("moe_layer_freq"), read.spelled("mlp_layer_types")
    if read.container.kind == "gguf" or kinds is not None or flags is None:
        leading_dense(read, 0)
    else:
        expert_layers(read, [bool(on) for on in flags.value][: read.config["block_count"].value], flags.key)


def _indexed_layers(read: SettingsReader) -> None:
    """Layers with an indexer: those that a folder lists, in llama.cpp those with experts."""
    if read.container.kind == "gguf":
        read.by_layer(INDEXED, listed(read.config, "expert_layers"), "the layers with experts")
        return
    kinds, flags = read.spelled("layer_types"), read.spelled(PUBLISHED + "sparse_attention_freq")
    stated = kinds or flags
    on = [] if stated is None else [kind not in ("full_attention", 0, False) for kind in stated.value]
    layers = read.config["block_count"].value
    read.by_layer(INDEXED, (on or [False] * layers)[:layers], stated=None if stated is None else stated.key)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention, then experts or a dense network."""
    scores = BlockScores(window=None) if c[INDEXED] else scores_of(c, window=None)
    return mixture_layer(a, c, n, act=ClampedGate(), mixer={"scores": scores})


def gate_and_up(stored: Stored, c: Settings) -> Sequence[Reading] | None:
    """Gate and up of a dense network, or of the shared expert, in one tensor."""
    kind = stored.stem.removeprefix("ffn_gate_up")
    if kind not in ("", "_shexp") or not stored.dims:
        return None
    return fused(stored, [stem + kind for stem in GATE_UP], [stored.dims[0] // 2] * 2)


def attention_kinds(c: Config) -> list[str]:
    """Which layers have an indexer, as the class lists them."""
    return ["minimax_m3_sparse" if on else "full_attention" for on in listed(c, INDEXED)]


MINIMAX_M3 = Architecture(
    "minimax-m3",
    gguf="minimax-m3",
    classes=(
        "MiniMaxM3VLForCausalLM",
        "MiniMaxM3SparseForCausalLM",
        "MiniMaxM3SparseForConditionalGeneration",
        "minimax_m3_vl",
        "minimax_m3_vl_text",
    ),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope_theta=Default(apr=5e6, gguf=10000.0, huggingface=5e6),
    qk_norm=True,
    settings=settings,
    readings=first_of(one_more_where(*NORMS), gate_and_up, standard_readings),
    layer=layer,
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor"}),
        model_type="minimax_m3_vl_text",
        defaults={  # transformers, MiniMaxM3VLTextConfig
            "block_count": 60,
            "context_length": 524288,
            "embedding_length": 6144,
            "feed_forward_length": 12288,
            "attention.head_count": 64,
            "attention.head_count_kv": 4,
            "attention.key_length": 128,
            "vocab_size": 200064,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "num_local_experts",
            "feed_forward_length": "dense_intermediate_size",
            "expert_feed_forward_length": "intermediate_size",
            "expert_weights_scale": "routed_scaling_factor",
            SHARED: "shared_intermediate_size",
            **{key: own for key, (own, _, _) in INDEXER.items()},
        },
        keys={"mlp_layer_types": network_kinds, "layer_types": attention_kinds},
        # Its gate is one, and the share of rope_parameters says how much is rotated.
        unread=frozenset({"activation", "rope.dimension_count"}),
        idle=frozenset({"hidden_act"}),
        says_anyway={
            **dict.fromkeys(("use_gemma_norm", "use_qk_norm", "use_routing_bias"), True),
            "n_shared_experts": 1,
            "qk_norm_type": "per_head",
            "scoring_func": "sigmoid",
        },
        names={
            **in_layers(
                {"mlp.gate_up_proj": "ffn_gate_up", "mlp.shared_experts.gate_up_proj": "ffn_gate_up_shexp"}
            ),
            **gated("mlp.shared_experts", "_shexp"),
            **gated("block_sparse_moe.shared_experts", "_shexp"),
            **in_layers({"mlp.gate": "ffn_gate_inp"}),
            **BLOCK_SPARSE,
            **in_layers(
                {
                    f"self_attn.{prefix}{part}": f"indexer.{part}"
                    for prefix in ("indexer.", "index_")
                    for part in ("q_proj", "k_proj", "q_norm", "k_norm")
                }
            ),
        },
        parameters=in_layers(
            {
                "mlp.experts.gate_up_proj": "ffn_gate_up_exps",
                "mlp.experts.down_proj": "ffn_down_exps",
                "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
                "block_sparse_moe.e_score_correction_bias": "exp_probs_b.bias",
            }
        ),
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.EXPERTS | llamacpp_keys.INDEXER | {BLOCK_SIZE, "attention.indexer.local_blocks"},
        keys={
            "leading_dense_block_count": lambda c: (
                listed(c, "expert_layers").index(True)
                if True in listed(c, "expert_layers")
                else c["block_count"].value
            )
        },
        factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS | factors.SHARED,
    ),
)
