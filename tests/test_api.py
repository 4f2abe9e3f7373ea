"""`import rosetta`: what it offers, that it is light, and that it says what the commands say."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rosetta
from fixtures import build, faults, pair, reports
from fixtures.comparing import tiny
from rosetta.errors import RosettaError
from rosetta.report.report import Report


def fresh(program: str) -> str:
    """What a new Python prints."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_rosetta_imports_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'pydantic', 'typer')"
    assert fresh(f"import rosetta, sys; print([name for name in {heavy} if name in sys.modules])") == "[]"


@pytest.mark.parametrize(
    "first", ["rosetta.compare", "import rosetta.compare.options", "from rosetta.compare import options"]
)
def test_compare_is_a_function_whatever_is_imported_first(first: str) -> None:
    program = (
        f"import rosetta; {first}; print(callable(rosetta.compare), rosetta.compare.options.DEFAULT_PROMPT)"
    )
    program = program.replace(
        "rosetta.compare; print", "rosetta.compare; import rosetta.compare.options; print"
    )
    assert fresh(program) == "True 2+2="


def test_lint_is_a_function_and_gives_what_the_command_gives(tmp_path: Path) -> None:
    sound, broken = pair(tmp_path, "qwen2", "gguf:F16", "gguf:F16", faults.scaled("blk.0.ffn_up.weight", 2.0))
    assert rosetta.lint(sound).found == ()
    broken.write_bytes(broken.read_bytes()[:-64])
    report = rosetta.lint(sound, broken, select=["F"])
    assert [(found.rule.name, found.path) for found in report.found] == [("truncated", broken)]
    command = [sys.executable, "-m", "rosetta", "lint", sound, broken, "--select", "F", "--json", "-"]
    assert report.to_json() == subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert (
        fresh("import rosetta.lint.rule; print(rosetta.lint.__signature__.return_annotation)") == "LintReport"
    )


def test_everything_that_is_offered_is_there_and_documented() -> None:
    for name in set(rosetta.__all__) - {"__version__"}:
        assert getattr(rosetta, name).__doc__, name
        assert name in dir(rosetta)
    assert "threshold" in inspect.signature(rosetta.compare).parameters
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rosetta.nothing  # noqa: B018


def test_a_planted_fault_is_found_and_shown(tmp_path: Path) -> None:
    left, right = pair(
        tmp_path, "qwen2", "apr:F16", "gguf:F16", faults.scaled("blk.0.ffn_up.weight", 2.0), side="left"
    )
    report = rosetta.compare(left, right, tokens=[1, 2, 3])
    assert isinstance(report, Report)
    assert [(f.kind, f.tensor) for f in report.findings] == [("value.scaled", "blk.0.ffn_up.weight")]
    shown = report._repr_html_()
    assert "wrong values at Layer 0 ffn_up" in shown
    assert "proof: ffn_up computed with the repair" in shown


@pytest.mark.requires_transformers
def test_a_trace_of_a_runtime_has_the_stages_that_it_computes(tmp_path: Path) -> None:
    folder = build(tmp_path, tiny("qwen2"), "hf:F32")
    own, theirs = (rosetta.trace(operand, tokens=[1, 2, 3]) for operand in (folder, f"transformers:{folder}"))
    assert list(theirs) == list(own)
    assert torch.allclose(theirs["logits"], own["logits"], atol=1e-4)


def test_a_trace_gives_tensors_by_stage(tmp_path: Path) -> None:
    left, _ = pair(tmp_path, "qwen2", "apr:F16", "gguf:F16")
    run = rosetta.trace(left, tokens=[1, 2, 3])
    assert run.tokens == (1, 2, 3)
    assert run["layers.0.q"].shape[0] == 3
    assert next(iter(run)) == "embedding"
    assert len(run) == len(list(run))
    model = rosetta.open_model(left)
    assert model.architecture.gguf == "qwen2"


def test_what_cannot_be_is_said() -> None:
    for call in (
        lambda: rosetta.compare("none.apr", "none.gguf"),
        lambda: rosetta.compare("a", "b", threshold=-1.0),
        lambda: rosetta.compare("a", "b", tokens=[]),
        lambda: rosetta.lint(),
        lambda: rosetta.lint("none.gguf"),
        lambda: rosetta.lint("none.gguf", select=["Z999"]),
        lambda: rosetta.trace("trace:x"),
        lambda: rosetta.trace("x", prompt="auto"),
        lambda: rosetta.trace("x", tokens=[]),
    ):
        with pytest.raises(RosettaError):
            call()


@pytest.mark.parametrize("name", ["stages", "findings", "config", "weights", "refuted", "tokens"])
def test_tables_are_pandas(name: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = reports.dims_swapped().table(name)  # type: ignore[arg-type]
    assert isinstance(frame, pandas.DataFrame)
    if name == "findings":
        assert frame.loc[0, "evidence.stage"] == "layers.0.k"


def test_a_table_without_pandas_or_of_another_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RosettaError, match="there is no table 'nonsense'"):
        reports.report().table("nonsense")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RosettaError, match="pip install pandas"):
        reports.report().table("stages")


def test_a_notebook_takes_no_markup_from_a_file() -> None:
    evil = "<script>alert(1)</script>"
    found = reports.finding(message=evil, tensor=evil, recommendation=evil)
    assert "<script" not in reports.dims_swapped(findings=[found])._repr_html_()
