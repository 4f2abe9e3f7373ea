"""`rosetta sweep`, with real children."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fixtures import build, faults
from fixtures.comparing import tiny
from rosetta.cli.sweep import given_bytes, option_names
from rosetta.errors import UsageError

Rosetta = Callable[..., Any]
MANIFEST = """
options: {assert-match: true, no-diagnose: true}
pairs:
  - {left: "apr/*.apr", right: right.gguf}
  - {left: absent.gguf, right: right.gguf, name: absent}
prompts: ["2+2="]
"""


@pytest.mark.timeout(300)
def test_a_sweep_goes_on_where_it_was(rosetta: Rosetta, tmp_path: Path) -> None:
    build(tmp_path, tiny("llama"), "gguf:F32", stem="right")
    build(tmp_path / "apr", tiny("llama"), "apr:F32", stem="good")
    bad = faults.transposed("blk.0.attn_k.weight")
    build(tmp_path / "apr", tiny("llama"), "apr:F32", bad, stem="bad")
    manifest, out = tmp_path / "m.yaml", tmp_path / "reports"
    manifest.write_text(MANIFEST)

    result = rosetta("sweep", manifest, "--out", out, "--json", tmp_path / "matrix.json")
    assert result.code == 1
    assert result.out.splitlines()[-1] == "3 comparisons: 1 match, 1 divergent, 1 error"
    assert "absent.gguf: no such file or directory: check the path" in result.out
    matrix = json.loads((tmp_path / "matrix.json").read_text())
    assert [cell["verdict"] for cell in matrix["cells"]] == ["divergent", "match", "error"]
    assert [cell["first"] for cell in matrix["cells"]] == ["layers.0.k", None, None]
    reports = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert len(reports) == 3

    again = rosetta("sweep", manifest, "--out", out, "--json", tmp_path / "again.json")
    assert (again.code, (tmp_path / "again.json").read_text()) == (1, (tmp_path / "matrix.json").read_text())
    changed = [path.name for path, time in reports.items() if path.stat().st_mtime_ns != time]
    assert [name.startswith("absent") for name in changed] == [True]  # an error is no answer

    pages, junit = tmp_path / "page" / "index.html", tmp_path / "junit.xml"
    pages.parent.mkdir()
    written = rosetta("sweep", manifest, "--out", out, "--collect", "--html", pages, "--junit", junit)
    assert (written.code, written.out) == (again.code, again.out)
    suite = ElementTree.parse(junit).getroot()
    assert [case.attrib["classname"] for case in suite.iter("testcase")] == [
        c["pair"] for c in matrix["cells"]
    ]
    assert [next(iter(case)).tag for case in suite.iter("testcase")] == ["failure", "system-out", "error"]
    text = pages.read_text()
    for cell in matrix["cells"]:
        assert f"{cell['id']}.html" in text
        assert "</html>" in next(pages.parent.rglob(f"{cell['id']}.html")).read_text()
    assert "ids []" not in text

    shard = rosetta("sweep", manifest, "--out", out, "--collect", "--shard", "2/3", "-q")
    assert (shard.code, shard.out) == (0, "1 comparison: 1 match\n")
    elsewhere = rosetta("sweep", manifest, "--out", tmp_path / "other", "--collect", "-q")
    assert (elsewhere.code, elsewhere.out) == (3, "3 comparisons: 3 missing\n")


def test_which_options_a_manifest_may_give() -> None:
    names = option_names()
    assert {"assert-match", "fail-on", "runtime-option", "left-device", "hash", "threshold"} <= names
    assert not {"prompt", "v", "q", "json", "left", "targets", "github"} & names
    assert all(re.fullmatch(r"[a-z-]+", name) for name in names)


@pytest.mark.parametrize("text", ["", "G", "0", "-1G", "8X", "1.5G", "9" * 20])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="--memory is a size"):
        given_bytes(text)
    assert given_bytes("512m") == 512 << 20


def test_where_results_cannot_go_is_said_before_anything_runs(rosetta: Rosetta, tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text(MANIFEST)
    for options, said in (
        (("--html", "-"), "--html of several reports is several files"),
        (("--junit", tmp_path / "none" / "j.xml"), "its folder does not exist"),
        (("--junit", tmp_path / "one", "--json", tmp_path / "one"), "two results cannot go to one place"),
    ):
        result = rosetta("sweep", manifest, "--out", tmp_path / "reports", *options)
        assert (result.code, said in result.err) == (2, True)
        assert not (tmp_path / "reports").exists()


@pytest.mark.timeout(120)
def test_children_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    """Else one that is started again at once runs their jobs a second time beside them."""
    manifest = tmp_path / "m.yaml"
    pytest.importorskip("aiohttp", reason="the remote extra is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(90)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/model.gguf"
        manifest.write_text(json.dumps({"pairs": [{"left": address, "right": f"{address}?again"}]}))
        command = [sys.executable, "-m", "rosetta", "sweep", str(manifest), "--out", str(tmp_path / "out")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sweep:
            child, _ = server.accept()  # it asks for the model, and would wait for the answer
            sweep.kill()
        with child:
            child.settimeout(10)  # half of the patience that it has with the server
            while child.recv(4096):
                pass  # what it asked; nothing, once its end of the connection is closed
