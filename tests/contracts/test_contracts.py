"""Every shipped contract is whole, holds, and goes red when the code that it guards is broken."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from rosetta import cli
from rosetta.config import Value
from rosetta.contracts.form import form_problems
from rosetta.contracts.run import FalsifierResult, run_contracts, run_falsifier
from rosetta.contracts.text import render

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = sorted((ROOT / "contracts").glob("*.yaml"))
REQUIRED = {
    "apr-import-config-fidelity-v1", "tensor-layout-v1", "dtype-fidelity-v1", "tokenizer-fidelity-v1",
    "gguf-export-valid-v1", "tied-embeddings-v1", "rope-order-v1", "quantisation-noise-v1",
    "cross-runtime-parity-v1", "report-schema-v1",
}  # fmt: skip
NODE = re.compile(r"(tests/[\w/]+\.py)((?:::\w+)+)(?:\[.+\])?")


def missing_test(node: str) -> list[str]:
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


@cache
def loaded(path: Path) -> Any:
    """A contract's content."""
    return yaml.safe_load(path.read_text("utf-8"))


def falsifiers() -> dict[str, tuple[Path, Any]]:
    """Every falsifier by its id, with its contract."""
    return {test["id"]: (path, test) for path in CONTRACTS for test in loaded(path)["falsification_tests"]}


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_a_contract_is_whole_and_the_tests_that_it_names_exist(path: Path) -> None:
    assert list(form_problems(path.stem, loaded(path))) == []
    named = [test["test"] for test in loaded(path)["falsification_tests"] if "test" in test]
    assert [why for node in named for why in missing_test(node)] == []


def test_the_promised_contracts_are_there() -> None:
    assert {path.stem for path in CONTRACTS} >= REQUIRED


def test_no_falsifier_has_the_id_of_another_contracts() -> None:
    ids = [test["id"] for path in CONTRACTS for test in loaded(path)["falsification_tests"]]
    assert len(ids) == len(set(ids))


@pytest.mark.sample(20)
@pytest.mark.parametrize("name", falsifiers())
def test_a_falsifier_holds_and_its_control_does_not(name: str) -> None:
    path, test = falsifiers()[name]
    if "llamacpp" in json.dumps(test):
        pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    found = run_falsifier(test, path.parent)
    assert (found.verdict, found.reason) == ("pass", "")


# --- mutations: the guarded code is broken, and the contract must say so ---------------------------------------


Break = Callable[[pytest.MonkeyPatch], None]


def without_fact(module: str, table: str, key: str) -> Break:
    """A container's reader no longer knows a key."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        import importlib

        facts = getattr(importlib.import_module(module), table)
        patch.setattr(f"{module}.{table}", tuple(fact for fact in facts if fact.key != key))

    return broken


def dims_as_listed(patch: pytest.MonkeyPatch) -> None:
    """GGUF's dims are taken in the order in which they stand."""
    from rosetta.containers.gguf import header

    entry = header._entry
    patch.setattr(header, "_entry", lambda file, info: replace(e := entry(file, info), dims=e.dims[::-1]))


def one_meaning_of_a_code(patch: pytest.MonkeyPatch) -> None:
    """GGML's Q8_0 under code 8 of an `.apr` is taken for aprender's own Q4, whatever its size."""
    from rosetta.containers.apr import index

    patch.setattr(index, "CODES", {**index.CODES, 8: ("APR_Q4",)})


def tokens_reversed(patch: pytest.MonkeyPatch) -> None:
    """The vocabulary of an `.apr` is read from its end."""
    from rosetta.tokenizer import loading

    read = loading.apr_vocabulary
    patch.setattr(loading, "apr_vocabulary", lambda c: replace(v := read(c), tokens=list(v.tokens)[::-1]))


def merges_reversed(patch: pytest.MonkeyPatch) -> None:
    """The merges of a GGUF file are ranked from the end."""
    from rosetta.tokenizer import loading

    read = loading.gguf_vocabulary
    patch.setattr(loading, "gguf_vocabulary", lambda c: replace(v := read(c), merges=list(v.merges)[::-1]))


def never_tied(patch: pytest.MonkeyPatch) -> None:
    """A folder's reader no longer sees that the head is tied."""
    from rosetta.containers.huggingface import reader

    settings = reader.huggingface_settings
    dropped = {"tied_embeddings"}
    patch.setattr(
        reader,
        "huggingface_settings",
        lambda *given: {key: value for key, value in settings(*given).items() if key not in dropped},
    )


def offsets_shifted(patch: pytest.MonkeyPatch) -> None:
    """GGUF's writer says of each tensor that it begins a byte later."""
    from rosetta.containers.gguf import writer

    packed = writer.packed_info
    patch.setattr(writer, "packed_info", lambda order, entry, offset: packed(order, entry, offset + 1))


