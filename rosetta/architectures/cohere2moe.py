"""Cohere 2 MoE: attention and experts side by side under one norm, three of four layers with window and rotary."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.architectures import INTERLEAVED, SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.builders import attention, head, output_of, parallel, scores_of
from rosetta.architectures.parts.expert_settings import (
    expert_settings,
    leading_dense,
    leading_dense_count,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.gguf_counts import Counts, Refused
from rosetta.architectures.parts.mixtures import network
from rosetta.containers.container import Setting
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale
from rosetta.ops.rotary import Rotary
from rosetta.setting_values import PerLayer, Value
from rosetta.settings_reader import SettingsReader

PATTERN, STEP = "attention.sliding_window_pattern", 4
AVERAGE = "expert_output_scale"


def settings(read: SettingsReader) -> None:
    """The experts, averaged with the shared one, and which layers are turned: the first dense ones, and those with a
    window."""
    _norm(read)
    dense = read.config["feed_forward_length"].value
    stated = read.spelled("expert_selection_fn")
    gating = 2 if stated is not None and stated.value == "sigmoid" else 1
    expert_settings(
        read,
        count=of_folder(8, None),
        used=of_folder(2, None),
        width=dense,
        gating=of_folder(gating, 2),
        normalised=of_folder(True, False),
        scale=1.0,
    )
    folder = read.container.kind == "huggingface"
    if folder and gating == 1 and "expert_weights_norm" not in read.overrides:
        read.put("expert_weights_norm", None, True, "a softmax of the chosen scores sums to one")
    shared_expert(read, 0, "num_shared_experts")
    prefix = read.spelled("prefix_dense_intermediate_size")
    if prefix is not None and "feed_forward_length" not in read.overrides:
        read.put("feed_forward_length", Setting(prefix.value, prefix.key), None)
    leading_dense(read, 0, "first_k_dense_replace")
    combined = read.spelled("shared_expert_combination_strategy")
    averaged = read.config["expert_shared_feed_forward_length"].value and not (
        combined is not None and combined.value == "sum"
    )
    read.take(AVERAGE, "number", 0.5 if averaged else 1.0, note="of the experts and the shared one")
    read.take("logit_scale", "number", of_folder(0.0625, 1.0))
    layers = range(read.config["block_count"].value)
    if read.container.kind == "gguf" and read.raw(PATTERN) is None:
        read.by_layer(PATTERN, [n % STEP != 0 for n in layers], "the first of four sees all, in llama.cpp")
    sliding = read.config[PATTERN].value
    sparse = read.config["expert_layers"].value
    by_layer = [
        value if isinstance(value, PerLayer) else [value] * len(layers) for value in (sliding, sparse)
    ]
    first = next((n for n in layers if by_layer[1][n]), len(layers))
    read.by_layer("rope.layers", [by_layer[0][n] or n < first for n in layers], "the layers that are turned")


def _norm(read: SettingsReader) -> None:
    """llama.cpp takes means off, unless a file states the epsilon of norms that do not (models/cohere2moe.cpp)."""
    key = "attention.layer_norm_rms_epsilon"
    epsilon = read.raw(key) if read.container.kind == "gguf" else None
    if epsilon is None or epsilon.value == 0 or "norm_type" in read.overrides:
        return
    read.take(key, "number")
    read.config["norm_type"] = Value("rms", epsilon.key)
    if read.architecture.epsilon_key not in read.overrides:
        read.config[read.architecture.epsilon_key] = read.config.pop(key)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Both blocks read the layer's input through one norm."""
    rope = Rotary(INTERLEAVED, where="rope.layers")
    mixer = attention(norm=a.norm_of("attn_norm"), rope=rope, scores=scores_of(c))
    return parallel(output_of(n - 1), mixer, network(a, c, norm=None, out_scale=AVERAGE))


def shared_by_count(counts: Counts) -> Iterator[Refused]:
    """A shared expert that nothing counts: llama.cpp loads as many as are counted (src/models/cohere2moe.cpp)."""
    if any("_shexp." in name for name in counts.tensors) and not counts.of("expert_shared_count"):
        yield Refused(
            "expert_shared_count", counts.get("expert_shared_count"), "for a file with a shared expert"
        )


COHERE2MOE = Architecture(
    "cohere2moe",
    gguf="cohere2moe",
    classes=("Cohere2MoeForCausalLM", "cohere2_moe"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=SPLIT_HALF,  # no rows are reordered: pairs lie beside each other in every container
    full_attention_every=STEP,
    settings=settings,
    layer=layer,
    after=lambda a, layers: head(output_of(layers - 1), Scale("logit_scale"), norm=a.norm_of("output_norm")),
    huggingface=HuggingFace(
        model_type="cohere2_moe",
        defaults={  # transformers, Cohere2MoeConfig
            "block_count": 40,
            "context_length": 8192,
            "embedding_length": 8192,
            "feed_forward_length": 22528,
            "attention.head_count": 64,
            "attention.key_length": 128,
            "attention.sliding_window": 4096,
            "vocab_size": 256000,
            "tied_embeddings": True,
        },
        spellings={
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "logit_scale": "logit_scale",
        },
        flags={"attention_bias": False},
        only_with={"prefix_dense_sliding_window_pattern": (1,), "rms_norm_eps": ()},
        names=gated("mlp.shared_experts", "_shexp"),
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.EXPERTS
        | {"expert_shared_feed_forward_length", "logit_scale", "rope.freq_base_swa"},
        keys={"leading_dense_block_count": leading_dense_count},
        factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS | factors.SHARED,
        windows="stretched",
        refuses=shared_by_count,
    ),
)
