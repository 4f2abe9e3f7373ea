"""llama.cpp observed: its stages are those that the shared transformer computes, and its crashes are values."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import build, faults, model_spec
from fixtures.builders import gguf_contents
from fixtures.observing import IDS, NOISE, largest_difference, our_stages
from fixtures.writing import write
from rosetta.errors import UsageError
from rosetta.model import open_model
from rosetta.runtimes.llamacpp import LlamaCppCapture, process

pytestmark = pytest.mark.requires_llamacpp
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_stage_is_captured_and_is_ours_given_the_same_inputs(tmp_path: Path, architecture: str) -> None:
    path = build(tmp_path, architecture, "gguf:F32")
    ours = our_stages(path)
    run = LlamaCppCapture(path, IDS, overwrite=ours)
    theirs = dict(run)
    assert run.facts.failure is None, run.facts.failure
    assert list(theirs) == list(ours), run.facts.skipped
    for stage, value in theirs.items():
        assert value.shape == ours[stage].shape, stage
        if architecture == "gpt2" and stage.endswith("ffn_act"):
            continue  # GELU is read from a table of F16 values: the next test
        assert largest_difference(value, ours[stage]) < NOISE, stage


def test_gelu_is_a_table_of_halves_and_nothing_else_of_gpt2_differs(tmp_path: Path) -> None:
    path = build(tmp_path, "gpt2", "gguf:F32")
    ours = our_stages(path)
    theirs = dict(LlamaCppCapture(path, IDS, overwrite=ours))
    act = theirs["layers.0.ffn_act"]
    half = np.finfo(np.float16)
    up = ours["layers.0.ffn_up"].astype(np.float16).astype(np.float32)
    table = (0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))).astype(np.float16)
    assert np.abs(act - table.astype(np.float32)).max() <= 2 * half.eps * max(1, np.abs(act).max())
    assert largest_difference(act, ours["layers.0.ffn_act"]) > 1e-4


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_propagated_values_and_logits_are_ours_too(tmp_path: Path, architecture: str) -> None:
    path = build(tmp_path, architecture, "gguf:F32")
    ours, theirs = our_stages(path), dict(LlamaCppCapture(path, IDS))
    worst = {stage: largest_difference(theirs[stage], ours[stage]) for stage in ours}
    assert max(worst.values()) < 10 * NOISE, worst


def test_rope_order_is_the_files(tmp_path: Path) -> None:
    for architecture, order in (("llama", "interleaved"), ("qwen2", "split_half"), ("gpt2", None)):
        run = LlamaCppCapture(build(tmp_path, architecture, "gguf:F32"), IDS)
        dict(run)
        assert run.facts.rope == order, architecture


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_short_prompts_have_all_stages(tmp_path: Path, tokens: int) -> None:
    path = build(tmp_path, "qwen2", "gguf:F32")
    ours, theirs = our_stages(path, IDS[:tokens]), dict(LlamaCppCapture(path, IDS[:tokens]))
    assert list(theirs) == list(ours)
    assert all(largest_difference(theirs[s], ours[s]) < 10 * NOISE for s in ours)


def test_an_overwritten_stage_is_what_everything_after_it_sees(tmp_path: Path) -> None:
    path = build(tmp_path, "qwen2", "gguf:F32")
    clean = dict(LlamaCppCapture(path, IDS))
    noise = np.random.default_rng(0).standard_normal(clean["layers.1.attn_norm"].shape).astype(np.float32)
    given = dict(LlamaCppCapture(path, IDS, overwrite={"layers.1.attn_norm": noise}))
    weights = open_model(path).weights
    matrix, bias = (weights[f"blk.1.attn_q.{part}"].values().numpy() for part in ("weight", "bias"))
    expected = noise @ matrix.T + bias
    assert largest_difference(given["layers.1.q"].reshape(expected.shape), expected) < NOISE
    assert np.array_equal(given["layers.1.attn_norm"], clean["layers.1.attn_norm"])  # what was computed
    assert np.array_equal(given["layers.0.residual"], clean["layers.0.residual"])
    assert not np.allclose(given["logits"], clean["logits"])


def test_writing_back_what_was_computed_changes_no_bit(tmp_path: Path) -> None:
    path = build(tmp_path, "llama", "gguf:Q4_K_M")
    clean = dict(LlamaCppCapture(path, IDS))
    again = dict(LlamaCppCapture(path, IDS, overwrite=clean))
    assert clean.keys() == again.keys()
    assert all(np.array_equal(clean[stage], again[stage]) for stage in clean)


def test_options_are_in_force(tmp_path: Path) -> None:
    path = build(tmp_path, "qwen2", "gguf:F32")
    plain = dict(LlamaCppCapture(path, IDS))
    half = LlamaCppCapture(path, IDS, {"kv": "f16"})
    halved = dict(half)
    assert half.facts.options["kv"] == "f16"
    assert largest_difference(halved["layers.0.attn_scores"], plain["layers.0.attn_scores"]) > 1e-5
    assert np.array_equal(halved["layers.0.q_rope"], plain["layers.0.q_rope"])
    flash = LlamaCppCapture(path, IDS, {"flash_attn": "on"})
    stages = dict(flash)
    assert plain.keys() - stages.keys() == {"layers.0.attn_scores", "layers.1.attn_scores"}
    assert "flash attention" in flash.facts.skipped["layers.0.attn_scores"]
    assert 0 < largest_difference(stages["logits"], plain["logits"]) < 0.1


@pytest.mark.parametrize(
    ("options", "message"), [({"kvs": "f16"}, "kvs"), ({"kv": "f15"}, "f15"), ({"threads": "x"}, "x")]
)
def test_an_unknown_option_is_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LlamaCppCapture(tmp_path / "any.gguf", IDS, options)


def test_a_file_on_which_llama_cpp_aborts_is_a_value(tmp_path: Path) -> None:
    contents = gguf_contents(model_spec("qwen2"))
    metadata = {key.replace("qwen2.", "qwen2vl."): value for key, value in contents.metadata.items()}
    metadata |= {"general.architecture": "qwen2vl", "qwen2vl.rope.dimension_sections": [64, 64, 64, 0]}
    path = tmp_path / "wide.gguf"
    write(replace(contents, metadata=metadata), path)
    run = LlamaCppCapture(path, IDS)
    assert dict(run) == {}
    failure = run.facts.failure
    assert failure is not None
    assert failure.kind == "crash"
    assert "SIGABRT" in failure.message
    assert "GGML_ASSERT(sect_dims" in failure.message
    assert "GGML_ASSERT(sect_dims" in failure.printed


def test_a_file_that_llama_cpp_refuses_is_a_value(tmp_path: Path) -> None:
    path = build(tmp_path, "llama", "gguf:F32", faults.dropped("blk.1.attn_k.weight"))
    run = LlamaCppCapture(path, IDS)
    assert dict(run) == {}
    assert run.facts.failure is not None
    assert run.facts.failure.kind == "load"
    assert "blk.1.attn_k.weight" in run.facts.failure.message


def test_a_file_that_is_refused_for_its_name_says_so(tmp_path: Path) -> None:
    contents = gguf_contents(model_spec("llama"))
    path = tmp_path / "model.gguf"
    write(replace(contents, metadata=dict(contents.metadata) | {"general.name": "tiny Phi-3"}), path)
    run = LlamaCppCapture(path, IDS)
    assert dict(run) == {}
    assert run.facts.failure is not None
    assert "its general.name is 'tiny Phi-3'" in run.facts.failure.message
    assert "<|endoftext|>" in run.facts.failure.message


def test_a_run_that_fails_is_a_value(tmp_path: Path) -> None:
    run = LlamaCppCapture(build(tmp_path, "llama", "gguf:F32"), [1, 2, 99999])
    assert dict(run) == {}
    assert run.facts.failure is not None
    assert run.facts.failure.kind == "run"


def test_the_child_ends_when_nobody_asks_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)
    stages = iter(LlamaCppCapture(build(tmp_path, "llama", "gguf:F32"), IDS))
    name, _ = next(stages)
    assert name == "embedding"
    (child,) = started
    assert child.returncode is None
    stages.close()  # type: ignore[attr-defined]
    assert child.returncode is not None
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdin.closed
    assert child.stdout.closed


ENDLESS = "import os, sys, time\nos.write(2, b'x' * (1 << 20) + b'the last words')\ntime.sleep(60)\n"


def test_a_file_on_which_it_hangs_is_a_failure_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it prints before."""
    (tmp_path / "endless.py").write_text(ENDLESS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(process, "PATIENCE", 0.5)
    with process.Process("endless", tmp_path / "model.gguf") as child:
        assert child.receive() is None
        failure = child.crashed()
    assert failure.kind == "crash"
    assert "said nothing" in failure.message
    assert failure.printed.endswith("the last words")
    assert len(failure.printed) <= process.TAIL


@pytest.mark.sweep
@pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="holds another process's pipe by Linux's /proc"
)
def test_what_llama_cpp_computes_ends_with_whoever_asked(tmp_path: Path) -> None:
    """Killed itself, it can end nothing."""
    asking = (
        "import subprocess, sys, time\n"
        "own = subprocess.Popen([sys.executable, '-m', 'rosetta.runtimes.llamacpp.child'], stdin=subprocess.PIPE)\n"
        "print(own.pid, flush=True)\ntime.sleep(60)\n"
    )
    # Somebody else holds the pipe, so that its end says nothing.
    asker = subprocess.Popen([sys.executable, "-c", asking], stdout=subprocess.PIPE, text=True)
    assert asker.stdout is not None
    pid = int(asker.stdout.readline())
    keep = os.open(f"/proc/{pid}/fd/0", os.O_WRONLY)
    time.sleep(1.0)
    asker.kill()
    asker.communicate()
    for _ in range(100):
        if not _runs(pid):
            break
        time.sleep(0.1)
    os.close(keep)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_facts_of_the_run(tmp_path: Path) -> None:
    run = LlamaCppCapture(build(tmp_path, "llama", "gguf:F32"), IDS)
    dict(run)
    assert run.facts.architecture == "llama"
    assert run.facts.version
    assert run.facts.config["n_layer"] == 2
    assert run.facts.config["llama.embedding_length"] == "256"


def test_without_the_extra_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "llama_cpp" else found(name)
    )
    with pytest.raises(UsageError, match=r"pip install 'rosetta-trace\[llamacpp\]'"):
        LlamaCppCapture(tmp_path / "any.gguf", IDS)
