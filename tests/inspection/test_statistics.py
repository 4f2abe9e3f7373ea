"""Statistics of tensors, against numpy over gguf-py's own decoding."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fixtures import build
from fixtures.faults import nonfinite, scaled, zeroed
from rosetta.containers import TensorEntry, open_container
from rosetta.inspection import statistics
from rosetta.inspection.facts import inspection
from rosetta.inspection.statistics import TensorStatistics, tensor_statistics, untrained


class Bytes:
    """A container of one tensor."""

    def __init__(self, data: np.ndarray, dtype: str, dims: tuple[int, ...], name: str = "x.weight") -> None:
        self.data = data.reshape(-1).view(np.uint8)
        self.entry = TensorEntry(name, dtype, dims, self.data.nbytes)

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> np.ndarray:
        """Bytes of the tensor, which must exist."""
        stop = self.data.nbytes if nbytes is None else start + nbytes
        assert 0 <= start <= stop <= self.data.nbytes
        return self.data[start:stop].copy()

    def statistics(self) -> TensorStatistics:
        """Of the one tensor."""
        found = tensor_statistics(self, self.entry)  # type: ignore[arg-type]
        assert found is not None
        return found


def check(found: TensorStatistics, values: np.ndarray) -> None:
    """Whether statistics are those of the values."""
    flat = values.reshape(-1).astype(np.float64)
    finite = flat[np.isfinite(flat)]
    assert found.zeros == int((flat == 0).sum())
    assert found.nan == int(np.isnan(flat).sum())
    assert found.inf == int(np.isinf(flat).sum())
    np.testing.assert_equal(found.first, flat[:4].tolist())
    if not len(finite):
        assert found.min is found.max is found.mean is found.std is None
        return
    assert (found.min, found.max) == (finite.min(), finite.max())
    scale = max(1e-30, float(np.abs(finite).max()))
    assert found.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-9 * scale)
    assert found.std == pytest.approx(finite.std(), rel=1e-6, abs=1e-9 * scale)


@given(
    arrays.arrays(np.float32, st.integers(1, 90), elements=st.floats(width=32)),
    st.integers(1, 40),
)
def test_statistics_of_any_floats_in_pieces_of_any_size(values: np.ndarray, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "PIECE", piece)
        check(Bytes(values, "F32", values.shape).statistics(), values)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1", "F64"])
@pytest.mark.parametrize("piece", [64, 1 << 20])
def test_statistics_of_a_dtype_are_those_of_gguf_pys_values(
    dtype: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "PIECE", piece)
    kind = gguf.GGMLQuantizationType[dtype]
    values = np.random.default_rng(1).normal(0, 0.1, (6, 96)).astype(np.float32)
    data = values.astype(np.float64) if dtype == "F64" else gguf.quants.quantize(values, kind)
    decoded = values if dtype == "F64" else gguf.quants.dequantize(data, kind)
    check(Bytes(np.ascontiguousarray(data), dtype, (6, 96)).statistics(), decoded)


def test_one_scale_for_a_whole_tensor_reaches_every_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "PIECE", 8)
    quants = np.arange(-10, 11, dtype=np.int8)
    data = np.concatenate([np.array([0.5], np.float32).view(np.uint8), quants.view(np.uint8)])
    check(Bytes(data, "APR_Q8", (21,)).statistics(), quants * np.float32(0.5))


def test_a_large_mean_costs_no_accuracy() -> None:
    values = (1e4 + np.random.default_rng(2).normal(0, 1e-1, 5000)).astype(np.float32)
    found = Bytes(values, "F32", (5000,)).statistics()
    assert found.std == pytest.approx(values.astype(np.float64).std(), rel=1e-9)


def test_memory_does_not_grow_with_the_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "PIECE", 128)
    container, sizes = Bytes(np.zeros((64, 64), np.float32), "F32", (64, 64)), []
    read = container.read

    def watched(name: str, start: int = 0, nbytes: int | None = None) -> np.ndarray:
        sizes.append(nbytes)
        return read(name, start, nbytes)

    monkeypatch.setattr(container, "read", watched)
    container.statistics()
    assert sizes == [512] * 32


@pytest.mark.parametrize("dtype", ["I32", "NO_SUCH"])
def test_what_cannot_be_decoded_has_no_statistics_or_integer_ones(dtype: str) -> None:
    container = Bytes(np.arange(4, dtype=np.int32), dtype, (4,))
    found = tensor_statistics(container, container.entry)  # type: ignore[arg-type]
    if dtype == "I32":
        assert found is not None
        check(found, np.arange(4))
    else:
        assert found is None


def test_a_placeholder_has_no_statistics() -> None:
    entry = TensorEntry("lm_head.weight", "F32", (4, 4), 0)
    assert tensor_statistics(Bytes(np.zeros(0, np.float32), "F32", (0,)), entry) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "std", "marked"),
    [
        ("token_embd.weight", 0.02, False),
        ("token_embd.weight", 0.004, True),
        ("token_embd.weight", 6.0, True),
        ("model.embed_tokens.weight", 6.0, True),
        ("transformer.wpe.weight", 6.0, True),
        ("position_embd.weight", 0.0, True),
        ("blk.0.attn_q.weight", 6.0, False),
    ],
)
def test_an_embedding_of_unlikely_spread_is_marked(name: str, std: float, marked: bool) -> None:
    values = np.resize(np.array([std, -std], np.float32), 64)
    assert (Bytes(values, "F32", (64,), name).statistics().mark is not None) == marked


@pytest.mark.parametrize(
    ("name", "values", "marked"),
    [
        ("blk.0.attn_norm.weight", [1.0, 0.5, -2.0], False),
        ("blk.0.attn_norm.weight", [1.0, 0.00001], False),  # a trained norm has such weights
        ("blk.0.attn_norm.weight", [0.001, 0.001], True),
        ("blk.0.attn_norm.weight", [1.0, -201.0], True),
        ("model.layers.0.input_layernorm.weight", [0.0], True),
        ("h.0.ln_1.weight", [200.0], True),
        ("transformer.ln_f.weight", [1.0], False),
        ("blk.0.attn_norm.bias", [0.0], False),
        ("blk.0.ffn_up.weight", [0.0, 500.0], False),
    ],
)
def test_a_norm_of_unlikely_magnitude_is_marked(name: str, values: list[float], marked: bool) -> None:
    found = Bytes(np.array(values, np.float32), "F32", (len(values),), name).statistics()
    assert (found.mark is not None) == marked


@pytest.mark.parametrize(
    ("fault", "tensor", "said"),
    [
        (scaled("token_embd.weight", 100.0), "token_embd.weight", "an embedding's std"),
        (zeroed("output_norm.weight"), "output_norm.weight", "a norm's rms"),
        (nonfinite("blk.0.ffn_up.weight"), "blk.0.ffn_up.weight", "1 values are NaN or Inf"),
    ],
)
def test_a_broken_file_is_marked_and_a_clean_one_is_not(
    tmp_path: Path, fault: object, tensor: str, said: str
) -> None:
    for broken in (False, True):
        container = open_container(
            build(tmp_path, "llama", "gguf:F16", fault if broken else (), stem=f"m{broken}")  # type: ignore[arg-type]
        )
        marks = {name: tensor_statistics(container, entry) for name, entry in container.tensors.items()}
        marked = {name: found.mark for name, found in marks.items() if found is not None and found.mark}
        container.close()
        assert list(marked) == ([tensor] if broken else [])
        assert not broken or said in marked[tensor]


@pytest.mark.parametrize(
    ("draw", "random"),
    [("normal", True), ("uniform", True), ("laplace", False), ("logistic", False)],
)
def test_matrices_spread_as_random_numbers_are_are_told_from_trained_ones(draw: str, random: bool) -> None:
    generator = np.random.default_rng(3)
    sizes = {"normal": (0, 0.02), "uniform": (-0.1, 0.1), "laplace": (0, 0.02), "logistic": (0, 0.02)}
    values = getattr(generator, draw)(*sizes[draw], (256, 256)).astype(np.float32)
    found = Bytes(values, "F32", (256, 256), "blk.0.ffn_up.weight").statistics()
    expected = ((values - values.mean(dtype=np.float64)) ** 4).mean() / values.var(dtype=np.float64) ** 2
    assert found.kurtosis == pytest.approx(expected, rel=1e-6)
    assert (untrained([((256, 256), found)]) is not None) == random


@pytest.mark.sweep
def test_a_trained_model_is_not_suspicious(smollm2: Path) -> None:
    container = open_container(smollm2)
    found = {name: tensor_statistics(container, entry) for name, entry in container.tensors.items()}
    assert {name: one.mark for name, one in found.items() if one is not None and one.mark} == {}
    assert untrained((container.tensors[name].dims, one) for name, one in found.items()) is None


def test_a_model_of_random_weights_is_noted(tmp_path: Path) -> None:
    facts = inspection(build(tmp_path, "llama", "gguf:Q8_0"), statistics=True)
    assert any("spread as random numbers are: the model was never trained" in note for note in facts.notes)
    assert not any("never trained" in note for note in inspection(facts.path).notes), "values were not read"
