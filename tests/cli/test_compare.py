"""`rosetta LEFT RIGHT`: what its options mean, where its output goes, how it exits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from gguf import GGUFReader

from fixtures import pair, reports
from fixtures.faults import dims_swapped
from rosetta import digests
from rosetta.compare.options import Options
from rosetta.report.report import report_schema

Run = Callable[..., Any]
STATES = {"match": reports.report(), "drift": reports.drift(), "divergent": reports.dims_swapped()}


def test_without_options_both_operands_are_compared_by_default(rosetta: Run, comparison: Any) -> None:
    result = rosetta("a.apr", "b.gguf")
    assert result.code == 0
    assert comparison.calls == [("a.apr", "b.gguf", Options())]
    assert "MATCHED" in result.out


@pytest.mark.parametrize(
    "line",
    ["compare a b --no-diagnose", "a b --no-diagnose", "--no-diagnose a b", "a --no-diagnose b", "-- a b"],
)
def test_the_command_may_be_named_or_not_and_options_stand_anywhere(
    rosetta: Run, comparison: Any, line: str
) -> None:
    assert rosetta(*line.split()).code == 0
    assert comparison.calls == [("a", "b", Options(diagnose=line == "-- a b"))]


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--prompt", "x\ny "], {"prompt": "x\ny "}),
        (["--prompt", ""], {"prompt": ""}),
        (["--tokens", "17,10,17,28"], {"tokens": (17, 10, 17, 28)}),
        (["--tokens", "[17, 10]"], {"tokens": (17, 10)}),
        (["--threshold", "1e-3"], {"threshold": 1e-3, "threshold_is_explicit": True}),
        (["--threshold", "0"], {"threshold": 0.0, "threshold_is_explicit": True}),
        (["--reference", "left"], {"reference": "left"}),
        (["--stop-at-first"], {"stop_at_first": True}),
        (["--no-diagnose"], {"diagnose": False}),
        (["--device", "cuda"], {"left_device": "cuda", "right_device": "cuda"}),
        (["--device", "cuda", "--left-device", "cpu"], {"left_device": "cpu", "right_device": "cuda"}),
        (["--right-device", "cuda"], {"left_device": "cpu", "right_device": "cuda"}),
        (["--dtype", "float64"], {"dtype": "float64"}),
    ],
)
def test_options_reach_the_comparison(
    rosetta: Run, comparison: Any, line: list[str], expected: dict[str, Any]
) -> None:
    assert rosetta("a", "b", *line).code == 0
    assert comparison.options == Options(**expected)


@pytest.mark.parametrize(
    ("content", "prompt"),
    [(b"two\nlines\n", "two\nlines"), (b"a\r\n", "a"), ("é".encode(), "é"), (b"x \n\n", "x \n"), (b"", "")],
)
def test_a_prompt_file_is_read_without_its_last_line_break(
    rosetta: Run, comparison: Any, tmp_path: Path, content: bytes, prompt: str
) -> None:
    (tmp_path / "prompt.txt").write_bytes(content)
    assert rosetta("a", "b", "--prompt-file", tmp_path / "prompt.txt").code == 0
    assert comparison.options.prompt == prompt


@pytest.mark.sample(9)
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--tokens", "1,x"], "--tokens are ids separated by commas"),
        (["--tokens", ""], "--tokens are ids"),
        (["--tokens", "-1"], "--tokens are ids"),
        (["--tokens", "1,,2"], "--tokens are ids"),
        (["--tokens", "2147483648"], "--tokens are ids"),
        (["--tokens", "1", "--prompt", "x"], "exclude each other"),
        (["--prompt", "x", "--prompt-file", "y"], "exclude each other"),
        (["--prompt", "\udcff"], "not UTF-8"),
        (["--prompt-file", "no/such/file"], "no/such/file: no such file"),
        (["--threshold", "nan"], "--threshold"),
        (["--threshold", "inf"], "--threshold"),
        (["--threshold", "-1"], "--threshold"),
        (["--threshold", "much"], "--threshold"),
        (["--reference", "middle"], "--reference"),
        (["--device", "tpu"], "--device"),
        (["--dtype", "int8"], "--dtype"),
        (["-q", "-v"], "-q and -v exclude each other"),
        (["--strict"], "add --assert-match"),
        (["--fail-on", "drift"], "add --assert-match"),
        (
            ["--assert-match", "--fail-on", "warnings"],
            "--fail-on takes divergent, latent, drift, not 'warnings'",
        ),
        (["--layers", "0-4"], "add -v"),
        (["--stage", "k"], "add -v"),
        (["-v", "--layers", "4-0"], "ends before it begins: write 0-4"),
        (["-v", "--layers", "x"], "--layers are numbers and ranges"),
        (["--detail", "everything"], "--detail"),
        (["--json", "no/such/folder/x.json"], "no/such/folder/x.json: its folder does not exist"),
        (["--nonsense"], "--nonsense"),
        (["c"], "unexpected extra argument"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(
    rosetta: Run, comparison: Any, line: list[str], said: str
) -> None:
    result = rosetta("a", "b", *line)
    assert result.code == 2
    assert result.out == ""
    (only,) = result.err.splitlines()
    assert only.startswith("rosetta: ")
    assert said in only
    assert comparison.calls == [], "work began before the mistake was found"


def test_a_prompt_file_that_is_no_text_is_refused_at_its_byte(
    rosetta: Run, comparison: Any, tmp_path: Path
) -> None:
    (tmp_path / "prompt.txt").write_bytes(b"ab\xffc")
    result = rosetta("a", "b", "--prompt-file", tmp_path / "prompt.txt")
    assert result.code == 2
    assert "prompt.txt: byte 2: is not UTF-8 text" in result.err


@pytest.mark.parametrize(
    ("state", "asserted", "strict", "limit"),
    [
        ("match", 0, 0, 0),
        ("drift", 0, 1, 1),
        ("divergent", 1, 1, 1),
    ],
)
def test_the_exit_code_is_the_assertions(
    rosetta: Run, comparison: Any, state: str, asserted: int, strict: int, limit: int
) -> None:
    comparison.report = STATES[state]
    assert rosetta("a", "b").code == 0
    assert rosetta("a", "b", "--assert-match").code == asserted
    assert rosetta("a", "b", "--assert-match", "--strict").code == strict
    assert rosetta("a", "b", "--assert-match", "--threshold", "1e-3").code == limit


def test_a_latent_finding_fails_where_it_is_asked_for(rosetta: Run, comparison: Any, tmp_path: Path) -> None:
    comparison.report = reports.drift(findings=[reports.finding(latent=True)])
    report = tmp_path / "report.json"
    for line, code in (([], 0), (["--fail-on", "latent"], 1), (["--fail-on", "drift"], 1), (["--strict"], 1)):
        result = rosetta("a", "b", "-q", "--assert-match", *line, "--json", report)
        assert result.code == code
        assert result.out.endswith("; 1 latent finding\n")
        said = json.loads(report.read_text("utf-8"))["assertion"]
        assert said["asserted"]
        assert said["exit_code"] == code
        assert said["passed"] == (code == 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["none.apr", "none.gguf"], "none.apr: no such file or directory"),
        (["none.apr", "none.gguf", "--threshold", "-1"], "--threshold is a number"),
        (["none.apr", "none.gguf", "--nonsense"], "No such option: --nonsense"),
        (["none.apr"], "none.apr is one operand"),
    ],
)
def test_what_exits_2_leaves_a_report_that_says_why_in_place_of_yesterdays(
    rosetta: Run, tmp_path: Path, line: list[str], said: str
) -> None:
    target = tmp_path / "report.json"
    target.write_text('{"verdict": "match"}')
    result = rosetta(*line, "--json", target)
    assert result.code == 2
    report = json.loads(target.read_text("utf-8"))
    jsonschema.Draft202012Validator(json.loads(report_schema())).validate(report)
    assert report["verdict"] == "error"
    assert said in report["error"] == report["reason"]
    assert report["assertion"] == {"asserted": False, "passed": None, "exit_code": 2, "fail_on": []}
    assert result.err == f"rosetta: {report['error']}\n"


def test_nothing_is_hashed_that_nobody_will_see(
    rosetta: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen shows no SHA-256."""
    files, hashed = pair(tmp_path, "qwen2", "hf:BF16", "gguf:Q8_0"), list[object]()
    monkeypatch.setattr(digests, "SMALL", 0)
    monkeypatch.setattr(digests, "sha256", lambda place: hashed.append(place) or "")
    assert rosetta(*files).code == 0
    assert not hashed
    assert rosetta(*files, "--json", tmp_path / "report.json").code == 0
    assert hashed


