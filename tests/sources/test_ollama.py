"""Models of an Ollama store by name, out of its manifests and blobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rosetta
from fixtures import build
from rosetta.containers import open_container
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError
from rosetta.sources import located

KIND = "application/vnd.ollama.image."
Store = Callable[..., Path]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return build(tmp_path, "llama", "gguf:F16")


@pytest.fixture
def store(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Makes a store of one model, and gives its manifest."""
    folder = tmp_path / "models"
    monkeypatch.setenv("OLLAMA_MODELS", str(folder))

    def blob(data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "blobs" / f"sha256-{digest}").write_bytes(data)
        return f"sha256:{digest}"

    def make(name: str = "registry.ollama.ai/library/tiny/latest", **layers: bytes) -> Path:
        held: dict[str, bytes] = {"model": model.read_bytes(), "template": b"{{ .Prompt }}", **layers}
        listed: list[Any] = [
            {"mediaType": KIND + kind, "digest": blob(data), "size": len(data)} for kind, data in held.items()
        ]
        manifest = folder / "manifests" / name
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(json.dumps({"schemaVersion": 2, "layers": listed}))
        return manifest

    return make


@pytest.mark.parametrize(
    ("operand", "name"),
    [
        ("ollama:tiny", "registry.ollama.ai/library/tiny/latest"),
        ("ollama:tiny:1b-q4_K_M", "registry.ollama.ai/library/tiny/1b-q4_K_M"),
        ("ollama:somebody/tiny", "registry.ollama.ai/somebody/tiny/latest"),
        ("ollama:hf.co/org/tiny-GGUF:Q8_0", "hf.co/org/tiny-GGUF/Q8_0"),
        ("ollama:localhost:5000/library/tiny", "localhost:5000/library/tiny/latest"),
    ],
)
def test_a_name_means_the_blob_that_its_manifest_lists(
    store: Store, model: Path, operand: str, name: str
) -> None:
    store(name)
    assert located(operand).read_bytes() == model.read_bytes()


def test_it_is_compared_as_the_file_that_it_is(store: Store, model: Path) -> None:
    store()
    report = rosetta.compare("ollama:tiny", model)
    assert (report.verdict, report.left.operand) == ("match", "ollama:tiny")
    assert Path(report.left.path).parent.name == "blobs"


def test_the_store_of_the_home_is_read(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store()
    home = tmp_path / "home" / ".ollama"
    home.mkdir(parents=True)
    (tmp_path / "models").rename(home / "models")
    monkeypatch.delenv("OLLAMA_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    open_container("ollama:tiny").close()


def test_what_is_not_there_is_said_with_the_tags_that_are(store: Store) -> None:
    with pytest.raises(UsageError, match="there is no Ollama store"):
        open_container("ollama:tiny")
    store()
    with pytest.raises(UsageError, match=r"is not in the Ollama store.*it has the tags latest"):
        open_container("ollama:tiny:7b")
    with pytest.raises(UsageError, match="ollama list names its models"):
        open_container("ollama:other")
    with pytest.raises(UsageError, match="is no name of a model"):
        open_container("ollama:../../etc/passwd")


def test_a_missing_blob_is_named(store: Store) -> None:
    manifest = store()
    digest = json.loads(manifest.read_text())["layers"][0]["digest"].replace(":", "-")
    (manifest.parents[4] / "blobs" / digest).unlink()
    with pytest.raises(
        UsageError, match=f"the blob {digest} is missing from the store: ollama pull it again"
    ):
        open_container("ollama:tiny")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is an Ollama manifest that is no JSON"),
        ("[]", "is an Ollama manifest without layers"),
        ('{"layers": {}}', "is an Ollama manifest without layers"),
        ('{"layers": [7]}', "layer 0: has no media type and SHA-256 digest"),
        ('{"layers": [{"mediaType": "a", "digest": "sha256:../../x"}]}', "layer 0: has no media type and SHA-256"),
        ("[" * 100_000, "is an Ollama manifest that is no JSON"),
        (" " * (1 << 20) + "{}", "is an Ollama manifest without layers"),
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_one_sentence(store: Store, text: str, said: str) -> None:
    store().write_text(text)
    with pytest.raises(DamagedFileError, match=said) as caught:
        open_container("ollama:tiny")
    assert "\n" not in str(caught.value)


def test_a_model_of_another_format_is_one_sentence(store: Store) -> None:
    manifest = store()
    held = json.loads(manifest.read_text())
    held["layers"][0]["mediaType"] = f"{KIND}tensor"
    manifest.write_text(json.dumps(held))
    with pytest.raises(UnsupportedError, match=r"no layer that is a GGUF model \(it has template, tensor\)"):
        open_container("ollama:tiny")
