"""What is no model is named as what it is, with what to give instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures import pair
from rosetta.compare.options import Options
from rosetta.containers import open_container
from rosetta.diagnose import compare_operands
from rosetta.errors import RosettaError, UsageError
from rosetta.sources import hub, web

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 988097824\n"


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("Qwen/Qwen2.5-0.5B", "a model of the Hugging Face hub", "hf download Qwen/Qwen2.5-0.5B --local-dir"),
        ("https://huggingface.co/Qwen/Qwen2.5-0.5B/tree/main", "is an address", "hf download Qwen/Qwen2.5-0.5B "),
        ("https://example.org/model.gguf", "is an address", "download it, and give the file"),
        ("no/such/place/model.gguf", "no such file or directory", "check the path"),
    ],
)  # fmt: skip
def test_a_name_of_somewhere_else_is_told_from_a_missing_file(
    name: str, said: str, remedy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for source in (hub, web):  # what is so where the extra is missing
        monkeypatch.setattr(source, "is_installed", lambda: False)
    with pytest.raises(UsageError) as caught:
        open_container(name)
    assert said in str(caught.value)
    assert remedy in str(caught.value)


def cache(folder: Path) -> None:
    for revision in ("aaa", "bbb"):
        (folder / "snapshots" / revision).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("bbb")


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"}))
    (folder / "adapter_model.safetensors").write_bytes(b"")


def pointer(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_text(POINTER)


def checkpoint(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")


@pytest.mark.parametrize(
    ("make", "said", "remedy"),
    [
        (cache, "a folder of the Hugging Face cache", "snapshots/bbb"),
        (adapter, "holds an adapter for Qwen/Qwen2.5-0.5B", "peft:BASE+"),
        (pointer, "is a Git LFS pointer", "run git lfs pull"),
        (checkpoint, "as a pickle only (pytorch_model.bin)", "save_pretrained"),
    ],
)
def test_a_folder_that_is_no_model_is_named(
    tmp_path: Path, make: Callable[[Path], None], said: str, remedy: str
) -> None:
    make(tmp_path)
    with pytest.raises(RosettaError) as caught:
        open_container(tmp_path)
    assert said in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_git_lfs_pointer_in_place_of_any_file_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    folder, _ = pair(tmp_path, "llama", "hf:F16", "gguf:F16")
    (folder / name).write_text(POINTER)
    with pytest.raises(RosettaError, match=rf"{name}: is a Git LFS pointer, not .*run git lfs pull"):
        compare_operands(folder, folder, Options(prompt="2+2="))


def test_what_ollama_keeps_beside_its_models_is_named(tmp_path: Path) -> None:
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:abcd"}]
    (tmp_path / "latest").write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    (tmp_path / "sha256-12ab").write_text("{{ if .System }}")
    with pytest.raises(UsageError, match=r"Ollama manifest.*blobs/sha256-abcd"):
        open_container(tmp_path / "latest")
    with pytest.raises(UsageError, match="Ollama blob that holds a text"):
        open_container(tmp_path / "sha256-12ab")


def test_a_path_will_do_where_a_text_does(tmp_path: Path) -> None:
    model, _ = pair(tmp_path, "llama", "gguf:F16", "gguf:F16")
    found = compare_operands(model, model, Options(tokens=(1, 2)))
    assert found.verdict == "match"
    assert found.operands == {"left": str(model), "right": str(model)}
