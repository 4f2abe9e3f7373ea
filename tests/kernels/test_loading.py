"""Compiled loops are used where they repay what loading or compiling them costs, and compare as torch does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fixtures.comparing import compared_files, tiny
from fixtures.contents import FileContents
from fixtures.pairs import pair
from rosetta import kernels
from rosetta.compare.one_pass import OnePass, one_pass

pytest.importorskip("numba")
pytestmark = pytest.mark.timeout(600)  # the first of them compiles the loops


@pytest.fixture
def uses_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few weights there are."""
    monkeypatch.setattr(kernels, "SAVED", 1e9)


def test_few_weights_do_not_repay_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        kernels, "_is_usable", lambda: pytest.fail("numba takes a third of a second to import")
    )
    assert one_pass(int(0.99 * kernels.LOADING / kernels.SAVED)) is None


@pytest.mark.parametrize("is_compiled", [True, False])
def test_what_is_not_compiled_yet_must_repay_that_too(
    is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "is_compiled", lambda: is_compiled)
    monkeypatch.setattr(kernels, "_folder", lambda: Path())
    repaid_by = kernels.COMPILING / kernels.SHARED_BY / kernels.SAVED
    assert kernels.repaid(int(0.99 * repaid_by)) == is_compiled
    assert kernels.repaid(int(1.01 * repaid_by))


def test_without_numba_torch_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda _: None)
    kernels._is_usable.cache_clear()
    assert one_pass(1 << 40) is None
    monkeypatch.undo()
    kernels._is_usable.cache_clear()


def test_where_nothing_is_to_be_compiled_torch_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    kernels._is_usable.cache_clear()
    assert one_pass(1 << 40) is None
    monkeypatch.undo()
    kernels._is_usable.cache_clear()


def test_without_a_folder_to_keep_them_in_each_process_must_repay_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of an installation that cannot be written to, by a user without a home."""
    from numba.core.caching import CacheImpl

    from rosetta.kernels import levels

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    found = [kernels._folder.__wrapped__(), kernels.is_compiled.__wrapped__()]
    unpack = kernels.compiled(levels.SIGNATURE, levels.LEVELS["Q8_0"])
    taken = np.empty(32, np.int8)
    unpack(np.arange(34, dtype=np.uint8)[None], taken, kernels.RUN)
    assert taken.tolist() == list(range(2, 34))
    monkeypatch.setattr(kernels, "_folder", lambda: found[0])
    monkeypatch.setattr(kernels, "is_compiled", lambda: found[1])
    assert not kernels.repaid(int(0.99 * kernels.COMPILING / kernels.SAVED))
    assert kernels.repaid(int(1.01 * kernels.COMPILING / kernels.SAVED))


@pytest.mark.parametrize("architecture", ["qwen2", "gpt2"])
@pytest.mark.usefixtures("uses_loops")
def test_a_comparison_is_torchs(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tied head among its stages, whose products are made of copies that were compared for the embedding."""
    files = pair(tmp_path, architecture, "hf:BF16", "gguf:Q4_K_M")
    passes = 0
    seen = OnePass.pass_over

    def counted(*args: object, **named: object) -> object:
        nonlocal passes
        passes += 1
        return seen(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(OnePass, "pass_over", counted)
    own = compared_files(*files)
    assert passes > 0
    monkeypatch.setattr(kernels, "SAVED", 0.0)
    like, before = compared_files(*files), passes
    assert passes == before, "and now by torch"
    assert (own.verdict, own.findings) == (like.verdict, like.findings)
    assert [stage.name for stage in own.stages] == [stage.name for stage in like.stages]
    for mine, theirs in zip(own.stages, like.stages, strict=True):
        for (field, x), (_, y) in zip(mine, theirs, strict=True):
            if isinstance(y, float):
                assert x == pytest.approx(y, rel=1e-3, abs=1e-6, nan_ok=True), (mine.name, field)


@pytest.mark.usefixtures("uses_loops")
def test_copies_of_other_dims_are_none_of_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices that a side holds flat, each of which is asked for a second time when it is repaired."""

    def flat(file: FileContents) -> FileContents:
        for name, one in file.tensors.items():
            if len(one.dims) > 1:
                file = file.with_values(name, file.values(name).reshape(-1))
        return file

    files = pair(tmp_path, tiny("llama", tied=False), "hf:BF16", "gguf:F16", flat)
    own = compared_files(*files)
    monkeypatch.setattr(kernels, "SAVED", 0.0)
    assert [found.kind for found in own.findings] == ["layout.flattened"]
    assert own.findings == compared_files(*files).findings


@pytest.mark.sweep
def test_two_processes_may_compile_them_at_once(tmp_path: Path) -> None:
    """Into one empty cache, from which a third one takes them."""
    code = (
        "from rosetta import kernels; from rosetta.kernels import one_pass as loops;"
        "found = kernels.compiled(loops.SIGNATURE, loops.one_pass); print(sum(found.stats.cache_hits.values()))"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def started() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        )

    both = [started(), started()]
    assert [process.communicate()[0].strip() for process in both] == ["0", "0"]
    assert [process.returncode for process in both] == [0, 0]
    assert started().communicate()[0].strip() == "1"
