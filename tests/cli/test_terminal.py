"""Where results go: colours only on a terminal, files whole or not at all, progress for people only."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from rosetta.cli import terminal
from rosetta.cli.terminal import Terminal, check_target, deliver, show
from rosetta.compare.listener import LoadedTensor
from rosetta.errors import UsageError


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """stdout and stderr are a terminal."""
    both = Screen()
    for variable in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stdout=both, stderr=both))
    return both


def test_a_terminal_gets_colours(screen: Screen) -> None:
    show("FAILED: x\n")
    assert "\x1b[" in screen.getvalue()
    assert "FAILED: x" in screen.getvalue()


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_refused(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    show("FAILED: x\n")
    assert screen.getvalue() == "FAILED: x\n"


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    show("FAILED: [bold]x[/bold]\n")
    show("to stderr\n", to_stderr=True)
    assert capsys.readouterr() == ("FAILED: [bold]x[/bold]\n", "to stderr\n")


def test_brackets_stay_as_they_are(screen: Screen) -> None:
    show("✓ [1, 2] [bold]x\n")
    assert "[1, 2] [bold]x\n" in screen.getvalue()


def test_a_pipe_gets_lines_of_any_length(capsys: pytest.CaptureFixture[str]) -> None:
    show("word " * 100 + "\n")
    assert capsys.readouterr().out == "word " * 100 + "\n"


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_screen_gets_lines_that_break_between_words(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    words = [
        "Missing",
        "in",
        "GGUF:",
        "blk.{0..27}.attn_q.bias",
        "and",
        "some",
        "forty",
        "other",
        "words",
        "of",
        "usual",
        "length",
        "that",
        "go",
        "on",
    ]
    show("  " + " ".join(words) + "\n")
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    assert [word for line in lines for word in line.split()] == words


@pytest.mark.parametrize(
    ("encoding", "locale", "said"),
    [
        ("utf-8", {"LANG": "C.UTF-8"}, "✗ DIVERGENCE! 1 × 2 …"),
        ("cp1252", {}, "x DIVERGENCE! 1 x 2 ..."),
        ("ascii", {}, "x DIVERGENCE! 1 x 2 ..."),
        ("utf-8", {"LANG": "C"}, "x DIVERGENCE! 1 x 2 ..."),
        ("utf-8", {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "x DIVERGENCE! 1 x 2 ..."),  # as Python coerces it
        ("utf-8", {"LANG": "C", "LC_ALL": "en_US.UTF-8"}, "✗ DIVERGENCE! 1 × 2 …"),
        ("utf-8", {"LANG": "C", "PYTHONIOENCODING": "utf-8"}, "✗ DIVERGENCE! 1 × 2 …"),
        ("utf-8", {}, "✗ DIVERGENCE! 1 × 2 …"),
    ],
)
def test_marks_are_those_that_the_stream_has(
    monkeypatch: pytest.MonkeyPatch, encoding: str, locale: dict[str, str], said: str
) -> None:
    for name in ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stdout=stream, stderr=stream))
    show("✗ DIVERGENCE! 1 × 2 …\n")
    assert raw.getvalue().decode(encoding) == said + "\n"


@pytest.mark.parametrize("value", ["1", "true"])
def test_colours_can_be_forced_upon_a_pipe(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stdout=pipe, stderr=pipe))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", value)
    show("FAILED: x\n")
    assert "\x1b[" in pipe.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    show("FAILED: y\n")
    assert pipe.getvalue().endswith("\nFAILED: y\n")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    deliver("new", str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report").write_text("old")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        deliver("new", str(tmp_path / "report"))
    assert (tmp_path / "report").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_device_is_written_to_and_not_replaced() -> None:
    deliver("text", os.devnull)
    assert not Path(os.devnull).is_file()


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        check_target(str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_no_place(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="may not be written"):
        check_target(str(tmp_path / "x"))


TENSORS = [LoadedTensor(f"blk.{n}.attn_q.weight", f"q{n}", "F16", (4, 4), (4, 4)) for n in range(3)]


def test_the_load_log_goes_to_stderr_folded_or_each(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as folded:
        folded.loaded("APR", TENSORS)
        folded.working("layer 0", 0, 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "[APR-LOAD] blk.{0..2}.attn_q.weight: dims=[4, 4], dtype=F16, layout [out, in]: OK\n"
    with Terminal(each=True) as each:
        each.loaded("APR", TENSORS)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str], screen: Screen) -> None:
    with Terminal(quiet=True) as quiet:
        quiet.loaded("APR", TENSORS)
        quiet.working("layer 0", 0, 3)
    assert screen.getvalue() == ""


def test_a_terminal_sees_progress_and_the_log_above_it(screen: Screen) -> None:
    with Terminal() as watched:
        watched.loaded("APR", TENSORS)
        watched.working("layer 1", 1, 3)
        watched.working("diagnosing", 2, 0)
        assert watched._progress.tasks[0].description == "diagnosing"
        assert watched._progress.tasks[0].completed == 2
    assert "[APR-LOAD] blk.{0..2}.attn_q.weight" in screen.getvalue()


def test_work_that_takes_long_is_said_where_nobody_watches_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Terminal() as listener:
        listener.working("layer 1", 1, 4)
        assert capsys.readouterr().err == "", "nothing takes long yet"
        monkeypatch.setattr(terminal, "HEARTBEAT", 0.0)
        listener._started -= 30
        listener.working("layer 3", 3, 4)
    assert capsys.readouterr().err == "[ROSETTA] layer 3 of 4: 30 s so far, about 10 s left\n"


def test_names_in_a_file_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as listener:
        listener.loaded("APR", [LoadedTensor("a\x1b[2Jb\nc", "x", "F16", (4,))])
    assert capsys.readouterr().err == "[APR-LOAD] a\\x1b[2Jb\\nc: dims=[4], dtype=F16: OK\n"


def test_a_program_without_stdout_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stdout=None, stderr=None))
    show("text\n")
    deliver("text\n", "-")
