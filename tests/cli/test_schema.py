"""What lint, contracts and sweep write is what the published schemas say, and every field is one that they know."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fixtures import build, faults
from fixtures.comparing import tiny
from rosetta import cli

Writer = Callable[[Path, str], None]
ROOT = Path(__file__).resolve().parents[2]


def linted(folder: Path, report: str) -> None:
    """A file with a NaN, and a text for its tokenizer."""
    (folder / "text.txt").write_text("def f(x):\n    return x\n")
    path = build(folder / "a", tiny("llama"), "gguf:F16", faults.nonfinite("blk.1.ffn_up.weight", 70))
    assert cli.run(["lint", str(path), "--values", "--text", str(folder / "text.txt"), "--json", report]) == 1


def contracted(folder: Path, report: str) -> None:
    """A contract of one falsifier, and a malformed one."""
    contract = yaml.safe_load((ROOT / "contracts" / "gguf-export-valid-v1.yaml").read_text("utf-8"))
    contract["falsification_tests"] = contract["falsification_tests"][:1]
    contract["proof_obligations"] = contract["proof_obligations"][:1]
    contract["proof_obligations"][0]["falsified_by"] = [contract["falsification_tests"][0]["id"]]
    (folder / "gguf-export-valid-v1.yaml").write_text(yaml.safe_dump(contract))
    (folder / "bad-v1.yaml").write_text("metadata: 1\n")
    assert cli.run(["contracts", str(folder), "--json", report]) == 2


def swept(folder: Path, report: str) -> None:
    """A manifest of two comparisons, none of which has been made."""
    pairs = [{"left": "a.gguf", "right": "b.gguf"}, {"left": "c.gguf", "right": "d.gguf"}]
    (folder / "pairs.yaml").write_text(yaml.safe_dump({"pairs": pairs}))
    out = str(folder / "reports")
    code = cli.run(["sweep", str(folder / "pairs.yaml"), "--out", out, "--collect", "--json", report])
    assert code == 3


WRITERS: dict[str, Writer] = {"lint": linted, "contracts": contracted, "sweep": swept}


@pytest.fixture(params=WRITERS)
def written(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[Any, Any]:
    """A command's report, and the schema that is published of it."""
    WRITERS[request.param](tmp_path, str(tmp_path / "report.json"))
    capsys.readouterr()
    assert cli.run(["schema", request.param]) == 0
    return json.loads((tmp_path / "report.json").read_text("utf-8")), json.loads(capsys.readouterr().out)


def test_a_report_is_what_its_schema_says(written: tuple[Any, Any]) -> None:
    report, schema = written
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(report)


def test_a_report_has_the_fields_of_its_schema_and_no_others(written: tuple[Any, Any]) -> None:
    report, schema = written
    assert report.keys() == schema["properties"].keys() == set(schema["required"])
    (name,) = {"faults", "contracts", "cells"} & report.keys()
    items = schema["$defs"][schema["properties"][name]["items"]["$ref"].rpartition("/")[2]]
    assert report[name], "there is one to look at"
    assert all(row.keys() == items["properties"].keys() == set(items["required"]) for row in report[name])
    assert all("description" in field for field in items["properties"].values())


def test_a_report_without_a_field_or_of_another_version_is_refused(written: tuple[Any, Any]) -> None:
    report, schema = written
    validator = jsonschema.Draft202012Validator(schema)
    for name in report:
        fewer = copy.deepcopy(report)
        del fewer[name]
        assert not validator.is_valid(fewer), name
    assert not validator.is_valid({**report, "schema_version": "2.0"})
    assert validator.is_valid({**report, "schema_version": "1.9", "more": 1}), "a later 1.x may add fields"
