"""Counts that llama.cpp refuses, by its assertions (src/llama-model.cpp and src/models/*.cpp)."""

from __future__ import annotations

from typing import Any

import pytest

from rosetta.architectures import find_architecture
from rosetta.architectures.parts.gguf_counts import Counts, refused_counts

SOUND = {
    "block_count": 2,
    "attention.head_count": 4,
    "attention.head_count_kv": 4,
    "expert_count": 4,
    "expert_used_count": 2,
}


@pytest.mark.parametrize(
    ("architecture", "stated", "tensors", "key"),
    [
        ("qwen3moe", {"expert_used_count": 5}, (), "expert_used_count"),
        ("qwen3moe", {"expert_used_count": 0}, (), "expert_used_count"),
        ("deepseek2", {"expert_group_count": 3}, (), "expert_group_count"),
        ("deepseek2", {"expert_group_count": 2}, (), "expert_group_used_count"),
        ("glm4moe", {"nextn_predict_layers": 2}, (), "nextn_predict_layers"),
        ("minicpm3", {"attention.head_count_kv": 2}, (), "attention.head_count_kv"),
        ("llama4", {"interleave_moe_layer_step": 2}, ("blk.0.ffn_gate_inp.weight",), "interleave_moe_layer_step"),
        ("minimax_m2", {"expert_feed_forward_length": 8, "feed_forward_length": 16}, (), "feed_forward_length"),
        ("cohere2moe", {}, ("blk.1.ffn_up_shexp.weight",), "expert_shared_count"),
    ],
)  # fmt: skip
def test_a_count_that_does_not_go_with_the_others(
    architecture: str, stated: dict[str, Any], tensors: tuple[str, ...], key: str
) -> None:
    found = find_architecture(architecture)
    assert found is not None
    assert not list(refused_counts(found, Counts(SOUND, ("blk.1.ffn_gate_inp.weight",))))
    refused = list(refused_counts(found, Counts(SOUND | stated, tensors)))
    assert [one.key for one in refused] == [key]


def test_other_architectures_are_not_asked_for_what_one_asks() -> None:
    found = find_architecture("llama")
    assert found is not None
    stated = SOUND | {
        "attention.head_count_kv": 2,
        "feed_forward_length": 16,
        "expert_feed_forward_length": 8,
    }
    assert not list(refused_counts(found, Counts(stated, ("blk.1.ffn_up_shexp.weight",))))


def test_one_expert_that_is_counted_as_none() -> None:
    one = SOUND | {"expert_count": 1, "expert_used_count": 2}
    hunyuan, llama = find_architecture("hunyuan_v1_dense"), find_architecture("llama")
    assert hunyuan is not None
    assert llama is not None
    assert not list(refused_counts(hunyuan, Counts(one, ())))
    assert [found.key for found in refused_counts(llama, Counts(one, ()))] == ["expert_used_count"]
