"""Notes on files: what was left out of names, what was not read, what the settings say that no run computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fixtures import build
from fixtures.comparing import compared_files, tiny
from fixtures.restating import restated


def renamed(folder: Path, prefix: str, *, all_of_them: bool = True) -> Path:
    """The folder with something before the names of its tensors, or of those of the first layer."""
    file = folder / "model.safetensors"
    tensors = {
        f"{prefix}{name}" if all_of_them or ".layers.0." in name else name: values
        for name, values in load_file(file).items()
    }
    save_file(tensors, file)
    return folder


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module."])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_a_wrapping_modules_prefix_is_told_and_read_past(
    tmp_path: Path, wrapper: str, all_of_them: bool
) -> None:
    folder = renamed(build(tmp_path / "l", tiny("qwen2"), "hf:F32"), wrapper, all_of_them=all_of_them)
    report = compared_files(folder, build(tmp_path / "r", tiny("qwen2"), "gguf:F32"))
    assert report.verdict == "match"
    (note,) = [note for note in report.notes if "prefix" in note]
    assert note.startswith(
        f"{folder}: tensors are named with the prefix {wrapper} of a wrapping module, as {wrapper}model."
    )
    assert note.endswith("save the unwrapped model, or take the prefix off")


@pytest.mark.parametrize("wrapper", ["", "base_model.model."])
def test_weights_of_a_tuner_without_its_adapter_are_read_and_told(tmp_path: Path, wrapper: str) -> None:
    """peft, whose state dict was saved without the keys that hold lora_."""
    folder = renamed(build(tmp_path / "l", tiny("qwen2"), "hf:F32"), wrapper)
    file = folder / "model.safetensors"
    tensors = {re.sub(r"([qv]_proj)\.", r"\1.base_layer.", name): x for name, x in load_file(file).items()}
    save_file(tensors, file)
    right = build(tmp_path / "r", tiny("qwen2"), "gguf:F32")
    report = compared_files(folder, right)
    assert (report.verdict, report.findings) == ("match", [])
    assert any("are named with base_layer of peft" in note for note in report.notes)
    q = next(name for name in tensors if "q_proj.base_layer.weight" in name)
    beside = q.replace("base_layer.weight", "ia3_l.default")
    save_file(tensors | {beside: tensors[q][:, :1].clone()}, file)
    assert compared_files(folder, right).verdict == "divergent", "an adapter is beside them"


def test_any_other_prefix_is_told_where_all_names_have_it(tmp_path: Path) -> None:
    folder = renamed(build(tmp_path / "l", tiny("qwen2"), "hf:F32"), "policy.")
    report = compared_files(folder, build(tmp_path / "r", tiny("qwen2"), "gguf:F32"))
    assert report.verdict == "match"
    assert any(
        "all tensors are named with the prefix policy., as policy.model." in note for note in report.notes
    )


def test_tensors_that_the_architecture_does_not_know_are_named(tmp_path: Path) -> None:
    folder = build(tmp_path / "l", tiny("qwen2"), "hf:F32")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    more = {f"model.layers.0.adapter.{n}.weight": tensors["model.norm.weight"].clone() for n in range(4)}
    save_file(tensors | more, file)
    report = compared_files(folder, build(tmp_path / "r", tiny("qwen2"), "gguf:F32"))
    first = ", ".join(sorted(more)[:3])
    assert f"{folder}: 4 tensors that qwen2 does not know: {first} …" in report.notes


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"layer_types": ["full_attention", "odd"]}, "layer_types says 'odd' of layer 1, which is no kind of layer"),
        ({"layer_types": [["odd"], "x"]}, "layer_types says ['odd'] of layer 0, which is no kind of layer"),
        ({"layer_types": ["full_attention"]}, "layer_types lists 1 of 2 layers, which transformers refuses"),
        ({"quantization_config": {"quant_method": "foo"}}, "'foo', which rosetta does not decode, says config.json"),
    ],
)  # fmt: skip
def test_what_a_folder_states_and_is_not_read_is_said(
    tmp_path: Path, stated: dict[str, object], said: str
) -> None:
    folder, file = (build(tmp_path / kind, tiny("qwen2", layers=2), f"{kind}:F32") for kind in ("hf", "gguf"))
    report = compared_files(restated(folder, tmp_path / "other", stated), file)
    assert report.findings == []
    assert [note for note in report.notes if said in note]
