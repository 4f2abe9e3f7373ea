"""Models in buckets, of a server of Amazon's protocol on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import rosetta
from fixtures import build, faults
from fixtures.spec import model_spec
from rosetta.containers import open_container
from rosetta.errors import DamagedFileError, UsageError

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
pytest.importorskip("s3fs", reason="the extra remote is not installed")
moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")

SPEC = model_spec("llama", layers=3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bucket")
    build(folder, SPEC, "gguf:F16")
    build(folder, SPEC, "gguf:F16", faults.scaled("blk.0.attn_k.weight", 2.0), stem="broken")
    build(folder / "hf", SPEC, "hf:F16")
    return folder


@pytest.fixture(scope="module")
def bucket(models: Path) -> Iterator[Any]:
    """A bucket with the models in it, as a client of it."""
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        for file in models.rglob("*"):
            if file.is_file():
                client.upload_file(str(file), "models", f"all/{file.relative_to(models)}")
        yield client
    server.stop()


def test_a_file_and_a_folder_are_read_from_a_bucket(bucket: Any, models: Path) -> None:
    folder = next(path for path in (models / "hf").rglob("config.json")).parent.relative_to(models)
    for name in ("model.gguf", str(folder)):
        report = rosetta.compare(f"s3://models/all/{name}", models / name)
        assert (report.verdict, report.weights.differing) == ("match", 0)
        assert report.left.remote is not None
        assert report.left.remote.fetched_bytes > report.left.file_bytes / 2
        assert report.left.remote.versions
        assert "hunter2" not in report.to_json()


def test_a_fault_in_the_first_layer_costs_that_layer(bucket: Any) -> None:
    report = rosetta.compare("s3://models/all/broken.gguf", "s3://models/all/model.gguf", stop_at_first=True)
    assert [found.kind for found in report.findings] == ["value.scaled"]
    assert report.left.remote is not None
    assert report.left.remote.fetched_bytes < 0.75 * report.left.file_bytes


def test_an_object_that_is_replaced_midway_is_an_error(bucket: Any, models: Path) -> None:
    bucket.upload_file(str(models / "model.gguf"), "models", "changing.gguf")
    container = open_container("s3://models/changing.gguf")
    bucket.upload_file(str(models / "broken.gguf"), "models", "changing.gguf")
    with pytest.raises(DamagedFileError, match="has changed since it was opened"):
        container.read(list(container.tensors)[-1])


def test_a_missing_object_is_one_sentence(bucket: Any) -> None:
    with pytest.raises(UsageError, match=r"s3://models/none\.gguf: is an address at which there is no model"):
        open_container("s3://models/none.gguf")


def test_a_bucket_must_be_named() -> None:
    with pytest.raises(UsageError, match="names no bucket"):
        open_container("s3://")


REFUSALS = {
    "ExpiredToken": (400, "", "may not be read: said: give credentials that may"),
    "AccessDenied": (403, "", "may not be read: said: give credentials that may"),
    "AuthorizationHeaderMalformed": (
        400,
        "<Region>eu-west-1</Region>",
        "said: name the region of the bucket, eu-west-1, in AWS_DEFAULT_REGION",
    ),
    "PermanentRedirect": (
        301,
        "",
        "said: name the region of the bucket, eu-central-1, in AWS_DEFAULT_REGION",
    ),
    "SlowDown": (503, "", "cannot be read: said: run it again later"),
}


@pytest.mark.parametrize(("code", "answer"), REFUSALS.items(), ids=REFUSALS)
def test_what_a_bucket_refuses_is_one_sentence_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, code: str, answer: tuple[int, str, str]
) -> None:
    status, more, said = answer
    body = f"<Error><Code>{code}</Code><Message>said.</Message>{more}</Error>".encode()

    class Refuses(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

        def do_HEAD(self) -> None:
            self.send_response(status)
            if status == 301:
                self.send_header("x-amz-bucket-region", "eu-central-1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if self.command == "GET" else b"")

        do_GET = do_HEAD

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(UsageError) as caught:
            open_container("s3://models/a.gguf")
        server.shutdown()
    assert said in str(caught.value)


def test_of_a_bucket_that_cannot_be_reached_one_sentence_is_said(models: Path) -> None:
    """gcsfs logs a traceback each time it tries."""
    pytest.importorskip("gcsfs", reason="the extra remote is not installed")
    command = [sys.executable, "-m", "rosetta", "gs://models/model.gguf", str(models / "model.gguf"), "-q"]
    nowhere = {**os.environ, "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}
    done = subprocess.run(command, env=nowhere, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rosetta: gs://models/model.gguf: ")
    assert done.stderr.count("\n") == 1
