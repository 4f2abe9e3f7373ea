"""OLMo 2: norms after each block and none before, q and k normed whole. With a window in three of four layers it is
OLMo 3, which GGUF files under this name."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import (
    HEADS,
    HIDDEN,
    KEY,
    KV_HEADS,
    attention,
    feed_forward,
    output_of,
    scores_of,
    sequential,
    windowed_rope,
)
from rosetta.architectures.parts.folder_names import POST_NORMS
from rosetta.graph import Stage
from rosetta.ops.chain import chain
from rosetta.ops.linear import Linear
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op, Settings
from rosetta.ops.pointwise import Heads
from rosetta.ops.rotary import SPLIT_HALF
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The base of the layers with a window, where there are any."""
    if not read.config["attention.sliding_window"].value and read.raw("attention.sliding_window") is None:
        read.by_layer(
            "attention.sliding_window_pattern",
            [False] * read.config["block_count"].value,
            "no window is stated",
        )
    read.take("rope.freq_base_swa", "number", read.config["rope.freq_base"].value, note="that of all layers")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with q and k normed whole, then a gated network, each normed after."""

    def normed(part: str, heads: str) -> Op:
        product = Linear(f"attn_{part}", rows=(heads, KEY), columns=HIDDEN)
        norm = Norm(f"attn_{part}_norm", a.epsilon_key, width=((heads, KEY),), kind="rms", bias=False)
        return chain(product, norm, Heads(heads))

    return sequential(
        output_of(n - 1),
        attention(
            norm=None,
            rope=windowed_rope(c, SPLIT_HALF),
            scores=scores_of(c),
            queries=normed("q", HEADS),
            keys=normed("k", KV_HEADS),
            post_norm=a.norm_of("post_attention_norm"),
        ),
        feed_forward(norm=None, post_norm=a.norm_of("post_ffw_norm")),
    )


OLMO2 = Architecture(
    "olmo2",
    gguf="olmo2",
    classes=("Olmo2ForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-5),
    full_attention_every=4,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, Olmo2Config
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "vocab_size": 50304,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False},
        names=POST_NORMS,
    ),
    llamacpp=LlamaCpp(reads=frozenset({"rope.freq_base_swa"})),
)
