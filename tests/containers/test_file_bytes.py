"""Reading by position never asks for memory or bytes that the file has not."""

from __future__ import annotations

from pathlib import Path

import pytest

from rosetta.containers.file_bytes import Cursor, FileBytes
from rosetta.errors import DamagedFileError, UsageError


@pytest.fixture
def file(tmp_path: Path) -> FileBytes:
    (tmp_path / "f").write_bytes(bytes(range(100)))
    return FileBytes(tmp_path / "f")


@pytest.mark.parametrize(
    ("start", "nbytes"), [(0, 101), (100, 1), (-1, 2), (0, 1 << 62), (1 << 62, 1), (3, -1)]
)
def test_a_span_outside_the_file_is_refused_before_memory_is_taken(
    file: FileBytes, start: int, nbytes: int
) -> None:
    with pytest.raises(DamagedFileError, match="after the end of the file"):
        file.array(start, nbytes)


def test_a_span_of_the_file_is_its_bytes(file: FileBytes) -> None:
    assert file.bytes(10, 5) == bytes(range(10, 15))
    assert file.array(100, 0).size == 0


def test_a_cursor_stops_where_its_part_ends(file: FileBytes) -> None:
    cursor = Cursor(file, 90, 95, "the index")
    assert cursor.take(3) == bytes((90, 91, 92))
    cursor.skip(1)
    assert cursor.left == 1
    with pytest.raises(DamagedFileError, match=r"byte 94: the index runs on to byte 96, and must end by 95"):
        cursor.take(2)
    with pytest.raises(DamagedFileError, match="the index"):
        cursor.skip(1 << 62)


def test_a_file_that_may_not_be_read_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refused)  # root reads whatever its mode is
    with pytest.raises(UsageError, match=r"a\.gguf: permission denied: let its owner make it readable"):
        FileBytes(tmp_path / "a.gguf")
