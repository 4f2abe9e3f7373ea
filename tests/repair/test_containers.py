"""What each container keeps when a file of it is repaired: keys, types, order, byte order, checksums, other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from fixtures import build, contents, faults, model_spec, pair
from fixtures.raw_apr import RawTensor, raw_apr
from rosetta.containers.gguf.writer import write_gguf
from tests.repair.conftest import Repair, apr, changed, gguf_keys, tensors

QWEN2, LLAMA = model_spec("qwen2"), model_spec("llama")
TRANSPOSED = faults.transposed("blk.0.attn_k.weight")
EPSILON = faults.norm_epsilon(1e-2)


# GGUF


def test_gguf_keeps_every_key_its_type_and_order(tmp_path: Path, repair: Repair) -> None:
    file = contents(LLAMA, "gguf:F16", EPSILON)
    odd = {
        "general.alignment": 64,
        "custom.byte": bytes([1, 2, 3]),
        "custom.negative": -5,
        "custom.big": 1 << 40,
    }
    wrong = tmp_path / "wrong.gguf"
    write_gguf(wrong, {**file.metadata, **odd}, file.tensors.values())
    run = repair(wrong, build(tmp_path / "b", LLAMA, "hf:F16"))
    assert run.code == 0, run.out + run.err
    before, after = gguf_keys(wrong), gguf_keys(run.fixed)
    assert list(before) == list(after)
    key = "llama.attention.layer_norm_rms_epsilon"
    assert {name for name in before if before[name] != after[name]} == {key}
    assert before[key][0] == after[key][0]
    assert after[key][1] == pytest.approx(1e-5)
    assert all(t.data_offset % 64 == 0 for t in gguf.GGUFReader(run.fixed).tensors)


def test_gguf_gets_a_missing_key_in_llamacpps_type(tmp_path: Path, repair: Repair) -> None:
    spec = model_spec("llama", theta=500.0)
    wrong, believed = pair(tmp_path, spec, "gguf:F16", "hf:F16", faults.rope_theta(None))
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    after = gguf_keys(run.fixed)
    assert after["llama.rope.freq_base"] == ((gguf.GGUFValueType.FLOAT32,), 500.0)
    added = list(after).index("llama.rope.freq_base")
    assert list(after)[added - 1].startswith("llama."), "it stands with its family"


@pytest.mark.parametrize("fault", [TRANSPOSED, EPSILON, faults.dropped("blk.1.ffn_norm.weight")])
def test_big_endian_stays_so(tmp_path: Path, repair: Repair, fault: Any) -> None:
    file = contents(LLAMA, "gguf:Q8_0", fault)
    (wrong,) = write_gguf(tmp_path / "wrong.gguf", file.metadata, file.tensors.values(), big_endian=True)
    run = repair(wrong, build(tmp_path / "b", LLAMA, "hf:F16"))
    assert run.code == 0, run.out + run.err
    assert gguf.GGUFReader(run.fixed).byte_order == "S"
    before, after = tensors(wrong), tensors(run.fixed)
    assert len(changed(before, after)) <= 1


def test_shards_are_joined_in_order(tmp_path: Path, repair: Repair) -> None:
    file = contents(LLAMA, "gguf:F16", EPSILON)
    first, *others = write_gguf(
        tmp_path / "w.gguf", file.metadata, file.tensors.values(), split_max_tensors=5
    )
    assert others
    run = repair(first, build(tmp_path / "b", LLAMA, "hf:F16"))
    assert run.code == 0, run.out + run.err
    whole = {name: found for path in (first, *others) for name, found in tensors(path).items()}
    assert tensors(run.fixed) == whole
    assert list(tensors(run.fixed)) == list(whole)
    assert not [key for key in gguf_keys(run.fixed) if key.startswith("split.")]
    assert "shards" in run.out


def test_tokenizer_keys_are_taken_from_the_other_file(tmp_path: Path, repair: Repair) -> None:
    planted = [faults.tokens_exchanged(20, 21), faults.bos_added()]
    wrong, believed = pair(tmp_path, LLAMA, "gguf:F16", "gguf:F16", planted)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    assert gguf_keys(run.fixed) == gguf_keys(believed)


# APR


@pytest.mark.parametrize("fault", [TRANSPOSED, EPSILON, faults.dropped("blk.1.ffn_norm.weight")])
def test_apr_obeys_the_strict_reader(tmp_path: Path, repair: Repair, fault: Any) -> None:
    wrong, believed = pair(tmp_path, QWEN2, "apr:F16", "gguf:F16", fault)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    clean = build(tmp_path / "clean", QWEN2, "apr:F16")
    assert apr(run.fixed) == apr(clean)


def test_apr_metadata_without_a_change_keeps_its_text(tmp_path: Path, repair: Repair) -> None:
    text = json.dumps(contents(QWEN2, "apr:F16").metadata, indent=3).encode()  # as no writer of ours would
    wrong = tmp_path / "wrong.apr"
    wrong.write_bytes(_loose(text, TRANSPOSED))
    run = repair(wrong, build(tmp_path / "b", QWEN2, "gguf:F16"))
    assert run.code == 0, run.out + run.err
    assert text in run.fixed.read_bytes()


def test_loose_apr_is_written_in_the_strict_form_and_said_so(tmp_path: Path, repair: Repair) -> None:
    file = contents(QWEN2, "apr:F16", EPSILON)
    wrong = tmp_path / "wrong.apr"
    shapes = {"tensor_shapes": {"a": [1]}, "custom": [1, 2.5, None]}
    text = json.dumps(file.metadata | shapes).encode()
    wrong.write_bytes(_loose(text, EPSILON, footer=False, checksum=0, align=4, training=True))
    run = repair(wrong, build(tmp_path / "b", QWEN2, "gguf:F16"))
    assert run.code == 0, run.out + run.err
    assert "strict form" in run.out
    metadata, names, found = apr(run.fixed)
    assert metadata == {**file.metadata, **shapes, "rms_norm_eps": 1e-6}
    assert found["__training__.step"] == ("0", (1,), b"\1\2\3\4"), "training state is nobody's fault"
    assert len(names) == len(file.tensors) + 1
    assert {
        name: data for name, (_, _, data) in found.items() if name in {t.name for t in file.tensors.values()}
    } == {t.name: t.data.tobytes() for t in file.tensors.values()}


def _loose(text: bytes, fault: Any, *, training: bool = False, **options: Any) -> bytes:
    """An `.apr` file byte by byte, its index unsorted."""
    codes = {"F32": 0, "F16": 1}
    held = [
        RawTensor(t.name, codes[t.dtype], t.dims, t.data.tobytes())
        for t in contents(QWEN2, "apr:F16", fault).tensors.values()
    ]
    extra = [RawTensor("__training__.step", 0, (1,), b"\1\2\3\4")] if training else []
    return raw_apr(text, [*reversed(held), *extra], **options)


def test_tied_placeholder_stays_where_the_head_is_not_concerned(tmp_path: Path, repair: Repair) -> None:
    file = contents(QWEN2, "apr:F16", EPSILON)
    head = file.tensors["output.weight"]
    held = [t for t in file.tensors.values() if t is not head]
    codes = {"F32": 0, "F16": 1}
    raw = [RawTensor(t.name, codes[t.dtype], t.dims, t.data.tobytes()) for t in held]
    wrong = tmp_path / "wrong.apr"
    placeholder = RawTensor(head.name, 0, head.dims, b"")
    ordered = sorted([*raw, placeholder], key=lambda t: t.name.encode())
    wrong.write_bytes(raw_apr(json.dumps(file.metadata).encode(), ordered))
    run = repair(wrong, build(tmp_path / "b", QWEN2, "gguf:F16"))
    assert run.code == 0, run.out + run.err
    assert apr(run.fixed)[2]["lm_head.weight"] == ("0", head.dims, b"")


# Hugging Face


def test_folder_keeps_its_other_files_and_untouched_shards(tmp_path: Path, repair: Repair) -> None:
    wrong = build(tmp_path / "a", LLAMA, "hf-sharded:F16", TRANSPOSED)
    (wrong / "README.md").write_text("a card\n")
    (wrong / "pytorch_model.bin").write_bytes(b"the same weights, wrong")
    run = repair(wrong, build(tmp_path / "b", LLAMA, "gguf:F16"))
    assert run.code == 0, run.out + run.err
    assert not (run.fixed / "pytorch_model.bin").exists(), "it would still hold the fault"
    assert "pytorch_model.bin" in run.out
    kept = {path.name for path in wrong.iterdir()} - {"pytorch_model.bin"}
    assert {path.name for path in run.fixed.iterdir()} == kept
    same = {name for name in kept if (run.fixed / name).read_bytes() == (wrong / name).read_bytes()}
    (concerned,) = kept - same
    assert concerned.endswith(".safetensors")


def test_sharded_folder_gets_a_missing_tensor_and_an_index_that_knows_it(
    tmp_path: Path, repair: Repair
) -> None:
    fault = faults.dropped("blk.1.attn_norm.weight")
    wrong = build(tmp_path / "a", LLAMA, "hf-sharded:F16", fault)
    run = repair(wrong, build(tmp_path / "b", LLAMA, "gguf:F16"))
    assert run.code == 0, run.out + run.err
    index = json.loads((run.fixed / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(tensors(run.fixed))
    assert index["metadata"]["total_size"] == sum(len(data) for _, _, data in tensors(run.fixed).values())
    holder = run.fixed / index["weight_map"]["model.layers.1.input_layernorm.weight"]
    assert "model.layers.1.input_layernorm.weight" in holder.read_bytes().decode(errors="replace")


def test_config_keeps_its_keys_in_order(tmp_path: Path, repair: Repair) -> None:
    wrong, believed = pair(tmp_path, LLAMA, "hf:F16", "gguf:F16", faults.rope_theta(500.0))
    before = json.loads((wrong / "config.json").read_text())
    before["custom"] = {"big": 2**70, "nested": [None, 1e-06, "ü"]}
    (wrong / "config.json").write_text(json.dumps(before))
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    after = json.loads((run.fixed / "config.json").read_text())
    before["rope_parameters"]["rope_theta"] = 10000.0
    assert list(after.items()) == list(before.items())
    assert "rope_parameters.rope_theta: 500.0 -> 10000.0" in run.out


def test_tokenizer_of_a_folder_comes_from_another_folder(tmp_path: Path, repair: Repair) -> None:
    wrong, believed = pair(tmp_path, LLAMA, "hf:F16", "hf:F16", faults.tokens_exchanged(20, 21))
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    assert (run.fixed / "tokenizer.json").read_bytes() == (believed / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("fault", [faults.tokens_exchanged(20, 21), faults.merges_lost()])
def test_tokenizer_of_a_folder_is_put_right_from_a_gguf_file(
    tmp_path: Path, repair: Repair, fault: Any
) -> None:
    wrong, believed = pair(tmp_path, LLAMA, "hf:F16", "gguf:F16", fault)
    clean = build(tmp_path / "clean", LLAMA, "hf:F16")
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    got, wanted = (json.loads((path / "tokenizer.json").read_text())["model"] for path in (run.fixed, clean))
    assert got["vocab"] == wanted["vocab"]
    pairs = [
        [merge.split(" ") if isinstance(merge, str) else merge for merge in m["merges"]]
        for m in (got, wanted)
    ]
    assert pairs[0] == pairs[1]


@pytest.mark.parametrize("fault", [faults.merges_lost(), faults.tokens_exchanged(20, 21)])
def test_tokenizer_of_an_apr_file_is_put_right(tmp_path: Path, repair: Repair, fault: Any) -> None:
    wrong, believed = pair(tmp_path, LLAMA, "apr:F16", "gguf:F16", fault)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    clean = apr(build(tmp_path / "clean", LLAMA, "apr:F16"))
    assert apr(run.fixed)[0] == clean[0]


def test_apr_copy_of_the_index_in_its_metadata_is_kept_true(tmp_path: Path, repair: Repair) -> None:
    file = contents(QWEN2, "apr:F16", TRANSPOSED)
    shapes = {t.name: list(t.dims) for t in file.tensors.values()}
    wrong = tmp_path / "wrong.apr"
    wrong.write_bytes(_loose(json.dumps({**file.metadata, "tensor_shapes": shapes}).encode(), TRANSPOSED))
    run = repair(wrong, build(tmp_path / "b", QWEN2, "gguf:F16"))
    assert run.code == 0, run.out + run.err
    metadata, _, found = apr(run.fixed)
    assert metadata["tensor_shapes"] == {name: list(dims) for name, (_, dims, _) in found.items()}
    assert metadata["tensor_shapes"] != shapes


def test_apr_index_in_json_becomes_a_binary_one(tmp_path: Path, repair: Repair) -> None:
    file = contents(QWEN2, "apr:F16", EPSILON)
    held, position, entries = list(file.tensors.values()), 0, []
    for t in held:
        size = t.data.nbytes
        entries.append(
            {"name": t.name, "dtype": t.dtype, "shape": list(t.dims), "offset": position, "size": size}
        )
        position += -(-size // 64) * 64
    data = [RawTensor(t.name, 0, t.dims, t.data.tobytes()) for t in held]
    wrong = tmp_path / "wrong.apr"
    wrong.write_bytes(raw_apr(json.dumps(file.metadata).encode(), data, index=json.dumps(entries).encode()))
    run = repair(wrong, build(tmp_path / "b", QWEN2, "gguf:F16"))
    assert run.code == 0, run.out + run.err
    assert apr(run.fixed)[2] == apr(build(tmp_path / "clean", QWEN2, "apr:F16"))[2]


def test_gguf_setting_of_each_layer_stays_a_list(tmp_path: Path, repair: Repair) -> None:
    file = contents(LLAMA, "gguf:F16")
    wrong = tmp_path / "wrong.gguf"
    key = "llama.attention.head_count_kv"
    write_gguf(wrong, {**file.metadata, key: [4] * LLAMA.layers}, file.tensors.values())
    run = repair(wrong, build(tmp_path / "b", LLAMA, "hf:F16"))
    assert run.code == 0, run.out + run.err
    before, after = gguf_keys(wrong)[key], gguf_keys(run.fixed)[key]
    assert (after[0], after[1]) == (before[0], [2] * LLAMA.layers)
