"""Names that transformers has for what config.json says: facts of its source, no rule.

Sources: transformers 5.24, configuration_utils.py (ALLOWED_LAYER_TYPES, _LEGACY_LAYER_TYPE_REMAP), activations.py
(ACT2CLS), models/auto.
"""

from collections.abc import Mapping
from typing import Any

VERSION = (5, 24)
"""Which transformers they are of; a later one may have more."""

# fmt: off
LAYER_TYPES = frozenset((
    "full_attention", "sliding_attention", "chunked_attention", "window_attention", "indexed_attention",
    "compressed_sparse_attention", "heavily_compressed_attention", "minimax_m3_sparse", "conv", "moe",
    "hybrid", "hybrid_sliding", "reference_sliding_attention", "linear_attention", "sparse", "dense", "mamba",
    "attention", "deepseek_sparse_attention", "qwen_sparse_attention",
))
# fmt: on
"""Kinds of layers in `layer_types` and `mlp_layer_types`."""

# fmt: off
ACTIVATIONS = frozenset((
    "gelu", "gelu_10", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_python_tanh",
    "gelu_accurate", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2",
    "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh", "prelu", "xielu",
))
# fmt: on
"""Functions that `hidden_act` and its other spellings may name."""

OF_GATES = frozenset(("swigluoai",))
"""What checkpoints name there whose class works its gate out of other keys (configuration_minimax_m3_vl.py)."""

OF_SHARED_CLASSES = frozenset(("gpt-sw3", "iquestcoder", "sarvam_mla", "shieldgemma2"))
"""Those `model_type`s of transformers that rosetta has no name for, and whose class is that of a model it knows."""


def unknown_kind(listed: Any) -> str | None:
    """What a list of kinds of layers says first that none is, in words; None where there is no such list or kind.

    >>> unknown_kind(["full_attention", "odd"])
    "says 'odd' of layer 1, which is no kind of layer of transformers"
    """
    for layer, kind in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(kind, str) or kind not in LAYER_TYPES:
            return f"says {kind!r:.60} of layer {layer}, which is no kind of layer of transformers"
    return None


def may_have_more(config: Mapping[str, Any]) -> bool:
    """Whether the program that a config is for may know other names: the model's own code, or a later transformers."""
    parts = str(config.get("transformers_version", "")).split(".")[:2]
    version = tuple(int(part) for part in parts if part.isdecimal())
    return "auto_map" in config or version > VERSION
