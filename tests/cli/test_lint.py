"""`rosetta lint`: a line a fault, exit codes, choice of rules, JSON and SARIF, and no torch for headers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.ci_formats import check_sarif
from fixtures.plain_models import plain_folder, plain_gguf, written
from rosetta.lint.rules import all_rules

Rosetta = Callable[..., Any]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A model with an epsilon of 0 and a foreign key."""
    model = plain_gguf()
    model.keys["llama.attention.layer_norm_rms_epsilon"] = (6, 0.0)
    model.keys["qwen2.block_count"] = (4, 2)
    return written(model, tmp_path / "model.gguf")


def test_each_fault_is_a_line_and_the_last_counts_them(rosetta: Rosetta, broken: Path) -> None:
    result = rosetta("lint", broken)
    assert (result.code, result.err) == (1, "")
    first, second, last = result.out.splitlines()
    assert first.startswith(f"{broken}:")
    assert ": C203 key 'qwen2.block_count': is a key of qwen2" in first
    assert ": C211 key 'llama.attention.layer_norm_rms_epsilon': is 0" in second
    assert last.startswith("Found 1 error and 1 warning in 1 model. rosetta explain C203")


def test_a_sound_file_exits_0_and_says_what_was_not_read(rosetta: Rosetta, tmp_path: Path) -> None:
    path = written(plain_gguf(), tmp_path / "model.gguf")
    assert rosetta("lint", path).out == "No fault in 1 model (headers; --values reads the tensors too).\n"
    assert rosetta("lint", path, "--values").out == "No fault in 1 model.\n"


def test_rules_are_chosen_by_id_family_name_and_pattern(rosetta: Rosetta, broken: Path) -> None:
    for options, ids in (
        (["--select", "C211"], ["C211"]), (["--select", "epsilon"], ["C211"]), (["--select", "C"], ["C203", "C211"]),
        (["--select", "C21"], ["C211"]), (["--ignore", "C203,C211"], []), (["--ignore", "foreign-*"], ["C211"]),
        (["--select", "F"], []), (["--select", "C", "--ignore", "C20"], ["C211"]),
    ):  # fmt: skip
        result = rosetta("lint", broken, *options, "--json", "-")
        assert [fault["rule"] for fault in json.loads(result.out)["faults"]] == ids, options
        assert result.code == (1 if ids else 0)


def test_exit_zero_reports_and_passes(rosetta: Rosetta, broken: Path) -> None:
    result = rosetta("lint", broken, "--exit-zero")
    assert result.code == 0
    assert "C211" in result.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-file"], "no-such-file: no such file or directory: check the path"),
        (["--select", "C999", "x"], "no rule is called 'C999': did you mean"),
        ([], "no file is named"),
    ],
)
def test_what_cannot_be_linted_is_one_line_and_exits_2(
    rosetta: Rosetta, arguments: list[str], said: str
) -> None:
    result = rosetta("lint", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (["config.json"], "has no model.safetensors and no model.safetensors.index.json"),
        (["config.json", "tokenizer.json"], "has no model.safetensors and no model.safetensors.index.json"),
        (["model.safetensors"], "has no config.json"),
        (["model.safetensors", "tokenizer.json"], "has no config.json"),
        (
            ["tokenizer.json", "tokenizer_config.json"],
            "has no config.json and no weights; it has tokenizer.json",
        ),
    ],
)
def test_a_folder_that_is_a_part_of_a_model_is_a_finding(
    rosetta: Rosetta, tmp_path: Path, left: list[str], said: str
) -> None:
    folder = written(plain_folder(), tmp_path / "model-hf")
    for file in folder.iterdir():
        if file.name not in left:
            file.unlink()
    result = rosetta("lint", folder)
    assert (result.code, result.err) == (1, "")
    assert f"{folder}: F123 {said}" in result.out


