"""CodeShell: GPT-2 with rotary in place of learned positions, and few heads of keys."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The width of a folder's network, which no key states (modeling_codeshell.py)."""
    if read.container.kind == "huggingface":
        inner, four = read.spelled("n_inner"), 4 * read.config["embedding_length"].value
        if "feed_forward_length" not in read.overrides:  # nor is intermediate_size
            read.put("feed_forward_length", inner, four, "4 · embedding length")
        named = read.spelled("activation_function")  # hidden_act is none of its keys
        if "activation" not in read.overrides:
            read.put("activation", None, read.architecture.activation, "default of modeling_codeshell.py")
            if named is not None:
                read.activation(named)


CODESHELL = Architecture(
    "codeshell",
    gguf="codeshell",
    classes=("CodeShellForCausalLM",),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu_tanh",
    gated=False,
    settings=settings,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_codeshell.py of WisdomShell/CodeShell-7B
            "block_count": 42,
            "context_length": 8192,
            "embedding_length": 4096,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 70144,
            "tied_embeddings": False,
        },
        spellings={
            "block_count": "n_layer",
            "attention.head_count_kv": "num_query_groups",
        },
        names={
            "transformer.h.{bid}.attn.c_attn": "blk.{bid}.attn_qkv",
            "transformer.h.{bid}.attn.c_proj": "blk.{bid}.attn_output",
            "transformer.h.{bid}.ln_1": "blk.{bid}.attn_norm",
            "transformer.h.{bid}.ln_2": "blk.{bid}.ffn_norm",
            "transformer.h.{bid}.mlp.c_fc": "blk.{bid}.ffn_up",
            "transformer.h.{bid}.mlp.c_proj": "blk.{bid}.ffn_down",
            "transformer.ln_f": "output_norm",
            "transformer.wte": "token_embd",
        },
    ),
)
