"""The falsifiers of apr-import-config-fidelity-v1: epsilon and every key of the forward pass survive."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import build, pair
from fixtures.faults import config_set, norm_epsilon
from rosetta.compare.results import ConfigDiff
from rosetta.compare.settings import compare_config
from rosetta.config import Value
from rosetta.model import Model, open_model

# What each container's runtime takes where the key is missing: realizar, gguf/arch_constraints_fallback.rs;
# what the models were published with (llama.cpp refuses a file without the key); transformers' classes.
DEFAULTS = {
    #            apr   gguf  huggingface
    "llama":    (1e-5, 1e-5, 1e-6),
    "mistral":  (1e-5, 1e-5, 1e-6),
    "qwen2":    (1e-6, 1e-6, 1e-6),
    "qwen3":    (1e-6, 1e-6, 1e-6),
    "gpt2":     (1e-5, 1e-5, 1e-5),
}  # fmt: skip
OPERANDS = ("apr:F16", "gguf:F16", "hf:F16")


def key_of(architecture: str) -> str:
    """GGUF's name of the epsilon."""
    return f"attention.layer_norm_{'' if architecture == 'gpt2' else 'rms_'}epsilon"


def epsilon(model: Model, architecture: str) -> Value:
    """The epsilon that a model computes with."""
    return model.config[key_of(architecture)]


def row(left: Model, right: Model, key: str) -> ConfigDiff:
    """The line of a report that compares a key."""
    (found,) = (row for row in compare_config(left, right, None) if row.key == key)
    return found


@pytest.mark.parametrize("architecture", DEFAULTS)
def test_epsilon_missing_on_one_side_is_defaulted_per_architecture(tmp_path: Path, architecture: str) -> None:
    ours = np.float32(DEFAULTS[architecture][0])
    left, right = (
        open_model(path) for path in pair(tmp_path, architecture, "apr:F16", "gguf:F16", norm_epsilon(None))
    )
    assert (epsilon(left, architecture).value, epsilon(left, architecture).defaulted) == (ours, True)
    assert not epsilon(right, architecture).defaulted
    compared = row(left, right, key_of(architecture))
    assert compared.status == "defaulted", (
        "equal values, of which one is a default, are neither same nor different"
    )
    assert (compared.left, compared.right) == (ours, ours)


@pytest.mark.parametrize("architecture", DEFAULTS)
def test_epsilon_missing_on_one_side_differs_where_the_other_declares_another(
    tmp_path: Path, architecture: str
) -> None:
    left = open_model(build(tmp_path, architecture, "apr:F16", norm_epsilon(None)))
    right = open_model(build(tmp_path, architecture, "gguf:F16", norm_epsilon(3e-4)))
    assert row(left, right, key_of(architecture)).status == "differs"


@pytest.mark.parametrize("architecture", DEFAULTS)
def test_epsilon_missing_on_both_sides_is_defaulted_and_said(tmp_path: Path, architecture: str) -> None:
    left, right = (
        open_model(path)
        for path in pair(tmp_path, architecture, "apr:F16", "gguf:F16", norm_epsilon(None), side="both")
    )
    compared = row(left, right, key_of(architecture))
    assert compared.status == "defaulted"
    assert compared.note.count("left: ") == compared.note.count("right: ") == 1, (
        "each side's default is named"
    )
    assert (compared.left, compared.right) == tuple(map(np.float32, DEFAULTS[architecture][:2]))


@settings(max_examples=12)
@given(
    value=st.floats(1e-12, 1e-1).filter(lambda v: v not in {d for row in DEFAULTS.values() for d in row}),
    architecture=st.sampled_from(list(DEFAULTS)),
    operand=st.sampled_from(OPERANDS),
)
def test_explicit_epsilon_is_kept_verbatim(value: float, architecture: str, operand: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = open_model(build(Path(folder), architecture, operand, norm_epsilon(value)))
        kept = epsilon(model, architecture)
        model.container.close()
    assert kept.value == np.float32(value), "to the last bit of a float32"
    assert not kept.defaulted


@pytest.mark.parametrize("operand", OPERANDS)
def test_each_architecture_has_its_own_epsilon_default(tmp_path: Path, operand: str) -> None:
    column = OPERANDS.index(operand)
    found = {
        architecture: epsilon(
            open_model(build(tmp_path, architecture, operand, norm_epsilon(None))), architecture
        ).value
        for architecture in DEFAULTS
    }
    assert found == {name: np.float32(row[column]) for name, row in DEFAULTS.items()}
    assert len(set(found.values())) > 1, "one default serves all"


FORWARD_KEYS = {
    "attention.head_count": 2,
    "attention.head_count_kv": 1,
    "block_count": 1,
    "context_length": 77,
    "embedding_length": 96,
    "feed_forward_length": 160,
    "rope.freq_base": 12345.678,
}


@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("key", FORWARD_KEYS)
def test_every_key_that_the_forward_pass_reads_arrives_verbatim(
    tmp_path: Path, operand: str, key: str
) -> None:
    value = FORWARD_KEYS[key]
    wrong = open_model(build(tmp_path, "qwen2", operand, config_set(key, value), stem="wrong"))
    right = open_model(build(tmp_path, "qwen2", operand, stem="right"))
    assert math.isclose(wrong.config[key].value, np.float32(value), rel_tol=1e-7)
    assert not wrong.config[key].defaulted
    assert wrong.config[key].value != right.config[key].value
    assert row(wrong, right, key).status == "differs"