def test_a_folder_without_a_file_of_a_model_is_none(rosetta: Rosetta, tmp_path: Path) -> None:
    """Nothing was looked at, and that is no pass."""
    (tmp_path / "README.md").write_text("hello")
    result = rosetta("lint", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "is a folder without config.json and weights" in result.err


def test_folders_below_are_models_where_they_hold_one(rosetta: Rosetta, tmp_path: Path) -> None:
    """A folder without config.json is one, an encoder's pooling is a part of it; config.json lies beside GGUF files."""
    for name in ("encoder", "lost", "files"):
        written(plain_folder(), tmp_path / name)
    (tmp_path / "encoder" / "1_Pooling").mkdir()
    (tmp_path / "encoder" / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "lost" / "config.json").unlink()
    (tmp_path / "files" / "model.safetensors").unlink()
    written(plain_gguf(), tmp_path / "files" / "b.gguf")
    result = rosetta("lint", tmp_path, "--json", "-")
    report = json.loads(result.out)
    wanted = ["encoder", "files/b.gguf", "lost"]
    assert report["paths"] == [str(tmp_path / name) for name in wanted]
    assert [(fault["rule"], fault["file"]) for fault in report["faults"]] == [
        ("F123", str(tmp_path / "lost"))
    ]


def test_a_folder_of_many_models_is_walked(rosetta: Rosetta, broken: Path) -> None:
    inner = broken.parent / "inner"
    inner.mkdir()
    written(plain_gguf(), inner / "b.gguf")
    result = rosetta("lint", broken.parent, "--json", "-")
    assert json.loads(result.out)["paths"] == [str(broken), str(inner / "b.gguf")]


def test_rules_are_listed_and_explained(rosetta: Rosetta) -> None:
    listed = rosetta("lint", "--rules")
    assert listed.code == 0
    for loaded in all_rules():
        rule = loaded.rule
        assert f"  {rule.id}  {rule.name} " in listed.out
        explained = rosetta("explain", rule.id)
        words = " ".join(explained.out.split())
        assert explained.code == 0
        assert all(" ".join(text.split()) in words for text in (rule.what, rule.why, rule.fix))
    assert rosetta("explain", rule.name).out == explained.out


def test_json_has_every_fault_with_its_place(rosetta: Rosetta, broken: Path, tmp_path: Path) -> None:
    rosetta("lint", broken, "--json", tmp_path / "lint.json")
    report = json.loads((tmp_path / "lint.json").read_text())
    assert report["schema_version"] == "1.0"
    fault = report["faults"][1]
    assert (fault["rule"], fault["severity"], fault["tensor"]) == ("C211", "error", None)
    assert fault["key"] == "llama.attention.layer_norm_rms_epsilon"
    assert broken.read_bytes()[fault["byte"] + 8 :].startswith(fault["key"].encode())


def test_a_file_of_any_name_is_written_of(rosetta: Rosetta, broken: Path) -> None:
    path = broken.rename(os.fsdecode(os.fsencode(broken.parent) + b"/my \xff.gguf"))
    result = rosetta(
        "lint", path, "--json", broken.parent / "lint.json", "--sarif", broken.parent / "lint.sarif"
    )
    assert (result.code, result.err) == (1, "")
    assert json.loads((broken.parent / "lint.json").read_text("utf-8"))["paths"] == [
        f"{broken.parent}/my ?.gguf"
    ]
    (run,) = json.loads((broken.parent / "lint.sarif").read_text("utf-8"))["runs"]
    place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == f"{broken.parent.as_uri()}/my%20%3F.gguf"


def test_sarif_names_rule_file_and_byte(rosetta: Rosetta, broken: Path) -> None:
    result = rosetta("lint", broken, "--sarif", "-")
    log = json.loads(result.out)
    check_sarif(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in rules] == [loaded.rule.id for loaded in all_rules()]
    for found in run["results"]:
        assert rules[found["ruleIndex"]]["id"] == found["ruleId"]
        place = found["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == broken.as_uri()
        assert place["region"]["byteOffset"] > 0


def test_headers_are_linted_without_torch(broken: Path) -> None:
    code = f"import sys; from rosetta import cli; cli.run(['lint', {str(broken)!r}]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
