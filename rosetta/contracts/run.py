"""Runs contracts: each falsifier, then its positive control, which has to come out otherwise.

A falsifier that cannot fail proves nothing: where the control, the same run with something broken on purpose, meets
the expectation as well, the verdict is unknown and says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rosetta import __version__
from rosetta.contracts.arguments import problem_in
from rosetta.contracts.form import Contract, contracts_below, load_contract
from rosetta.contracts.measures import Facts, Ground, all_measures
from rosetta.errors import RosettaError, one_line
from rosetta.strict_json import DESCRIBED, json_text

Verdict = Literal["pass", "fail", "unknown", "malformed"]
Progress = Callable[[str, int, int], None]
SCHEMA_VERSION = "1.0"
WORST: tuple[Verdict, ...] = ("malformed", "fail", "unknown", "pass")


@dataclass(frozen=True)
class FalsifierResult:
    """What came of one falsifier."""

    __pydantic_config__ = DESCRIBED
    id: str
    """Its own."""
    verdict: Verdict
    """`pass`: the prediction held, and its control failed as it must."""
    reason: str
    """Of any other verdict."""
    facts: Mapping[str, Any]
    """What was measured; empty where nothing could be."""
    control: Mapping[str, Any]
    """What its control measured."""


@dataclass(frozen=True)
class ContractResult:
    """What came of one contract."""

    __pydantic_config__ = DESCRIBED
    path: Path
    """The file."""
    id: str
    """Of its metadata; its file's name where there is none."""
    verdict: Verdict
    """The worst of its falsifiers'."""
    problems: tuple[str, ...]
    """Why it is malformed."""
    falsifiers: tuple[FalsifierResult, ...]
    """In the order of the file."""


@dataclass(frozen=True)
class ContractsDocument:
    """What `rosetta contracts --json` writes."""

    __pydantic_config__ = DESCRIBED
    schema_version: str
    """Fields are only ever added within a major version."""
    tool: Mapping[str, str]
    """Name and version of the program."""
    verdict: Verdict
    """The worst of all contracts'."""
    contracts: tuple[ContractResult, ...]
    """In the order of their paths."""


@dataclass(frozen=True)
class ContractsReport:
    """What came of all of them."""

    contracts: tuple[ContractResult, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all; of none at all, unknown: an empty set is no pass."""
        found = {contract.verdict for contract in self.contracts}
        return next((verdict for verdict in WORST if verdict in found), "unknown")

    def to_json(self) -> str:
        """This as strict JSON, with a final line break."""
        tool = {"name": "rosetta", "version": __version__}
        return json_text(asdict(ContractsDocument(SCHEMA_VERSION, tool, self.verdict, self.contracts)))


def run_contracts(paths: Sequence[str | Path], progress: Progress | None = None) -> ContractsReport:
    """Validate and run contracts.

    Args:
        paths: files, or folders of them.
        progress: hears which falsifier is run.

    Raises:
        UsageError: there is nothing at a path.
    """
    files = contracts_below([Path(path) for path in paths])
    loaded = [(file, *load_contract(file)) for file in files]
    total = sum(0 if problems else len(contract["falsification_tests"]) for _, contract, problems in loaded)
    done, results = 0, []
    for file, contract, problems in loaded:
        name = _id_of(contract, file)
        if problems:
            results.append(ContractResult(file, name, "malformed", tuple(problems), ()))
            continue
        found = []
        for test in contract["falsification_tests"]:
            if progress is not None:
                progress(test["id"], done, total)
            found.append(run_falsifier(test, file.parent))
            done += 1
        verdicts = {one.verdict for one in found}
        worst = next(verdict for verdict in WORST if verdict in verdicts)
        results.append(ContractResult(file, name, worst, (), tuple(found)))
    return ContractsReport(tuple(results))


def _id_of(contract: Contract, file: Path) -> str:
    metadata = contract.get("metadata")
    name = metadata.get("id") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else file.stem


def _why_not_run(test: Mapping[str, Any]) -> str:
    """Of a falsifier for other tools."""
    named = test.get("test")
    its = f", and its test, {' '.join(named.split())[:80]!r}, is for others" if isinstance(named, str) else ""
    return f"it says nothing that rosetta measures (run){its}"


def run_falsifier(test: Mapping[str, Any], home: Path) -> FalsifierResult:
    """Run one falsifier and its control.

    Args:
        test: of a form that has been found sound.
        home: the contract's folder.
    """
    if "run" not in test:
        return FalsifierResult(test["id"], "unknown", _why_not_run(test), {}, {})
    name, run, expected = test["id"], test["run"], test["expect"]
    if run["measure"] not in all_measures():
        known = ", ".join(all_measures())
        return FalsifierResult(
            name, "malformed", f"no measure is called {run['measure']!r}; there are {known}", {}, {}
        )
    controlled = {**run, **test["control"]}
    for arguments in (run, controlled):
        problem = problem_in(arguments, all_measures()[run["measure"]].arguments)
        if problem is not None:
            return FalsifierResult(name, "malformed", problem, {}, {})
    facts = _measured(run, home)
    if isinstance(facts, str):
        return FalsifierResult(name, "unknown", facts, {}, {})
    if unknown := [key for key in expected if key not in facts]:
        reason = f"{run['measure']} measures no {unknown[0]}; it measures {', '.join(facts)}"
        return FalsifierResult(name, "malformed", reason, facts, {})
    if wrong := _unmet(facts, expected):
        return FalsifierResult(name, "fail", f"{wrong}: {test['if_fails']}", facts, {})
    control = _measured(controlled, home)
    if isinstance(control, str):
        return FalsifierResult(name, "unknown", f"its control cannot be run: {control}", facts, {})
    if not _unmet(control, expected):
        reason = "its control, which is broken on purpose, comes out the same: it sees nothing"
        return FalsifierResult(name, "unknown", reason, facts, control)
    return FalsifierResult(name, "pass", "", facts, control)


def _measured(run: Mapping[str, Any], home: Path) -> Facts | str:
    """What a run measures, or why it cannot be run."""
    with tempfile.TemporaryDirectory(prefix="rosetta-contract-") as scratch:
        try:
            return all_measures()[run["measure"]].measured(run, Ground(home, Path(scratch)))
        except RosettaError as error:
            return one_line(str(error))
        except KeyError as error:
            return f"its run has no {error.args[0]}"
        except OSError as error:  # a path that the system takes for none
            return one_line(str(error))


def _unmet(facts: Facts, expected: Mapping[str, Any]) -> str | None:
    """The first expectation that is not met, in words; None where all are."""
    for key, wanted in expected.items():
        got = facts[key]
        if isinstance(got, list):
            met = sorted(wanted) == got if isinstance(wanted, list) else wanted in got
        elif (
            isinstance(got, float) and isinstance(wanted, int | float | str) and not isinstance(wanted, bool)
        ):
            met = _as_float32(wanted) == got
        else:
            met = got in wanted if isinstance(wanted, list) else got == wanted
        if not met:
            return f"{key} is {got!r}, and {wanted!r} is expected"
    return None


def _as_float32(number: float | str) -> float:
    """A number as float32 holds it; YAML takes 1e-6 without a point for a text."""
    import numpy as np

    try:
        return float(np.float32(number))
    except ValueError:
        return float("nan")
