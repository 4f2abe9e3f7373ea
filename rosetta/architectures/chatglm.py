"""ChatGLM 2 and 3, GLM-4 (9B): half of each head rotated, q, k and v in one tensor, gate and up in another."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace
from rosetta.architectures.parts.readings import first_of, gate_beside_up, standard_readings
from rosetta.settings_reader import SettingsReader

BASE = 10000  # modeling_chatglm.py, RotaryEmbedding


def settings(read: SettingsReader) -> None:
    """What only the model's own code says: its heads of keys, and how much of a head is rotated."""
    if read.container.kind != "huggingface":
        return
    shared = read.spelled("multi_query_attention")
    if shared is not None and shared.value:
        read.take("attention.head_count_kv", "count", spellings=("multi_query_group_num",))
    ratio = read.spelled("rope_ratio")
    if ratio is not None:  # of the base that its code counts from
        read.by_layer("rope.freq_base", [BASE * ratio.value], stated=ratio.key)
    read.take("rope.dimension_count", "count", read.config["attention.key_length"].value // 2)


CHATGLM = Architecture(
    "chatglm",
    gguf="chatglm",
    classes=("ChatGLMModel", "ChatGLMForConditionalGeneration"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    settings=settings,
    readings=first_of(gate_beside_up, standard_readings),
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_chatglm.py of THUDM/chatglm3-6b
            "block_count": 28,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 13696,
            "attention.head_count": 32,
            "attention.key_length": 128,
            "vocab_size": 65024,
            "tied_embeddings": False,
        },
        spellings={
            "attention.key_length": "kv_channels",
            "attention.value_length": "kv_channels",
            "attention.layer_norm_rms_epsilon": "layernorm_epsilon",
            "block_count": "num_layers",
            "context_length": "seq_length",
            "feed_forward_length": "ffn_hidden_size",
            "vocab_size": "padded_vocab_size",
        },
        names={
            "transformer.embedding.word_embeddings": "token_embd",
            "transformer.encoder.final_layernorm": "output_norm",
            "transformer.encoder.layers.{bid}.input_layernorm": "blk.{bid}.attn_norm",
            "transformer.encoder.layers.{bid}.mlp.dense_4h_to_h": "blk.{bid}.ffn_down",
            "transformer.encoder.layers.{bid}.mlp.dense_h_to_4h": "blk.{bid}.ffn_up",
            "transformer.encoder.layers.{bid}.post_attention_layernorm": "blk.{bid}.ffn_norm",
            "transformer.encoder.layers.{bid}.self_attention.dense": "blk.{bid}.attn_output",
            "transformer.encoder.layers.{bid}.self_attention.query_key_value": "blk.{bid}.attn_qkv",
            "transformer.output_layer": "output",
        },
        rope=INTERLEAVED,
    ),
)
