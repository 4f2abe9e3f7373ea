"""Models behind a web server: read as the local files are, by ranges, pinned, with a sentence for trouble."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

import rosetta
from fixtures import build, faults
from fixtures.serving import Served, served
from fixtures.spec import model_spec
from rosetta.containers import open_container
from rosetta.errors import DamagedFileError, RosettaError, UsageError
from rosetta.model import open_model
from rosetta.report.fingerprint import tensors_sha256
from rosetta.sources.afar import store

pytest.importorskip("aiohttp", reason="the extra remote is not installed")
pytest.importorskip("fsspec", reason="the extra remote is not installed")
from rosetta.sources.afar import web_files

SPEC = model_spec("llama", layers=3, vocab=5000)
BROKEN = "blk.0.attn_k.weight"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    for operand in ("gguf:F16", "apr:F16", "hf-sharded:F16"):
        build(folder, SPEC, operand)
    build(folder, SPEC, "gguf:F16", faults.scaled(BROKEN, 2.0), stem="broken")
    return folder


@pytest.fixture
def server(models: Path) -> Iterator[Served]:
    with served(models) as state:
        yield state


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short."""
    monkeypatch.setattr(web_files, "PAUSE", 0.01)
    monkeypatch.setattr(web_files, "SILENCE", 0.2)


@pytest.mark.parametrize("name", ["model.gguf", "model.apr", "hf-sharded"])
def test_every_tensor_is_what_the_local_file_holds(server: Served, models: Path, name: str) -> None:
    names = {path.name: path for path in models.iterdir()}
    local = names.get(name) or next(path for path in models.iterdir() if path.is_dir())
    far, here = open_container(f"{server.address}/{local.name}"), open_container(local)
    assert far.tensors == here.tensors
    assert far.file_bytes == here.file_bytes
    for tensor in here.tensors:
        assert (far.read(tensor) == here.read(tensor)).all(), tensor
    far.close()
    here.close()


def test_opening_fetches_the_header_alone(server: Served, models: Path) -> None:
    size = (models / "model.gguf").stat().st_size
    model = open_model(f"{server.address}/model.gguf")
    assert 0 < server.sent < size / 4
    assert model.container.file_bytes == size


def test_a_fault_in_the_first_layer_costs_that_layer(
    server: Served, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BLOCK", 1 << 12)
    report = rosetta.compare(
        f"{server.address}/broken.gguf", f"{server.address}/model.gguf", stop_at_first=True
    )
    assert [(found.kind, found.tensor) for found in report.findings] == [("value.scaled", BROKEN)]
    for side, name in ((report.left, "broken.gguf"), (report.right, "model.gguf")):
        assert side.remote is not None
        assert side.file_bytes == (models / name).stat().st_size
        assert side.remote.fetched_bytes < side.file_bytes / 5, "a layer, the header and a few rows"
        assert side.remote.versions == {name: '"one"'}
    assert report.left.remote.fetched_bytes + report.right.remote.fetched_bytes == server.sent  # type: ignore[union-attr]
    for tensor, share in (("token_embd.weight", 0.2), ("output.weight", 0.01), ("blk.1.ffn_up.weight", 0.2)):
        assert fetched(server, models / "model.gguf", tensor) < share, tensor


def fetched(server: Served, file: Path, tensor: str) -> float:
    """The part of a tensor that was sent."""
    container = open_container(file)
    (_, start), size = container.place(tensor), container.tensors[tensor].nbytes
    container.close()
    asked = set(server.ranges_of(f"/{file.name}"))
    return sum(max(0, min(last + 1, start + size) - max(first, start)) for first, last in asked) / size


def test_a_whole_comparison_fetches_each_byte_at_most_once(server: Served, models: Path) -> None:
    report = rosetta.compare(f"{server.address}/model.apr", f"{server.address}/model.gguf")
    assert report.verdict == "match"
    for side, name in ((report.left, "model.apr"), (report.right, "model.gguf")):
        assert side.sha256 is None
        assert side.tensors_sha256 == tensors_sha256(open_container(models / name))
    assert server.sent <= sum((models / name).stat().st_size for name in ("model.apr", "model.gguf"))
    assert len(server.asked) < 60, "ranges of a layer are fetched together"


def test_a_local_side_is_compared_with_one_far_away(server: Served, models: Path) -> None:
    report = rosetta.compare(models / "model.gguf", f"{server.address}/model.gguf")
    assert report.verdict == "match"
    assert report.left.remote is None
    assert report.right.remote is not None


def test_a_busy_server_is_asked_again(server: Served, hasty: None) -> None:
    server.busy = 2
    open_container(f"{server.address}/model.gguf").close()
    assert server.busy == 0


def test_a_server_may_say_when_to_come_again_by_seconds_and_by_date(
    server: Served, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_files, "LONGEST_PAUSE", 0.3)
    for said in ("7", formatdate(time.time() + 7, usegmt=True)):
        server.busy, server.retry_after = 1, said
        begun = time.monotonic()
        open_container(f"{server.address}/model.gguf").close()
        assert time.monotonic() - begun >= 0.3, said


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text/html; charset=utf-8", "the server answers with a web page, not with the file"),
        ("application/octet-stream", "is a web page, not "),
    ],
)
@pytest.mark.parametrize("name", ["model.gguf", "folder"])
def test_a_page_in_the_place_of_a_file_is_said_to_be_one(
    server: Served, kind: str, said: str, name: str
) -> None:
    """A site that wants one to log in answers 200; it was a config that is no JSON."""
    server.page = b"<!DOCTYPE html>\n<html><title>Sign in</title></html>", kind
    with pytest.raises(RosettaError, match=said):
        open_container(f"{server.address}/{name}")


