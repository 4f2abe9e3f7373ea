"""An architecture that is not run: weights, settings and tokens are compared all the same, and `--as` runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures import pair
from fixtures.comparing import compared_files
from rosetta.compare.options import Options
from rosetta.diagnose import compare_operands
from rosetta.errors import UnsupportedError, UsageError
from rosetta.model import open_model
from rosetta.report.build import build_report
from rosetta.report.report import Report

UNHEARD_OF = "zebra"  # as long as llama: the bytes of the file stay where they are


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A folder and a GGUF of one llama, which call it by a name that nobody has heard of."""
    folder, file = pair(tmp_path, "llama", "hf:F32", "gguf:F32")
    config = json.loads((folder / "config.json").read_text())
    named = {"model_type": UNHEARD_OF, "architectures": ["ZebraForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config | named))
    key, old, new = b"general.architecture", b"llama", UNHEARD_OF.encode()
    data = file.read_bytes().replace(b"llama.", new + b".")
    start = data.index(key) + len(key) + 12  # behind the value's type and length
    assert data[start : start + len(old)] == old
    file.write_bytes(data[:start] + new + data[start + len(old) :])
    return folder, file


def stored(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def compared(files: tuple[Path, Path], run_as: str | None = None) -> Report:
    options = Options(tokens=(5, 9, 17, 33), run_as=run_as)
    return build_report(compare_operands(*files, options))


def test_weights_settings_and_tokens_are_compared_and_the_verdict_is_inconclusive(
    files: tuple[Path, Path],
) -> None:
    report = compared(files)
    assert report.verdict == "inconclusive"
    assert f"'{UNHEARD_OF}' is none that rosetta runs" in report.reason
    weights = report.weights
    assert weights.compared == len(open_model(files[1], must_run=False).weights)
    assert (weights.differing, weights.missing_left, weights.missing_right) == (0, [], [])
    assert [row for row in report.config if row.status == "differs"] == []
    assert report.tokens.match


def test_rows_in_the_other_rotary_order_are_no_difference(files: tuple[Path, Path]) -> None:
    assert any("rows in the other rotary order" in note for note in compared(files).notes)


def test_what_is_run_is_listed_with_those_that_have_the_same_tensors(files: tuple[Path, Path]) -> None:
    listed = [note for note in compared(files).notes if note.startswith("rosetta runs ")]
    assert len(listed) == 1
    assert "gpt2" in listed[0]
    assert "--as llama may run them" in listed[0]


def test_run_as_a_near_one_it_is_compared_stage_by_stage_and_the_report_says_so(
    files: tuple[Path, Path],
) -> None:
    report = compared(files, run_as="llama")
    assert report.verdict == "match"
    assert report.compared.stages > 0
    said = [note for note in report.notes if f"declares the architecture '{UNHEARD_OF}'" in note]
    assert len(said) == 2
    assert all("is run as llama" in note for note in said)


def test_run_as_one_that_is_not_run_either_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="--as okapi is none that rosetta runs"):
        compared(files, run_as="okapi")


def test_run_as_is_refused_for_a_model_that_is_run_anyway(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="declares an architecture that is not run, and neither does"):
        compared(pair(tmp_path, "llama", "hf:F32", "gguf:F32"), run_as="qwen2")


def test_a_scaled_weight_and_another_base_are_told(files: tuple[Path, Path]) -> None:
    folder, _ = files
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] *= 1.5
    stored(folder, weights)
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = 5e5
    if "rope_parameters" in config:
        config["rope_parameters"]["rope_theta"] = 5e5
    (folder / "config.json").write_text(json.dumps(config))
    report = compared(files)
    assert [tensor.name for tensor in report.weights.differing_tensors] == ["blk.1.ffn_up.weight"]
    assert report.weights.differing_tensors[0].rel_rmse == pytest.approx(0.5, rel=1e-3)
    assert [(f.kind, f.key, f.latent) for f in report.findings] == [
        ("config.rope_theta", "rope.freq_base", True)
    ]


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda w: w, "matched by equal values: unheard.of.weight = blk.1.ffn_down.weight"),
        (lambda w: w.T.contiguous(), "matched by equal values: unheard.of.weight = blk.1.ffn_down.weight"),
    ],
    ids=["as it is", "turned"],
)
def test_a_tensor_of_a_name_that_nobody_knows_is_found_by_its_values(
    files: tuple[Path, Path], change: object, note: str
) -> None:
    folder, _ = files
    weights = load_file(folder / "model.safetensors")
    weights["unheard.of.weight"] = change(weights.pop("model.layers.1.mlp.down_proj.weight"))  # type: ignore[operator]
    stored(folder, weights)
    report = compared(files)
    assert any(note in said for said in report.notes)
    assert (report.weights.differing, report.weights.missing_left, report.weights.missing_right) == (
        0,
        [],
        [],
    )


def test_a_norm_that_one_side_stores_less_one_is_the_same(files: tuple[Path, Path]) -> None:
    folder, _ = files
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] -= 1
    stored(folder, weights)
    assert compared(files).weights.differing == 0


def test_one_side_that_is_run_does_not_make_the_other_run(files: tuple[Path, Path], tmp_path: Path) -> None:
    known, _ = pair(tmp_path / "known", "llama", "hf:F32", "gguf:F32")
    report = compared((known, files[1]))
    assert report.verdict == "inconclusive"
    assert report.weights.differing == 0


def test_other_commands_refuse_it_by_name(files: tuple[Path, Path]) -> None:
    with pytest.raises(UnsupportedError, match=f"the architecture '{UNHEARD_OF}' is not supported"):
        open_model(files[0])


def test_a_clean_pair_of_a_known_one_says_nothing_of_it(tmp_path: Path) -> None:
    report = compared_files(*pair(tmp_path, "llama", "hf:F32", "gguf:F32"), tokens=(5, 9, 17))
    assert not [note for note in report.notes if "rosetta runs" in note]
