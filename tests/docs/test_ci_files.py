"""The files that other people's CI runs: the action, the hook and the examples name only what there is."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from rosetta.cli import _app

ROOT = Path(__file__).resolve().parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
EXAMPLES = (ROOT / "docs" / "ci.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", EXAMPLES, re.DOTALL)


def options(command: str) -> set[str]:
    """Every option of a command."""
    group: Any = typer.main.get_command(_app())
    return {
        name
        for parameter in group.commands[command].params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def validates(schema: str, file: Path) -> None:
    """Hold a file to a schema of SchemaStore, as check-jsonschema ships it."""
    pytest.importorskip("check_jsonschema", reason="needs check-jsonschema (pip)")
    line = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(file)]
    subprocess.run(line, check=True, capture_output=True)


def compare_step() -> dict[str, Any]:
    (step,) = (step for step in ACTION["runs"]["steps"] if step.get("id") == "compare")
    return dict(step)


def test_every_input_of_the_action_is_used_and_every_use_is_an_input() -> None:
    used = set(re.findall(r"inputs\.([a-z-]+)", (ROOT / "action.yml").read_text("utf-8")))
    assert used == set(ACTION["inputs"])
    assert all(entry["description"] for entry in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))


@pytest.mark.parametrize(
    ("schema", "file"),
    [("github-actions", "action.yml"), ("github-workflows", ".github/workflows/release.yml")],
)
def test_githubs_files_are_what_their_published_schemas_allow(schema: str, file: str) -> None:
    validates(schema, ROOT / file)


@pytest.mark.parametrize(
    ("schema", "holds"), [("github-workflows", "upload-sarif"), ("gitlab-ci", "codequality")]
)
def test_examples_are_what_their_published_schemas_allow(tmp_path: Path, schema: str, holds: str) -> None:
    [example] = [block for block in BLOCKS if holds in block]
    (tmp_path / "example.yml").write_text(example, "utf-8")
    validates(schema, tmp_path / "example.yml")


def test_a_published_schema_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "action.yml").write_text("name: no\nruns: {using: composite, step: []}\n", "utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        validates("github-actions", tmp_path / "action.yml")


def test_the_hooks_and_their_example_are_what_pre_commit_takes(tmp_path: Path) -> None:
    pytest.importorskip("pre_commit", reason="needs pre-commit (pip)")
    [example] = [block for block in BLOCKS if "hooks:" in block]
    (tmp_path / "config.yaml").write_text(example, "utf-8")
    for asked, file in (
        ("validate-manifest", ROOT / ".pre-commit-hooks.yaml"),
        ("validate-config", tmp_path / "config.yaml"),
    ):
        subprocess.run(
            [sys.executable, "-m", "pre_commit", asked, str(file)], check=True, capture_output=True
        )


def test_no_input_stands_in_a_command_line() -> None:
    assert not any("${{" in step.get("run", "") for step in ACTION["runs"]["steps"])


def test_the_options_that_examples_name_are_there() -> None:
    known = options("compare") | options("report")
    action = set(re.findall(r"(?<!\S)(--[a-z-]+)(?=[ \n\"])", compare_step()["run"]))
    documented = {
        word
        for line in EXAMPLES.splitlines()
        if "pip" not in line
        for word in re.findall(r"--[a-z][a-z-]+", line)
    }
    assert action | documented <= known
    assert {"--junit", "--sarif", "--html"} <= action


@pytest.mark.parametrize("code", [0, 1])
def test_the_compare_step_runs_asserts_and_says_the_verdict(tmp_path: Path, code: int) -> None:
    """With a rosetta that writes down how it was called."""
    fake = tmp_path / "rosetta"
    fake.write_text(
        '#!/usr/bin/env bash\nprintf "%s\\n" "$@" > called\n'
        f'echo \'{{"verdict": "divergent"}}\' > reports/report.json\nexit {code}\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LEFT": "a b.apr", "RIGHT": "$(touch run).gguf",
        "PROMPT": "2+2=", "ARGUMENTS": "--fail-on drift", "ASSERT": "true", "REPORTS": "reports",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-e", "-c", compare_step()["run"]], cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == code
    called = (tmp_path / "called").read_text().splitlines()
    assert called[:3] == ["compare", "a b.apr", "$(touch run).gguf"]
    assert called[-3:] == ["--fail-on", "drift", "--assert-match"]
    assert (tmp_path / "output").read_text() == "verdict=divergent\n"
    assert not (tmp_path / "run").exists()


def test_the_hook_checks_each_file_and_stops_at_one_that_is_wrong(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    fake = tmp_path / "rosetta"
    fake.write_text('#!/usr/bin/env bash\necho "$@" >> called\n[ "$3" != bad.gguf ]\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    command = [*shlex.split(hook["entry"]), "a b.apr", "bad.gguf", "c.gguf"]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 1
    assert (tmp_path / "called").read_text().splitlines() == ["check -q a b.apr", "check -q bad.gguf"]
    assert "-q" in options("check")
    assert re.search(hook["files"], "models/a.gguf")
    assert not re.search(hook["files"], "a.gguf.md")


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_are_yaml(block: str) -> None:
    assert yaml.safe_load(block)


def test_the_example_gives_the_action_inputs_that_it_has() -> None:
    workflow = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", EXAMPLES, re.DOTALL)[0])
    (step,) = (step for step in workflow["jobs"]["rosetta"]["steps"] if "rosetta@" in step.get("uses", ""))
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert {name for name, entry in ACTION["inputs"].items() if entry.get("required")} <= set(step["with"])
