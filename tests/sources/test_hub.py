"""Models of the hub: by name out of a cache without any network, by `hf://` from a hub."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import rosetta
from fixtures import build
from fixtures.serving import Served, served
from rosetta.containers import open_container
from rosetta.errors import UsageError
from rosetta.sources import located

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client keeps what the environment said when it was first imported, by whichever test."""
    if importlib.util.find_spec("huggingface_hub") is not None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(tmp_path / "made", "llama", "hf:F16")


@pytest.fixture
def cache(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the hub's client fills it: files are links to blobs."""
    model = tmp_path / "home" / "hub" / "models--org--name"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    (model / "blobs").mkdir()
    for number, file in enumerate(folder.iterdir()):
        blob = model / "blobs" / str(number)
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return snapshot


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_name_is_read_from_the_cache_without_network(cache: Path, folder: Path, no_network: None) -> None:
    assert located("org/name") == cache
    report = rosetta.compare("org/name", folder)
    assert (report.verdict, report.left.operand, report.left.path) == ("match", "org/name", str(cache))


def test_the_cache_may_be_named_by_itself(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere"))
    assert located("org/name") == Path("org/name")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    assert located("org/name") == cache


def test_of_a_model_fetched_by_its_commit_the_only_snapshot_is_meant(cache: Path) -> None:
    (cache.parents[1] / "refs" / "main").unlink()
    assert located("org/name") == cache
    (cache.parent / "another").mkdir()
    assert located("org/name") == Path("org/name")


def test_what_the_cache_lacks_is_said_with_the_command_that_fetches_it(cache: Path, no_network: None) -> None:
    with pytest.raises(
        UsageError, match=r"looks like a model of the Hugging Face hub.*hf download org/other "
    ):
        open_container("org/other")


def test_a_file_that_is_not_in_a_folder_that_is_there_is_no_model_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^org/other\.apr: no such file or directory: check the path$"):
        open_container("org/other.apr")


def test_a_path_of_this_machine_is_meant_before_a_name(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert located("org/name") == Path("org/name")


def test_offline_the_cache_is_read_for_the_hub(
    cache: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert located(f"hf://org/name@{COMMIT}") == cache
    assert located("hf://org/name/config.json") == cache / "config.json"
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE forbids to ask the hub"):
        located("hf://org/name@other")


@pytest.fixture
def hub(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    pytest.importorskip("aiohttp", reason="the extra remote is not installed")
    pytest.importorskip("huggingface_hub", reason="the extra remote is not installed")
    root = tmp_path / "hub"
    shutil.copytree(folder, root / "org" / "name" / "resolve" / COMMIT)
    names = [{"rfilename": file.name} for file in folder.iterdir()]
    said = json.dumps({"id": "org/name", "modelId": "org/name", "sha": COMMIT, "siblings": names}).encode()
    replies = {f"/api/models/org/name/revision/{name}": said for name in ("main", "v1")}
    with served(root, replies=replies) as state:
        monkeypatch.setenv("HF_ENDPOINT", state.address)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield state


def test_a_revision_is_pinned_to_its_commit(hub: Served, folder: Path) -> None:
    report = rosetta.compare("hf://org/name@v1", folder)
    assert report.verdict == "match"
    assert report.left.path == "hf://org/name@v1"
    assert report.left.remote is not None
    assert report.left.remote.revision == COMMIT
    asked = [path for path, _ in hub.asked if not path.startswith("/api/")]
    assert asked
    assert all(f"/resolve/{COMMIT}/" in path for path in asked)


def test_the_token_is_sent_and_never_told(hub: Served, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = TOKEN
    with pytest.raises(UsageError, match=r"no such model, or shows it to others only.*HF_TOKEN"):
        open_container("hf://org/name")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    report = rosetta.compare("hf://org/name", folder)
    assert report.verdict == "match"
    assert TOKEN not in report.to_json()


def test_a_model_that_the_hub_has_not_is_one_sentence(hub: Served) -> None:
    with pytest.raises(UsageError, match="hub"):
        open_container("hf://org/missing")


def test_no_hub_is_one_sentence(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nothing listens
    with pytest.raises(UsageError, match=r"the hub cannot be asked.*check the network"):
        open_container("hf://org/name")


def test_another_runtime_takes_what_lies_here(hub: Served) -> None:
    with pytest.raises(UsageError, match=r"llamacpp takes what lies on this machine.*download it"):
        rosetta.compare("llamacpp:hf://org/name", "hf://org/name")