def test_a_report_says_which_run_it_is_of_and_what_was_compared(
    rosetta: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = pair(tmp_path, "qwen2", "hf:BF16", "gguf:Q8_0")
    target, plain = tmp_path / "report.json", tmp_path / "plain.json"
    assert rosetta(left, right, "--json", target, "--detail", "tokens").code == 0
    monkeypatch.setattr(digests, "SMALL", right.stat().st_size - 1)
    assert rosetta(left, right, "--json", plain, "--detail", "summary").code == 0
    report, short = (json.loads(path.read_text("utf-8")) for path in (target, plain))
    assert report["right"]["sha256"] == hashlib.sha256(right.read_bytes()).hexdigest()
    weights = (left / "model.safetensors").read_bytes()
    assert report["left"]["sha256"] == hashlib.sha256(weights).hexdigest()
    header = weights[: 8 + int.from_bytes(weights[:8], "little")]
    config = (left / "config.json").read_bytes()
    assert report["left"]["header_sha256"] == hashlib.sha256(config + header).hexdigest()
    reader = GGUFReader(right)
    assert (
        report["right"]["header_sha256"]
        == hashlib.sha256(right.read_bytes()[: reader.data_offset]).hexdigest()
    )
    names = {tensor.name: hashlib.sha256(tensor.data.tobytes()).hexdigest() for tensor in reader.tensors}
    assert report["right"]["tensors_sha256"] == names
    spans = {
        name: entry["data_offsets"]
        for name, entry in json.loads(header[8:]).items()
        if name != "__metadata__"
    }
    data = weights[len(header) :]
    assert report["left"]["tensors_sha256"] == {
        name: hashlib.sha256(data[first:last]).hexdigest() for name, (first, last) in spans.items()
    }
    assert short["right"]["sha256"] is None
    assert short["right"]["tensors_sha256"] == names  # all of them were read
    assert short["left"]["tensors_sha256"] == report["left"]["tensors_sha256"]
    assert rosetta(left, right, "--json", plain, "--hash").code == 0
    asked = json.loads(plain.read_text("utf-8"))
    assert asked["right"]["sha256"] == report["right"]["sha256"]
    assert asked["right"]["tensors_sha256"] == names
    assert short["right"]["header_sha256"] == report["right"]["header_sha256"]
    assert report["run"]["id"] != short["run"]["id"]
    assert {"python", "torch"} <= set(report["run"]["versions"])
    assert datetime.fromisoformat(report["run"]["started"]).tzinfo is not None
    assert report["options"]["detail"] == "tokens"
    assert [stage["by_token"] is None for stage in report["stages"]] == [
        True,
        *[False] * (len(report["stages"]) - 1),
    ]
    assert (short["stages"], short["compared"]) == ([], report["compared"])


def test_json_on_stdout_is_alone_there(rosetta: Run, comparison: Any) -> None:
    comparison.report = STATES["divergent"]
    result = rosetta("a", "b", "--json", "-", "--assert-match")
    assert json.loads(result.out)["verdict"] == "divergent"
    assert "FAILED: layout mismatch at Layer 0 k" in result.err
    assert result.code == 1


def test_a_json_file_is_whole_and_nothing_lies_beside_it(
    rosetta: Run, comparison: Any, tmp_path: Path
) -> None:
    (tmp_path / "report.json").write_text("old")
    result = rosetta("a", "b", "--json", tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text("utf-8") == comparison.report.to_json()
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert "MATCHED" in result.out


def test_verbosity_is_the_number_of_vs(rosetta: Run, comparison: Any) -> None:
    default, every, values = (rosetta("a", "b", *v).out for v in ([], ["-v"], ["-vv"]))
    assert "max_diff" not in default.split("=== Layers 0-1 ===")[1].split("===")[0]
    assert every.count("  attn_norm ") == 2
    assert "top 5" not in every
    assert "top 5" in values


def test_quiet_leaves_one_line_and_no_log(rosetta: Run, comparison: Any) -> None:
    result = rosetta("a", "b", "-q")
    assert len(result.out.splitlines()) == 1
    assert result.out.startswith("MATCHED")
    assert result.err == ""


def test_an_interrupt_exits_130_and_leaves_no_report(rosetta: Run, comparison: Any, tmp_path: Path) -> None:
    comparison.raises = KeyboardInterrupt()
    result = rosetta("a", "b", "--json", tmp_path / "report.json")
    assert result.code == 130
    assert result.err == "rosetta: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_what_we_did_not_foresee_is_one_line_too(rosetta: Run, comparison: Any) -> None:
    comparison.raises = ZeroDivisionError("division\nby zero")
    result = rosetta("a", "b")
    assert result.code == 2
    (only,) = result.err.splitlines()
    assert "ZeroDivisionError: division\\nby zero" in only
    assert "report it" in only


def test_memory_that_does_not_suffice_is_one_line(rosetta: Run, comparison: Any) -> None:
    comparison.raises = MemoryError()
    assert rosetta("a", "b").code == 2


def test_a_system_error_names_the_file(rosetta: Run, comparison: Any) -> None:
    comparison.raises = PermissionError(13, "Permission denied", "model.apr")
    assert rosetta("a", "b").err == "rosetta: model.apr: Permission denied\n"


def test_a_real_pair_with_swapped_dims_gives_the_requests_transcript(rosetta: Run, tmp_path: Path) -> None:
    left, right = pair(tmp_path, "qwen2", "apr:F16", "gguf:F16", dims_swapped("blk.0.attn_k.weight"))
    result = rosetta(left, right, "--prompt", "2+2=", "--assert-match")
    lines = iter(result.out.splitlines())
    for expected in (
        f"[ROSETTA] Loading APR: {left} (qwen2, 2 layers, ",
        f"[ROSETTA] Loading GGUF: {right} (qwen2, 2 layers, ",
        '[ROSETTA] Prompt: "2+2="',
        "[ROSETTA] Token IDs: [",
        "=== Embedding ===",
        "  APR dims: [4, 256], GGUF dims: [4, 256] ✓",
        "  max_diff=0.00e+00, mean_diff=0.00e+00 ✓",
        "=== Layer 0 ===",
        "  k  APR weight: [256, 128], GGUF weight: [128, 256]",
        "     LAYOUT MISMATCH: APR=[in, out] GGUF=[out, in] ✗ DIVERGENCE! (cannot be computed as stored)",
        "  DIAGNOSIS: APR blk.0.attn_k.weight (model.layers.0.self_attn.k_proj.weight) needs transpose (GGML",
        "     proof: k computed with the transpose, local difference 0.00e+00 (predicted 0)",
        "=== Summary ===",
        "FAILED: layout mismatch at Layer 0 k",
        "Recommendation: ",
    ):
        assert any(line.startswith(expected) for line in lines), f"not there, or not in order: {expected}"
    assert result.code == 1
    assert "[APR-LOAD] blk.0.attn_k.weight: dims=[256, 128], dtype=F16, TRANSPOSE NEEDED: " in result.err
    assert (
        "[GGUF-LOAD] 26 tensors: dims as the config says, dtype=F16, F32, layout [out, in]: OK" in result.err
    )


def test_a_missing_operand_is_named(rosetta: Run, tmp_path: Path) -> None:
    result = rosetta(tmp_path / "none.apr", tmp_path / "none.gguf")
    assert result.code == 2
    assert result.err.startswith(f"rosetta: {tmp_path / 'none.apr'}: ")
    assert len(result.err.splitlines()) == 1


def test_an_operand_of_a_runtime_that_there_is_not_says_so(rosetta: Run, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    operand = f"sometorch:{tmp_path / 'model.gguf'}"
    result = rosetta(operand, operand)
    assert result.code == 2
    choices = f"{tmp_path / 'model.gguf'}, trace:FILE, llamacpp:PATH or transformers:PATH"
    assert f"no runtime is called sometorch: give {choices}" in result.err
