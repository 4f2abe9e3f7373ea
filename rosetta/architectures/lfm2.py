"""LFM2: most layers are a short convolution between two gates, the others attention with normed heads."""

from __future__ import annotations

from functools import partial

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import (
    HIDDEN,
    Block,
    attention,
    feed_forward,
    head,
    output_of,
    scores_of,
    sequential,
)
from rosetta.architectures.parts.folder_names import in_layers
from rosetta.architectures.parts.readings import first_of, standard_readings
from rosetta.architectures.parts.recurrent import (
    RECURRENT,
    layer_kinds,
    mixer,
    recurrent_without_heads,
    rms_epsilon,
    state_readings,
)
from rosetta.graph import Stage
from rosetta.ops.linear import Linear
from rosetta.ops.op import Op, Settings
from rosetta.ops.recurrent import Convolution, GatedNorm
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.settings_reader import SettingsReader

TAPS = "shortconv.l_cache"
THETA = Default(apr=1e6, gguf=10000.0, huggingface=1e6)
EPSILON = Default(apr=1e-5, gguf=1e-5, huggingface=1e-5)

NAMES = {
    "model.embedding_norm": "token_embd_norm",
    **in_layers(
        {
            "conv.conv": "shortconv.conv",
            "conv.in_proj": "shortconv.in_proj",
            "conv.out_proj": "shortconv.out_proj",
            "feed_forward.w1": "ffn_gate",
            "feed_forward.w2": "ffn_down",
            "feed_forward.w3": "ffn_up",
            "ffn_norm": "ffn_norm",
            "operator_norm": "attn_norm",
        }
    ),
}
NORMED_HEADS = in_layers(
    {
        "self_attn.k_layernorm": "attn_k_norm",
        "self_attn.out_proj": "attn_output",
        "self_attn.q_layernorm": "attn_q_norm",
    }
)


def convolution_settings(read: SettingsReader) -> None:
    """Taps of the convolutions, which layers have one, and the norms' epsilon under its own name."""
    rms_epsilon(read)
    read.take(TAPS, "count", Default(apr=None, gguf=None, huggingface=3), ("conv_L_cache",))
    kinds: list[str] = []
    stated = None
    if read.container.kind != "gguf":
        layers = range(read.config["block_count"].value)
        full = read.spelled("full_attn_idxs")
        default = ["full_attention" if full is None or n in full.value else "conv" for n in layers]
        kinds, stated = layer_kinds(read, default)
    recurrent_without_heads(read, [kind != "full_attention" for kind in kinds], stated)


def settings(read: SettingsReader) -> None:
    """Convolutions, and the width of the networks, which transformers works out."""
    convolution_settings(read)
    if read.container.kind == "gguf":
        return
    width = read.spelled("block_ff_dim") or read.raw("feed_forward_length")
    adjusted = read.spelled("block_auto_adjust_ff_dim")
    factor, step = read.spelled("block_ffn_dim_multiplier"), read.spelled("block_multiple_of")
    value, note = (width.value if width is not None else 12288), "default of transformers"
    if adjusted is None or adjusted.value:
        value = int((factor.value if factor is not None else 1.0) * int(2 * value / 3))
        several = step.value if step is not None else 256
        value = several * -(-value // several)
    read.by_layer("feed_forward_length", [value], note, width.key if width is not None else None)


def short_convolution(a: Architecture, post_norm: Op | None = None) -> Block:
    """A gate, a convolution, a gate; `post_norm` as of `mixer`."""
    return mixer(
        norm=a.norm_of("attn_norm"),
        projections={"ssm_in": Linear("shortconv.in_proj", rows=(3, HIDDEN), columns=HIDDEN)},
        convolution=Convolution(
            "shortconv.conv", channels=HIDDEN, kernel=TAPS, first=(2, HIDDEN), gate=0, activated=False
        ),
        scan=None,
        closing=GatedNorm(None, a.epsilon_key, channels=HIDDEN, function="identity", first=HIDDEN),
        gate="ssm_in",
        out="shortconv.out_proj",
        inner=HIDDEN,
        post_norm=post_norm,
    )


def mixer_of(a: Architecture, c: Settings) -> Block:
    """A short convolution, or attention with normed heads."""
    if c[RECURRENT]:
        return short_convolution(a)
    head_norm = partial(a.head_norm, optional=False)
    return attention(
        norm=a.norm_of("attn_norm"), rope=Rotary(SPLIT_HALF), head_norm=head_norm, scores=scores_of(c)
    )


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A short convolution or attention, then a gated network."""
    return sequential(output_of(n - 1), mixer_of(a, c), feed_forward(norm=a.norm_of("ffn_norm")))


LFM2 = Architecture(
    "lfm2",
    gguf="lfm2",
    classes=("Lfm2ForCausalLM", "LFM2ForCausalLM"),
    norm_epsilon=EPSILON,
    rope_theta=THETA,
    settings=settings,
    readings=first_of(state_readings, standard_readings),
    layer=layer,
    after=lambda a, layers: head(output_of(layers - 1), norm=a.norm_of("token_embd_norm")),
    huggingface=HuggingFace(
        unread=frozenset({"activation"}),
        flags={"conv_bias": False},
        defaults={  # transformers, Lfm2Config
            "block_count": 32,
            "context_length": 128000,
            "embedding_length": 2560,
            "feed_forward_length": 12288,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 65536,
            "tied_embeddings": True,
        },
        spellings={
            "attention.layer_norm_rms_epsilon": "norm_eps",
            "tied_embeddings": "tie_embedding",
        },
        keys={"block_auto_adjust_ff_dim": lambda c: False},  # the width is what the tensors have
        says_anyway={"block_use_swiglu": True, "use_pos_enc": True},
        names={**NAMES, **NORMED_HEADS},
    ),
    llamacpp=LlamaCpp(reads=frozenset({"shortconv.l_cache"})),
)
