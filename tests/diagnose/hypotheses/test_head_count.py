"""Another number of heads or kv heads: dims contradict it where it is stated alone, values where all sizes fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny

HEADS, KV_HEADS, SIZE = "attention.head_count", "attention.head_count_kv", "attention.key_length"


def heads(actual: int, declared: int, side: Any = "left") -> Cause:
    return Cause("config.head_count", HEADS, side, declared=declared, actual=actual)


CASES = [
    # architecture, broken operand, the other, what is said
    ("llama", "apr:F16", "gguf:F16", 2),
    ("llama", "gguf:F16", "gguf:F16", 8),  # equal bytes: the config alone differs
    ("mistral", "hf:BF16", "gguf:F16", 8),
    ("qwen2", "apr-gguf:F16", "gguf:Q8_0", 2),  # the head size is derived, and accused of nothing
    ("qwen2", "gguf:F16", "hf:F16", 8),
    ("qwen2", "hf:F16", "apr:F16", 2),
    ("qwen3", "gguf:F16", "hf:F16", 4),
    ("gpt2", "gguf:F16", "hf:F16", 8),  # every matrix fits: only how its rows are cut differs
    ("gpt2", "apr:F16", "gguf:F16", 2),
]


@pytest.mark.sample(12)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_other_number_of_heads_is_one_finding(tmp_path: Path, case: Any, side: Any) -> None:
    name, broken, other, said = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    spec = tiny(name, ffn=128)
    fault = [faults.head_count(said)]
    if name == "gpt2" and broken.startswith("apr"):
        fault.append(faults.head_count_kv(said))
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    causes = [heads(spec.heads, said, side)]
    if len(fault) == 2:
        causes.append(Cause("config.head_count_kv", KV_HEADS, side, declared=said, actual=spec.heads))
    assert_proven(report, "layers.0.q", *causes)


@pytest.mark.sample(2)
@pytest.mark.parametrize(("said", "stated"), [(8, 4), (2, 1)])
@pytest.mark.parametrize(("broken", "other"), [("apr:F16", "gguf:F16"), ("hf:F16", "gguf:Q8_0")])
def test_sizes_that_fit_each_other_are_one_finding_for_each_key(
    tmp_path: Path, said: int, stated: int, broken: str, other: str
) -> None:
    """Twice the heads of half the size: no dims betray it."""
    size = 64 // said
    fault = [faults.head_count(said), faults.head_count_kv(stated), faults.config_set(SIZE, size)]
    report = compared(tmp_path, tiny("llama", ffn=128), broken, other, fault)
    assert_proven(
        report,
        "layers.0.q",
        heads(4, said),
        Cause("config.head_dim", SIZE, declared=size, actual=16),
        Cause("config.head_count_kv", KV_HEADS, declared=stated, actual=2),
    )


@pytest.mark.parametrize(("name", "said"), [("qwen2", 8), ("llama", 2)])
def test_a_believed_number_that_its_own_tensors_deny_is_accused(tmp_path: Path, name: str, said: int) -> None:
    """The queries fit either number, the keys only the other side's."""
    fault = faults.head_count(said)
    report = compared(tmp_path, tiny(name, ffn=128), "hf:F16", "gguf:F16", fault, "left", reference="left")
    assert_proven(report, "layers.0.q", heads(4, said))
