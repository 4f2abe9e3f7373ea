"""Rope scaling of every rule as factors, held to transformers and to what GGUF files store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import Llama3Scaling, model_spec
from fixtures.blueprint import llama3_factors
from rosetta.rope_scaling import RopeScaling, UnknownRuleError, scaling_from_gguf, scaling_from_parameters

PAIRS, THETA, CONTEXT = 32, 10000.0, 4096
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "factor": 8.0, "original_max_position_embeddings": 512,
    "short_factor": [1 + i / 100 for i in range(PAIRS)], "long_factor": [1 + i / 3 for i in range(PAIRS)],
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}


def theirs(
    parameters: dict[str, Any], pairs: int, theta: float, context: int, tokens: int | None = None
) -> tuple[np.ndarray[Any, Any], float]:
    """(divisors, magnitude) by transformers."""
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(
        hidden_size=2 * pairs,
        num_attention_heads=1,
        max_position_embeddings=context,
        rope_parameters={**parameters, "rope_theta": theta},
    )
    inverse, magnitude = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", tokens)
    plain = theta ** (-np.arange(pairs) / pairs)
    return plain / inverse.double().numpy(), float(magnitude)


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    "parameters",
    [
        LINEAR,
        LLAMA3,
        LLAMA3 | {"factor": 32.0, "low_freq_factor": 0.5, "high_freq_factor": 9.0},
        YARN,
        YARN | {"factor": 40.0, "beta_fast": 16.0, "beta_slow": 2.0},
        YARN | {"attention_factor": 1.25},
        YARN | {"truncate": False},
        YARN | {"mscale": 1.0, "mscale_all_dim": 0.8},
        YARN | {"original_max_position_embeddings": 64},
    ],
    ids=lambda parameters: " ".join(f"{key}={value}" for key, value in parameters.items()),
)
@pytest.mark.parametrize(("pairs", "theta"), [(PAIRS, THETA), (64, 500000.0), (8, 1e6)])
def test_factors_are_those_of_transformers(parameters: dict[str, Any], pairs: int, theta: float) -> None:
    ours = scaling_from_parameters(parameters, pairs, theta, CONTEXT)
    factors, magnitude = theirs(parameters, pairs, theta, CONTEXT)
    assert ours is not None
    np.testing.assert_allclose(ours.factors, factors, rtol=2e-6)
    assert ours.magnitude == pytest.approx(magnitude, rel=1e-7)


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    "parameters",
    [
        LONGROPE,
        LONGROPE | {"attention_factor": 1.5},
        {key: value for key, value in LONGROPE.items() if key != "factor"},
        {"rope_type": "dynamic", "factor": 4.0},
    ],
    ids=["longrope", "with a magnitude", "without a factor", "dynamic"],
)
@pytest.mark.parametrize("tokens", [10, 512, 513, CONTEXT, CONTEXT + 1, 3 * CONTEXT])
def test_factors_of_a_run_are_those_of_transformers_at_its_length(
    parameters: dict[str, Any], tokens: int
) -> None:
    ours = scaling_from_parameters(parameters, PAIRS, THETA, CONTEXT)
    assert ours is not None
    factors, magnitude = theirs(parameters, PAIRS, THETA, CONTEXT, tokens)
    np.testing.assert_allclose(ours.at(tokens), factors, rtol=2e-6)
    assert ours.magnitude == pytest.approx(magnitude, rel=1e-7)


def test_a_proportional_rule_leaves_the_pairs_behind_its_share_where_they_are() -> None:
    ours = scaling_from_parameters(
        {"rope_type": "proportional", "partial_rotary_factor": 0.25}, PAIRS, THETA, CONTEXT
    )
    assert ours is not None
    turned = PAIRS // 4
    assert ours.factors[:turned] == (1.0,) * turned
    assert min(ours.factors[turned:]) > 1e29


def test_yarns_log_multiplier_takes_the_magnitude_back() -> None:
    keys = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}
    plain = scaling_from_gguf(keys, PAIRS, THETA, CONTEXT)
    level = scaling_from_gguf(keys | {"rope.scaling.yarn_log_multiplier": 1.0}, PAIRS, THETA, CONTEXT)
    assert plain is not None
    assert level is not None
    assert plain.magnitude > 1.1
    assert level.magnitude == 1.0


@pytest.mark.parametrize("scaling", [Llama3Scaling(), Llama3Scaling(32.0, 1.0, 2.0, 8192)])
def test_llama3_parameters_give_the_factors_that_a_gguf_file_stores(scaling: Llama3Scaling) -> None:
    spec = model_spec("llama", theta=500000.0)
    parameters = {
        "rope_type": "llama3", "factor": scaling.factor, "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor, "original_max_position_embeddings": scaling.original_context,
    }  # fmt: skip
    ours = scaling_from_parameters(parameters, spec.head_dim // 2, spec.theta, 1)
    assert ours is not None
    np.testing.assert_allclose(ours.factors, llama3_factors(spec, scaling), rtol=1e-6)
    assert ours.magnitude == 1.0


@pytest.mark.parametrize("rule", ["default", "none", "mrope"])
def test_a_rule_that_changes_nothing_within_the_context_is_none(rule: str) -> None:
    assert scaling_from_parameters({"rope_type": rule, "factor": 2.0}, PAIRS, THETA, CONTEXT) is None


def test_the_old_spelling_type_names_the_rule_too() -> None:
    old = scaling_from_parameters({"type": "linear", "factor": 4.0}, PAIRS, THETA, CONTEXT)
    assert old == RopeScaling((4.0,) * PAIRS)


def test_a_missing_original_context_is_the_models_own() -> None:
    with_it = scaling_from_parameters(YARN | {"original_max_position_embeddings": CONTEXT}, PAIRS, THETA, 1)
    without = scaling_from_parameters({"rope_type": "yarn", "factor": 4.0}, PAIRS, THETA, CONTEXT)
    assert without == with_it


@pytest.mark.parametrize(
    ("keys", "parameters"),
    [
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, LINEAR),
        ({"rope.scaling.type": "linear", "rope.scale_linear": 4.0}, LINEAR),
        ({"rope.scale_linear": 4.0}, LINEAR),  # llama.cpp: a factor without a type is linear
        ({"rope.scaling.factor": 4.0}, LINEAR),
        (
            {
                "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
                "rope.scaling.original_context_length": 1024,
            },
            YARN,
        ),
        (
            {
                "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_beta_fast": 16.0,
                "rope.scaling.original_context_length": 1024, "rope.scaling.yarn_beta_slow": 2.0,
            },
            YARN | {"beta_fast": 16.0, "beta_slow": 2.0},
        ),
    ],
)  # fmt: skip
def test_keys_of_a_gguf_file_mean_what_the_parameters_do(
    keys: dict[str, Any], parameters: dict[str, Any]
) -> None:
    expected = scaling_from_parameters(parameters, PAIRS, THETA, CONTEXT)
    assert scaling_from_gguf(keys, PAIRS, THETA, CONTEXT) == expected is not None


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"rope.scaling.type": "none", "rope.scaling.factor": 4.0},
        {"rope.scaling.type": "linear"},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 0.0},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 1.0},
    ],
)
def test_a_gguf_file_without_a_factor_has_no_scaling(keys: dict[str, Any]) -> None:
    assert scaling_from_gguf(keys, PAIRS, THETA, CONTEXT) is None


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"rope_type": "linear"}, ValueError),
        ({"rope_type": "llama3", "factor": 8.0}, ValueError),
        ({"rope_type": "linear", "factor": -1.0}, ValueError),
        ({"rope_type": "linear", "factor": 0}, ValueError),
        ({"rope_type": "linear", "factor": float("nan")}, ValueError),
        ({"rope_type": "linear", "factor": float("inf")}, ValueError),
        ({"rope_type": "linear", "factor": "4"}, ValueError),
        ({"rope_type": "linear", "factor": True}, ValueError),
        (LLAMA3 | {"high_freq_factor": 1.0}, ValueError),  # no span between the two bounds
        (LLAMA3 | {"high_freq_factor": 0.5}, ValueError),
        (YARN | {"attention_factor": "big"}, ValueError),
        (YARN | {"attention_factor": -1.0}, ValueError),
        ({"rope_type": "longrope", "factor": 4.0}, ValueError),
        (LONGROPE | {"long_factor": [1.0]}, ValueError),
        ({"rope_type": "dynamic"}, ValueError),
        ({"rope_type": ["llama3"], "factor": 4.0}, UnknownRuleError),
    ],
)
def test_a_rule_that_cannot_be_computed_is_refused(
    parameters: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        scaling_from_parameters(parameters, PAIRS, THETA, CONTEXT)


NUMBERS = st.floats(width=32) | st.integers(-3, 1 << 40) | st.text(max_size=3) | st.none() | st.booleans()


@given(
    rule=st.sampled_from(["linear", "llama3", "yarn", "dynamic", "default", "su"]),
    parameters=st.dictionaries(
        st.sampled_from(
            ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "beta_fast",
             "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate"]
        ),
        NUMBERS,
    ),
    theta=st.floats(1e-30, 1e30),
)  # fmt: skip
def test_whatever_the_parameters_the_factors_are_finite_and_positive_or_refused(
    rule: str, parameters: dict[str, Any], theta: float
) -> None:
    try:
        scaling = scaling_from_parameters({**parameters, "rope_type": rule}, 8, theta, 128)
    except (ValueError, ZeroDivisionError):
        return
    if scaling is not None:
        assert len(scaling.factors) == 8
        assert all(0 < factor < np.inf for factor in (*scaling.factors, scaling.magnitude))
