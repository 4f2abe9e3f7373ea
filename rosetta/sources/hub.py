"""Models of the Hugging Face hub: `org/name` out of this machine's cache, `hf://org/name@revision` from the hub itself.

The cache is looked into without any network; the hub is asked by whoever writes `hf://`, or gives the address of a page
of it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rosetta.errors import RosettaError, UsageError
from rosetta.sources.remote_path import RemotePath

HF = "hf://"
DEFAULT_REVISION = "main"
SECONDS = 20.0  # that the hub may take to say what a model has
_NAME = r"[A-Za-z0-9][\w.-]*"
_ID = re.compile(rf"{_NAME}/{_NAME}")
_OPERAND = re.compile(rf"hf://({_NAME}(?:/{_NAME})?)(?:@([^@\s]+?))?(?:/([^@\s]*))?")
_PAGE = re.compile(
    rf"https?://(?:www\.)?huggingface\.co/({_NAME}/{_NAME})(?:/(?:tree|resolve|blob)/([^/?#]+)(?:/([^?#]*))?)?/?(?:[?#].*)?"
)
_NO_MODELS = ("datasets", "spaces", "docs", "api")


@dataclass(frozen=True)
class _Asked:
    """A model, its revision, and a file of it or all."""

    model: str
    revision: str
    file: str


def names_place(operand: str) -> bool:
    """Whether it may be a model of the hub."""
    return operand.startswith(HF) or is_page(operand) or _ID.fullmatch(operand) is not None


def is_page(operand: str) -> bool:
    """Whether it is the address of a model, or of a file of one, on the hub's own site."""
    found = _PAGE.fullmatch(operand)
    return found is not None and found[1].partition("/")[0] not in _NO_MODELS


def locate(operand: str) -> Path | None:
    """The folder or file: in the cache by a plain name, on the hub by `hf://` or an address; None where a plain name is
    not in the cache, or an address cannot be read for want of a library.

    Raises:
        UsageError: the hub cannot be reached or has no such model, or `hf://` lacks what asks it.
    """
    if _ID.fullmatch(operand):
        return _cached(_Asked(operand, DEFAULT_REVISION, ""))
    found = _OPERAND.fullmatch(operand) or _PAGE.fullmatch(operand)
    if found is None:
        raise UsageError(
            "is no model of the hub", file=operand, remedy="give hf://ORG/NAME[@REVISION][/FILE]"
        )
    if is_page(operand) and not is_installed():
        return None
    asked = _Asked(found[1], found[2] or DEFAULT_REVISION, (found[3] or "").rstrip("/"))
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        cached = _cached(asked)
        if cached is None:
            message = "is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub"
            raise UsageError(message, file=operand, remedy="unset it, or download the model")
        return cached
    if not is_installed():
        raise UsageError(
            "is read with fsspec, aiohttp and huggingface_hub, which are not all installed",
            file=operand,
            remedy="pip install 'rosetta-trace[remote]'",
        )
    return _on_the_hub(asked, operand)


def is_installed() -> bool:
    """Whether what asks the hub is there."""
    return all(find_spec(name) is not None for name in ("fsspec", "aiohttp", "huggingface_hub"))


def _cached(asked: _Asked) -> Path | None:
    """The snapshot of a model in the hub's cache; None where there is none."""
    folder = _cache() / f"models--{asked.model.replace('/', '--')}"
    reference = folder / "refs" / asked.revision
    try:
        revision = reference.read_text(errors="replace").strip() if reference.is_file() else asked.revision
    except OSError:
        return None
    snapshots = folder / "snapshots"
    snapshot = snapshots / revision
    if not snapshot.is_dir() and asked.revision == DEFAULT_REVISION and snapshots.is_dir():
        # One that was fetched by its commit has no reference; of several none is meant.
        held = [path for path in snapshots.iterdir() if path.is_dir()]
        snapshot = held[0] if len(held) == 1 else snapshot
    path = snapshot / asked.file
    return path if path.exists() else None


def _cache() -> Path:
    """Where the hub's client keeps what it fetched (huggingface_hub, constants.py)."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    return Path(home).expanduser() / "hub"


def _on_the_hub(asked: _Asked, operand: str) -> Path:
    from huggingface_hub import hf_hub_url

    from rosetta.sources.afar.store import Store
    from rosetta.sources.afar.web_files import WebFiles

    token = os.environ.get("HF_TOKEN") or None
    found = _model(asked, operand, token)
    endpoint, revision = os.environ.get("HF_ENDPOINT") or None, str(found.sha)
    files = WebFiles(
        lambda inside: str(hf_hub_url(asked.model, inside, revision=revision, endpoint=endpoint)),
        {"Authorization": f"Bearer {token}"} if token else {},
        listed=[file.rfilename for file in found.siblings or ()],
        revision=revision,
    )
    store = Store(files, f"{HF}{asked.model}@{asked.revision}", revision)
    return RemotePath(store, asked.file)


def _model(asked: _Asked, operand: str, token: str | None) -> Any:
    """What the hub says of a model at a revision: its commit and its files."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token or False)
    try:
        return api.model_info(asked.model, revision=asked.revision, timeout=SECONDS)
    except GatedRepoError as error:
        message, remedy = "is gated", "accept its terms on the hub, and give HF_TOKEN"
        raise UsageError(message, file=operand, remedy=remedy) from error
    except RevisionNotFoundError as error:
        message = f"has no revision {asked.revision!r:.80}"
        raise UsageError(message, file=operand, remedy="give a branch, a tag or a commit") from error
    except RosettaError:
        raise
    except Exception as error:  # its client's own, and those of the library beneath it
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
            message = "the hub has no such model, or shows it to others only"
            raise UsageError(message, file=operand, remedy="check the name, or give HF_TOKEN") from error
        raise UsageError(
            f"the hub cannot be asked: {str(error).splitlines()[0] if str(error) else type(error).__name__:.200}",
            file=operand,
            remedy="check the network; what the cache has is read by its plain name",
        ) from error
