"""Arrays of texts are read as their lengths say, whether these show themselves or not."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rosetta.containers.file_bytes import Cursor, FileBytes
from rosetta.containers.gguf.strings import skip_strings, strings
from rosetta.errors import DamagedFileError

TEXTS = st.lists(
    st.one_of(st.text(max_size=6), st.text("a\0é", max_size=300), st.binary(max_size=9)), max_size=12
)


def packed(texts: list[str | bytes], order: str) -> bytes:
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    return b"".join(struct.pack(f"{order}Q", len(data)) + data for data in raw)


@given(TEXTS, st.sampled_from("<>"))
@example(["a", "é", "<|end|>"], "<")
@example(["a", "", "b"], "<")  # a length without a byte that is set
@example(["a", "\0b", "c"], "<")  # eight zeros in a row
@example(["a", "b\0\0\0\0\0\0\0c", "d"], "<")  # what looks like a length, inside of a text
@example(["a", "x" * 255, "y" * 256, "z"], "<")
@example(["a", b"\xff", "b"], "<")
def test_texts_are_those_that_their_lengths_cut_out(texts: list[str | bytes], order: str) -> None:
    expected = [text if isinstance(text, str) else text.decode(errors="replace") for text in texts]
    assert strings(packed(texts, order), order, len(texts)) == expected


@given(TEXTS, st.integers(0, 12), st.sampled_from("<>"))
@example(["a", "b\0\0\0\0\0\0\0c", "d"], 2, "<")
def test_stepping_over_some_ends_where_the_next_one_begins(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | bytes], count: int, order: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "texts"
    path.write_bytes(b"12345" + packed(texts, order) + b"\1\0\0\0\0\0\0\0\0and more")
    cursor = Cursor(FileBytes(path), 5)
    skip_strings(cursor, order, min(count, len(texts)))
    assert cursor.position == 5 + len(packed(texts[:count], order))


def test_more_texts_than_a_window_holds_are_stepped_over(tmp_path: Path) -> None:
    texts: list[str | bytes] = [f"token {number}" if number % 1000 else "" for number in range(60_000)]
    (tmp_path / "texts").write_bytes(packed(texts, "<"))
    cursor = Cursor(FileBytes(tmp_path / "texts"), 0)
    skip_strings(cursor, "<", len(texts))
    assert cursor.left == 0


@pytest.mark.parametrize("cut", [1, 8, 12])
def test_an_array_that_runs_out_of_the_file_is_damaged(tmp_path: Path, cut: int) -> None:
    (tmp_path / "texts").write_bytes(packed(["one", "two", "three"], "<")[:-cut])
    with pytest.raises(DamagedFileError, match="must end by"):
        skip_strings(Cursor(FileBytes(tmp_path / "texts"), 0), "<", 3)


def test_data_shorter_than_its_count_is_an_error() -> None:
    with pytest.raises(struct.error):
        strings(packed(["one", "two"], "<"), "<", 3)
