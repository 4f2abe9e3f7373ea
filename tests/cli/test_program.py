"""The program itself: help, version, start-up, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fixtures import build
from rosetta import __version__, cli
from rosetta.cli.program import in_one_sentence
from rosetta.report.report import report_schema

Run = Callable[..., Any]
PROGRAM = [sys.executable, "-c", "from rosetta.cli import main; main()"]
OPTIONS = (
    "--prompt", "--prompt-file", "--tokens", "--threshold", "--assert-match", "--strict", "--reference",
    "--stop-at-first", "--no-diagnose", "--device", "--left-device", "--right-device", "--dtype", "-v", "-q",
    "--json", "--fail-on", "--layers", "--stage", "--detail", "--hash", "--html", "--junit", "--sarif",
    "--codequality", "--openmetrics", "--github",
)  # fmt: skip


def test_help_is_tidy_and_shows_every_option_and_command(rosetta: Run) -> None:
    result = rosetta("--help")
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    words = result.out.split()
    for option in (*OPTIONS, "--version", "compare", "inspect", "schema"):
        assert option in words, option
    assert "[default: 2+2=]" in result.out
    assert "rosetta model.apr model.gguf" in result.out


@pytest.mark.parametrize("columns", [30, 40, 80, 200])
@pytest.mark.parametrize("command", [[], ["compare"], ["repair"], ["bench", "faults"]])
def test_help_fits_the_screen_and_says_the_exit_codes(
    rosetta: Run, monkeypatch: pytest.MonkeyPatch, columns: int, command: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = rosetta(*command, "--help")
    assert max(map(len, result.out.splitlines())) <= columns
    text = " ".join(result.out.split())
    assert "Exit codes: 0 matched, drifted as the dtypes explain" in text
    assert "3 asserted, and nothing could be judged" in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            ["inspct", "model.gguf"],
            "no command is called 'inspct', and no file: did you mean rosetta inspect?",
        ),
        (["tokenise", "model.gguf"], "did you mean rosetta tokenize?"),
    ],
)
def test_a_mistyped_command_is_guessed(rosetta: Run, line: list[str], said: str) -> None:
    result = rosetta(*line)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_a_file_that_is_called_like_a_command_is_an_operand(
    rosetta: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inspct").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    assert "did you mean" not in rosetta("inspct", "none").err


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("shell", "words", "offered"),
    [
        ("bash", "rosetta ins", ["inspect"]),
        ("bash", "rosetta a.apr b.gguf --fail", ["--fail-on"]),
        ("bash", "rosetta a.apr b.gguf --reference ", ["left", "right"]),
        ("zsh", "rosetta ins", ["inspect"]),
        ("fish", "rosetta ins", ["inspect"]),
    ],
)
def test_shells_complete(shell: str, words: str, offered: list[str]) -> None:
    environment = {
        **os.environ,
        "_ROSETTA_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(PROGRAM, capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    for word in offered:
        assert word in done.stdout


def test_bash_completes_by_the_script_that_the_program_prints(tmp_path: Path) -> None:
    program = tmp_path / "rosetta"
    program.write_text(f"#!{sys.executable}\nfrom rosetta.cli import main\nmain()\n")
    program.chmod(0o755)
    script = (
        'eval "$(_ROSETTA_COMPLETE=source_bash rosetta)"; COMP_WORDS=(rosetta ins); COMP_CWORD=1; '
        '$(complete -p rosetta | sed "s/.*-F \\([^ ]*\\) .*/\\1/") rosetta; echo "${COMPREPLY[@]}"'
    )
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, **path}, check=False
    )
    assert (done.stdout, done.stderr) == ("inspect\n", "")


@pytest.mark.parametrize("command", ["compare", "inspect", "schema"])
def test_each_command_explains_itself(rosetta: Run, command: str) -> None:
    result = rosetta(command, "--help")
    assert result.code == 0
    assert f"rosetta {command}" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_compare_has_exactly_its_options(rosetta: Run) -> None:
    found = {word.rstrip(",") for word in rosetta("compare", "--help").out.split() if word.startswith("-")}
    promised = {*OPTIONS, "-h", "--help"}
    assert promised <= found


def test_the_version_is_the_packages(rosetta: Run) -> None:
    assert rosetta("--version").out == f"rosetta {__version__}\n"


def test_no_operands_are_a_mistake_and_no_pass(rosetta: Run) -> None:
    result = rosetta()
    assert result.code == 2
    assert result.err.startswith("rosetta: two operands are needed")


def test_one_operand_is_a_mistake(rosetta: Run) -> None:
    result = rosetta("model.apr")
    assert result.code == 2
    assert "RIGHT: rosetta check model.apr judges one by itself" in result.err
    assert len(result.err.splitlines()) == 1


def test_schema_prints_the_schema_and_nothing_else(rosetta: Run) -> None:
    result = rosetta("schema")
    assert (result.code, result.out, result.err) == (0, report_schema(), "")
    assert json.loads(result.out)["title"] == "Report"


@pytest.mark.parametrize(
    ("name", "title"), [("check", "Check"), ("inspect", "Inspection"), ("report", "Report")]
)
def test_other_results_have_a_schema_too(rosetta: Run, name: str, title: str) -> None:
    schema = json.loads(rosetta("schema", name).out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == title


def test_help_imports_nothing_that_computes() -> None:
    code = (
        "import sys; from rosetta import cli; cli.run(['--help']); "
        "heavy = ('torch', 'numpy', 'pydantic', 'gguf', 'tokenizers', 'tabulate', 'rich'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["lint", "inspect"])
@pytest.mark.parametrize("operand", ["gguf:Q4_K_M", "apr:F16", "hf:BF16"])
def test_what_only_reads_headers_does_without_torch(tmp_path: Path, command: str, operand: str) -> None:
    path = build(tmp_path, "qwen2", operand)
    code = (
        f"import sys; from rosetta import cli; cli.run([{command!r}, {str(path)!r}]); "
        "print('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("line", "module"),
    [
        (["lint", "a.gguf"], "lint"),
        (["a.apr", "b.gguf"], "compare"),
        (["llamacpp:a.gguf", "b.gguf"], "compare"),
        (["outputs", "b.gguf"], None),  # a module that is no command
        (["--tokens", "1", "a.apr", "b.gguf"], None),
        ([], None),
    ],
)
def test_only_the_command_that_runs_is_imported(line: list[str], module: str | None) -> None:
    assert cli.wanted_module(line) == module


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = subprocess.Popen([*PROGRAM, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*PROGRAM, "schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 2
    assert result.stderr == "rosetta: No space left on device\n"


def test_a_terminal_without_our_symbols_still_gets_the_text() -> None:
    code = (
        "from fixtures import reports; import rosetta.cli.compare as c; from rosetta import cli; import sys; "
        "c._report = lambda *a: reports.report(); sys.argv = ['rosetta', 'a', 'b']; cli.main()"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": "."}
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert result.returncode == 0
    assert b"MATCHED" in result.stdout
    assert b"exactly 0\n" in result.stdout
    assert b"GGUF dims: [4, 256] ok\n" in result.stdout


def test_ctrl_c_exits_130_quickly_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import time, signal, os; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import rosetta.cli.compare as c; from rosetta.cli import main; import sys; "
        "c._report = lambda *a: (print('working', file=sys.stderr, flush=True), time.sleep(60)); "
        f"sys.argv = ['rosetta', 'a', 'b', '--json', {str(tmp_path / 'report.json')!r}]; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.stderr.read() == "rosetta: interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ended", [signal.SIGTERM, signal.SIGHUP])
def test_a_program_that_is_told_to_end_leaves_nothing_unfinished(tmp_path: Path, ended: int) -> None:
    code = (
        "import sys, time; import rosetta.cli.compare as c; from rosetta.cli import main; "
        "from pathlib import Path; from rosetta.containers.unfinished import folder_beside\n"
        "def report(*given):\n"
        f"    with folder_beside(Path({str(tmp_path / 'out.gguf')!r})):\n"
        "        print('working', file=sys.stderr, flush=True)\n"
        "        time.sleep(60)\n"
        "c._report = report; sys.argv = ['rosetta', 'a', 'b']; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "working\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(ended)
    assert process.wait(20) == 128 + ended
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
@pytest.mark.parametrize("taken", ["bytearray(1 << 50)", "numpy.empty(1 << 47)", "torch.empty(1 << 47)"])
def test_memory_that_runs_out_is_no_internal_error(taken: str) -> None:
    """By Python's, numpy's and torch's own errors: none has so much."""
    import numpy
    import torch

    with pytest.raises((MemoryError, RuntimeError)) as caught:
        eval(taken, {"numpy": numpy, "torch": torch})
    said = in_one_sentence(caught.value)
    assert said.startswith("out of memory")
    assert "run it where more is free" in said
    assert ("more were asked for" in said) == ("bytearray" not in taken)
