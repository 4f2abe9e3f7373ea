"""The report as strict JSON, and its schema."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from fixtures import reports
from rosetta.compare.results import ConfigDiff, Worst
from rosetta.report import outputs
from rosetta.report.report import report_schema

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads(report_schema())
STATES = {"match": reports.report, "drift": reports.drift, "divergent": reports.dims_swapped}


def strictly(text: str) -> Any:
    """JSON without the literals that Python's reader lets pass."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("state", STATES)
def test_a_report_validates_against_its_schema(state: str) -> None:
    document = strictly(STATES[state]().to_json())
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["verdict"] == state


def test_the_schema_is_a_schema_and_every_field_is_described() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")
    for definition in (SCHEMA, *SCHEMA["$defs"].values()):
        assert definition["description"], definition["title"]
        for name, field in definition["properties"].items():
            # what a `$ref` names has its own description
            assert field.get("description") or "$ref" in field, f"{definition['title']}.{name}"


def test_the_contract_is_what_the_program_prints() -> None:
    contract = ROOT / "contracts" / "report-schema-v1.json"
    assert contract.read_text("utf-8") == report_schema(), (
        "run: rosetta schema > contracts/report-schema-v1.json"
    )


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("verdict", "fine"), ("schema_version", "2.0"), ("threshold", None), ("stages", {}), ("left", {})],
)
def test_the_schema_refuses_what_is_no_report(field: str, wrong: object) -> None:
    document = strictly(reports.report().to_json())
    document[field] = wrong
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(document)


def test_every_field_is_required_and_a_later_minor_version_still_validates() -> None:
    document = strictly(reports.report().to_json())
    assert set(SCHEMA["required"]) == set(document)
    document |= {"schema_version": "1.7", "added_in_1_7": True}
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


def test_details_for_the_terminal_stay_out_of_the_json() -> None:
    assert "detail" not in strictly(reports.dims_swapped().to_json())["stages"][0]


@pytest.mark.parametrize(
    ("value", "spelled"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")]
)
def test_numbers_that_are_not_finite_are_strings_wherever_they_stand(value: float, spelled: str) -> None:
    stage = reports.stage("embedding", "faulty", value, worst=Worst(index=[0], left=value, right=0.0))
    config = ConfigDiff(
        key="rope.scaling", left={"factors": [1.0, value]}, right=np.float32(value), status="differs"
    )
    report = reports.report(stages=[stage], config=[config])
    document = strictly(report.to_json())
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["stages"][0]["max_diff"] == document["stages"][0]["worst"]["left"] == spelled
    assert document["config"][0]["left"] == {"factors": [1.0, spelled]}
    assert document["config"][0]["right"] == spelled


def test_text_that_no_utf8_holds_is_replaced() -> None:
    document = strictly(reports.report(prompt="a\ud800b").to_json().encode("utf-8").decode("utf-8"))
    assert document["prompt"] == "a?b"


def test_the_outputs_are_found_by_listing_the_package() -> None:
    (found,) = (output for output in outputs() if output.name == "json")
    assert found.render(reports.report()) == reports.report().to_json()
    assert all(output.help for output in outputs())
