"""GPT-2: LayerNorm, learned positions, biases everywhere, no gate; its Hugging Face linears are Conv1D."""

from rosetta.architectures import Architecture, Default, HuggingFace

GPT2 = Architecture(
    "gpt2",
    gguf="gpt2",
    classes=("GPT2LMHeadModel",),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu_tanh",
    gated=False,
    rope=None,
    learned_positions=True,
    always=frozenset(
        {
            *("position_embd.weight", "attn_norm.bias", "ffn_norm.bias", "output_norm.bias"),
            *(
                "attn_q.bias",
                "attn_k.bias",
                "attn_v.bias",
                "attn_output.bias",
                "ffn_up.bias",
                "ffn_down.bias",
            ),
        }
    ),
    huggingface=HuggingFace(
        reads=frozenset({"n_inner", "scale_attn_weights"}),
        unread=frozenset({"attention.head_count_kv", "attention.key_length", "attention.value_length"}),
        defaults={  # transformers, GPT2Config
            "block_count": 12,
            "context_length": 1024,
            "embedding_length": 768,
            "attention.head_count": 12,
            "vocab_size": 50257,
            "tied_embeddings": True,
        },
        spellings={
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "attention.head_count": "n_head",
            "context_length": "n_positions",
            "activation": "activation_function",
        },
        names={
            "transformer.h.{bid}.attn.c_attn": "blk.{bid}.attn_qkv",
            "transformer.h.{bid}.attn.c_proj": "blk.{bid}.attn_output",
            "transformer.h.{bid}.ln_1": "blk.{bid}.attn_norm",
            "transformer.h.{bid}.ln_2": "blk.{bid}.ffn_norm",
            "transformer.h.{bid}.mlp.c_fc": "blk.{bid}.ffn_up",
            "transformer.h.{bid}.mlp.c_proj": "blk.{bid}.ffn_down",
            "transformer.ln_f": "output_norm",
            "transformer.wpe": "position_embd",
            "transformer.wte": "token_embd",
        },
        conv1d=frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"}),
    ),
)
