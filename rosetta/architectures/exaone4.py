"""EXAONE 4: norms after each block and over each head of q and k; the 32B has a window and rotary in three of four
layers, and neither in the fourth."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, scores_of, sequential
from rosetta.architectures.parts.folder_names import POST_NORMS
from rosetta.architectures.parts.stated_kinds import SLIDING_LISTED
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.settings_reader import SettingsReader

LAYERS_OF_32B = 64  # llama.cpp: with as many, and only then, there are windows
WINDOW, PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"


def settings(read: SettingsReader) -> None:
    """Which layers rotate: those with a window, or all where there is none."""
    layers = read.config["block_count"].value
    mixed = layers == LAYERS_OF_32B
    if read.container.kind == "huggingface":
        mixed = not read.says_null("sliding_window")
    elif read.container.kind == "apr":  # which says what a folder or a GGUF said
        stated = read.raw(WINDOW)
        mixed = mixed or bool(stated is not None and stated.value)
    if not mixed:
        note = (
            "llama.cpp, for any other number of layers" if read.container.kind == "gguf" else "none declared"
        )
        read.fixed(WINDOW, 0, note)
        read.by_layer(PATTERN, [False] * layers, note)
    elif read.container.kind == "gguf" and read.raw(WINDOW) is None:
        read.fixed(WINDOW, 4096, "llama.cpp, for 32B")
    slides = read.config[PATTERN].value
    read.by_layer("rope.layers", list(slides) if mixed and isinstance(slides, tuple) else [True])


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with normed heads, then a gated network, each normed after."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=None,
            rope=Rotary(SPLIT_HALF, where="rope.layers"),
            head_norm=a.head_norm,
            scores=scores_of(c),
            post_norm=a.norm_of("post_attention_norm"),
        ),
        feed_forward(norm=None, post_norm=a.norm_of("post_ffw_norm")),
    )


EXAONE4 = Architecture(
    "exaone4",
    gguf="exaone4",
    classes=("Exaone4ForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    full_attention_every=4,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, Exaone4Config
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 16384,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "attention.sliding_window": 4096,
            "vocab_size": 102400,
            "tied_embeddings": False,
        },
        names=POST_NORMS,
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"rope.freq_base_swa"}),
        keys=SLIDING_LISTED,
        windows="stretched",
    ),
)
