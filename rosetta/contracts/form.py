"""What a contract file must say, and the sentences for what it does not.

A contract whose falsifiers say what rosetta is to measure, its `run`, is asked for all that makes a prediction worth
something: a control for each, and obligations that name what would falsify them. One written for other tools, as
aprender's are, is asked for the form that they share: none of its falsifiers can be run here, and each is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rosetta.errors import UsageError, unreadable

PARTS = ("metadata", "equations", "proof_obligations", "falsification_tests")
FALSIFIER = ("id", "prediction", "if_fails")
STATEMENTS = ("statement", "property", "formal")
"""Where an obligation says what is to hold: rosetta's key, and those of provable-contracts' schema."""
_LARGEST = 1 << 20  # bytes of a contract

Contract = Mapping[str, Any]


def load_contract(path: Path) -> tuple[Contract, list[str]]:
    """A contract, and what is wrong with its form, one sentence each.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        text = path.read_bytes()[: _LARGEST + 1]
    except OSError as error:
        raise unreadable(path, error) from error
    if len(text) > _LARGEST:
        return {}, [f"it has more than {_LARGEST:,} bytes"]
    try:
        contract = yaml.load(text, _Once)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        return {}, [f"it is no YAML: {' '.join(str(error).split())}"]
    except RecursionError:
        return {}, ["it is no YAML that can be read: its lists are nested too deep"]
    problems = list(form_problems(path.stem, contract))
    return (contract if isinstance(contract, Mapping) else {}), problems


class _Once(yaml.SafeLoader):
    """Refuses a key that stands twice: of two lists of falsifiers, the first would never be run."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value[:60]!r} stands twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def contracts_below(paths: list[Path]) -> list[Path]:
    """The contract files that paths name: themselves, or all YAML files of a folder.

    Raises:
        UsageError: there is nothing at a path.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml"))
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError("no such file or directory", file=path, remedy="check the path")
    return list(dict.fromkeys(found))


def form_problems(name: str, contract: Any) -> Iterator[str]:
    """What is wrong with a contract's form.

    Args:
        name: of its file, without the ending.
        contract: what the file holds.
    """
    if not isinstance(contract, Mapping):
        yield "it is no mapping"
        return
    kinds = {
        "metadata": Mapping,
        "equations": Mapping,
        "proof_obligations": list,
        "falsification_tests": list,
    }
    missing = [part for part in PARTS if not contract.get(part)]
    wrong = [part for part in PARTS if part not in missing and not isinstance(contract[part], kinds[part])]
    yield from (f"it has no {part}" for part in missing)
    yield from (f"its {part} are no {'list' if kinds[part] is list else 'mapping'}" for part in wrong)
    if missing or wrong:
        return
    tests = [test if isinstance(test, Mapping) else {} for test in contract["falsification_tests"]]
    own = any("run" in test for test in tests)
    yield from _metadata(name, contract["metadata"], own)
    for key, equation in contract["equations"].items():
        if not isinstance(equation, Mapping) or not _is_text(equation.get("formula")):
            yield f"equation {key} has no formula"
    ids = [test.get("id") for test in tests]
    yield from (f"{id} stands twice" for id in sorted({str(id) for id in ids if ids.count(id) > 1}))
    for test in tests:
        yield from (f"{test.get('id')} has no {part}" for part in FALSIFIER if not _is_text(test.get(part)))
        if own:
            yield from _run(test)
    if own:
        yield from _obligations(contract["proof_obligations"], ids)
    else:
        yield from _stated(contract["proof_obligations"])


def _metadata(name: str, metadata: Mapping[str, Any], own: bool) -> Iterator[str]:
    if metadata.get("id") != name and (own or "id" in metadata):
        yield f"its id is {metadata.get('id')}, its file's name {name}"
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(metadata.get("version"))):
        yield "its version is none"
    references = metadata.get("references")
    if not isinstance(references, list) or not references or not all(map(_is_text, references)):
        yield "it has no references"


def _run(test: Mapping[str, Any]) -> Iterator[str]:
    name, run = test.get("id"), test.get("run")
    if not isinstance(run, Mapping) or not isinstance(run.get("measure"), str):
        yield f"{name} has no run with a measure"
        return
    if not isinstance(test.get("expect"), Mapping) or not test["expect"]:
        yield f"{name} expects nothing"
    control = test.get("control")
    if not isinstance(control, Mapping) or not control:
        yield f"{name} has no control: nothing would show that it can fail"
    elif unknown := [key for key in control if key not in run]:
        yield f"the control of {name} changes {unknown[0]}, which its run does not have"


def _obligations(obligations: list[Any], ids: list[Any]) -> Iterator[str]:
    serving: set[Any] = set()
    for obligation in obligations:
        stated = obligation if isinstance(obligation, Mapping) else {}
        name = stated.get("id")
        if not (_is_text(name) and _is_text(stated.get("statement"))):
            yield f"obligation {name} has no id or no statement"
        falsifiers = stated.get("falsified_by")
        falsifiers = falsifiers if isinstance(falsifiers, list) else []
        if not falsifiers:
            yield f"nothing falsifies {name}"
        yield from (f"{name} names {id}, which is no test" for id in falsifiers if id not in ids)
        serving.update(map(str, falsifiers))
    yield from (f"{id} serves no obligation" for id in ids if str(id) not in serving)


def _stated(obligations: list[Any]) -> Iterator[str]:
    """Obligations of a contract for other tools: each says something."""
    for number, obligation in enumerate(obligations, 1):
        stated = obligation if isinstance(obligation, Mapping) else {}
        if not any(_is_text(stated.get(part)) for part in STATEMENTS):
            yield f"obligation {stated.get('id', number)} states nothing"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
