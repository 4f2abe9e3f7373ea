"""Tensors on their way into a file: a few megabytes at a time, whatever they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rosetta.containers import open_container
from rosetta.containers.container import TensorInput
from rosetta.containers.gguf.writer import write_gguf
from rosetta.containers.spool import Spool, copied
from rosetta.errors import UsageError

LARGEST = 4 << 20  # bytes
BLOCKS = 100_000  # of 144 bytes: a size that no power of two divides


def tensor(name: str = "w") -> TensorInput:
    data = np.random.default_rng(0).integers(0, 256, BLOCKS * 144, np.uint8)
    return TensorInput(name, "Q4_K", (BLOCKS, 256), data)


def test_a_spooled_tensor_comes_back_in_pieces_as_often_as_it_is_asked_for(tmp_path: Path) -> None:
    one, two = tensor("one"), TensorInput("two", "F32", (2,), np.arange(8, dtype=np.uint8))
    with Spool(tmp_path / "m", tmp_path, iter([one, two])) as spool:
        assert [source.entry.name for source in spool.tensors] == ["one", "two"]
        for source, given in [*zip(spool.tensors, [one, two], strict=True)] * 2:
            pieces = [bytes(piece) for piece in source.chunks()]
            assert max(map(len, pieces)) <= LARGEST
            assert b"".join(pieces) == given.data.tobytes()
        assert list(tmp_path.iterdir()) == [], "the temporary file has no name"


@pytest.mark.parametrize("big_endian", [False, True])
def test_a_copied_tensor_comes_in_pieces_in_the_machines_order(tmp_path: Path, big_endian: bool) -> None:
    given = tensor()
    keys = {"general.architecture": "llama"}
    (path,) = write_gguf(tmp_path / "m.gguf", keys, [given], big_endian=big_endian)
    source = copied(open_container(path), "w")
    pieces = [bytes(piece) for piece in source.chunks()]
    assert len(pieces) == 4
    assert max(map(len, pieces)) <= LARGEST
    assert b"".join(pieces) == given.data.tobytes()


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given twice"):
        Spool(tmp_path / "m", tmp_path, [tensor(), tensor()])
