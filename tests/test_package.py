"""What the package is made of: everything that is needed at run time is in it, and its facts agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml

import rosetta

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]


def test_every_file_that_is_no_module_is_package_data() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["rosetta"]
    packed = {path for pattern in patterns for path in (ROOT / "rosetta").glob(pattern) if path.is_file()}
    others = {
        path
        for path in (ROOT / "rosetta").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.parent.name != "__pycache__"
    }
    assert packed == others


def test_the_version_stands_once_and_has_its_changes() -> None:
    assert PROJECT["version"] == rosetta.__version__
    assert f"\n## {rosetta.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_licence_that_is_declared_is_there() -> None:
    for pattern in PROJECT["license-files"]:
        assert list(ROOT.glob(pattern)), pattern
    libraries = (ROOT / "rosetta" / "report" / "page" / "vendor").glob("*.js")
    assert all(path.with_name(path.name.replace(".min.js", ".LICENSE")).exists() for path in libraries)


def test_pythons_from_the_first_to_the_last_are_named() -> None:
    named = [int(c.rpartition(".")[2]) for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    first = int(PROJECT["requires-python"].rpartition(".")[2])
    assert named == list(range(first, 15))


def test_the_image_copies_what_it_does_not_ignore() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    }
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == kept
    assert all((ROOT / name).exists() for name in kept)
    assert {PROJECT["readme"], "LICENSE"} <= kept


def test_a_release_runs_the_check_that_ci_runs() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))["jobs"]
    assert ".ci/package package" in [step.get("run") for step in jobs["build"]["steps"]]
    assert ".ci/package" in (ROOT / ".ci" / "run").read_text("utf-8")
    assert jobs["publish"]["needs"] == "build"


def test_a_release_names_the_place_that_it_is_built_at(tmp_path: Path) -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))["jobs"]
    step = next(step for step in jobs["build"]["steps"] if "[project.urls]" in step.get("run", ""))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    given = {"HOME_PAGE": "https://host.example/group/rosetta", "TAG": "v1.2.3"}
    assert {*step["env"]} == {*given}
    subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env={**os.environ, **given}, check=True)
    written = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))
    assert written["project"].pop("urls") == {
        "Source": "https://host.example/group/rosetta",
        "Issues": "https://host.example/group/rosetta/issues",
        "Changelog": "https://host.example/group/rosetta/blob/v1.2.3/CHANGELOG.md",
    }
    assert written == PYPROJECT
