"""Value heads of linear attention that a converter moves: beside their key head in transformers, tiled in a GGUF file.

llama.cpp's converter moves every row, column and channel that belongs to a value head (conversion/qwen.py): of K key
heads with R value heads each, head k, r of transformers is head r, k of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.architectures import find_architecture
from rosetta.runtimes.observed.placing import Placement


def in_file_order(placement: Placement, config: Mapping[str, Any]) -> Placement:
    """Stages with their value heads in the order of a GGUF file; of other models nothing changes.

    Args:
        placement: the stages of a run.
        config: of the model, in transformers' words.
    """
    architecture = find_architecture(str(config.get("model_type")))
    if architecture is None or not architecture.llamacpp.tiles_heads:
        return placement
    keys, values = int(config["linear_num_key_heads"]), int(config["linear_num_value_heads"])
    heads = np.arange(values).reshape(keys, -1).T.reshape(-1)  # of the file's heads transformers' numbers
    features = _rows(heads, int(config["linear_value_head_dim"]))
    before = 2 * keys * int(config["linear_key_head_dim"])  # queries and keys come first
    mixed = np.concatenate([np.arange(before), before + features])
    orders = {
        "ssm_alpha": heads, "ssm_beta": heads, "ssm_scan": features, "ssm_norm": features,
        "attn_gate_in": features,
        "ssm_in": mixed, "ssm_conv": mixed,
    }  # fmt: skip
    taps = [replace(tap, order=orders.get(tap.stage.rpartition(".")[2])) for tap in placement.taps]
    return Placement(tuple(taps), placement.skipped)


def _rows(heads: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The features of heads, head by head."""
    return (heads[:, None] * size + np.arange(size)).reshape(-1)
