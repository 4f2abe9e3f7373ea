"""What lies beside a file while it is written, and what a process that was killed left there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rosetta.containers.unfinished import SUFFIX, folder_beside
from rosetta.system import hold

pytest.importorskip("fcntl")


def test_what_a_killed_process_left_goes_with_the_next_attempt(tmp_path: Path) -> None:
    left, others = (
        tmp_path / f".out.gguf.abc{SUFFIX}",
        [tmp_path / ".out.gguf.mine", tmp_path / f".b{SUFFIX}"],
    )
    for folder in (left, *others):
        folder.mkdir()
        (folder / "half").write_bytes(b"half")
    with folder_beside(tmp_path / "out.gguf") as folder:
        assert sorted(tmp_path.iterdir()) == sorted([folder, *others])
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    with folder_beside(tmp_path / "out.gguf") as first:
        with folder_beside(tmp_path / "out.gguf") as second:
            assert first.is_dir()
            assert first != second
        assert hold(first) is None
    assert os.listdir(tmp_path) == []
