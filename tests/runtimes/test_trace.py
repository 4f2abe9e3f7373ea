"""A recorded run: written as any safetensors reader reads it, read back bit for bit, refused where it is none."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from fixtures import build, faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import TOKENS, compared_files, tiny
from fixtures.recording import recorded
from fixtures.stages import transformers_stages
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError, UsageError
from rosetta.model import open_model
from rosetta.runtimes.trace import open_recording, recorded_model, trace_tokens, write_trace

FACTS = {"tokens": [3, 1, 2]}
STAGES = {
    "embedding": torch.arange(6.0).reshape(3, 2),
    "layers.0.q": torch.ones(3, 2, 4, dtype=torch.float64),
}


def written(folder: Path, stages: Any = None, facts: Any = None) -> Path:
    path = folder / "run.safetensors"
    write_trace(path, (stages or STAGES).items(), FACTS if facts is None else facts)
    return path


def test_trace_is_what_the_safetensors_library_reads(tmp_path: Path) -> None:
    facts = {"tokens": [3, 1, 2], "prompt": 'naïve "2+2="\n世界'}
    path = written(tmp_path, facts=facts)
    with safe_open(path, framework="pt") as file:
        assert list(file.keys()) == sorted(STAGES)
        assert json.loads(file.metadata()["rosetta"]) == facts
        for name, values in STAGES.items():
            assert file.get_tensor(name).dtype == torch.float32
            assert torch.equal(file.get_tensor(name), values.float())
    assert (path.stat().st_size - 4 * sum(x.numel() for x in STAGES.values())) % 8 == 0, "the data is aligned"


def test_trace_of_the_safetensors_library_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    stages = {"embedding": torch.randn(3, 2), "logits": torch.randn(3, 5).to(torch.float16)}
    save_file(stages, path, metadata={"rosetta": json.dumps(FACTS)})
    recording = open_recording(path)
    assert recording.tokens == [3, 1, 2]
    for name, values in stages.items():
        found = recording.stage(name)
        assert found is not None
        assert torch.equal(found, values.float())
    assert recording.stage("layers.0.q") is None


@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 2**32 - 1)),
        min_size=1,
        max_size=5,
    )
)
def test_round_trip_keeps_every_bit(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    """Of NaN with a payload and of negative zero too."""
    stages = {}
    for number, (dims, seed) in enumerate(drawn):
        bits = np.random.default_rng(seed).integers(0, 2**32, dims, dtype=np.uint32)
        stages[f"layers.{number}.q"] = torch.from_numpy(bits.view(np.float32))
    recording = open_recording(written(tmp_path_factory.mktemp("trace"), stages))
    assert sorted(recording.stages) == sorted(stages)
    for name, values in stages.items():
        found = recording.stage(name)
        assert found is not None
        assert np.array_equal(found.numpy().view(np.uint32), values.numpy().view(np.uint32))


def test_what_cannot_be_finished_leaves_nothing_behind(tmp_path: Path) -> None:
    def stages() -> Any:
        yield "embedding", torch.ones(2, 2)
        raise RuntimeError("the model ended early")

    with pytest.raises(RuntimeError):
        write_trace(tmp_path / "run.safetensors", stages(), FACTS)
    assert list(tmp_path.iterdir()) == []


def test_trace_that_is_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()

    def stages() -> Any:
        raise RuntimeError("the model ended early")
        yield

    with pytest.raises(RuntimeError):
        write_trace(path, stages(), FACTS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        write_trace(tmp_path / "nowhere" / "run.safetensors", STAGES.items(), FACTS)
    assert "nowhere" in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1, 2]", '"tokens"', "{}", '{"tokens": []}', '{"tokens": [1.5]}', '{"tokens": [true]}',
     '{"tokens": [-1]}', '{"tokens": "1,2"}', '{"tokens": null}', "[" * 100_000],
)  # fmt: skip
def test_facts_that_name_no_tokens_are_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.safetensors"
    save_file({"embedding": torch.ones(1, 2)}, path, metadata={"rosetta": text})
    with pytest.raises(DamagedFileError) as raised:
        open_recording(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("values", [torch.tensor(1.0), torch.ones(0, 2), torch.ones(1, 0)])
def test_a_stage_without_values_of_each_token_is_refused(tmp_path: Path, values: torch.Tensor) -> None:
    path = tmp_path / "run.safetensors"
    save_file({"layers.0.attn_out": values}, path, metadata={"rosetta": '{"tokens": [1]}'})
    with pytest.raises(DamagedFileError, match=r"layers\.0\.attn_out"):
        open_recording(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_weights_are_no_trace(tmp_path: Path, metadata: Any) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"model.embed_tokens.weight": torch.ones(1, 2)}, path, metadata=metadata)
    with pytest.raises(UnsupportedError, match="without the facts of a run"):
        open_recording(path)


def test_absent_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_recording(tmp_path / "run.safetensors")


def test_trace_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(RosettaError) as raised:
            open_recording(path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_header_is_refused_or_read_and_never_a_traceback(tmp_path: Path, seed: int) -> None:
    rng, path = np.random.default_rng(seed), written(tmp_path)
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(header)] = rng.integers(256)
        path.write_bytes(damaged)
        with suppress(RosettaError):
            recording = open_recording(path)
            for name in recording.stages:
                recording.stage(name)


def test_token_beyond_the_other_models_vocabulary_is_refused(tmp_path: Path) -> None:
    recording = open_recording(written(tmp_path))
    assert trace_tokens(recording, 4) == [3, 1, 2]
    with pytest.raises(UsageError, match="token id 3 is beyond the vocabulary of 3"):
        trace_tokens(recording, 3)


def test_sizes_of_a_run_that_names_no_settings_are_those_of_its_stages(tmp_path: Path) -> None:
    big = build(tmp_path, tiny("qwen3", layers=3, heads=8, ffn=128), "gguf:F16", stem="big")
    small = open_model(
        build(tmp_path, tiny("qwen3", layers=2, heads=2, kv_heads=1), "gguf:F16", stem="small")
    )
    trace = recorded(tmp_path / "run.safetensors", big, without=["config"])
    config = recorded_model(open_recording(trace), small).config
    found = {key: config[key].value for key in (
        "block_count", "attention.head_count", "attention.head_count_kv", "attention.key_length",
        "attention.value_length", "embedding_length", "feed_forward_length", "vocab_size",
    )}  # fmt: skip
    assert list(found.values()) == [3, 8, 2, 16, 16, 64, 128, 384]


@pytest.mark.parametrize("value", [None, "yes", [1], {"factors": "many"}, {"factors": [1e400]}, 10**400, {}])
def test_settings_of_another_kind_are_refused_or_a_difference(tmp_path: Path, value: Any) -> None:
    """What a trace says of its config is as hostile as any file."""
    model = build(tmp_path, tiny("llama"), "gguf:F16")
    path = recorded(tmp_path / "run.safetensors", model)
    with safe_open(path, framework="pt") as file:
        stages = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["rosetta"])
    for key in ("rope.freq_base", "rope.scaling", "block_count", "attention.head_count"):
        told = {**facts, "config": {**facts["config"], key: value}}
        save_file(stages, path, metadata={"rosetta": json.dumps(told)})
        with suppress(RosettaError):
            report = compared_files(model, f"trace:{path}", tokens=None)
            assert report.verdict in ("match", "divergent")


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt2"])
def test_run_of_transformers_is_a_reference_like_any_other(tmp_path: Path, name: str) -> None:
    """Its stages are not ours, and not all of ours: what it has agrees, and a wrong file is told by it."""
    pytest.importorskip("transformers")
    spec = tiny(name)
    folder = build(tmp_path, spec, "hf:F32")
    stages = transformers_stages(folder, TOKENS, interleave=name == "llama")
    path = tmp_path / "run.safetensors"
    save_file(
        {name: x.contiguous() for name, x in stages.items()},
        path,
        metadata={"rosetta": json.dumps({"tokens": list(TOKENS)})},
    )
    report = compared_files(build(tmp_path, spec, "gguf:F32"), f"trace:{path}", tokens=None)
    assert (report.verdict, report.findings) == ("match", [])
    broken = build(tmp_path, spec, "gguf:F32", faults.scaled("blk.1.ffn_up.weight", 2.0), stem="broken")
    report = compared_files(broken, f"trace:{path}", tokens=None)
    assert_proven(report, "layers.1.ffn_up", Cause("value.scaled", "blk.1.ffn_up.weight", actual=2.0))
