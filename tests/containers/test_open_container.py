"""A model is recognised by its content; whatever is none is refused in one sentence that says what to do."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fixtures.raw_apr import RawTensor, raw_apr
from fixtures.raw_gguf import raw_gguf
from rosetta.containers import open_container
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError, UsageError

SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize("name", ["model.gguf", "model.apr", "model.txt", "model"])
def test_the_name_does_not_matter(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(raw_apr({"architecture": "llama"}))
    assert open_container(path).kind == "apr"
    path.write_bytes(raw_gguf([("general.architecture", 8, "llama")]))
    assert open_container(str(path)).kind == "gguf"


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", DamagedFileError, "empty"),
        (b"Once upon a time, there was a model.\n", UnsupportedError, "a text"),
        ("ein süßes Modell " * 9, UnsupportedError, "a text"),
        (b"\x00\x01\x02\x03garbage\xff", UnsupportedError, "00 01 02 03"),
        (b"\x80\x04\x95pickle", UnsupportedError, "pickle"),
        (b"PK\x03\x04archive", UnsupportedError, "ZIP"),
        (b"lmgg" + bytes(60), UnsupportedError, "before GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n", DamagedFileError, "git lfs pull"),
        (SAFETENSORS, UsageError, "give the folder"),
        (b"GGUF", DamagedFileError, "truncated"),
        (b"APR\0", DamagedFileError, "truncated"),
        (b"APR", UnsupportedError, "a text"),
    ],
)
def test_what_is_no_model_is_refused_by_name(
    tmp_path: Path, data: bytes | str, error: type[RosettaError], says: str
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(error, match=says) as caught:
        open_container(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_safetensors_under_the_name_of_a_gguf_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(SAFETENSORS)
    with pytest.raises(UsageError, match=r"holds safetensors although its name says \.gguf|name says \.gguf"):
        open_container(path)


def test_a_config_alone_leads_to_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "llama"}')
    with pytest.raises(UsageError, match="give the folder"):
        open_container(path)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["m.gguf"], "one model file.*m.gguf"),
        (["m.apr", "readme.md"], "one model file.*m.apr"),
        (["a.gguf", "b.apr"], "2 model files"),
        ([], "without config.json"),
    ],
)
def test_a_folder_that_is_no_hugging_face_folder_says_what_to_give(
    tmp_path: Path, names: list[str], says: str
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=says):
        open_container(tmp_path)


def test_what_is_not_there_or_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_container(tmp_path / "model.gguf")
    with pytest.raises(UsageError, match="too long"):
        open_container(tmp_path / ("x" * 5000))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="regular file"):
        open_container(tmp_path / "pipe")


def test_threads_read_side_by_side_and_nothing_stays_mapped(tmp_path: Path) -> None:
    """Mapped pages would count as memory; positions shared by threads would mix their bytes up."""
    tensors = [RawTensor(f"t{n:02}", 0, (5000,), np.full(5000, n, np.float32).tobytes()) for n in range(16)]
    (tmp_path / "model").write_bytes(raw_apr({}, tensors))
    container = open_container(tmp_path / "model")
    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(container.read, [f"t{n % 16:02}" for n in range(200)]))
    for n, array in enumerate(arrays):
        assert set(array.view(np.float32).tolist()) == {n % 16}
    if Path("/proc/self/maps").exists():
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_a_container_is_added_by_adding_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the new file knows of it."""
    import rosetta.containers as package

    (tmp_path / "zzz.py").write_text(
        "def recognises(path, head):\n    return head.startswith(b'ZZZ!')\n\n"
        "def open(path):\n    return 'a new container'\n"
    )
    model = tmp_path / "model"
    model.write_bytes(b"ZZZ!")
    with pytest.raises(UnsupportedError):
        open_container(model)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    package._openers.cache_clear()
    try:
        assert open_container(model) == "a new container"
    finally:
        package._openers.cache_clear()
        sys.modules.pop("rosetta.containers.zzz", None)
