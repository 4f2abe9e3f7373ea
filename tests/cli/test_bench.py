"""`rosetta bench faults` from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rosetta as package


def test_table_and_json(rosetta: Any, tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    done = rosetta(
        "bench", "faults", "--kinds", "value.missing,clean", "--cases", 4, "--seed", 11, "--json", target
    )
    assert done.code == 0, done.err
    assert "4 cases, seeds 11 to 14." in done.out
    assert "| value.missing" in done.out
    document = json.loads(target.read_text())
    assert [score["kind"] for score in document["scores"]] == ["value.missing", "clean"] * 2
    assert [score["seed"] for score in document["scores"]] == [11, 12, 13, 14]


def test_json_alone_on_stdout_and_the_same_twice(rosetta: Any) -> None:
    arguments = ("bench", "faults", "--kinds", "config.rope_theta", "--cases", 2, "--seed", 3, "--json", "-")
    documents = [json.loads(rosetta(*arguments).out) for _ in range(2)]
    for document in documents:
        for part in (*document["scores"], *document["rows"]):
            for clock in ("seconds", "median_s", "max_s"):
                part.pop(clock, None)
    assert documents[0] == documents[1]


def test_a_family_stands_for_its_kinds(rosetta: Any) -> None:
    done = rosetta("bench", "faults", "--kinds", "tokenizer", "--cases", 1, "-q", "--json", "-")
    assert json.loads(done.out)["scores"][0]["kind"].startswith("tokenizer.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kinds", "value.melted"), "no kind 'value.melted': there are"),
        (("--kinds", ","), "--kinds names none"),
        (("--cases", "0"), "Invalid value for '--cases'"),
        (("--json", "nowhere/x.json"), "its folder does not exist"),
    ],
)
def test_usage_errors(rosetta: Any, arguments: tuple[str, ...], message: str) -> None:
    done = rosetta("bench", "faults", *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_an_installed_package_says_that_it_needs_a_checkout(
    rosetta: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(package, "__file__", str(tmp_path / "rosetta" / "__init__.py"))
    done = rosetta("bench", "faults", "--cases", 1)
    assert done.code == 2
    assert "run it from a checkout of the repository" in done.err
