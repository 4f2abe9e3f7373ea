"""The pytest plugin: a converter's own test suite gets rosetta's verdict, the failure message is the diagnosis.

    def test_export(assert_models_match, tmp_path):
        export("model-hf", tmp_path / "model.gguf")
        assert_models_match("model-hf", tmp_path / "model.gguf", prompt="2+2=")

Nothing of rosetta but this file is imported before a test asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from rosetta.report.report import Report

MARKER = "rosetta(prompt=…, tokens=…, strict=…, threshold=…): what assert_models_match takes where a call says nothing"
FOLDER = "rosetta-reports"
_SETTINGS = ("prompt", "tokens", "strict", "threshold")


class ModelsDifferError(AssertionError):
    """Two models do not match; the message is the diagnosis.

    Args:
        message: as a terminal shows it.
        report: all of it.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class AssertModelsMatch(Protocol):
    """See `assert_models_match`."""

    def __call__(
        self,
        left: str | Path,
        right: str | Path,
        *,
        prompt: str | None = None,
        tokens: Sequence[int] | None = None,
        strict: bool | None = None,
        threshold: float | None = None,
    ) -> Report: ...


def assert_models_match(
    left: str | Path,
    right: str | Path,
    *,
    prompt: str | None = None,
    tokens: Sequence[int] | None = None,
    strict: bool | None = None,
    threshold: float | None = None,
    artifact: Path | None = None,
) -> Report:
    """Compare two models, and fail with the diagnosis where they do not match.

    Args:
        left: a file, a folder, or `RUNTIME:PATH`.
        right: the one that is believed.
        prompt: what to run; rosetta's default one where neither it nor `tokens` is given.
        tokens: ids to run instead.
        strict: fail on drift, which the dtypes explain, and on what does not show on this prompt, too.
        threshold: largest allowed difference of a stage, times the size of its values; given, drift over it fails.
        artifact: where the report is kept, as JSON.

    Returns:
        The report of models that match.

    Raises:
        ModelsDifferError: they differ, or nothing could be compared.
        RosettaError: one of them cannot be read, or the call asks for the impossible.
    """
    __tracebackhide__ = True  # what fails is shown where the test calls
    from rosetta.api import compare
    from rosetta.compare.options import DEFAULT_PROMPT
    from rosetta.errors import RosettaError
    from rosetta.report.exit_code import ALWAYS, FAILURES, assertion
    from rosetta.report.text import render
    from rosetta.report.view import View

    asked = DEFAULT_PROMPT if prompt is None else prompt
    try:
        report = compare(left, right, prompt=asked, tokens=tokens, threshold=threshold)
    except RosettaError as error:  # one sentence, and no way through rosetta in front of it
        raise error.with_traceback(None) from None
    failing = FAILURES if strict else ALWAYS
    result = assertion(
        report, assert_match=True, fail_on=failing, threshold_is_explicit=threshold is not None
    )
    report = report.model_copy(update={"assertion": result})
    if artifact is not None:
        artifact.parent.mkdir(parents=True, exist_ok=True)
        artifact.write_text(report.to_json(), encoding="utf-8")
    if result.exit_code:
        kept = "" if artifact is None else f"\nThe report is kept in {artifact}\n"
        raise ModelsDifferError(f"{left} does not match {right}\n\n{render(report, View(0))}{kept}", report)
    return report


@pytest.fixture(name="assert_models_match")
def _assert_models_match(request: pytest.FixtureRequest) -> AssertModelsMatch:
    """`assert_models_match(left, right, prompt=…, strict=…)`: fails with the diagnosis, and keeps the report.

    The marker `rosetta` gives what a call leaves out. Reports lie in the folder of `--rosetta-reports`, one for each
    call, named after the test.
    """
    marker = request.node.get_closest_marker("rosetta")
    given = {} if marker is None else dict(marker.kwargs)
    unknown = sorted(given.keys() - set(_SETTINGS))
    if unknown or (marker is not None and marker.args):
        what = unknown[0] if unknown else repr(marker.args[0])
        raise pytest.UsageError(f"the marker rosetta takes {', '.join(_SETTINGS)}, not {what}")
    folder = Path(request.config.getoption("--rosetta-reports") or FOLDER)
    folder = folder if folder.is_absolute() else request.config.rootpath / folder
    stem = re.sub(r"[^\w.-]+", "-", request.node.nodeid).strip("-")
    calls = 0

    def asserted(left: str | Path, right: str | Path, **settings: Any) -> Report:
        __tracebackhide__ = True
        nonlocal calls
        calls += 1
        said = {name: value for name, value in settings.items() if value is not None}
        if {"prompt", "tokens"} & said.keys():  # a call that names one means neither of the marker's
            base = {name: value for name, value in given.items() if name not in ("prompt", "tokens")}
        else:
            base = given
        suffix = "" if calls == 1 else f"-{calls}"
        return assert_models_match(left, right, **{**base, **said}, artifact=folder / f"{stem}{suffix}.json")

    return asserted


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option for where reports are kept."""
    group = parser.getgroup("rosetta", "language-model conversions")
    group.addoption(
        "--rosetta-reports", metavar="DIR", help=f"Where reports of assert_models_match are kept. [{FOLDER}]"
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed match is its diagnosis and nothing else: rosetta's own lines of code explain no model."""
    report = yield
    if (
        call.excinfo is not None
        and isinstance(call.excinfo.value, ModelsDifferError)
        and report.when == "call"
    ):
        place = next(
            (e for e in reversed(call.excinfo.traceback) if Path(str(e.path)) != Path(__file__)), None
        )
        line = "" if place is None else f"\n{place.path}:{place.lineno + 1}"
        report.longrepr = f"{call.excinfo.value}{line}"
    return report
