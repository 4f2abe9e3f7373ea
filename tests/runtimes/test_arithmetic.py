"""What a runtime rounds as it is meant to is drift and no fault: imitated, it leaves float32's noise."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fixtures import build, faults, model_spec, pair
from fixtures.architectures import build_tiny
from fixtures.canonical_gguf import write_canonical
from fixtures.contents import FileContents
from rosetta.cli import run as run_command
from rosetta.containers.container import TensorInput
from rosetta.model import open_model
from rosetta.ops.altup import SparseActivation
from rosetta.ops.pointwise import Activation, LayerGate
from rosetta.runtimes.arithmetic import Imitation, input_rounding
from rosetta.runtimes.llamacpp.arithmetic import _strays_of_sums, _tabled, q8_0, q8_k
from rosetta.runtimes.trace import open_recording, write_trace
from tests.conftest import Compare


def test_q8_0_is_gguf_pys_own() -> None:
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    raw = gguf.quantize(x.numpy(), gguf.GGMLQuantizationType.Q8_0)
    theirs = gguf.dequantize(raw, gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(q8_0(x).numpy(), theirs)
    assert np.array_equal(q8_0(torch.zeros(1, 32)).numpy(), np.zeros((1, 32), np.float32))


def test_q8_k_steps_are_of_the_value_that_is_largest_in_size() -> None:
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    x[0, 7], x[1, 7] = 9.0, -9.0
    quantised = q8_k(x)
    step = x.abs().amax(-1, keepdim=True) / 127
    assert ((quantised - x).abs() <= step * 0.5000001).all()
    steps = quantised / step
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert quantised[0, 7] == pytest.approx(9.0)
    assert quantised[1, 7] == pytest.approx(-9.0)


class Traits(ctypes.Structure):
    """ggml-cpu.h, ggml_type_traits_cpu."""

    _fields_ = (("from_float", ctypes.c_void_p), ("vec_dot", ctypes.c_void_p))


def product_of_llamacpp(dtype: gguf.GGMLQuantizationType, weights: np.ndarray, x: np.ndarray) -> float:
    """The product of a row of a dtype and activations, by ggml's own functions.

    Args:
        weights: bytes of the row.
        x: float32, which it quantises to Q8_1.
    """
    import llama_cpp

    file = min((Path(llama_cpp.__file__).parent / "lib").glob("*ggml-cpu*"))
    library = ctypes.CDLL(str(file))
    library.ggml_cpu_init()
    traits = library.ggml_get_type_traits_cpu
    traits.argtypes, traits.restype = [ctypes.c_int], ctypes.POINTER(Traits)
    own, other = (traits(int(one)).contents for one in (dtype, gguf.GGMLQuantizationType.Q8_1))
    where, count = ctypes.c_void_p, ctypes.c_int64
    quantise = ctypes.CFUNCTYPE(None, where, where, count)(other.from_float)
    size = ctypes.c_size_t
    multiply = ctypes.CFUNCTYPE(None, ctypes.c_int, where, size, where, size, where, size, ctypes.c_int)(
        own.vec_dot
    )
    quantised, result = np.zeros(x.size // 32 * 36, np.uint8), np.zeros(1, np.float32)
    quantise(x.ctypes.data, quantised.ctypes.data, x.size)
    multiply(x.size, result.ctypes.data, 0, weights.ctypes.data, 0, quantised.ctypes.data, 0, 1)
    return float(result[0])


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("name", ["Q4_1", "Q5_1"])
def test_sums_of_activations_stray_no_further_than_is_said(name: str) -> None:
    """The sum that a minimum is multiplied by is rounded to F16: of a block that one value rules, by much."""
    dtype, draw, beyond = gguf.GGMLQuantizationType[name], np.random.default_rng(0), 0
    for largest in (1, 10, 1000) * 100:
        x, weights = draw.standard_normal((2, 32)).astype(np.float32)
        x[0] *= largest
        packed = gguf.quantize(weights[None], dtype)
        row = torch.from_numpy(gguf.dequantize(packed, dtype)[0]).double()
        given = torch.from_numpy(x)[None]
        gap = abs(product_of_llamacpp(dtype, packed, x) - float(row @ q8_0(given)[0].double()))
        floor = 32 * 2.0**-24 * float(row.abs() @ given[0].double().abs())
        [stray] = _strays_of_sums([given])
        assert gap <= float((row.square() @ stray[0].double().square()).sqrt()) + floor
        beyond += gap > 4 * floor
    assert beyond > 100


ON_CPU = {"runtime_options": {"gpu_layers": "0"}}


@pytest.mark.parametrize(("dtype", "quantised"), [("Q4_0", q8_0), ("Q4_K", q8_k)])
def test_no_activations_lose_more_than_is_said(
    dtype: str, quantised: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """The more a block is one value alone, the more."""
    most = input_rounding("llamacpp", dtype, ON_CPU)
    assert most is not None
    draw, lost = torch.Generator().manual_seed(0), []
    for largest in (1.0, 10.0, 100.0, 1000.0):
        x = torch.randn(400, 256, generator=draw)
        x[:, ::32] *= largest
        if dtype == "Q4_K":
            x[:, 32::32] /= largest
        lost.append(float((quantised(x) - x).norm() / x.norm()))
    assert max(lost) < most
    assert max(lost) > 0.8 * most


@pytest.mark.parametrize("dtype", ["Q6_K", "Q8_0", "F16", "BF16"])
def test_finer_weights_explain_as_much_themselves(dtype: str) -> None:
    assert input_rounding("llamacpp", dtype, ON_CPU) is None


def test_what_multiplies_in_float32_rounds_nothing_and_what_is_not_known_is_not_said() -> None:
    assert input_rounding("llamacpp", "F32", ON_CPU) == 0
    assert input_rounding("transformers", "BF16", {"runtime_options": {"dtype": "float32"}}) == 0
    assert input_rounding("transformers", "BF16", {"runtime_options": {"dtype": "bfloat16"}}) is None
    in_float = {"runtime_options": {"dtype": "float32"}}
    assert input_rounding("transformers", "Q4_K", {"container": "gguf", **in_float}) == 0
    assert input_rounding("transformers", "MXFP4", {"container": "huggingface", **in_float}) is None
    assert input_rounding("llamacpp", "Q4_K", {"runtime_options": {"gpu_layers": "99"}}) is None
    assert input_rounding("somebody's", "Q4_K", {}) is None


def test_an_entry_of_the_table_between_two_halves_may_be_either() -> None:
    op = Activation()
    below, above = (_tabled(op, {}, below=way) for way in (True, False))
    way = Imitation("any", below, above)
    x = torch.linspace(-3, 3, 20001).half().float()
    low, high = below(fail, [x]), above(fail, [x])
    either = low != high
    assert 0 < either.sum() < 0.2 * len(x)
    assert torch.equal(way.nearest(high, fail, [x]), high)
    assert torch.equal(way.nearest(low, fail, [x]), low)
    seen = high + high.abs() * 2.0**-10  # a half further on
    assert torch.equal(way.nearest(seen, fail, [x]), torch.maximum(low, high))
    exact = F.gelu(x.double(), approximate="tanh")
    assert ((low.double() - exact).abs() <= exact.abs() * 2.0**-11 + 3 * x.abs() * 2.0**-24 + 2.0**-24).all()


def test_the_table_is_of_the_gate_alone() -> None:
    gate, embeddings = torch.randn(3, 4), torch.randn(3, 2, 4)
    table = _tabled(Activation(), {}, below=True)(fail, [gate])
    assert torch.equal(
        _tabled(LayerGate(layer=1), {}, below=True)(fail, [gate, embeddings]), table * embeddings[:, 1]
    )


def test_the_table_behind_a_cutoff_is_read_at_what_is_left() -> None:
    draw = torch.Generator().manual_seed(2)
    gate, up = (torch.randn(3, 64, generator=draw) for _ in range(2))
    settings = {"activation_sparsity_scale": 0.5, "activation_sparsity_of_sample": True}
    left = (gate - gate.mean(-1, keepdim=True) - 0.5 * gate.std(-1, keepdim=True)).relu()
    table = F.gelu(left.half().double(), approximate="tanh").half().float() * up
    below, above = (
        _tabled(SparseActivation(), settings, below=way)(fail, [gate, up]) for way in (True, False)
    )
    assert bool(((table - below) * (table - above) <= 0).all())
    assert float((above - below).abs().max()) < 1e-3


def fail(_: object) -> torch.Tensor:
    """How we compute the stage, which a table is not asked."""
    raise AssertionError


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize(
    ("architecture", "left", "right", "options", "words", "stages"),
    [
        ("gpt2", "gguf:F32", "gguf:F32", (), "GELU read from a table of halves", {"ffn_act"}),
        ("llama", "gguf:F32", "gguf:F32", ("kv=f16",), "keys and values kept in F16", {"attn_scores", "attn_context"}),
        ("qwen2", "hf:F32", "gguf:Q8_0", (), "multiplied by Q8_0 weights quantised to Q8_0", {"ffn_out"}),
    ],
    ids=["gelu", "kv", "activations"],
)  # fmt: skip
def test_arithmetic_over_the_threshold_is_drift_and_named(
    tmp_path: Path,
    compare: Compare,
    architecture: str,
    left: str,
    right: str,
    options: tuple[str, ...],
    words: str,
    stages: set[str],
) -> None:
    a, b = pair(tmp_path, architecture, left, right)
    given = [part for option in options for part in ("--runtime-option", option)]
    run = compare(a, f"llamacpp:{b}", "--tokens", "5,17,9,33,101,7,250", "--assert-match", *given)
    assert run.exit_code == 0, run.stdout
    assert run.report["verdict"] == "drift"
    found = run.report["findings"]
    assert found
    assert {(f["kind"], f["side"], f["status"], f["latent"]) for f in found} == {
        ("runtime.precision", "right", "confirmed", False)
    }
    assert all(words in f["message"] for f in found)
    assert {f["evidence"]["stage"].rpartition(".")[2] for f in found} <= stages
    assert all(f["evidence"]["ratio_before"] > 1 > f["evidence"]["ratio_after"] for f in found)
    assert not [stage for stage in run.report["stages"] if stage["status"] == "faulty"]


@pytest.mark.requires_llamacpp
def test_an_engine_of_another_name_may_round_as_llamacpp_does(tmp_path: Path, compare: Compare) -> None:
    path = build(tmp_path, "gpt2", "gguf:F32")
    run, engine = tmp_path / "run.safetensors", tmp_path / "engine.safetensors"
    assert run_command(["trace", f"llamacpp:{path}", "--tokens", "5,17,9,33,101", "-o", str(run), "-q"]) == 0
    recording = open_recording(run)
    stages = ((name, stage) for name in recording.stages if (stage := recording.stage(name)) is not None)
    write_trace(engine, stages, {"tokens": recording.tokens, "runtime": "an engine"})
    found = compare(path, f"trace:{engine}").report
    assert found["verdict"] == "drift"
    assert {(f["kind"], f["evidence"]["stage"].rpartition(".")[2]) for f in found["findings"]} == {
        ("runtime.precision", "ffn_act")
    }
    assert all("by an engine with GELU" in f["message"] for f in found["findings"])


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("sign", [1, -1])
def test_angles_of_far_positions_are_drift(tmp_path: Path, compare: Compare, sign: int) -> None:
    """llama.cpp works out one angle from another in float32. Small divisors make near positions far ones."""

    def far(contents: FileContents) -> FileContents:
        factors = np.full(64, sign * 2e-4, np.float32)
        factors[0] = 1
        tensor = TensorInput("rope_freqs.weight", "F32", (64,), factors.view(np.uint8))
        return replace(contents, tensors={**contents.tensors, tensor.name: tensor})

    spec = model_spec("llama", layers=1, hidden=128, heads=2, kv_heads=1, head_dim=128, ffn=64)
    path = build(tmp_path, spec, "gguf:F32", far)
    ids = ",".join(str(5 + 7 * n % 90) for n in range(12))
    run = compare(path, f"llamacpp:{path}", "--tokens", ids, "--assert-match")
    assert run.exit_code == 0, run.stdout
    assert run.report["verdict"] == "drift"
    assert {(found["kind"], found["status"]) for found in run.report["findings"]} == {
        ("runtime.precision", "confirmed")
    }


@pytest.mark.requires_llamacpp
def test_arithmetic_is_no_excuse_for_a_fault(tmp_path: Path, compare: Compare) -> None:
    left, right = pair(
        tmp_path, "gpt2", "hf:F32", "gguf:F32", faults.scaled("blk.0.ffn_up.weight", 1.01), side="left"
    )
    run = compare(left, f"llamacpp:{right}", "--assert-match")
    assert run.exit_code == 1
    assert run.report["first_divergence"]["name"] == "layers.0.ffn_up"
    kinds = [finding["kind"] for finding in run.report["findings"]]
    assert kinds[0] == "value.scaled"
    assert set(kinds[1:]) <= {"runtime.precision"}


@pytest.mark.requires_llamacpp
def test_below_the_threshold_it_is_not_spoken_of(tmp_path: Path, compare: Compare) -> None:
    path = build(tmp_path, "gpt2", "gguf:F32")
    run = compare(path, f"llamacpp:{path}", "--threshold", "0.1", "--assert-match")
    assert (run.exit_code, run.report["verdict"], run.report["findings"]) == (0, "match", [])


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("tokens", [9, 70], ids=["a key after another", "in tiles"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
def test_flash_attention_over_halves_is_drift_and_a_fault_beneath_it_is_not(
    tmp_path: Path, compare: Compare, architecture: str, tokens: int
) -> None:
    path = build(tmp_path, architecture, "gguf:F32")
    ids = ",".join(str(5 + 7 * n % 90) for n in range(tokens))
    options = (
        "--tokens",
        ids,
        "--runtime-option",
        "flash_attn=on",
        "--runtime-option",
        "kv=f16",
        "--assert-match",
    )
    run = compare(path, f"llamacpp:{path}", *options)
    assert run.exit_code == 0, run.stdout
    assert {found["kind"] for found in run.report["findings"]} <= {"runtime.precision"}


@pytest.mark.requires_llamacpp
def test_a_wrong_scale_is_found_beneath_flash_attention_over_halves(tmp_path: Path, compare: Compare) -> None:
    sound = build(tmp_path, "llama", "gguf:F32")
    broken = build(tmp_path, "llama", "gguf:F32", faults.attention_scale(0.2), stem="broken")
    options = ("--runtime-option", "flash_attn=on", "--runtime-option", "kv=f16", "--assert-match")
    run = compare(broken, f"llamacpp:{sound}", "--tokens", "5,17,9,33,101,7", *options)
    assert run.exit_code == 1, run.stdout
    assert run.report["first_divergence"]["op"] == "attn_context"


def asked(**options: str) -> list[str]:
    """The options of a runtime, as they are given."""
    return [part for key, value in options.items() for part in ("--runtime-option", f"{key}={value}")]


@pytest.mark.requires_llamacpp
@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("gemma3", {"kv": "f16"}),
        ("gemma2-scalar", {"flash_attn": "on"}),
        ("deepseek2-v3", {"kv": "f16"}),
        ("hunyuan-dense", {"flash_attn": "on", "kv": "q8_0"}),
        ("glm4", {"flash_attn": "on", "kv": "q4_0"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
def test_a_coarser_cache_accuses_nobody(
    tmp_path: Path, compare: Compare, recipe: str, options: dict[str, str]
) -> None:
    """Queries that are multiplied by the scale before they are rounded, latent keys, steps for floats."""
    path = tmp_path / "model.gguf"
    write_canonical(path, open_model(build_tiny(tmp_path / "folder", recipe)))
    ids = ",".join(str(2 + 37 * n % 380) for n in range(20))
    run = compare(path, f"llamacpp:{path}", "--tokens", ids, *asked(**options), "--assert-match")
    assert run.exit_code == 0, run.stdout
    assert {found["kind"] for found in run.report["findings"]} <= {"runtime.precision"}


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("head_dim", [32, 64], ids=["in one block", "that would be mixed"])
def test_a_wrong_scale_is_found_beneath_a_cache_of_steps(
    tmp_path: Path, compare: Compare, head_dim: int
) -> None:
    spec = model_spec("llama", head_dim=head_dim)
    sound = build(tmp_path, spec, "gguf:F32")
    options = ("--tokens", "5,17,9,33,101,7,250", *asked(flash_attn="on", kv="q8_0"), "--assert-match")
    clean = compare(sound, f"llamacpp:{sound}", *options)
    assert clean.exit_code == 0, clean.stdout
    assert {found["kind"] for found in clean.report["findings"]} <= {"runtime.precision"}
    broken = build(tmp_path, spec, "gguf:F32", faults.attention_scale(0.2), stem="broken")
    run = compare(broken, f"llamacpp:{sound}", *options)
    assert run.exit_code == 1, run.stdout
    assert run.report["first_divergence"]["op"] == "attn_context"
