"""Every contract is whole, and every test that it names exists; each way to break one is itself tested."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = sorted((ROOT / "contracts").glob("*.yaml"))
REQUIRED = {"apr-import-config-fidelity-v1", "tensor-layout-v1", "dtype-fidelity-v1"}
PARTS = ("metadata", "equations", "proof_obligations", "falsification_tests")
FALSIFIER = {"id", "prediction", "if_fails", "test"}
NODE = re.compile(r"(tests/[\w/]+\.py)((?:::\w+)+)(?:\[.+\])?")


def problems(name: str, contract: Any) -> list[str]:
    """What is wrong with a contract, one sentence each.

    Args:
        name: of its file, without `.yaml`.
        contract: what the file holds.
    """
    if not isinstance(contract, dict):
        return ["it is no mapping"]
    found = [f"it has no {part}" for part in PARTS if not contract.get(part)]
    if found:
        return found
    found += _metadata(name, contract["metadata"])
    found += [
        f"equation {key} has no formula" for key, e in contract["equations"].items() if not e.get("formula")
    ]
    tests = contract["falsification_tests"]
    ids = [test.get("id") for test in tests]
    found += [f"{id} stands twice" for id in {id for id in ids if ids.count(id) > 1}]
    for test in tests:
        found += [
            f"{test.get('id')} has no {part}" for part in sorted(FALSIFIER) if not _text(test.get(part))
        ]
        found += [f"{test.get('id')}: {why}" for why in _missing_test(str(test.get("test", "")))]
    serving: set[str] = set()
    for obligation in contract["proof_obligations"]:
        if not (_text(obligation.get("id")) and _text(obligation.get("statement"))):
            found.append(f"obligation {obligation.get('id')} has no id or no statement")
        falsifiers = obligation.get("falsified_by") or []
        if not falsifiers:
            found.append(f"nothing falsifies {obligation.get('id')}")
        unknown = [id for id in falsifiers if id not in ids]
        found += [f"{obligation.get('id')} names {id}, which is no test" for id in unknown]
        serving.update(falsifiers)
    return found + [f"{id} serves no obligation" for id in ids if id not in serving]


def _metadata(name: str, metadata: dict[str, Any]) -> list[str]:
    found = [] if metadata.get("id") == name else [f"its id is {metadata.get('id')}, its file's name {name}"]
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(metadata.get("version"))):
        found.append("its version is none")
    if not metadata.get("references") or not all(map(_text, metadata["references"])):
        found.append("it has no references")
    return found


def _missing_test(node: str) -> list[str]:
    """Why a pytest node is none that can be collected; empty when it is one."""
    parts = NODE.fullmatch(node)
    if parts is None:
        return [f"{node!r} is no pytest node"]
    path = ROOT / parts[1]
    if not path.is_file():
        return [f"{parts[1]} does not exist"]
    body: list[ast.stmt] = ast.parse(path.read_text("utf-8")).body
    for name in parts[2].split("::")[1:]:
        found = next(
            (s for s in body if isinstance(s, ast.FunctionDef | ast.ClassDef) and s.name == name), None
        )
        if found is None or not name.startswith(("test_", "Test")):
            return [f"{parts[1]} has no {name}"]
        body = found.body
    return [] if isinstance(found, ast.FunctionDef) else [f"{node} is a class, not a test"]


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def loaded(path: Path) -> Any:
    """A contract's content."""
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_a_contract_is_whole_and_its_tests_exist(path: Path) -> None:
    assert problems(path.stem, loaded(path)) == []


def test_the_promised_contracts_are_there() -> None:
    assert {path.stem for path in CONTRACTS} >= REQUIRED
    falsifiers = {test["id"] for path in CONTRACTS for test in loaded(path)["falsification_tests"]}
    assert falsifiers >= {f"FALSIFY-APR-IMPORT-EPS-00{n}" for n in range(1, 5)}


def test_no_falsifier_has_the_id_of_another_contracts() -> None:
    ids = [test["id"] for path in CONTRACTS for test in loaded(path)["falsification_tests"]]
    assert len(ids) == len(set(ids))


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """An edit: put a value at a path of keys and indices; None removes it."""

    def edit(contract: Any) -> None:
        *outer, last = (int(key) if key.isdigit() else key for key in path.split("."))
        for key in outer:
            contract = contract[key]
        if value is None:
            del contract[last]
        else:
            contract[last] = value

    return edit


HERE = "tests/contracts/test_contracts.py"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (change("metadata", None), "it has no metadata"),
        (change("equations", {}), "it has no equations"),
        (change("proof_obligations", []), "it has no proof_obligations"),
        (change("falsification_tests", None), "it has no falsification_tests"),
        (change("metadata.id", "another-v1"), "its id is another-v1"),
        (change("metadata.version", "one"), "its version is none"),
        (change("metadata.references", []), "it has no references"),
        (change("metadata.references.0", ""), "it has no references"),
        (change("equations.linear.formula", None), "equation linear has no formula"),
        (change("proof_obligations.0.statement", " "), "has no id or no statement"),
        (change("proof_obligations.0.falsified_by", []), "nothing falsifies LAYOUT-CANONICAL"),
        (change("proof_obligations.0.falsified_by.0", "FALSIFY-NO"), "names FALSIFY-NO, which is no test"),
        (change("proof_obligations.3.falsified_by.0", "FALSIFY-LAYOUT-001"), "005 serves no obligation"),
        (change("falsification_tests.0.prediction", None), "FALSIFY-LAYOUT-001 has no prediction"),
        (change("falsification_tests.0.if_fails", ""), "FALSIFY-LAYOUT-001 has no if_fails"),
        (change("falsification_tests.0.id", "FALSIFY-LAYOUT-002"), "FALSIFY-LAYOUT-002 stands twice"),
        (change("falsification_tests.0.test", None), "has no test"),
        (change("falsification_tests.0.test", "tests/no_file.py::test_x"), "tests/no_file.py does not exist"),
        (change("falsification_tests.0.test", f"{HERE}::test_no_such_test"), "has no test_no_such_test"),
        (change("falsification_tests.0.test", f"{HERE}::problems"), "has no problems"),
        (change("falsification_tests.0.test", f"{HERE}::TestNone::test_x"), "has no TestNone"),
        (change("falsification_tests.0.test", HERE), "is no pytest node"),
        (change("falsification_tests.0.test", "../elsewhere.py::test_x"), "is no pytest node"),
    ],
)  # fmt: skip
def test_a_broken_contract_is_said(edit: Callable[[dict[str, Any]], None], said: str) -> None:
    contract = copy.deepcopy(loaded(ROOT / "contracts" / "tensor-layout-v1.yaml"))
    edit(contract)
    assert any(said in problem for problem in problems("tensor-layout-v1", contract))


@pytest.mark.parametrize("text", ["", "- a list", "just text", "{}"])
def test_an_empty_contract_is_said(text: str) -> None:
    assert problems("tensor-layout-v1", yaml.safe_load(text))