def one_row_order(patch: pytest.MonkeyPatch) -> None:
    """Rotary rows of every container are taken for interleaved."""
    patch.setattr("rosetta.config.rotary._row_order", lambda read, shapes: Value(0, "assumed"))


def no_noise(patch: pytest.MonkeyPatch) -> None:
    """Nothing is allowed for the rounding of quantised weights."""
    from rosetta.weight import Weight

    for name in ("sigma", "sigma_rows"):
        sigma = getattr(Weight, name)
        patch.setattr(Weight, name, lambda self, *rows, sigma=sigma: sigma(self, *rows) * 0)


def norm_without_epsilon(patch: pytest.MonkeyPatch) -> None:
    """Our norm computes something else than the runtimes do."""
    from rosetta.ops.norm import Norm

    compute = Norm.compute
    patch.setattr(Norm, "compute", lambda self, s, *x: compute(self, s, *x) * 1.01)


def schema_changed(patch: pytest.MonkeyPatch) -> None:
    """A field is added to reports, and the schema is not published anew."""
    patch.setattr("rosetta.report.report.report_schema", lambda: "{}")


def no_epsilon_written(patch: pytest.MonkeyPatch) -> None:
    """A conversion leaves out the key of the norm's epsilon."""
    from rosetta.convert import gguf_settings

    kept = tuple(key for key in gguf_settings.KEYS if key != "attention.layer_norm_rms_epsilon")
    patch.setattr(gguf_settings, "KEYS", kept)


def blocks_decoded(patch: pytest.MonkeyPatch) -> None:
    """A conversion takes no stored bytes for such as can stay."""
    patch.setattr("rosetta.convert.plan.keeps_bytes", lambda placed: False)


def one_epsilon_for_all(patch: pytest.MonkeyPatch) -> None:
    """A conversion states 1e-5 for whatever the source computes with."""
    import rosetta.convert.gguf_file as module

    state = module.gguf_settings

    def stated(*given: Any) -> Any:
        found = state(*given)
        return replace(found, keys={k: 1e-5 if "epsilon" in k else v for k, v in found.keys.items()})

    patch.setattr(module, "gguf_settings", stated)


APR = "rosetta.containers.apr.settings"
MUTATIONS: dict[str, tuple[Break, str]] = {
    "apr-import-config-fidelity-v1": (
        without_fact(APR, "APR_FACTS", "attention.layer_norm_rms_epsilon"), "FALSIFY-APR-IMPORT-EPS-003",
    ),
    "tensor-layout-v1": (dims_as_listed, "FALSIFY-LAYOUT-001"),
    "dtype-fidelity-v1": (one_meaning_of_a_code, "FALSIFY-DTYPE-005"),
    "tokenizer-fidelity-v1": (tokens_reversed, "FALSIFY-TOKENIZER-FIDELITY-001"),
    "gguf-export-valid-v1": (offsets_shifted, "FALSIFY-GGUF-EXPORT-VALID-001"),
    "tied-embeddings-v1": (never_tied, "FALSIFY-TIED-EMBEDDINGS-001"),
    "rope-order-v1": (one_row_order, "FALSIFY-ROPE-ORDER-001"),
    "quantisation-noise-v1": (no_noise, "FALSIFY-QUANTISATION-NOISE-001"),
    "cross-runtime-parity-v1": (norm_without_epsilon, "FALSIFY-CROSS-RUNTIME-PARITY-001"),
    "report-schema-v1": (schema_changed, "FALSIFY-REPORT-SCHEMA-003"),
}  # fmt: skip

# Further falsifiers, each with a break of the code that it alone is run on.
FURTHER: dict[str, Break] = {
    "FALSIFY-TOKENIZER-FIDELITY-004": merges_reversed,
    "FALSIFY-GGUF-EXPORT-VALID-005": no_epsilon_written,
    "FALSIFY-DTYPE-007": blocks_decoded,
    "FALSIFY-APR-IMPORT-EPS-006": one_epsilon_for_all,
}


@pytest.mark.parametrize("name", FURTHER)
def test_code_that_is_broken_turns_its_falsifier_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, test = falsifiers()[name]
    FURTHER[name](monkeypatch)
    assert run_falsifier(test, path.parent).verdict == "fail"


def test_a_container_that_is_none_is_said(tmp_path: Path) -> None:
    run = {"measure": "convert", "model": {"specimen": "gguf"}, "to": "onnx"}
    found = judged(tmp_path, run=run, expect={"verdict": "match"}, control={"to": "apr"})
    assert (found.verdict, "no container is called 'onnx'" in found.reason) == ("unknown", True)


