"""An adapter that was merged into a quantised base: named, whether or not the adapter is at hand, and on the side that
has it; and no such thing where it was merged into the original, or where there is no adapter."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fixtures import build
from fixtures.adapters import merge, write_adapter
from fixtures.comparing import compared_files, tiny
from fixtures.contents import FileContents
from rosetta.compare.results import Finding
from rosetta.model import open_model
from rosetta.report.report import Report

SPEC = tiny("llama", hidden=256, head_dim=64, ffn=512, layers=1)
ADAPTED = {"attn_q", "attn_k", "ffn_up", "ffn_down"}  # fixtures.adapters.MODULES
OTHERS = {"attn_v", "attn_output", "ffn_gate"}
Round = Callable[[Tensor], Tensor]


def nf4(w: Tensor) -> Tensor:
    functional = pytest.importorskip("bitsandbytes.functional")
    return functional.dequantize_4bit(*functional.quantize_4bit(w, blocksize=64, quant_type="nf4"))


def nested_fp4(w: Tensor) -> Tensor:
    functional = pytest.importorskip("bitsandbytes.functional")
    codes, state = functional.quantize_4bit(w, blocksize=64, quant_type="fp4", compress_statistics=True)
    return functional.dequantize_4bit(codes, state)


def int8(w: Tensor) -> Tensor:
    functional = pytest.importorskip("bitsandbytes.functional")
    codes, largest, _ = functional.int8_vectorwise_quant(w.half())
    return codes.float() * largest[:, None] / 127


def fp8(w: Tensor) -> Tensor:
    tiles = w.view(len(w) // 128, 128, -1, 128)
    scale = tiles.abs().amax((1, 3), keepdim=True) / 448
    return ((tiles / scale).to(torch.float8_e4m3fn).float() * scale).view_as(w)


def of_ggml(dtype: str) -> Round:
    def rounded(w: Tensor) -> Tensor:
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
        from fixtures import ggml

        return torch.from_numpy(ggml.dequantize(ggml.quantize(w.numpy(), dtype), dtype)).view_as(w)

    return rounded


SCHEMES: dict[str, tuple[Round, str]] = {
    "NF4": (nf4, "NF4 in groups of 64"),
    "FP4, nested": (nested_fp4, "FP4 in groups of 64"),
    "int8": (int8, "eight bits in groups of"),
    "FP8": (fp8, "FP8 (E4M3)"),
    **{name: (of_ggml(name), "four bits and less") for name in ("Q4_0", "Q4_K")},
    "Q5_K": (of_ggml("Q5_K"), "five or six bits"),
    "Q8_0": (of_ggml("Q8_0"), "eight bits in groups of 32"),
}
NO_QUANTISER = ("Q4_K", "Q5_K")  # whose encoders search: what they round away is not known beforehand


def rounded_folder(folder: Path, base: Path, change: Round) -> Path:
    """A copy of a folder with its linear layers' matrices rounded."""
    shutil.copytree(base, folder)
    held = load_file(base / "model.safetensors")
    held |= {name: change(held[name]).float().contiguous() for name in held if "proj" in name}
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def cast(folder: Path, dtype: torch.dtype) -> Path:
    held = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of values that BF16 holds, as published weights are."""
    folder = cast(build(tmp_path_factory.mktemp("base"), SPEC, "hf:F32"), torch.bfloat16)
    return cast(folder, torch.float32)


@pytest.fixture(scope="module", params=[{}, {"use_dora": True}], ids=["LoRA", "DoRA"])
def any_adapter(request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapters") / "a", base, 1, **request.param)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapters") / "a", base, 1)


def tensors(report: Report, kind: str, side: str) -> set[str]:
    """Stems of the tensors that confirmed findings of a kind are of; one of several names them."""
    return {
        stem
        for finding in report.findings
        if (finding.kind, finding.side, finding.status) == (kind, side, "confirmed")
        for stem in re.findall(r"blk\.0\.(\w+)\.weight", finding.tensor or finding.message)
    }


def of_merges(report: Report) -> list[Finding]:
    """The findings of merges: one where all four weights are over one quantiser."""
    found = [finding for finding in report.findings if finding.kind == "adapter.merge"]
    assert len(found) == 1 or len({finding.actual for finding in found}) > 1
    return found


@pytest.mark.sample(8)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["BF16", "F16"])
@pytest.mark.parametrize("name", SCHEMES)
def test_what_an_adapter_was_merged_into_is_told(
    tmp_path: Path, base: Path, any_adapter: Path, name: str, dtype: torch.dtype
) -> None:
    change, lattice = SCHEMES[name]
    quantised_base = rounded_folder(tmp_path / "q", base, change)
    left = cast(merge(tmp_path / "merged", quantised_base, any_adapter), dtype)
    report = compared_files(left, f"peft:{base}+{any_adapter}")
    assert tensors(report, "adapter.merge", "left") == ADAPTED
    assert tensors(report, "value.requantised", "left") == OTHERS  # which no adapter is for
    of_merge = of_merges(report)
    assert all(lattice in finding.message or name in finding.message for finding in of_merge)
    assert all("merged into a base that had been quantised" in str(f.actual) for f in of_merge)


def test_the_side_with_the_adapter_is_not_accused(tmp_path: Path, base: Path, adapter: Path) -> None:
    right = cast(merge(tmp_path / "m", rounded_folder(tmp_path / "q", base, nf4), adapter), torch.bfloat16)
    report = compared_files(f"peft:{base}+{adapter}", right)
    assert tensors(report, "adapter.merge", "right") == ADAPTED


@pytest.mark.parametrize("reference", ["left", "right"])
@pytest.mark.parametrize("name", [name for name in SCHEMES if name not in NO_QUANTISER])
def test_without_the_adapter_its_rank_and_the_quantiser_are_told(
    tmp_path: Path, base: Path, adapter: Path, name: str, reference: str
) -> None:
    left = merge(tmp_path / "m", rounded_folder(tmp_path / "q", base, SCHEMES[name][0]), adapter)
    report = compared_files(cast(left, torch.bfloat16), base, reference=reference)
    assert tensors(report, "adapter.merge", "left") == ADAPTED
    for finding in report.findings:
        if finding.kind == "adapter.merge":
            said = re.search(r"a matrix of rank (\d+) ", finding.message)
            assert said is not None
            assert 4 <= int(said[1]) <= 16  # what the halves of the sum round has large singular values, too
            assert name.split(",")[0].replace("int8", "eight bits") in finding.message


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_0", "Q4_K"])
def test_it_is_told_beneath_blocks(tmp_path: Path, base: Path, adapter: Path, dtype: str) -> None:
    left = merge(tmp_path / "m", rounded_folder(tmp_path / "q", base, nf4), adapter)
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    held = open_model(left).weights

    def of_merged(file: FileContents) -> FileContents:
        for name in held:
            file = file.with_values(name, held[name].values().numpy())
        return file

    file = build(tmp_path, SPEC, f"gguf:{dtype}", of_merged)
    report = compared_files(file, f"peft:{base}+{adapter}")
    assert tensors(report, "adapter.merge", "left") == ADAPTED
    assert tensors(report, "value.requantised", "left") == OTHERS
    assert all("NF4" in finding.message for finding in report.findings)


def test_merged_twice_into_a_quantised_base_is_both(tmp_path: Path, base: Path, adapter: Path) -> None:
    left = merge(tmp_path / "m", rounded_folder(tmp_path / "q", base, nf4), adapter, times=2)
    report = compared_files(cast(left, torch.bfloat16), f"peft:{base}+{adapter}")
    assert tensors(report, "adapter.merge", "left") == ADAPTED
    assert all("merged twice" in finding.message for finding in of_merges(report))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merged_into_the_original_is_no_fault(
    tmp_path: Path, base: Path, any_adapter: Path, dtype: torch.dtype
) -> None:
    left = cast(merge(tmp_path / "m", base, any_adapter), dtype)
    assert not compared_files(left, f"peft:{base}+{any_adapter}").findings


@pytest.mark.parametrize("name", SCHEMES)
def test_a_quantised_base_without_an_adapter_has_none(tmp_path: Path, base: Path, name: str) -> None:
    left = cast(rounded_folder(tmp_path / "q", base, SCHEMES[name][0]), torch.bfloat16)
    report = compared_files(left, base)
    assert {finding.kind for finding in report.findings} == {"value.requantised"}


def test_an_adapter_over_the_original_is_one_of_low_rank(tmp_path: Path, base: Path, adapter: Path) -> None:
    report = compared_files(cast(merge(tmp_path / "m", base, adapter), torch.bfloat16), base)
    assert {finding.kind for finding in report.findings} == {"value.low_rank"}


def test_packed_weights_that_an_adapter_was_merged_into_and_packed_again(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    """As peft merges into bitsandbytes' weights: a part of the adapter is lost in the rounding."""
    from fixtures import packing

    scheme = packing.bitsandbytes()
    quantised_base = rounded_folder(tmp_path / "q", base, nf4)
    merged = merge(tmp_path / "m", quantised_base, adapter)
    left = packing.quantised(merged, tmp_path / "packed", scheme)
    report = compared_files(left, f"peft:{base}+{adapter}")
    assert tensors(report, "adapter.merge", "left") <= ADAPTED
    assert all("which the sum was put into again" in finding.message for finding in report.findings)
    assert report.findings
