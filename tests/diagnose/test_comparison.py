"""From two operands to one comparison: what is compared, counted, noted, and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fixtures import build, faults, pair
from fixtures.comparing import TOKENS, compared, compared_files, tiny
from fixtures.contents import FileContents
from rosetta.compare.listener import Listener, LoadedTensor
from rosetta.compare.options import Options
from rosetta.diagnose import compare_operands
from rosetta.errors import RosettaError, UsageError
from rosetta.report.report import Report


class Notes(Listener):
    """A listener that remembers."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.tensors: list[list[LoadedTensor]] = []
        self.done: list[tuple[str, int, int]] = []

    def loaded(self, label: str, tensors: Any) -> None:
        self.labels.append(label)
        self.tensors.append(list(tensors))

    def working(self, what: str, done: int, total: int) -> None:
        self.done.append((what, done, total))


def test_listener_hears_both_sides_and_every_layer(tmp_path: Path) -> None:
    left, right = pair(
        tmp_path, tiny("qwen2"), "apr:F16", "gguf:F16", faults.dims_swapped("blk.0.attn_k.weight")
    )
    notes = Notes()
    compare_operands(str(left), str(right), Options(tokens=TOKENS), notes)
    assert notes.labels == ["APR", "GGUF"]
    (loaded,) = [tensor for tensor in notes.tensors[0] if tensor.name == "blk.0.attn_k.weight"]
    assert (loaded.dims, loaded.expected) == ((64, 32), (32, 64))
    assert loaded.source_name == "model.layers.0.self_attn.k_proj.weight"
    words = [what for what, _, _ in notes.done]
    assert {"layer 0", "layer 1", "diagnosing layers.0.k", "tokenizing"} <= set(words)
    assert all(0 <= done <= total for _, done, total in notes.done if total)


def test_counts_say_how_much_was_compared(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "apr:F16", "gguf:F16")
    assert report.compared.stages == 2 + 16 * 2 + 1
    assert report.compared.tokens == len(TOKENS)
    assert report.compared.weights == 3 + 9 * 2
    assert report.compared.config_keys >= 18
    assert report.stages[0].name == "tokens"


@pytest.mark.parametrize("key", [
    "architecture", "block_count", "embedding_length", "feed_forward_length", "context_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.layer_norm_rms_epsilon", "rope.freq_base",
    "rope.type", "rope.scaling", "rope.dimension_count", "attention.scale", "activation", "norm_type",
    "tied_embeddings", "vocab_size", "bos_token_id", "eos_token_id",
])  # fmt: skip
def test_config_has_a_row_for_every_key_of_the_contract(tmp_path: Path, key: str) -> None:
    for left, right in (("apr:F16", "gguf:F16"), ("hf:F16", "apr-gguf:F16")):
        rows = {
            row.key: row for row in compared(tmp_path / left, "llama", left, right, diagnose=False).config
        }
        assert rows[key].status in ("same", "defaulted")


def test_operands_of_one_architecture_under_two_names_are_one(tmp_path: Path) -> None:
    report = compared(tmp_path, "mistral", "hf:F16", "gguf:F16")
    assert report.left.architecture == report.right.architecture == "llama"
    assert {row.status for row in report.config if row.key == "architecture"} == {"same"}


def test_report_of_a_comparison_is_valid_and_holds_its_facts(tmp_path: Path) -> None:
    fault = faults.nonfinite("blk.0.ffn_up.weight")
    report = compared(tmp_path, "llama", "apr:F16", "gguf:Q8_0", fault)
    jsonschema.validate(report.model_dump(mode="json"), Report.model_json_schema(mode="serialization"))
    assert (report.left.container, report.right.container) == ("apr", "gguf")
    assert report.right.dtypes["Q8_0"] == 2 + 7 * 2
    assert report.left.file_bytes == (tmp_path / "left.apr").stat().st_size
    assert report.timing.total_s >= report.timing.load_s > 0


def test_tensors_that_no_forward_pass_reads_are_noted(tmp_path: Path) -> None:
    def with_a_tower(file: FileContents) -> FileContents:
        extra = replace(file.tensor("output_norm.weight"), name="model.vision_tower.weight")
        return replace(file, tensors=file.tensors | {"extra": extra})

    report = compared(tmp_path, "llama", "apr:F16", "gguf:F16", with_a_tower)
    (note,) = [note for note in report.notes if "does not know" in note]
    assert "left.apr" in note
    assert "model.vision_tower.weight" in note
    assert report.verdict == "match"


@pytest.mark.parametrize("operand", ["nowhere.gguf", "."])
def test_operand_that_is_no_model_is_refused_in_words(tmp_path: Path, operand: str) -> None:
    good = build(tmp_path, tiny("llama", layers=1), "gguf:F16")
    with pytest.raises(RosettaError) as raised:
        compare_operands(str(tmp_path / operand), str(good), Options(tokens=TOKENS))
    assert "\n" not in str(raised.value)


def test_cuda_without_a_device_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    good = build(tmp_path, tiny("llama", layers=1), "gguf:F16")
    with pytest.raises(UsageError, match="no CUDA device"):
        compare_operands(str(good), str(good), Options(tokens=TOKENS, left_device="cuda"))


def test_one_file_against_itself_is_a_match(tmp_path: Path) -> None:
    good = build(tmp_path, tiny("gpt2"), "gguf:F16")
    report = compared_files(good, good)
    assert (report.verdict, report.findings) == ("match", [])


@pytest.mark.requires_samples
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("from-hf-f16.apr", "model-f16.gguf"),
        ("from-gguf-f16.apr", "hf"),
        ("from-hf-bf16.apr", "model-q4_k_m.gguf"),
    ],
)
def test_samples_are_clean_pairs(samples: Path, name: str, left: str, right: str) -> None:
    folder = samples / "models" / name
    report = compared_files(folder / left, folder / right, tokens=None, prompt="2+2=")
    assert report.verdict in ("match", "drift")
    assert (report.findings, report.refuted) == ([], [])
    assert report.tokens.match
    assert [row.key for row in report.config if row.status == "differs"] == []


def test_a_prompt_beyond_the_context_is_noted(tmp_path: Path) -> None:
    left, right = pair(tmp_path, "llama", "gguf:F16", "gguf:F16", faults.config_set("context_length", 3))
    notes = compare_operands(str(left), str(right), Options(tokens=(1, 2, 3, 4))).notes
    assert [note for note in notes if "the prompt has 4 tokens, and the config a context of 3" in note]
    notes = compare_operands(str(left), str(right), Options(tokens=(1, 2, 3))).notes
    assert not [note for note in notes if "a context of" in note]
