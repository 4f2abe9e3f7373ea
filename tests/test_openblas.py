"""Products by OpenBLAS, held to float64, and its threads given back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rosetta import openblas
from rosetta.workers import one_thread_each

needed = pytest.mark.skipif(openblas._library() is None, reason="numpy was linked with another library")


@pytest.fixture
def slow_mkl(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A processor on which it is the quicker one; gives the dims of what it multiplies."""
    monkeypatch.setattr(openblas, "_quicker", lambda: True)
    multiplied, matmul = [], np.matmul

    def watched(x: np.ndarray, *others: np.ndarray, out: np.ndarray) -> None:  # type: ignore[type-arg]
        multiplied.append(x.shape)
        matmul(x, *others, out=out)

    monkeypatch.setattr(np, "matmul", watched)
    return multiplied


@needed
@pytest.mark.parametrize(("tokens", "dtype"), [(64, torch.float32), (63, torch.float32), (64, torch.float64)])
def test_the_product_is_written_where_it_belongs(
    tokens: int, dtype: torch.dtype, slow_mkl: list[tuple[int, ...]]
) -> None:
    x, matrix = torch.randn(tokens, 96, dtype=dtype), torch.randn(40, 96, dtype=dtype)
    whole = torch.zeros(tokens, 100, dtype=dtype)
    with one_thread_each(), torch.inference_mode():
        openblas.multiply(x, matrix, whole[:, 30:70])
    assert slow_mkl == ([(64, 96)] if (tokens, dtype) == (64, torch.float32) else [])
    exact = x.double() @ matrix.double().T
    torch.testing.assert_close(whole[:, 30:70].double(), exact, rtol=0, atol=1e-4)
    assert not whole[:, :30].any()
    assert not whole[:, 70:].any()


@needed
def test_its_threads_are_held_back_and_given_back(slow_mkl: list[tuple[int, ...]]) -> None:
    library = openblas._numpys()
    before = library.get_num_threads()
    try:
        library.set_num_threads(2)
        assert not openblas.takes(torch.zeros(1)), "it would share the product among cores that have work"
        with one_thread_each():
            assert library.get_num_threads() == 1
            assert openblas.takes(torch.zeros(1))
        assert library.get_num_threads() == 2
    finally:
        library.set_num_threads(before)


def test_nothing_is_asked_of_it_where_torch_is_as_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openblas, "processor_maker", lambda: "GenuineIntel")
    assert not openblas._quicker.__wrapped__()
