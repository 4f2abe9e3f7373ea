"""Files behind a web server: `https://host/model.gguf`, or the address of a folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from rosetta.errors import without_secrets
from rosetta.sources.hub import is_page
from rosetta.sources.remote_path import RemotePath


def names_place(operand: str) -> bool:
    """Whether it is an address of the web."""
    return operand.startswith(("http://", "https://")) and not is_page(operand)


def locate(operand: str) -> Path | None:
    """The file or folder at an address; None where the libraries that ask for it are not installed."""
    if not is_installed():
        return None
    from rosetta.sources.afar.store import Store
    from rosetta.sources.afar.web_files import WebFiles

    found = urlsplit(operand)
    folder, _, name = found.path.rstrip("/").rpartition("/")
    root, query = f"{found.scheme}://{found.netloc}{folder}", f"?{found.query}" if found.query else ""
    files = WebFiles(lambda inside: f"{root}/{inside}{query}")
    return RemotePath(Store(files, without_secrets(root)), name)


def is_installed() -> bool:
    """Whether what asks a web server is there."""
    return all(find_spec(name) is not None for name in ("fsspec", "aiohttp"))
