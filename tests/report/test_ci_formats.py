"""SARIF, JUnit, GitLab's code quality, GitHub's commands: what they say of a report, held to specifications."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fixtures import reports
from fixtures.ci_formats import check_code_quality, check_junit, check_sarif, check_shape
from rosetta.compare.results import TokensDiff
from rosetta.report import codequality, github, junit, outputs, sarif
from rosetta.report.alerts import alerts, rule_named
from rosetta.report.report import Assertion, Report

HOSTILE = 'blk.0.<evil>&"\x00\x1b[31m\ud800%0A::error::,|`.weight'


def inconclusive() -> Report:
    return reports.report(verdict="inconclusive", reason="no stage could be compared", stages=[])


def error() -> Report:
    return reports.report(
        verdict="error", reason="model.apr: no such file", error="model.apr: no such file", stages=[],
        assertion=Assertion(exit_code=2),
    )  # fmt: skip


def latent(fail_on: tuple[Any, ...] = ()) -> Report:
    return reports.report(
        findings=[
            reports.finding("config.sliding_window", None, latent=True, tensor=None, key="sliding_window")
        ],
        assertion=Assertion(asserted=bool(fail_on), fail_on=fail_on),
    )


def hostile() -> Report:
    found = reports.finding(tensor=HOSTILE, left_name=HOSTILE, message=f"{HOSTILE} needs transpose")
    return reports.dims_swapped(findings=[found], left=reports.side(operand=HOSTILE, path=HOSTILE))


def many(count: int = 40) -> Report:
    """A finding in every layer, no two of which fold."""
    found = [
        reports.finding(layer=n, message=f"blk.{n}.attn_k.weight is wrong in {n + 1} blocks")
        for n in range(count)
    ]
    return reports.dims_swapped(findings=found)


def tokens_differ() -> Report:
    return reports.report(
        verdict="divergent",
        reason="the token ids differ",
        tokens=TokensDiff(left=[1, 2], right=[1, 3], match=False, first_mismatch=1),
        first_divergence={"name": "tokens", "layer": None, "op": "tokens", "token": 1, "index": None},
    )


STATES = {
    "match": reports.report, "drift": reports.drift, "divergent": reports.dims_swapped, "latent": latent,
    "inconclusive": inconclusive, "error": error, "hostile": hostile, "many": many, "tokens": tokens_differ,
}  # fmt: skip
state = pytest.mark.parametrize("state", STATES)


def folder_of_hf() -> Report:
    found = reports.finding("config.rope_theta", None, tensor=None, key="rope.freq_base", evidence=None)
    return reports.dims_swapped(findings=[found], left=reports.side("huggingface", path="out/hf"))


@state
def test_sarif_is_what_the_specification_allows(state: str) -> None:
    check_sarif(json.loads(sarif.render(STATES[state]())))


@state
def test_code_quality_is_what_gitlab_allows(state: str) -> None:
    check_code_quality(json.loads(codequality.render(STATES[state]())))


@state
def test_junit_is_what_jenkins_allows(state: str) -> None:
    check_junit(junit.render(STATES[state]()))


@pytest.mark.parametrize("changed", [{"version": "2.0.0"}, {"runs": None}, {"extra": 1}])
def test_the_shape_of_sarif_refuses_what_is_none(changed: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check_sarif(json.loads(sarif.render(reports.report())) | changed)
    with pytest.raises(AssertionError):
        check_shape([{"a": 1}], [{"a": str}])


@pytest.mark.skipif(shutil.which("sarif-multitool") is None, reason="sarif-multitool is not installed (npm)")
def test_sarif_passes_microsofts_validator(tmp_path: Path) -> None:
    reported = [STATES[state]() for state in STATES]
    (tmp_path / "a.sarif").write_text(sarif.render_all({str(i): r for i, r in enumerate(reported)}), "utf-8")
    done = subprocess.run(
        ["sarif-multitool", "validate", "a.sarif"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "successfully" in done.stdout
    assert " error " not in done.stdout


def results(report: Report) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sarif.render(report))["runs"][0]["results"]
    return found


def test_a_confirmed_fault_is_an_error_with_its_proof_and_its_repair() -> None:
    (result,) = results(reports.dims_swapped())
    assert (result["ruleId"], result["level"]) == ("layout.dims_swapped", "error")
    text = result["message"]["text"]
    assert "needs transpose" in text
    assert "Proof: k computed with the transpose, local difference 0.00e+00" in text
    assert "Write blk.0.attn_k.weight with dims [256, 1536]" in text
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "model.apr"


def test_what_comes_out_of_a_folder_points_at_its_config() -> None:
    (result,) = results(folder_of_hf())
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "out/hf/config.json"


def test_an_alert_keeps_its_identity_when_figures_change_and_loses_it_when_the_tensor_does() -> None:
    (first,) = alerts(reports.dims_swapped())
    moved = reports.finding(message="blk.0.attn_k.weight is otherwise", evidence=None, status="suspected")
    (second,) = alerts(reports.dims_swapped(findings=[moved]))
    (other,) = alerts(reports.dims_swapped(findings=[reports.finding(layer=1)]))
    assert first.identity == second.identity != other.identity


def test_latent_findings_are_notes_unless_they_were_to_fail() -> None:
    assert [r["level"] for r in results(latent())] == ["note"]
    assert [r["level"] for r in results(latent(("divergent", "latent")))] == ["error"]


def test_drift_is_no_alert_unless_it_was_to_fail() -> None:
    assert results(reports.drift()) == []
    forbidden = reports.drift(
        assertion=Assertion(asserted=True, passed=False, exit_code=1, fail_on=("drift",))
    )
    assert [r["ruleId"] for r in results(forbidden)] == ["verdict.drift"]


@pytest.mark.parametrize("state", [name for name in STATES if name not in ("match", "drift", "latent")])
def test_no_report_that_fails_is_without_an_alert_or_green(state: str) -> None:
    report = STATES[state]()
    assert results(report)[0]["level"] == "error"
    assert json.loads(codequality.render(report))[0]["severity"] == "critical"
    assert "::error " in github.commands(report)
    root = check_junit(junit.render(report))
    assert int(root.attrib["failures"]) + int(root.attrib["errors"]) > 0


@pytest.mark.parametrize("state", ["match", "drift", "latent"])
def test_a_report_that_passes_is_green(state: str) -> None:
    root = check_junit(junit.render(STATES[state]()))
    assert (root.attrib["failures"], root.attrib["errors"]) == ("0", "0")
    assert "::error " not in github.commands(STATES[state]())


def test_an_error_is_an_execution_that_did_not_succeed() -> None:
    (invocation,) = json.loads(sarif.render(error()))["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 2
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "model.apr: no such file"


def test_several_reports_are_one_run_and_an_alert_of_both_stands_there_once() -> None:
    both = {"a": reports.dims_swapped(), "b": reports.dims_swapped(prompt="other"), "c": folder_of_hf()}
    check_sarif(json.loads(sarif.render_all(both)))
    (run,) = json.loads(sarif.render_all(both))["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["layout.dims_swapped", "config.rope_theta"]
    assert len(run["invocations"]) == 3
    assert len(json.loads(codequality.render_all(both))) == 2
    assert len(check_junit(junit.render_all(both))) == 3


def test_a_layer_is_a_case_and_what_carries_an_earlier_fault_was_not_tested() -> None:
    carried = reports.stage("layers.1.residual", "carried", 3.0)
    faulty = reports.dims_swapped()
    stages = [carried if stage.name == carried.name else stage for stage in faulty.stages]
    root = check_junit(junit.render(faulty.model_copy(update={"stages": stages})))
    outcome = {case.attrib["name"]: [child.tag for child in case] for case in root.iter("testcase")}
    assert list(outcome) == ["Tokens", "Embedding", "Layer 0", "Layer 1", "Final norm", "Logits", "Verdict"]
    assert outcome["Layer 0"] == outcome["Verdict"] == ["failure"]
    assert outcome["Layer 1"] == ["skipped"]
    (failure,) = root.findall(".//testcase[@name='Layer 0']/failure")
    assert "needs transpose" in failure.attrib["message"]
    assert "proof: k computed with the transpose" in (failure.text or "")


def test_annotations_stay_within_ten_of_a_level_and_say_what_is_left_out() -> None:
    lines = github.commands(many()).splitlines()
    assert len(lines) == 10
    assert lines[-1] == "::error title=rosetta::31 more findings: see the step's summary"


def test_nothing_in_a_name_can_begin_another_command_or_end_a_property() -> None:
    (line,) = github.commands(hostile()).splitlines()
    properties = line.removeprefix("::error ").partition("::")[0]
    assert [part.partition("=")[0] for part in properties.split(",")] == ["file", "line", "title"]
    assert "%250A" in line


def test_a_summary_stays_within_its_room_and_says_so() -> None:
    text = github.summary(many(3000), room=20_000)
    assert len(text.encode()) <= 20_000
    assert "does not fit" in text
    assert "❌" in text.splitlines()[0]


def test_a_summary_takes_no_markup_from_a_file() -> None:
    text = re.sub("`[^`]*`", "", github.summary(hostile()))  # what stands in code marks is shown as it is
    assert "<evil>" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("name", ["layout.transposed", "verdict.drift", "kind.of_a_later_version"])
def test_every_rule_has_a_title(name: str) -> None:
    assert rule_named(name).id == name
    assert rule_named(name).title


def test_every_form_renders_every_state() -> None:
    for output in outputs():
        for make in STATES.values():
            assert output.render(make()).encode("utf-8").endswith(b"\n"), output.name
