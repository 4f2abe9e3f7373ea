"""ERNIE 4.5 MoE: rotary pairs beside each other in every container, softmax experts chosen with a bias."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.expert_settings import (
    SPARSE,
    expert_layers,
    expert_settings,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.errors import UnsupportedError
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import INTERLEAVED, SPLIT_HALF, Rotary
from rosetta.settings_reader import NOT_RUN, SettingsReader


def _refuse_floor(read: SettingsReader) -> None:
    """Refuse a least sum of the chosen experts' scores that may be more than it: of `n` scores that sum to 1 the `k`
    largest are k/n at least."""
    least = read.spelled("moe_norm_min")
    shares = read.config["expert_used_count"].value / max(read.config["expert_count"].value, 1)
    if least is not None and least.value > shares:
        raise UnsupportedError(
            f"{least.key} is {least.value}, more than the scores of the chosen experts may sum to",
            file=read.container.path,
            remedy=NOT_RUN,
        )


def settings(read: SettingsReader) -> None:
    """The experts, and from which layer to which there are some."""
    expert_settings(read, count=of_folder(64, None), used=of_folder(6, None), width=of_folder(1536, None))
    shared_expert(read, of_folder(2), "moe_num_shared_experts")
    sparse_layers(read)


def sparse_layers(read: SettingsReader) -> None:
    """Which layers have experts; and no floor under their weights that could show."""
    _refuse_floor(read)
    layers = read.config["block_count"].value
    if read.container.kind == "gguf":
        first, step = read.raw("leading_dense_block_count"), read.raw("interleave_moe_layer_step")
        last = None
    else:
        first, step = read.spelled("moe_layer_start_index"), read.spelled("moe_layer_interval")
        last = read.spelled("moe_layer_end_index")
        # Asked for last: what is missing is advised by the usual keys.
        kinds = read.spelled("mlp_layer_types")
        if kinds is not None:
            expert_layers(read, [kind == SPARSE for kind in kinds.value], kinds.key)
            return
    start = first.value if first else 0 if read.container.kind == "gguf" else 1
    every = step.value if step else 1
    end = last.value if last and last.value >= 0 else layers - 1
    sparse = [start <= n <= end and (n + 1) % every == 0 for n in range(layers)]
    expert_layers(read, sparse, first.key if first else None)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention, then experts or a dense network."""
    return mixture_layer(a, c, n, mixer={"rope": Rotary(INTERLEAVED)})


ERNIE4_5_MOE = Architecture(
    "ernie4_5-moe",
    gguf="ernie4_5-moe",
    classes=("Ernie4_5_MoeForCausalLM", "ernie4_5_moe"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=SPLIT_HALF,  # no rows are reordered: pairs lie beside each other in every container
    rope_theta=Default(apr=5e5, gguf=10000.0, huggingface=5e5),
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="ernie4_5_moe",
        defaults={  # transformers, Ernie4_5_MoeConfig
            "block_count": 28,
            "context_length": 131072,
            "embedding_length": 2560,
            "feed_forward_length": 12288,
            "attention.head_count": 20,
            "attention.head_count_kv": 4,
            "vocab_size": 103424,
            "tied_embeddings": True,
        },
        spellings={
            "expert_count": "moe_num_experts",
            "expert_used_count": "moe_k",
        },
        flags={"use_bias": False},
        names=gated("mlp.shared_experts", "_shexp"),
        parameters={
            "model.layers.{bid}.mlp.moe_statics.e_score_correction_bias": "blk.{bid}.exp_probs_b.bias",
        },
        dims={"exp_probs_b": (1, -1)},
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.ERNIE,
        keys={"interleave_moe_layer_step": lambda c: 1},
        idle=frozenset({"attn_output.bias"}),
    ),
)
