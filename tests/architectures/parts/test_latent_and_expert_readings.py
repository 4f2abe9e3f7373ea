"""How stored tensors of latent attention and of experts are read, against the rows that they name."""

from __future__ import annotations

from typing import Any

import numpy as np

from rosetta.architectures import qwen35
from rosetta.architectures.parts.readings import Stored, latent_keys_values, standard_readings
from rosetta.architectures.qwen35 import RECURRENT
from rosetta.ops.latent import NOPE

HEADS, OWN, VALUE, RANK = 3, 2, 4, 5
SETTINGS: dict[str, Any] = {
    "attention.head_count": HEADS,
    "attention.kv_lora_rank": RANK,
    "attention.value_length": VALUE,
    NOPE: OWN,
}


def stored(stem: str, *dims: int, suffix: str = "weight", foreign: bool = True) -> Stored:
    return Stored(stem, suffix, dims, "huggingface" if foreign else "gguf", 0, foreign)


def test_keys_and_values_of_a_head_lie_beside_each_other_in_a_folder() -> None:
    rows = np.arange(HEADS * (OWN + VALUE)).reshape(HEADS, OWN + VALUE)
    found = latent_keys_values(stored("attn_kv_b", HEADS * (OWN + VALUE), RANK), SETTINGS) or []
    read = {reading.name: reading.part.index().tolist() for reading in found if reading.part}
    assert read == {
        **{f"attn_k_b.{h}.weight": rows[h, :OWN].tolist() for h in range(HEADS)},
        "attn_v_b.weight": rows[:, OWN:].ravel().tolist(),
    }


def test_the_keys_of_a_gguf_are_turned_head_by_head() -> None:
    found = latent_keys_values(stored("attn_k_b", HEADS, RANK, OWN, foreign=False), SETTINGS) or []
    assert [(r.name, r.slot, r.transposed, r.dims) for r in found] == [
        (f"attn_k_b.{h}.weight", (h, HEADS), True, (RANK, OWN)) for h in range(HEADS)
    ]


def test_gate_and_up_of_stacked_experts_are_told_apart() -> None:
    found = standard_readings(stored("ffn_gate_up_exps", 2, 6, RANK, suffix=""), SETTINGS) or []
    read = {r.name: (r.slot, r.part.index().tolist()) for r in found if r.part}
    assert read == {
        f"ffn_{part}_exps.{e}.weight": ((e, 2), rows)
        for e in range(2)
        for part, rows in (("gate", [0, 1, 2]), ("up", [3, 4, 5]))
    }


def test_what_a_converter_left_in_other_dims_is_read_as_meant() -> None:
    [bias] = standard_readings(stored("exp_probs_b", 1, 8, suffix=""), SETTINGS) or []
    [gate] = standard_readings(stored("ffn_gate_inp_shexp", 8, foreign=False), SETTINGS) or []
    assert (bias.name, bias.dims) == ("exp_probs_b.bias", (8,))
    assert (gate.name, gate.dims) == ("ffn_gate_inp_shexp.weight", (1, 8))


def test_keys_of_a_single_head_lie_in_a_matrix() -> None:
    """ggml drops a dim of one."""
    one = {**SETTINGS, "attention.head_count": 1}
    found = latent_keys_values(stored("attn_k_b", RANK, OWN, foreign=False), one) or []
    assert [(r.name, r.slot, r.transposed, r.dims) for r in found] == [
        ("attn_k_b.0.weight", (0, 1), True, (RANK, OWN))
    ]


def test_stacked_experts_beside_a_delta_net_are_taken_apart_as_elsewhere() -> None:
    c = {**SETTINGS, RECURRENT: True, "ssm.inner_size": 8, "ssm.time_step_rank": 4, "ssm.group_count": 2,
         "ssm.state_size": 2, "expert_count": 2}  # fmt: skip
    fused = stored("ffn_gate_up_exps", 2, 6, RANK, suffix="")
    assert qwen35.readings(fused, c) == standard_readings(fused, c)
