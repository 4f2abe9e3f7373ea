"""GLM-4 (9B) as transformers has it: half of each head rotated, gate and up in one tensor; GGUF files it under
`chatglm`."""

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace
from rosetta.architectures.parts.readings import first_of, gate_beside_up, standard_readings

GLM = Architecture(
    "glm",
    gguf="chatglm",
    classes=("GlmForCausalLM",),
    norm_epsilon=Default(apr=1.5625e-7, gguf=1e-5, huggingface=1.5625e-7),
    rope=INTERLEAVED,
    readings=first_of(gate_beside_up, standard_readings),
    huggingface=HuggingFace(
        defaults={  # transformers, GlmConfig
            "block_count": 40,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 13696,
            "attention.head_count": 32,
            "attention.head_count_kv": 2,
            "attention.key_length": 128,
            "vocab_size": 151552,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.5,
        },
        flags={"attention_bias": True},
        names={
            "model.layers.{bid}.mlp.gate_up_proj": "blk.{bid}.ffn_up",
        },
        rope=INTERLEAVED,
    ),
)
