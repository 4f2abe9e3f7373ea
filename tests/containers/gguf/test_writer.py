"""What write_gguf writes is read by gguf-py's reader as it was given, and by llama.cpp if it is a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st

from rosetta.containers import open_container
from rosetta.containers.byte_order import FIELDS, swap_in_place
from rosetta.containers.container import TensorInput
from rosetta.containers.dtypes import BLOCKS
from rosetta.containers.gguf.writer import write_gguf
from rosetta.errors import UnsupportedError, UsageError

NAMED = {"general.architecture": "llama"}
TYPES = [dtype for dtype in gguf.GGMLQuantizationType if dtype.name != "Q8_1"]  # gguf-py has its size wrong


def random_tensor(name: str, dtype: str, rows: int = 2, blocks: int = 2) -> TensorInput:
    weights, size = BLOCKS[dtype]
    data = np.random.default_rng(len(name) + size).integers(0, 256, rows * blocks * size, np.uint8)
    return TensorInput(name, dtype, (rows, blocks * weights), data)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
def test_every_dtype_is_read_by_gguf_py(tmp_path: Path, dtype: gguf.GGMLQuantizationType) -> None:
    tensor = random_tensor("w", dtype.name)
    write_gguf(tmp_path / "m.gguf", NAMED, [tensor])
    (read,) = gguf.GGUFReader(tmp_path / "m.gguf").tensors
    assert (read.name, read.tensor_type, read.data.tobytes()) == ("w", dtype, tensor.data.tobytes())
    assert tuple(reversed(read.shape.tolist())) == tensor.dims


@pytest.mark.parametrize("dtype", [dtype.name for dtype in TYPES])
def test_big_endian_data_comes_back_as_it_was(tmp_path: Path, dtype: str) -> None:
    tensor = random_tensor("w", dtype)
    write_gguf(tmp_path / "m.gguf", NAMED, [tensor], big_endian=True)
    container = open_container(tmp_path / "m.gguf")
    assert container.read("w").tobytes() == tensor.data.tobytes()
    assert container.read("w", 1, 3).tobytes() == tensor.data[1:4].tobytes()


# the types of gguf-py's gguf_convert_endian, whose swaps are the outside opinion
@pytest.mark.parametrize("dtype", ["Q4_0", "Q8_0", "Q4_K", "Q6_K", "MXFP4", "NVFP4"])
def test_swapped_fields_are_those_of_gguf_pys_converter(dtype: str) -> None:
    from gguf.scripts.gguf_convert_endian import byteswap_tensors

    swap = byteswap_tensors[gguf.GGMLQuantizationType[dtype]]
    tensor = random_tensor("w", dtype)
    ours, size = tensor.data.copy(), BLOCKS[dtype][1]
    swap_in_place(dtype, ours)
    theirs = TensorInput("w", dtype, tensor.dims, tensor.data.copy())
    for start in range(0, theirs.data.size, size):
        swap(theirs, start)
    assert ours.tolist() == theirs.data.tolist()


# block structures of ggml-common.h: field, bytes of an item, items
STRUCTURES: dict[str, list[tuple[str, int, int]]] = {
    "Q4_1": [("d", 2, 1), ("m", 2, 1), ("qs", 1, 16)],
    "Q5_0": [("d", 2, 1), ("qh", 1, 4), ("qs", 1, 16)],
    "Q5_1": [("d", 2, 1), ("m", 2, 1), ("qh", 1, 4), ("qs", 1, 16)],
    "Q2_K": [("scales", 1, 16), ("qs", 1, 64), ("d", 2, 1), ("dmin", 2, 1)],
    "Q3_K": [("hmask", 1, 32), ("qs", 1, 64), ("scales", 1, 12), ("d", 2, 1)],
    "Q5_K": [("d", 2, 1), ("dmin", 2, 1), ("scales", 1, 12), ("qh", 1, 32), ("qs", 1, 128)],
    "Q8_K": [("d", 4, 1), ("qs", 1, 256), ("bsums", 2, 16)],
    "IQ4_NL": [("d", 2, 1), ("qs", 1, 16)],
    "IQ4_XS": [("d", 2, 1), ("scales_h", 2, 1), ("scales_l", 1, 4), ("qs", 1, 128)],
    "IQ1_S": [("d", 2, 1), ("qs", 1, 32), ("qh", 2, 8)],
    "IQ2_XS": [("d", 2, 1), ("qs", 2, 32), ("scales", 1, 8)],
    "IQ2_S": [("d", 2, 1), ("qs", 1, 64), ("qh", 1, 8), ("scales", 1, 8)],
    "IQ3_S": [("d", 2, 1), ("qs", 1, 64), ("qh", 1, 8), ("signs", 1, 32), ("scales", 1, 4)],
    "TQ1_0": [("qs", 1, 48), ("qh", 1, 4), ("d", 2, 1)],
    "TQ2_0": [("qs", 1, 64), ("d", 2, 1)],
}


@pytest.mark.parametrize("dtype", sorted(STRUCTURES))
def test_swapped_fields_are_those_of_the_block_structures(dtype: str) -> None:
    def structure(order: str) -> np.dtype[Any]:
        return np.dtype([(name, f"{order}u{width}", count) for name, width, count in STRUCTURES[dtype]])

    assert structure("<").itemsize == BLOCKS[dtype][1]
    tensor = random_tensor("w", dtype)
    swapped = tensor.data.copy()
    swap_in_place(dtype, swapped)
    before, after = tensor.data.view(structure("<")), swapped.view(structure(">"))
    for name, _, _ in STRUCTURES[dtype]:
        assert np.array_equal(before[name], after[name]), name


@pytest.mark.parametrize("dtype", sorted(FIELDS))
def test_swapping_twice_changes_nothing_and_a_cut_block_is_refused(dtype: str) -> None:
    tensor = random_tensor("w", dtype)
    data = tensor.data.copy()
    swap_in_place(dtype, data)
    swap_in_place(dtype, data)
    assert data.tolist() == tensor.data.tolist()
    with pytest.raises(ValueError, match="cut a block"):
        swap_in_place(dtype, data[:-1])


def test_a_big_endian_files_values_are_those_of_gguf_py(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_gguf(
        tmp_path / "m.gguf", NAMED, [TensorInput("w", "F32", (3, 4), values.view(np.uint8))], big_endian=True
    )
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    assert reader.endianess is gguf.GGUFEndian.BIG
    assert np.asarray(reader.tensors[0].data, np.float32).tolist() == values.tolist()


VALUES: list[tuple[Any, gguf.GGUFValueType, Any]] = [
    (7, gguf.GGUFValueType.UINT32, 7),
    (-7, gguf.GGUFValueType.INT32, -7),
    (1 << 40, gguf.GGUFValueType.UINT64, 1 << 40),
    (-(1 << 40), gguf.GGUFValueType.INT64, -(1 << 40)),
    (1e-5, gguf.GGUFValueType.FLOAT32, float(np.float32(1e-5))),
    (1e300, gguf.GGUFValueType.FLOAT64, 1e300),
    (True, gguf.GGUFValueType.BOOL, True),
    ("", gguf.GGUFValueType.STRING, ""),
    ("ü", gguf.GGUFValueType.STRING, "ü"),
    (np.uint16(3), gguf.GGUFValueType.UINT16, 3),
    (["a", "b"], gguf.GGUFValueType.STRING, ["a", "b"]),
    ([1, -2], gguf.GGUFValueType.INT32, [1, -2]),
    ([1, 1 << 31], gguf.GGUFValueType.UINT32, [1, 1 << 31]),
    ([1, 0.5], gguf.GGUFValueType.FLOAT32, [1, 0.5]),
    ([True, False], gguf.GGUFValueType.BOOL, [True, False]),
    (b"\x01\xff", gguf.GGUFValueType.UINT8, [1, 255]),
    (np.array([1, 2], np.int8), gguf.GGUFValueType.INT8, [1, 2]),
]


@pytest.mark.parametrize("big_endian", [False, True])
def test_values_have_the_types_that_llama_cpp_expects(tmp_path: Path, big_endian: bool) -> None:
    metadata = {f"k{n}": value for n, (value, _, _) in enumerate(VALUES)}
    write_gguf(tmp_path / "m.gguf", NAMED | metadata | {"none": None, "empty": []}, [], big_endian=big_endian)
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    for n, (_, kind, expected) in enumerate(VALUES):
        assert fields[f"k{n}"].types[-1] is kind
        assert fields[f"k{n}"].contents() == expected
    assert not {"none", "empty"} & set(fields)


def test_an_alignment_is_honoured(tmp_path: Path) -> None:
    tensors = [random_tensor("a", "F32"), random_tensor("b", "Q8_0")]
    write_gguf(tmp_path / "m.gguf", NAMED | {"general.alignment": 128}, tensors)
    read = gguf.GGUFReader(tmp_path / "m.gguf")
    assert [tensor.data_offset % 128 for tensor in read.tensors] == [0, 0]
    assert [tensor.data.tobytes() for tensor in read.tensors] == [tensor.data.tobytes() for tensor in tensors]


@given(
    dtypes=st.lists(st.sampled_from([dtype.name for dtype in TYPES]), max_size=5),
    texts=st.lists(st.text(max_size=5), max_size=5),
    big_endian=st.booleans(),
    split=st.integers(0, 2),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    dtypes: list[str],
    texts: list[str],
    big_endian: bool,
    split: int,
) -> None:
    tensors = [random_tensor(f"t{n}.{dtype}", dtype, rows=n + 1) for n, dtype in enumerate(dtypes)]
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    metadata = NAMED | {"tokenizer.ggml.tokens": texts}
    files = write_gguf(path, metadata, iter(tensors), big_endian=big_endian, split_max_tensors=split)
    container = open_container(files[-1])
    assert container.metadata.get("tokenizer.ggml.tokens", []) == texts
    assert container.notes == ()
    assert list(container.tensors) == [tensor.name for tensor in tensors]
    for tensor in tensors:
        assert container.tensors[tensor.name].dims == tensor.dims
        assert container.read(tensor.name).tobytes() == tensor.data.tobytes()


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (TensorInput("w", "APR_Q4", (1, 32), np.zeros(18, np.uint8)), "no APR_Q4"),
        (TensorInput("w", "U8", (4,), np.zeros(4, np.uint8)), "no U8"),
        (TensorInput("w", "Q8_0", (2, 33), np.zeros(68, np.uint8)), "rows of 33"),
        (TensorInput("w" * 64, "F32", (1,), np.zeros(4, np.uint8)), "64 bytes"),
        (TensorInput("w", "F32", (1,) * 5, np.zeros(4, np.uint8)), "5 dims"),
    ],
)
def test_what_gguf_cannot_hold_is_refused_by_name(tmp_path: Path, tensor: TensorInput, says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        write_gguf(tmp_path / "m.gguf", NAMED, [tensor])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [object(), ["a", 1], 1 << 70, [None], np.array(["a"])])
def test_a_value_that_gguf_cannot_hold_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UnsupportedError, match="'k'"):
        write_gguf(tmp_path / "m.gguf", NAMED | {"k": value}, [])


def test_wrong_input_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"general\.architecture"):
        write_gguf(tmp_path / "m.gguf", {}, [])
    with pytest.raises(UsageError, match="12 bytes, 8 were given"):
        write_gguf(tmp_path / "m.gguf", NAMED, [TensorInput("w", "F32", (3,), np.zeros(8, np.uint8))])


def rewritten(source: Path, target: Path) -> None:
    container = open_container(source)
    tensors = (
        TensorInput(e.name, e.dtype, e.dims, container.read(e.name)) for e in container.tensors.values()
    )
    write_gguf(target, container.metadata, tensors)
    container.close()


@pytest.mark.parametrize("quant", ["f32", "q4_k_m"])
def test_a_rewritten_model_holds_the_same_weights(samples: Path, tmp_path: Path, quant: str) -> None:
    source = samples / "models" / "llama" / f"model-{quant}.gguf"
    rewritten(source, tmp_path / "m.gguf")
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(tmp_path / "m.gguf")
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert old.name == new.name
        assert np.array_equal(dequantize(old.data, old.tensor_type), dequantize(new.data, new.tensor_type))
    for key in before.fields:
        assert before.fields[key].contents() == after.fields[key].contents(), key


@pytest.mark.requires_llamacpp
def test_llama_cpp_loads_a_rewritten_model_with_the_same_logits(samples: Path, tmp_path: Path) -> None:
    from fixtures.oracles import llamacpp_logits

    source = samples / "models" / "llama" / "model-q8_0.gguf"
    rewritten(source, tmp_path / "m.gguf")
    ids = [17, 10, 17, 28]
    assert np.array_equal(llamacpp_logits(tmp_path / "m.gguf", ids), llamacpp_logits(source, ids))
