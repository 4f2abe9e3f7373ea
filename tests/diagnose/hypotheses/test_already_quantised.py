"""Values on the lattice of a quantised format, stored as floats: told by their levels, and no other weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fixtures import build, faults, packing
from fixtures.comparing import compared, compared_files, tiny
from fixtures.contents import FileContents
from fixtures.memory import weight_of
from rosetta.compare.structure import slope_limits
from rosetta.compare.weights import compare_weights
from rosetta.diagnose.lattices import NF4, lattice_of
from rosetta.diagnose.levels import gaps_of_levels
from rosetta.weight import Weight

ROWS, COLUMNS = 128, 256


def source() -> Tensor:
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1)) * 0.02


def nf4(w: Tensor) -> Tensor:
    """As bitsandbytes does it: the largest of 64 values is a scale, the others go to the nearest quantile."""
    grouped, table = w.view(-1, 64), torch.tensor(NF4)
    largest = grouped.abs().amax(1, keepdim=True)
    return (table[((grouped / largest)[..., None] - table).abs().argmin(-1)] * largest).view_as(w)


def gptq(w: Tensor) -> Tensor:
    """Sixteen even steps in groups of 128, symmetric."""
    grouped = w.view(-1, 128)
    step = (grouped.abs().amax(1, keepdim=True) / 7).half().float()
    return ((grouped / step).round().clamp(-8, 7) * step).view_as(w)


def fp8(w: Tensor, side: int = 128) -> Tensor:
    """One scale for a square of weights."""
    tiles = w.view(ROWS // side, side, COLUMNS // side, side)
    scale = tiles.abs().amax((1, 3), keepdim=True) / 448
    return ((tiles / scale).to(torch.float8_e4m3fn).float() * scale).view_as(w)


def q8_0(w: Tensor) -> Tensor:
    """Eight bits in groups of 32."""
    grouped = w.view(-1, 32)
    step = (grouped.abs().amax(1, keepdim=True) / 127).half().float()
    return ((grouped / step).round() * step).view_as(w)


def int8(w: Tensor) -> Tensor:
    """Eight bits with a step for each row, as bitsandbytes has them."""
    step = w.abs().amax(1, keepdim=True) / 127
    return (w / step).round() * step


def int8_of_tensor(w: Tensor) -> Tensor:
    """Eight bits with one step for the whole tensor."""
    step = w.abs().max() / 127
    return (w / step).round() * step


def int8_of_columns(w: Tensor) -> Tensor:
    """Eight bits with a step for each input, as weights that are stored turned have them."""
    return int8(w.T.contiguous()).T.contiguous()


def cut_to_bf16(w: Tensor) -> Tensor:
    """Without the lower half of each float's bits."""
    return (w.view(torch.int32) & -65536).view(torch.float32)


def mxfp4(w: Tensor) -> Tensor:
    """Scales that are powers of two, below the largest value: what lies beyond six of them is cut off (OCP, 6.3)."""
    grouped, levels = w.view(-1, 32), torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    scale = torch.exp2(grouped.abs().amax(1, keepdim=True).log2().floor() - 2)
    nearest = ((grouped / scale).abs()[..., None] - levels).abs().argmin(-1)
    return (levels[nearest] * grouped.sign() * scale).view_as(w)


def uint8(w: Tensor) -> Tensor:
    """Eight bits with a step and a zero point for each row, as ONNX and torch's observers have them."""
    low, high = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    step = (high - low) / 255
    zero = (-low / step).round()
    return ((w / step).round() + zero).clamp(0, 255).sub(zero) * step


def six_bits(w: Tensor) -> Tensor:
    """Groups of 16, as Q6_K has them."""
    grouped = w.view(-1, 16)
    step = grouped.abs().amax(1, keepdim=True) / 31
    return ((grouped / step).round() * step).view_as(w)


MAKERS: dict[str, Callable[[Tensor], Tensor]] = {
    "NF4": nf4,
    "four bits": gptq,
    "E4M3": fp8,
    "FP8 (E4M3)": lambda w: fp8(w, 32),
    "eight bits in groups of 32": q8_0,
    "eight bits in groups of 256": int8,
    "eight bits with one scale": int8_of_tensor,
    "eight bits with a scale for each column": int8_of_columns,
}
BENEATH = {"NF4": nf4, "four bits and less": gptq, "FP8 (E4M3)": fp8, "eight bits in groups of 256": int8}