@pytest.mark.parametrize("contract", MUTATIONS)
def test_a_contract_goes_red_when_its_code_is_broken(contract: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, name = MUTATIONS[contract]
    path, test = falsifiers()[name]
    assert path.stem == contract
    if "llamacpp" in json.dumps(test):
        pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    broken(monkeypatch)
    found = run_falsifier(test, path.parent)
    assert found.verdict == "fail", found


def test_every_promised_contract_has_a_mutation() -> None:
    assert MUTATIONS.keys() == REQUIRED


# --- verdicts --------------------------------------------------------------------------------------------------

SOUND = {
    "id": "X", "prediction": "p", "if_fails": "somebody is misled",
    "run": {"measure": "lint", "model": {"specimen": "gguf"}, "values": False},
    "expect": {"rules": []},
    "control": {"model": {"specimen": "gguf", "cut": 100}},
}  # fmt: skip


def judged(tmp_path: Path, **changes: Any) -> FalsifierResult:
    """What comes of a sound falsifier with something changed."""
    return run_falsifier({**SOUND, **changes}, tmp_path)


def test_a_prediction_that_fails_says_what_it_means(tmp_path: Path) -> None:
    found = judged(tmp_path, expect={"rules": ["F101"]})
    assert (found.verdict, found.reason) == (
        "fail", "rules is [], and ['F101'] is expected: somebody is misled",
    )  # fmt: skip


def test_a_control_that_comes_out_the_same_is_no_pass(tmp_path: Path) -> None:
    found = judged(tmp_path, control={"values": True})
    assert found.verdict == "unknown"
    assert "sees nothing" in found.reason


def test_what_cannot_be_run_is_unknown_with_its_reason(tmp_path: Path) -> None:
    found = judged(tmp_path, run={"measure": "lint", "model": "gone.gguf"})
    assert found.verdict == "unknown"
    assert "gone.gguf: no such file" in found.reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": {"measure": "divination"}}, "no measure is called 'divination'"),
        ({"expect": {"colour": "red"}}, "lint measures no colour"),
        (
            {"run": {"measure": "lint", "model": {"specimen": "gguf"}, "selct": ["C"]}},
            "has no place for 'selct'",
        ),
        ({"run": {"measure": "lint", "model": {"specimen": ["gguf"]}}}, "and must be a text"),
        (
            {"run": {"measure": "lint", "model": {"specimen": "gguf"}, "select": [3]}},
            "must be a list of texts",
        ),
        (
            {"control": {"model": {"specimen": "gguf", "change": {"remove": True}}}},
            "remove of change is True",
        ),
        ({"control": {"model": {"specimen": "gguf", "change": {"exchange_tokens": [1]}}}}, "two ids below"),
        (
            {"control": {"model": {"specimen": "gguf", "chnge": {"spoil": "a"}}}},
            "model has no place for 'chnge'",
        ),
    ],
)
def test_what_no_measure_gives_is_malformed(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    found = judged(tmp_path, **changes)
    assert found.verdict == "malformed"
    assert said in found.reason


def test_a_users_own_file_is_compared_and_harmed_for_the_control(tmp_path: Path) -> None:
    from fixtures import pair

    pair(tmp_path, "llama", "apr:F16", "gguf:F16")
    run = {"measure": "compare", "left": {"path": "left.apr"}, "right": "right.gguf", "tokens": [3, 4, 5]}
    control = {"left": {"path": "left.apr", "harm": "model.layers.0.self_attn.v_proj.weight"}}
    before = (tmp_path / "left.apr").read_bytes()
    found = judged(tmp_path, run=run, expect={"verdict": ["match", "drift"]}, control=control)
    assert (found.verdict, found.control["verdict"]) == ("pass", "divergent")
    assert (tmp_path / "left.apr").read_bytes() == before


def contract_of(*tests: Any, name: str = "own-v1") -> dict[str, Any]:
    """A sound contract around falsifiers."""
    return {
        "metadata": {"id": name, "version": "1.0.0", "references": ["somebody"]},
        "equations": {"e": {"formula": "a = a"}},
        "proof_obligations": [{"id": "O", "statement": "s", "falsified_by": [test["id"] for test in tests]}],
        "falsification_tests": list(tests),
    }


def test_exit_codes_are_those_of_the_worst_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {0: SOUND, 1: {**SOUND, "expect": {"rules": ["F101"]}}, 3: {**SOUND, "control": {"values": True}}}
    for code, test in cases.items():
        folder = tmp_path / str(code)
        folder.mkdir()
        (folder / "own-v1.yaml").write_text(yaml.safe_dump(contract_of(test)))
        assert cli.run(["contracts", str(folder)]) == code
    (tmp_path / "own-v1.yaml").write_text("metadata: 1\n")
    assert cli.run(["contracts", str(tmp_path / "own-v1.yaml"), "--json", str(tmp_path / "c.json")]) == 2
    assert json.loads((tmp_path / "c.json").read_text())["contracts"][0]["verdict"] == "malformed"
    assert "! own-v1: malformed" in capsys.readouterr().out


def test_no_contract_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["contracts", str(tmp_path)]) == 3
    assert capsys.readouterr().out.startswith("INCONCLUSIVE")
    assert cli.run(["contracts", str(tmp_path / "gone")]) == 2


