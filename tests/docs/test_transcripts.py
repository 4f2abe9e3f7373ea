"""What the documents show is what the commands print."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    """docs/ is no package: the module is loaded from its file."""
    spec = importlib.util.spec_from_file_location("transcripts", ROOT / "docs" / "transcripts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.sample(2)  # README's among them
@pytest.mark.timeout(400)  # a dozen commands, each of which imports torch
@pytest.mark.parametrize("document", load().DOCUMENTS)
def test_transcripts_are_what_the_commands_print(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert load().regenerated(text) == text, "run: python docs/transcripts.py"


def test_readme_shows_a_match_and_a_diagnosed_fault() -> None:
    blocks = "\n".join(load().BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    assert "MATCHED" in blocks
    assert "DIAGNOSIS:" in blocks
    assert "[exit code 1]" in blocks


def test_regenerated_replaces_what_has_changed() -> None:
    stale = "text\n```console\n$ echo one >f; echo two\nthree\n$ cat f; exit 3\n```\n$ not a command\n"
    fresh = (
        "text\n```console\n$ echo one >f; echo two\ntwo\n$ cat f; exit 3\none\n[exit code 3]\n"
        "```\n$ not a command\n"
    )
    assert load().regenerated(stale) == fresh
    assert load().regenerated(fresh) == fresh


def test_regenerated_refuses_a_command_that_is_not_there() -> None:
    with pytest.raises(RuntimeError, match="no-such-command"):
        load().regenerated("```console\n$ no-such-command\n```\n")