def stored(values: Tensor, dtype: str) -> Weight:
    return weight_of(values.numpy(), dtype, "blk.0.attn_q.weight")


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@pytest.mark.parametrize("name", MAKERS)
def test_lattice_is_named_and_its_rounding_explains_the_difference(name: str, dtype: str) -> None:
    left, right = stored(MAKERS[name](source()), dtype), stored(source(), "BF16")
    assert compare_weights(right, left).state == "differing"
    found = lattice_of(left, right)
    assert found is not None
    edit, said = found
    assert name in said
    widened = Weight(left.name, left.container, left.entry, dtype, left.dims, values_edits=(edit,))
    error = (left.values() - right.values()).square().mean().sqrt()
    assert 0.5 < float(error / widened.sigma().square().mean().sqrt()) < 1.1
    assert compare_weights(right, widened).state == "within_noise"


def test_floats_that_were_cut_off_to_bf16_are_no_other_weights() -> None:
    left, right = stored(cut_to_bf16(source()), "F32"), stored(source(), "F16")
    assert compare_weights(right, left).state == "differing"
    found = lattice_of(left, right)
    assert found is not None
    assert found[1] == "BF16, cut off instead of rounded"
    widened = Weight(left.name, left.container, left.entry, "F32", left.dims, values_edits=(found[0],))
    assert compare_weights(right, widened).state == "within_noise"
    rounded = lattice_of(stored(source().bfloat16().float(), "F32"), right)
    assert rounded is not None
    assert rounded[1] == "BF16"


def test_what_an_encoder_of_four_bits_cut_off_is_no_factor_of_its_copy() -> None:
    """A fifth of the weights lies beyond the last level: the copy loses a part of its slope."""
    drawn = torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))
    values = (2 * drawn - 1) * 7.5 / 512
    left, right = stored(mxfp4(values), "F32"), stored(values, "F16")
    found = lattice_of(left, right)
    assert found is not None
    widened = Weight(left.name, left.container, left.entry, "F32", left.dims, values_edits=(found[0],))
    w, e = left.values(), right.values() - left.values()
    slope, distance = (float((e * x).sum() / w.square().sum()) for x in (w, e))
    low, high = slope_limits(right, widened, distance)
    assert low < 0.03 < slope < high
    assert slope > slope_limits(right, left, distance)[1], "of a float it would be a factor"


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("name", BENEATH)
def test_a_decoded_checkpoint_beside_four_bits_of_its_source_is_one_finding(
    tmp_path: Path, name: str
) -> None:
    """Their rounding puts weights in another order than the four bits have; the four bits are levels, too."""
    spec = tiny("llama", hidden=256, ffn=256, heads=4, head_dim=64, layers=2, tied=False)
    names = [f"blk.{i}.{part}.weight" for i in (0, 1) for part in ("attn_q", "attn_output", "ffn_up")]

    def fault(file: FileContents) -> FileContents:
        for each in names:
            values = BENEATH[name](torch.from_numpy(file.values(each)).view(2 * ROWS, COLUMNS)[:ROWS])
            rest = BENEATH[name](torch.from_numpy(file.values(each)).view(2 * ROWS, COLUMNS)[ROWS:])
            file = file.with_values(each, torch.cat([values, rest]).numpy())
        return file

    report = compared(tmp_path, spec, "hf:F32", "gguf:Q4_K", fault)
    (found,) = report.findings
    assert (found.kind, found.tensor, found.side, found.status) == (
        "value.requantised", None, "left", "confirmed"
    )  # fmt: skip
    assert name in found.message


GGML = {
    "Q2_K": "four bits and less",
    "Q3_K": "four bits and less",
    "Q4_K": "four bits and less",
    "IQ4_XS": "four bits and less",
    "Q5_0": "five or six bits in groups of 32",
    "Q5_K": "five or six bits in groups of 32",
    "Q6_K": "five or six bits in groups of 16",
    "MXFP4": "MXFP4",
    "NVFP4": "FP4 (E2M1, such as NVFP4) in groups of 16",
    "TQ2_0": "ternary",
}