def test_a_report_counts_falsifiers(tmp_path: Path) -> None:
    (tmp_path / "own-v1.yaml").write_text(yaml.safe_dump(contract_of(SOUND)))
    report = run_contracts([tmp_path])
    assert render(report).splitlines()[-1] == "PASS: 1 contract, falsifiers: 1 pass"
    assert json.loads(report.to_json())["verdict"] == "pass"


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


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (change("metadata", None), "it has no metadata"),
        (change("equations", {}), "it has no equations"),
        (change("equations", ["a = b"]), "its equations are no mapping"),
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
        (change("falsification_tests.0.run", None), "FALSIFY-LAYOUT-001 has no run with a measure"),
        (change("falsification_tests.0.expect", None), "FALSIFY-LAYOUT-001 expects nothing"),
        (change("falsification_tests.0.control", None), "has no control: nothing would show that it can fail"),
        (change("falsification_tests.0.control", {"rigth": 1}), "changes rigth, which its run does not have"),
        (change("falsification_tests.0", "text"), "None has no id"),
    ],
)  # fmt: skip
def test_a_broken_contract_is_said(edit: Callable[[dict[str, Any]], None], said: str) -> None:
    contract = copy.deepcopy(loaded(ROOT / "contracts" / "tensor-layout-v1.yaml"))
    edit(contract)
    assert any(said in problem for problem in form_problems("tensor-layout-v1", contract))


FOREIGN = """
metadata:
  version: "1.0.0"
  created: "2026-02-23"
  author: somebody
  references: ["Zhang & Sennrich (2019). Root Mean Square Layer Normalization. arXiv:1910.07467"]
equations:
  rmsnorm: {formula: "y = x / rms(x) * w", domain: "x in R^n"}
proof_obligations:
  - {type: invariant, property: output is finite, formal: "|y_i| < inf"}
falsification_tests:
  - id: FALSIFY-RN-001
    rule: finite
    prediction: output is finite
    test: cargo test falsify_rn_001
    if_fails: eps is lost
"""
"""As provable-contracts' schema has it: no id of its own, nothing that rosetta measures."""


def test_a_contract_for_another_tool_is_unknown_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "rmsnorm-kernel-v1.yaml").write_text(FOREIGN, "utf-8")
    report = run_contracts([tmp_path])
    assert report.verdict == "unknown"
    (found,) = report.contracts[0].falsifiers
    assert found.reason == (
        "it says nothing that rosetta measures (run), and its test, 'cargo test falsify_rn_001', is for others"
    )


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (change("falsification_tests.0.prediction", None), "FALSIFY-RN-001 has no prediction"),
        (change("falsification_tests.0.if_fails", None), "FALSIFY-RN-001 has no if_fails"),
        (change("equations.rmsnorm.formula", None), "equation rmsnorm has no formula"),
        (change("proof_obligations.0", {"type": "bound"}), "obligation 1 states nothing"),
        (change("metadata.id", "another"), "its id is another"),
        (change("metadata.references", None), "it has no references"),
    ],
)
def test_a_contract_for_another_tool_has_the_form_all_the_same(
    edit: Callable[[dict[str, Any]], None], said: str
) -> None:
    contract = yaml.safe_load(FOREIGN)
    assert not list(form_problems("rmsnorm-kernel-v1", contract))
    edit(contract)
    (problem,) = form_problems("rmsnorm-kernel-v1", contract)
    assert said in problem


@pytest.mark.parametrize("text", ["", "- a list", "just text", "{}"])
def test_an_empty_contract_is_said(text: str) -> None:
    assert list(form_problems("tensor-layout-v1", yaml.safe_load(text)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "while parsing"),
        ("[" * 100_000, "nested too deep"),
        ("falsification_tests: [1]\nfalsification_tests: []\n", "'falsification_tests' stands twice"),
        ("metadata: {version: 1, version: 2}", "'version' stands twice"),
        ('!!python/object/apply:os.system ["true"]', "could not determine a constructor"),
        ("made: 2026-99-99", "month must be in"),
    ],
)
def test_what_is_no_yaml_is_malformed(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own-v1.yaml").write_text(text)
    (found,) = run_contracts([tmp_path]).contracts
    assert found.verdict == "malformed"
    assert found.problems[0].startswith("it is no YAML")
    assert said in found.problems[0]
