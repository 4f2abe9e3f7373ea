"""EXAONE 3 and 3.5: llama whose rows are never reordered."""

from rosetta.architectures import Architecture, Default, HuggingFace

EXAONE = Architecture(
    "exaone",
    gguf="exaone",
    classes=("ExaoneForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope_theta=Default(apr=10000.0, gguf=10000.0, huggingface=5e5),
    huggingface=HuggingFace(
        in_transformers=False,
        run_by="LlamaForCausalLM",
        defaults={  # transformers, ExaoneConfig
            "block_count": 32,
            "context_length": 4096,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 102400,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False, "mlp_bias": False},
        names={
            "transformer.h.{bid}.attn.attention.k_proj": "blk.{bid}.attn_k",
            "transformer.h.{bid}.attn.attention.out_proj": "blk.{bid}.attn_output",
            "transformer.h.{bid}.attn.attention.q_proj": "blk.{bid}.attn_q",
            "transformer.h.{bid}.attn.attention.v_proj": "blk.{bid}.attn_v",
            "transformer.h.{bid}.ln_1": "blk.{bid}.attn_norm",
            "transformer.h.{bid}.ln_2": "blk.{bid}.ffn_norm",
            "transformer.h.{bid}.mlp.c_fc_0": "blk.{bid}.ffn_gate",
            "transformer.h.{bid}.mlp.c_fc_1": "blk.{bid}.ffn_up",
            "transformer.h.{bid}.mlp.c_proj": "blk.{bid}.ffn_down",
            "transformer.ln_f": "output_norm",
            "transformer.wte": "token_embd",
        },
    ),
)