@pytest.mark.parametrize("stored_as", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("dtype", GGML)
def test_what_was_decoded_from_a_quantised_file_is_told_by_its_levels(dtype: str, stored_as: str) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from fixtures import ggml

    values = source().numpy()
    decoded = torch.from_numpy(ggml.dequantize(ggml.quantize(values, dtype), dtype)).view(ROWS, COLUMNS)
    left, right = stored(decoded, stored_as), stored(source(), "BF16")
    found = lattice_of(left, right)
    assert found is not None
    edit, said = found
    assert GGML[dtype] in said
    assert edit.nearest
    widened = Weight(left.name, left.container, left.entry, stored_as, left.dims, values_edits=(edit,))
    error = (left.values() - right.values()).square().mean().sqrt()
    assert 0.4 < float(error / widened.sigma().square().mean().sqrt()) < 1.1
    assert compare_weights(right, left).state == "differing"
    assert compare_weights(right, widened).state == "within_noise"


def test_levels_that_another_revision_was_rounded_to_are_not_the_nearest_ones() -> None:
    draw = torch.Generator().manual_seed(2)
    tuned = source() + 0.1 * 0.02 * torch.randn(ROWS, COLUMNS, generator=draw)
    found = lattice_of(stored(gptq(tuned), "BF16"), stored(source(), "BF16"))
    assert found is not None
    assert not found[0].nearest


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_values_that_were_halves_before_are_told_from_other_weights(half: torch.dtype) -> None:
    left, right = stored(source().to(half).float(), "F32"), stored(source(), "F32")
    found = lattice_of(left, right)
    assert found is not None
    assert found[1] == ("BF16" if half is torch.bfloat16 else "F16")
    widened = Weight(left.name, left.container, left.entry, "F32", left.dims, values_edits=(found[0],))
    assert compare_weights(right, left).state == "differing"
    assert compare_weights(right, widened).state == "within_noise"


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_six_bits_are_told(dtype: str) -> None:
    left, right = stored(six_bits(source()), dtype), stored(source(), "BF16")
    found = lattice_of(left, right)
    assert found is not None
    assert "six bits in groups of 16" in found[1]
    widened = Weight(left.name, left.container, left.entry, dtype, left.dims, values_edits=(found[0],))
    assert compare_weights(right, widened).state == "within_noise"


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_eight_bits_with_a_zero_point_are_told(seed: int, dtype: str) -> None:
    draw = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed)) * 0.02 + 0.01
    left, right = stored(uint8(draw), dtype), stored(draw, "BF16")
    assert compare_weights(right, left).state == "differing"
    found = lattice_of(left, right)
    assert found is not None
    assert found[1] == "eight bits in groups of 256"
    widened = Weight(left.name, left.container, left.entry, dtype, left.dims, values_edits=(found[0],))
    error = (left.values() - right.values()).square().mean().sqrt()
    assert 0.9 < float(error / widened.sigma().square().mean().sqrt()) < 1.1
    assert compare_weights(right, widened).state == "within_noise"


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_weights_of_no_lattice_have_none(dtype: str) -> None:
    assert lattice_of(stored(source(), dtype), stored(source() * 1.1, "BF16")) is None


def test_pruned_weights_lie_on_no_lattice() -> None:
    """Half of them are nought, and few values a group are left: it was called a format of four bits."""
    values = source()
    kept = values * (values.abs() > values.abs().median())
    assert lattice_of(stored(kept, "F16"), stored(values, "F16")) is None


@pytest.mark.parametrize("name", MAKERS)
def test_lattice_of_both_sides_is_no_difference(name: str) -> None:
    """What is wrong between two copies of one quantised checkpoint is something else."""
    values = MAKERS[name](source())
    assert lattice_of(stored(values * 1.25, "F16"), stored(values, "F32")) is None


def test_gap_is_that_between_the_levels_about_a_value() -> None:
    levels = torch.tensor([[0.0, 1.0, 1.0, 2.0, 4.0, 4.0, 3.0, 0.0]])
    assert gaps_of_levels(levels).allclose(torch.ones(1, 8))


