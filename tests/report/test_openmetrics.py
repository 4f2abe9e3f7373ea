"""Gauges for Prometheus: what they say, and that both of its text formats allow them."""

from __future__ import annotations

import math

import pytest

from fixtures import reports
from fixtures.ci_formats import check_gauges
from rosetta.report import openmetrics

PAIR = 'left="model.apr",right="model.gguf",prompt="2+2="'


def test_the_verdict_is_one_series_of_one_and_all_others_zero() -> None:
    series = check_gauges(openmetrics.render(reports.drift()))
    told = {key: value for key, value in series.items() if key.startswith("rosetta_verdict")}
    assert told.pop(f'rosetta_verdict{{{PAIR},verdict="drift"}}') == 1
    assert len(told) == 4
    assert set(told.values()) == {0.0}


def test_figures_are_those_of_the_report() -> None:
    series = check_gauges(openmetrics.render(reports.drift()))
    assert series[f'rosetta_relative_difference{{{PAIR},layer="1"}}'] == 2.3e-2
    assert series[f'rosetta_noise_ratio{{{PAIR},layer="0"}}'] == pytest.approx(4.1 / 9.2)
    assert series[f'rosetta_weights{{{PAIR},state="within_noise"}}'] == 14
    assert series[f"rosetta_peak_memory_bytes{{{PAIR}}}"] == 2**29


def test_the_first_divergence_names_its_stage() -> None:
    series = check_gauges(openmetrics.render(reports.dims_swapped()))
    assert series[f'rosetta_first_divergence{{{PAIR},stage="layers.0.k"}}'] == 1
    assert not any("first_divergence" in key for key in check_gauges(openmetrics.render(reports.report())))


@pytest.mark.parametrize("prompt", ['a"b\\c\nd', "\ud800", "é" * 500, "", None])
def test_any_prompt_is_a_label(prompt: str | None) -> None:
    check_gauges(openmetrics.render(reports.report(prompt=prompt)))


def test_values_that_are_not_finite_are_spelled() -> None:
    stages = [reports.stage("embedding", "faulty", math.inf), reports.stage("logits", "faulty", math.nan)]
    series = check_gauges(openmetrics.render(reports.report(stages=stages)))
    assert series[f'rosetta_relative_difference{{{PAIR},layer="embedding"}}'] == math.inf
    assert math.isnan(series[f'rosetta_relative_difference{{{PAIR},layer="logits"}}'])


def test_of_several_reports_each_pair_has_its_series_and_the_same_pair_once() -> None:
    again = {"a": reports.report(), "b": reports.drift(), "c": reports.report(prompt="x")}
    series = check_gauges(openmetrics.render_all(again))
    assert sum(key.startswith("rosetta_peak_memory_bytes") for key in series) == 2


@pytest.mark.parametrize(
    "broken",
    [
        "a 1\n# EOF\n",
        "# HELP a b\n# TYPE a counter\na 1\n# EOF\n",
        "# HELP a b\n# TYPE a gauge\na 1 123\n# EOF\n",
    ],
)
def test_the_check_refuses_what_the_collector_would(broken: str) -> None:
    with pytest.raises(AssertionError):
        check_gauges(broken)


def test_prometheus_own_parsers_read_it() -> None:
    client = pytest.importorskip("prometheus_client")
    assert client
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
    from prometheus_client.parser import text_string_to_metric_families as text_families

    text = openmetrics.render(reports.dims_swapped())
    for families in (openmetrics_families(text), text_families(text)):
        assert {family.type for family in families} == {"gauge"}
