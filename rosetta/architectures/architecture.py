"""What an architecture is: data. The forward pass reads these fields; nothing else in the program names a model.

Letters: H = embedding length, F = feed-forward length, D = head size, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]

# Rotary orders of Q and K rows, as `.apr` numbers them after ggml's GGML_ROPE_TYPE_*.
INTERLEAVED, SPLIT_HALF = 0, 2


@dataclass(frozen=True)
class Default:
    """What each container's own loader assumes where a key is missing.

    Args:
        apr: aprender's `GGUFConfig::from_apr`.
        gguf: llama.cpp's, or the published value where llama.cpp refuses a file without the key.
        huggingface: the default of transformers' config class.
    """

    apr: Any
    gguf: Any
    huggingface: Any

    def of(self, container: str) -> Any:
        return getattr(self, container)


@dataclass(frozen=True)
class Architecture:
    """One family of models, as data.

    Args:
        name: the name that model files declare, lower case.
        gguf: the name that GGUF files the architecture under.
        classes: transformers' class names.
        norm: RMSNorm (`rms`) or LayerNorm (`layer`).
        norm_epsilon: where the key is missing, by container.
        activation: of the feed-forward network.
        gated: whether the network is `act(gate(x)) * up(x)` or `act(up(x))`.
        rope: order of the rotary pairs in GGUF's Q and K rows; None: no rotary embedding.
        rope_theta: where the key is missing, by container.
        learned_positions: whether a position table is added to the embedding.
        qk_norm: an RMSNorm over each head of q and k.
        conv1d: tensors that a Hugging Face folder stores as `[in, out]` (transformers' Conv1D).
        huggingface: what transformers' config class assumes where config.json lacks a key, under GGUF keys
            (under its own where GGUF has none).
    """

    name: str
    gguf: str
    classes: tuple[str, ...]
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: Default = Default(apr=1e-5, gguf=1e-5, huggingface=1e-6)
    activation: Activation = "silu"
    gated: bool = True
    rope: int | None = SPLIT_HALF
    rope_theta: Default = Default(apr=10000.0, gguf=10000.0, huggingface=10000.0)
    learned_positions: bool = False
    qk_norm: bool = False
    conv1d: frozenset[str] = frozenset()
    huggingface: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def epsilon_key(self) -> str:
        """GGUF's key of the norm epsilon, without the architecture."""
        return "attention.layer_norm_rms_epsilon" if self.norm == "rms" else "attention.layer_norm_epsilon"

    def global_dims(self, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Row-major dims that the config demands of the tensors outside the layers; -1 where any size will do.

        A key is optional where the model computes without it.
        """
        hidden, vocab = config["embedding_length"], config["vocab_size"]
        dims: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (vocab, hidden),
            "output_norm.weight": (hidden,),
            "output.weight": (vocab, hidden),
        }
        if self.norm == "layer":
            dims["output_norm.bias"] = (hidden,)
        if self.learned_positions:
            dims["position_embd.weight"] = (-1, hidden)
        if self.rope is not None:
            dims["rope_freqs.weight"] = (config["rope.dimension_count"] // 2,)
        return dims

    def layer_dims(self, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Row-major dims that the config demands of one layer's tensors, named without `blk.N.`."""
        hidden, ffn = config["embedding_length"], config["feed_forward_length"]
        query = config["attention.head_count"] * config["attention.key_length"]
        key = config["attention.head_count_kv"] * config["attention.key_length"]
        value = config["attention.head_count_kv"] * config["attention.value_length"]
        context = config["attention.head_count"] * config["attention.value_length"]
        matrices = {
            "attn_q": (query, hidden),
            "attn_k": (key, hidden),
            "attn_v": (value, hidden),
            "attn_output": (hidden, context),
            **({"ffn_gate": (ffn, hidden)} if self.gated else {}),
            "ffn_up": (ffn, hidden),
            "ffn_down": (hidden, ffn),
        }
        dims: dict[str, tuple[int, ...]] = {f"{name}.weight": size for name, size in matrices.items()}
        dims |= {f"{name}.bias": size[:1] for name, size in matrices.items()}  # llama may have them too
        for norm in ("attn_norm", "ffn_norm"):
            dims[f"{norm}.weight"] = (hidden,)
            if self.norm == "layer":
                dims[f"{norm}.bias"] = (hidden,)
        if self.qk_norm:
            for norm in ("attn_q_norm", "attn_k_norm"):
                dims[f"{norm}.weight"] = (config["attention.key_length"],)
        return dims
