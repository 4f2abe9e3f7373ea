"""LFM3: short convolutions, and attention with normed heads and a gate for each, of a window or of all tokens with a
rotation of its own; each block normed before and after. No GGUF has it: llama.cpp does not know the model."""

from __future__ import annotations

from functools import partial

from rosetta.architectures import SPLIT_HALF, Architecture, HuggingFace
from rosetta.architectures.lfm2 import EPSILON, LFM2, NAMES, TAPS, THETA, short_convolution
from rosetta.architectures.parts.builders import (
    HEADS,
    attention,
    feed_forward,
    output_of,
    scores_of,
    sequential,
    windowed_rope,
)
from rosetta.architectures.parts.expert_settings import of_folder
from rosetta.architectures.parts.folder_names import in_layers
from rosetta.architectures.parts.recurrent import (
    RECURRENT,
    layer_kinds,
    recurrent_without_heads,
    rms_epsilon,
)
from rosetta.architectures.parts.stated_kinds import PATTERN
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Gate
from rosetta.setting_values import Config, listed
from rosetta.settings_reader import SettingsReader

CONVOLUTION, SLIDING, FULL = "conv", "sliding_attention", "full_attention"


def settings(read: SettingsReader) -> None:
    """Taps of the convolutions, of which kind each layer is, and the base of layers with a window."""
    rms_epsilon(read)
    read.take(TAPS, "count", of_folder(7), ("conv_L_cache",))
    read.take("rope.freq_base_swa", "number", 10000.0)
    if read.container.kind == "gguf":
        recurrent_without_heads(read, ())
        return
    kinds, stated = layer_kinds(read, [_kind(n) for n in range(read.config["block_count"].value)])
    recurrent_without_heads(read, [kind == CONVOLUTION for kind in kinds], stated)
    read.by_layer(PATTERN, [kind == SLIDING for kind in kinds], "the layers that slide", stated)


def _kind(layer: int) -> str:
    """What a layer is where config.json does not say (transformers, Lfm3Config)."""
    return FULL if layer % 4 == 2 else SLIDING if layer % 4 == 0 and layer > 0 else CONVOLUTION


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A short convolution or gated attention, then a gated network, each normed before and after."""
    after = a.norm_of("post_attention_norm")
    gated = attention(
        norm=a.norm_of("attn_norm"),
        rope=windowed_rope(c, SPLIT_HALF),
        head_norm=partial(a.head_norm, optional=False),
        scores=scores_of(c),
        gate=Gate(),
        gate_rows=HEADS,
        post_norm=after,
    )
    network = feed_forward(norm=a.norm_of("ffn_norm"), post_norm=a.norm_of("post_ffw_norm"))
    return sequential(output_of(n - 1), short_convolution(a, after) if c[RECURRENT] else gated, network)


def kinds_of(c: Config) -> list[str]:
    """Of which kind each layer is: `layer_types`."""
    both = zip(listed(c, RECURRENT), listed(c, PATTERN), strict=True)
    return [CONVOLUTION if recurs else SLIDING if slides else FULL for recurs, slides in both]


LFM3 = Architecture(
    "lfm3",
    gguf="lfm3",
    classes=("Lfm3ForCausalLM",),
    norm_epsilon=EPSILON,
    rope_theta=THETA,
    full_attention_every=2,
    settings=settings,
    readings=LFM2.readings,
    layer=layer,
    after=LFM2.after,
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor"}),
        unread=frozenset({"activation"}),
        flags={"conv_bias": False, "attention_bias": False},
        defaults={  # transformers, Lfm3Config
            "block_count": 24,
            "context_length": 128000,
            "embedding_length": 2048,
            "feed_forward_length": 7680,
            "attention.head_count": 16,
            "attention.head_count_kv": 4,
            "attention.key_length": 128,
            "attention.sliding_window": 256,
            "rope.scaling": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
            "vocab_size": 128000,
            "tied_embeddings": True,
        },
        spellings={"attention.layer_norm_rms_epsilon": "norm_eps"},
        keys={"layer_types": kinds_of},
        only_with={"use_sandwich_norm": (True,), "use_attention_gate": (True,)},
        rotation_by_kind=True,
        names={
            **NAMES,
            **in_layers(
                {
                    "post_operator_norm": "post_attention_norm",
                    "post_ffn_norm": "post_ffw_norm",
                    "self_attn.gate_proj": "attn_gate",
                }
            ),
        },
    ),
    llamacpp=LFM2.llamacpp,
)