def test_tensor_of_a_quantised_checkpoint_is_found_and_proven(tmp_path: Path) -> None:
    spec, name = tiny("llama", hidden=128, ffn=256), "blk.1.ffn_up.weight"
    report = compared(tmp_path, spec, "hf:F16", "gguf:BF16", faults.requantised(name))
    [finding] = report.findings
    assert (finding.kind, finding.tensor, finding.status) == ("value.requantised", name, "confirmed")
    assert "four bits" in finding.message
    assert finding.evidence is not None
    assert finding.evidence.before == finding.evidence.after, "nothing is put right"
    assert finding.evidence.ratio_after < 1 < finding.evidence.ratio_before


def test_a_quantised_copy_beside_a_believed_file_that_was_quantised_otherwise_drifts(tmp_path: Path) -> None:
    """Both roundings explain the difference, and of the believed one it is said. Scales and zero points were called
    wrong, and an amount of each column besides, which took that back."""
    spec, name = tiny("llama", hidden=256, ffn=512, tied=False), "blk.1.ffn_up.weight"
    plain = build(tmp_path, spec, "hf:F16")
    folder = packing.quantised(plain, tmp_path / "mlx", packing.mlx(4, 64))

    def by_others(file: FileContents) -> FileContents:
        return file.with_values(name, gptq(torch.from_numpy(file.values(name))).numpy())

    believed = build(tmp_path, spec, "gguf:F16", by_others)
    report = compared_files(folder, believed)
    [finding] = report.findings
    assert (finding.kind, finding.tensor, finding.side) == ("value.requantised", name, "right")
    assert (finding.status, finding.latent, report.verdict) == ("confirmed", True, "drift")
    turned = compared_files(folder, believed, reference="left")
    [finding] = turned.findings
    assert (finding.kind, finding.side, finding.latent) == ("value.requantised", "right", False)
    assert turned.verdict == "divergent"


def test_a_norm_that_was_rounded_to_bf16_holds_no_other_weights(tmp_path: Path) -> None:
    name = "blk.1.ffn_norm.weight"

    def wide(file: FileContents) -> FileContents:
        values = file.values(name)
        factors = np.random.default_rng(3).uniform(0.5, 2, values.shape).astype(np.float32)
        return file.with_values(name, values * factors)

    def rounded(file: FileContents) -> FileContents:
        return file.with_values(name, torch.from_numpy(file.values(name)).bfloat16().float().numpy())

    spec = tiny("llama", hidden=128)
    right = build(tmp_path, spec, "gguf:F32", wide, stem="right")
    report = compared_files(build(tmp_path, spec, "gguf:F32", [wide, rounded], stem="left"), right)
    [finding] = report.findings
    assert (finding.kind, finding.tensor, finding.actual) == ("value.requantised", name, "BF16")
    assert finding.status == "confirmed"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", range(4))
def test_norms_near_one_that_were_cut_off_to_bf16_hold_no_other_weights(
    seed: int, side: Any, tmp_path: Path
) -> None:
    """Where the last place is widest, cutting off instead of rounding leaves twice the error: other weights."""
    names = [f"blk.{layer}.{stem}_norm.weight" for layer in (0, 1) for stem in ("attn", "ffn")]

    def near_one(cut: bool) -> Callable[[FileContents], FileContents]:
        def changed(file: FileContents) -> FileContents:
            draw = np.random.default_rng(seed)
            for name in names:
                values = (1 + 0.05 * np.abs(draw.standard_normal(file.values(name).shape))).astype(np.float32)
                bits = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
                rounded = torch.from_numpy(values).bfloat16().float().numpy()
                file = file.with_values(name, bits if cut else rounded)
            return file

        return changed

    spec = tiny("llama", hidden=256, head_dim=64, ffn=384)
    left = build(tmp_path, spec, "gguf:Q8_0", near_one(cut=True), stem="left")
    right = build(tmp_path, spec, "gguf:F32", near_one(cut=False), stem="right")
    [finding] = compared_files(left, right, reference=side).findings
    assert (finding.kind, finding.tensor, finding.side) == ("value.requantised", None, "left")
    assert (finding.status, finding.actual) == ("confirmed", "BF16, cut off instead of rounded")
