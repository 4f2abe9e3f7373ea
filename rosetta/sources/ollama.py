"""Models of an Ollama store by name: `ollama:llama3.2`, `ollama:llama3.2:1b`, read from the store's manifests.

A manifest lies at `manifests/HOST/NAMESPACE/MODEL/TAG`, and lists layers by digest; their bytes are files of `blobs`
(Ollama, docs/import.md and server/manifest.go). A model may have adapters among its layers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rosetta.errors import DamagedFileError, UnsupportedError, UsageError

OLLAMA = "ollama:"
HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"  # what a name leaves out
_MODEL, _ADAPTER = "application/vnd.ollama.image.model", "application/vnd.ollama.image.adapter"
_LARGEST = 1 << 20  # bytes of a manifest
_PART = r"[A-Za-z0-9][\w.-]*"
_NAME = re.compile(rf"(?:(?:({_PART}(?::\d+)?)/)?({_PART})/)?({_PART})(?::({_PART}))?")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_AGAIN = "ollama pull it again"


@dataclass(frozen=True)
class Blobs:
    """The files of a model.

    Args:
        model: its GGUF file.
        adapters: GGUF files of adapters, in the order in which they are applied.
    """

    model: Path
    adapters: tuple[Path, ...] = ()


def names_place(operand: str) -> bool:
    """Whether it is the name of a model of a store."""
    return operand.startswith(OLLAMA)


def locate(operand: str) -> Path:
    """The GGUF file of a model.

    Raises:
        UsageError: the store has no such model, or lacks a file of it.
        DamagedFileError: its manifest is none.
        UnsupportedError: it has adapters, which an operand of one file does not say.
    """
    found = blobs(operand)
    if found.adapters:
        count = len(found.adapters)
        remedy = f"give lora:{found.model}+{found.adapters[0]}, which merges it in memory"
        raise UnsupportedError(
            f"has {'an adapter' if count == 1 else f'{count} adapters'} beside its model",
            file=operand,
            remedy=remedy if count == 1 else "merge them with llama.cpp's llama-export-lora",
        )
    return found.model


def blobs(operand: str) -> Blobs:
    """The files of a model by its name; see `locate` for what it raises."""
    store = _store()
    manifest = _manifest(store, operand)
    layers = _layers(manifest)
    models = [digest for kind, digest in layers if kind == _MODEL]
    if not models:
        kinds = ", ".join(sorted({kind.rpartition(".")[2] for kind, _ in layers})) or "none"
        message = f"lists no layer that is a GGUF model (it has {kinds})"
        raise UnsupportedError(message, file=manifest, remedy="give a model that Ollama runs from GGUF")
    if len(models) > 1:
        raise UnsupportedError(f"lists {len(models)} models", file=manifest, remedy="give one blob of them")
    adapters = (digest for kind, digest in layers if kind == _ADAPTER)
    return Blobs(_blob(store, manifest, models[0]), tuple(_blob(store, manifest, each) for each in adapters))


def _store() -> Path:
    """Where Ollama keeps its models (envconfig, Models)."""
    named = os.environ.get("OLLAMA_MODELS")
    return Path(named).expanduser() if named else Path.home() / ".ollama" / "models"


def _manifest(store: Path, operand: str) -> Path:
    name = operand.removeprefix(OLLAMA)
    found = _NAME.fullmatch(name)
    if found is None or ".." in name:
        raise UsageError("is no name of a model", file=operand, remedy="give ollama:MODEL[:TAG]")
    host, namespace, model, tag = found[1] or HOST, found[2] or NAMESPACE, found[3], found[4] or TAG
    folder = store / "manifests" / host / namespace / model
    path = folder / tag
    if path.is_file():
        return path
    if not store.is_dir():
        remedy = "OLLAMA_MODELS names the store; ollama pull makes one"
        raise UsageError(f"there is no Ollama store {store}", file=operand, remedy=remedy)
    tags = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    has = f"it has the tags {', '.join(tags[:8])}" if tags else "ollama list names its models"
    raise UsageError(f"is not in the Ollama store {store}", file=operand, remedy=f"ollama pull it; {has}")


def _layers(manifest: Path) -> Sequence[tuple[str, str]]:
    """(media type, digest) of each layer."""
    try:
        text = manifest.read_bytes()[: _LARGEST + 1]
        held = json.loads(text) if len(text) <= _LARGEST else None
    except OSError as error:
        message = (error.strerror or str(error)).lower()
        raise UsageError(message, file=manifest, remedy="let its owner make it readable") from error
    except (ValueError, RecursionError) as error:
        message = f"is an Ollama manifest that is no JSON ({error})"
        raise DamagedFileError(message, file=manifest, remedy=_AGAIN) from error
    listed = held.get("layers") if isinstance(held, dict) else None
    if not isinstance(listed, list):
        raise DamagedFileError("is an Ollama manifest without layers", file=manifest, remedy=_AGAIN)
    found = []
    for number, layer in enumerate(listed):
        kind, digest = (
            (layer.get(key) for key in ("mediaType", "digest")) if isinstance(layer, dict) else (None, None)
        )
        if not isinstance(kind, str) or not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
            message = "has no media type and SHA-256 digest"
            raise DamagedFileError(message, file=manifest, where=f"layer {number}", remedy=_AGAIN)
        found.append((kind, digest))
    return found


def _blob(store: Path, manifest: Path, digest: str) -> Path:
    path = store / "blobs" / digest.replace(":", "-")
    if not path.is_file():
        message = f"the blob {path.name} is missing from the store"
        raise UsageError(message, file=manifest, remedy=_AGAIN)
    return path
