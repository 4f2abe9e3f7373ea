"""The files that are timed: sound, equal, with the sizes of their shape and weights of a sane scale."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from fixtures.oracles import llamacpp_ids, llamacpp_logits
from rosetta.bench.speed_pair import (
    Pair,
    drawn,
    fault_tensor,
    vocabulary,
    write_faulty,
    write_pair,
    write_unquantised,
)
from rosetta.bench.speed_shapes import SHAPES, PlannedTensor, Shape, growth, has_more_bits, shape_of
from rosetta.errors import UsageError
from rosetta.model import open_model

LLAMA = Shape("toy", "llama", 3, 256, 4, 2, 512, 600, False, 1e4, 1e-5, 128, "llama-bpe")


@pytest.fixture(scope="module", params=[shape_of("tiny"), LLAMA], ids=["qwen2", "llama"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shape, Pair]:
    """Both files of a small shape."""
    return request.param, write_pair(request.param, tmp_path_factory.mktemp("pair"))


def test_gguf_reads_as_planned(written: tuple[Shape, Pair]) -> None:
    shape, pair = written
    found = {
        t.name: (t.tensor_type.name, tuple(map(int, t.shape[::-1]))) for t in GGUFReader(pair.gguf).tensors
    }
    assert found == {tensor.name: (tensor.dtype, tensor.dims) for tensor in shape.tensors}
    assert shape.data_bytes == sum(t.n_bytes for t in GGUFReader(pair.gguf).tensors)


def test_both_files_are_the_same_model(written: tuple[Shape, Pair]) -> None:
    _, pair = written
    left, right = open_model(pair.apr), open_model(pair.gguf)
    assert set(left.weights) == set(right.weights)
    for name, weight in left.weights.items():
        assert np.array_equal(weight.values().numpy(), right.weights[name].values().numpy()), name
    for key in (
        "attention.head_count_kv",
        "rope.freq_base",
        "vocab_size",
        "tied_embeddings",
        "context_length",
    ):
        assert left[key] == right[key], key


@pytest.mark.requires_llamacpp
def test_llamacpp_runs_the_file(written: tuple[Shape, Pair]) -> None:
    pytest.importorskip("llama_cpp")
    shape, pair = written
    logits = llamacpp_logits(pair.gguf, [17, 10, 17, 28])
    assert logits.shape == (4, shape.vocabulary)
    assert 0.1 < logits.std() < 10
    assert llamacpp_ids(pair.gguf, "2+2=")


def test_a_faulty_file_differs_in_the_scales_of_one_tensor(
    written: tuple[Shape, Pair], tmp_path: Path
) -> None:
    shape, pair = written
    clean, faulty = open_model(pair.apr), open_model(write_faulty(shape, tmp_path, 1))
    for name, weight in clean.weights.items():
        times = 2.0 if name == "blk.1.attn_k.weight" == fault_tensor(1) else 1.0
        assert np.array_equal(faulty.weights[name].values().numpy(), times * weight.values().numpy()), name


def test_the_unquantised_file_lies_within_the_steps_of_the_other(
    written: tuple[Shape, Pair], tmp_path: Path
) -> None:
    shape, pair = written
    quantised = {t.name: t for t in GGUFReader(pair.gguf).tensors}
    for tensor in GGUFReader(write_unquantised(shape, tmp_path)).tensors:
        other = quantised[tensor.name]
        assert tensor.shape.tolist() == other.shape.tolist()
        values, theirs = (dequantize(t.data, t.tensor_type) for t in (tensor, other))
        if other.tensor_type.name == "F32":
            assert np.array_equal(values, theirs)
            continue
        assert tensor.tensor_type.name == "BF16"
        error = np.sqrt(np.mean((values - theirs) ** 2)) / theirs.std()
        # Steps are a 15th (4 bits) and a 63rd (6 bits) of a block's range, some 3.5 deviations.
        assert (0.03 < error < 0.15) if other.tensor_type.name == "Q4_K" else (0.008 < error < 0.04)


@pytest.mark.parametrize("dtype", ["Q4_K", "Q6_K"])
def test_drawn_blocks_have_the_asked_deviation(dtype: str) -> None:
    data = drawn(PlannedTensor("blk.0.ffn_up.weight", dtype, (512, 1024)), 0.02)
    values = dequantize(data, GGMLQuantizationType[dtype])
    assert values.std() == pytest.approx(0.02, rel=0.03)
    assert abs(values.mean()) < 0.001


def test_a_vocabulary_is_made_by_its_merges() -> None:
    tokens, merges = vocabulary(4000)
    assert len(tokens) == len(set(tokens)) == 4000
    known = set(tokens[:256])
    for merge in merges:
        left, right = merge.split(" ")
        assert {left, right} <= known, f"{merge}: its parts come before it"
        known.add(left + right)
    assert known == set(tokens[:-3])


def test_parameters_are_those_of_the_published_models() -> None:
    published = {"qwen2.5-1.5b": 1_543_714_304, "llama-1b": 1_235_814_400, "llama-8b": 8_030_261_248}
    assert {name: SHAPES[name].parameters for name in published} == published


def test_more_bits_go_to_the_layers_that_llamacpp_names() -> None:
    # llama-quant.cpp: layer < n/8 || layer >= 7n/8 || (layer - n/8) % 3 == 2, for n = 16
    assert [n for n in range(16) if has_more_bits(n, 16)] == [0, 1, 4, 7, 10, 13, 14, 15]


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(UsageError, match=r"GiB are needed for the files of tiny, 0\.0 are free"):
        write_pair(shape_of("tiny"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_shape_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no shape 'gpt-5': there are tiny, small, "):
        shape_of("gpt-5")


def test_each_series_lets_one_thing_grow() -> None:
    base = shape_of("small")
    for series in growth(base, 4):
        values = [value for value, _, _ in series.points]
        assert values == sorted(set(values))
        for value, shape, tokens in series.points:
            held = {"layers": shape.layers, "tokens": tokens, "hidden": shape.hidden}
            assert held == {"layers": base.layers, "tokens": 4, "hidden": base.hidden} | {series.name: value}
            assert shape.hidden / shape.heads == base.hidden / base.heads
            assert all(math.prod(t.dims[-1:]) % 256 == 0 for t in shape.tensors if t.dtype != "F32")