def test_an_answer_that_breaks_off_is_asked_for_again_and_named(server: Served, hasty: None) -> None:
    server.breaks_off = True
    with pytest.raises(UsageError, match=r"tried 4 times: the server broke off in the midst of an answer"):
        open_container(f"{server.address}/model.gguf")
    assert len(server.asked) == web_files.TRIES


def test_a_server_that_stays_busy_is_named(server: Served, hasty: None) -> None:
    server.busy = 1000
    with pytest.raises(UsageError, match=r"tried 4 times: the server says 503"):
        open_container(f"{server.address}/model.gguf")
    assert len(server.asked) == web_files.TRIES


def test_a_silent_server_is_not_waited_for(server: Served, hasty: None) -> None:
    server.silent = True
    with pytest.raises(UsageError, match=r"said nothing for 0\.2 seconds"):
        open_container(f"{server.address}/model.gguf")


def test_a_file_that_changes_midway_is_an_error(server: Served, models: Path) -> None:
    container = open_container(f"{server.address}/model.gguf")
    server.changes_after = len(server.asked)
    last = list(container.tensors)[-1]
    with pytest.raises(DamagedFileError, match=r'has changed since it was opened: .*"one", now .*"another"'):
        container.read(last)


def test_a_server_without_ranges_is_told_to_send_none(server: Served, models: Path) -> None:
    server.knows_ranges = False
    with pytest.raises(UsageError, match=r"sends whole files only.*download it"):
        open_container(f"{server.address}/model.gguf")


def test_what_is_expected_and_already_here_is_not_asked_for(
    server: Served, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended in an internal error: of one file all that was expected was held, and another one was read."""
    monkeypatch.setattr(store, "BLOCK", 1 << 12)
    shards = sorted(models.rglob("*-of-*.safetensors"))
    one, other = (file.relative_to(models).as_posix() for file in shards[:2])
    files = web_files.WebFiles(lambda name: f"{server.address}/{name}")
    far = store.Store(files, server.address)
    far.expect([(one, (0, far.opened(one).size))])
    for name in (one, other):
        assert far.opened(name).whole() == (models / name).read_bytes()


def test_a_server_that_leads_from_place_to_place_is_named(server: Served) -> None:
    server.moved = True
    with pytest.raises(UsageError, match=r"leads to other addresses without end.*check the address"):
        open_container(f"{server.address}/model.gguf")


def test_no_server_at_all_is_one_sentence(server: Served, hasty: None) -> None:
    address = "http://127.0.0.1:9/model.gguf"  # discard: nothing listens
    with pytest.raises(
        UsageError, match=r"cannot be read, tried 4 times: .*check the address and the network"
    ):
        open_container(address)


def test_a_missing_file_is_one_sentence(server: Served) -> None:
    with pytest.raises(UsageError, match="is an address at which there is no model"):
        open_container(f"{server.address}/none.gguf")


def test_what_only_its_owner_may_know_is_never_told(server: Served, hasty: None) -> None:
    secret = server.address.replace("http://", "http://me:hunter2@") + "/{}?X-Amz-Signature=hunter3"
    report = rosetta.compare(secret.format("model.gguf"), secret.format("model.gguf"), stop_at_first=True)
    assert "hunter" not in report.to_json()
    assert report.left.operand == f"{server.address}/model.gguf"
    assert all("X-Amz-Signature=hunter3" in path for path, _ in server.asked), "and yet it is sent"
    server.busy = 1000
    with pytest.raises(UsageError) as caught:
        open_container(secret.format("model.gguf"))
    assert "hunter" not in str(caught.value)
    assert "hunter" not in str(caught.value.file)


def test_the_command_line_says_what_was_fetched(
    server: Served, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rosetta.cli import run

    target = tmp_path / "report.json"
    address = f"{server.address.replace('http://', 'http://me:hunter2@')}/model.gguf"
    monkeypatch.setattr("sys.argv", ["rosetta", address, address])
    assert run([address, address, "--json", str(target)]) == 0
    assert "Fetched of LEFT GGUF" in capsys.readouterr().out
    written = json.loads(target.read_text())
    assert written["left"]["remote"]["requests"] > 0
    assert "hunter2" not in target.read_text()
