"""Zero points, scales and groups of packed weights that are stored otherwise than their scheme has them, or were
decoded otherwise by a converter, are found and proven; quantised folders that are right raise no alarm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures import packing
from fixtures.causes import Cause, assert_clean, assert_proven
from fixtures.comparing import TOKENS, compared_files, tiny
from fixtures.contents import FileContents
from fixtures.dtypes import encode
from fixtures.faults import packing as faults
from fixtures.pairs import build
from rosetta.compare.options import Options
from rosetta.compare.results import Side
from rosetta.dtypes import of_scheme
from rosetta.errors import UnsupportedError
from rosetta.model import open_model
from rosetta.repair.repair import repair_operands
from rosetta.report.build import build_report
from rosetta.report.report import Report

OWN, NAME, STAGE = "model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight", "layers.1.ffn_up"
ZERO, MAGNITUDES = "._weight_zero_point", ".weight.absmax"
QUANTISATION, ORDER = "config.quantization", "dtype.block_order"
SPEC = tiny("llama", hidden=128, ffn=192, tied=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the others are quantised from."""
    return build(tmp_path_factory.mktemp("plain"), SPEC, "hf:BF16")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of it."""
    return build(tmp_path_factory.mktemp("gguf"), SPEC, "gguf:Q8_0")


@pytest.mark.parametrize("scheme", packing.SCHEMES.values(), ids=packing.SCHEMES)
def test_a_quantised_folder_differs_from_its_source_by_no_more_than_its_rounding(
    tmp_path: Path, plain: Path, scheme: packing.Scheme
) -> None:
    report = compared_files(packing.quantised(plain, tmp_path / "quantised", scheme), plain)
    assert_clean(report)
    assert report.verdict == "drift"
    assert report.weights.compared == 21
    assert report.weights.differing_tensors == []


@pytest.mark.parametrize("scheme", packing.SCHEMES.values(), ids=packing.SCHEMES)
def test_a_row_that_is_one_group_is_read(tmp_path: Path, scheme: packing.Scheme) -> None:
    spec = tiny("llama", hidden=32, ffn=64, tied=False)
    plain = build(tmp_path, spec, "hf:BF16")
    assert_clean(compared_files(packing.quantised(plain, tmp_path / "quantised", scheme), plain))


@pytest.mark.parametrize("dtype", ["F16", "Q8_0"])
def test_a_scale_that_was_rounded_after_its_codes_is_no_amount_of_its_row(
    tmp_path: Path, plain: Path, dtype: str
) -> None:
    """MLX keeps the scales of 255 steps in bfloat16: the weights of a group are all off by up to half of one."""
    spec = tiny("llama", hidden=256, ffn=512, tied=False)
    scheme = packing.mlx(8, 64, torch.bfloat16)
    folder = packing.quantised(build(tmp_path, spec, "hf:BF16"), tmp_path / "quantised", scheme)
    assert_clean(compared_files(folder, build(tmp_path, spec, f"gguf:{dtype}")))


@pytest.mark.parametrize("name", ["fp8 blocks", "gptq by activation", "awq", "bnb nf4 nested", "mlx 4 bits"])
def test_so_does_a_gguf_file_of_its_source(tmp_path: Path, plain: Path, converted: Path, name: str) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name])
    assert_clean(compared_files(folder, converted))


CONVERTED = {
    "gptq Q4_K_M": (packing.gptq(), "Q4_K_M"),
    "compensated gptq Q4_K_M": (packing.compensated_gptq(), "Q4_K_M"),
    "ct int4 Q4_0": (packing.packed_int(), "Q4_0"),
    "bnb nf4 Q4_0": (packing.bitsandbytes(), "Q4_0"),
    "bnb nf4 Q8_0": (packing.bitsandbytes(), "Q8_0"),
    "fp8 F16": (packing.fp8(), "F16"),
}


@pytest.mark.parametrize(("scheme", "dtype"), CONVERTED.values(), ids=CONVERTED)
def test_what_is_converted_from_a_quantised_folder_is_clean_beside_it(
    tmp_path: Path, scheme: packing.Scheme, dtype: str
) -> None:
    spec = tiny("llama", hidden=256, ffn=512, tied=False)
    plain = build(tmp_path, spec, "hf:BF16")
    folder = packing.quantised(plain, tmp_path / "quantised", scheme)
    model = open_model(folder)

    def converted(file: FileContents) -> FileContents:
        for name, weight in model.weights.items():
            if of_scheme(weight.dtype):
                data = encode(weight.values().numpy(), file.tensor(name).dtype)
                file = file.with_tensor(name, data=data)
        return file

    assert_clean(compared_files(build(tmp_path, spec, f"gguf:{dtype}", converted), folder))


@pytest.mark.parametrize(
    ("bits", "spread", "sorted_columns"), [(3, 0.5, False), (4, 0.0, False), (4, 1.0, True), (8, 0.5, True)]
)
def test_errors_that_make_others_good_are_no_fault(
    tmp_path: Path, plain: Path, bits: int, spread: float, sorted_columns: bool
) -> None:
    scheme = packing.compensated_gptq(bits, 64, spread, sorted_columns)
    report = compared_files(packing.quantised(plain, tmp_path / "quantised", scheme), plain)
    assert_clean(report)
    assert report.weights.differing_tensors == []


@pytest.mark.parametrize(
    "fault",
    [faults.zero_points_shifted(OWN, ".qzeros", 1), faults.scales_by_the_other_axis(OWN, ".scales")],
    ids=["zero points", "scales"],
)
def test_and_a_fault_behind_such_errors_is_found(tmp_path: Path, plain: Path, fault: packing.Change) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.compensated_gptq(group=32), fault)
    assert_proven(compared_files(folder, plain), STAGE, Cause(QUANTISATION, NAME))


STORED = {
    "gptq zero points": ("gptq", faults.zero_points_shifted(OWN, ".qzeros", 1), "one too high"),
    "gptq v2 zero points": ("gptq v2", faults.zero_points_shifted(OWN, ".qzeros", -1), "one too low"),
    "awq zero points": ("awq", faults.zero_points_shifted(OWN, ".qzeros", 1), "one too high"),
    "ct zero points": (
        "ct int4 zero points",
        faults.zero_points_shifted(OWN, ".weight_zero_point", 1),
        "one too high",
    ),
    "torchao zero points": (
        "torchao int8",
        lambda name, t: t | ({ZERO: t[ZERO] + 1} if name == OWN else {}),
        "one too high",
    ),
    "torchao inverted": ("torchao int8", faults.scales_inverted(OWN, "._weight_scale"), "the inverse"),
    "gptq group index": ("gptq", faults.group_index_replaced(OWN), "its group index says otherwise"),
    "gptq scales": ("gptq", faults.scales_by_the_other_axis(OWN, ".scales"), "by column and row"),
    "awq scales": ("awq", faults.scales_by_the_other_axis(OWN, ".scales"), "by column and row"),
    "fp8 scales": (
        "fp8 blocks",
        faults.scales_by_the_other_axis(OWN, ".weight_scale_inv"),
        "by column and row",
    ),
    "ct mxfp4 scales": (
        "ct mxfp4",
        faults.scales_by_the_other_axis(OWN, ".weight_scale"),
        "by column and row",
    ),
    "mlx scales": (
        "mlx 4 bits",
        lambda name, t: faults.scales_by_the_other_axis(OWN, ".scales")(
            name, faults.scales_by_the_other_axis(OWN, ".biases")(name, t)
        ),
        "by column and row",
    ),
    "fp8 rows of scales": (
        "fp8 rows",
        faults.scales_of_other_rows(OWN, ".weight_scale"),
        "its scales belong to other rows: they begin with number 1",
    ),
    "fp8 blocks of scales": (
        "fp8 blocks",
        faults.scales_of_other_rows(OWN, ".weight_scale_inv", 1),
        "its scales belong to other groups: they begin with number 1",
    ),
    "gptq rows of scales": (
        "gptq",
        faults.scales_of_other_rows(OWN, ".scales", 1),
        "its scales belong to other rows: they begin with number 1",
    ),
    "gptq 2 bits of other rows": (
        "gptq 2 bits",
        faults.scales_of_other_rows(OWN, ".scales", 1),
        "its scales belong to other rows: they begin with number 1",
    ),
    "bnb blocks of scales": (
        "bnb nf4",
        lambda name, t: t | ({MAGNITUDES: t[MAGNITUDES].roll(2)} if name == OWN else {}),
        "its scales belong to other rows: they begin with number 1",
    ),
    "bnb int8 rows of scales": (
        "bnb int8",
        faults.scales_of_other_rows(OWN, ".SCB"),
        "its scales belong to other rows: they begin with number 1",
    ),
    "gptq lost": ("gptq", faults.scales_lost(OWN, ".scales"), "its scales are all 1"),
    "ct nvfp4 lost": ("ct nvfp4", faults.scales_lost(OWN, ".weight_scale"), "its scales are all 1"),
    "bnb nf4 nested lost": (
        "bnb nf4 nested",
        faults.scales_lost(OWN, ".weight.absmax"),
        "its scales are all 1",
    ),
    "gptq sorted columns, other groups": (
        "gptq by activation",
        faults.group_index_replaced(OWN),
        "its group index puts",
    ),
    "gptq sorted columns, in turn": (
        "gptq by activation",
        faults.group_index_in_turn(OWN),
        "its group index puts",
    ),
    "fp8 one scale lost": ("fp8 tensor", faults.scales_lost(OWN, ".weight_scale"), "its scale is 1"),
    "mlx nvfp4 lost": ("mlx nvfp4", faults.scales_lost(OWN, ".scales"), "its scales are all 0.00195312"),
    "mlx 8 bits lost": ("mlx 8 bits", faults.scales_lost(OWN, ".scales"), "its scales are all 1:"),
    "mlx biases lost": ("mlx 4 bits", faults.zeros(OWN, ".biases"), "its biases are all 0"),
    "mlx biases of other rows": (
        "mlx 4 bits",
        faults.rolled(OWN, ".biases"),
        "its biases belong to other rows: they begin with number 1",
    ),
    "gptq zero points of other groups": (
        "gptq",
        faults.rolled(OWN, ".qzeros"),
        "its zero points belong to other groups: they begin with number 1",
    ),
    "gptq zero points and scales lost": (
        "gptq",
        faults.both(faults.zeros(OWN, ".qzeros"), faults.scales_lost(OWN, ".scales")),
        "its scales are all 1, its zero points all 0",
    ),
    "ct zero points of other rows": (
        "ct int4 zero points",
        faults.rolled(OWN, ".weight_zero_point"),
        "its zero points belong to other rows: they begin with number 8",
    ),
    "fp8 inverted": ("fp8 blocks", faults.scales_inverted(OWN, ".weight_scale_inv"), "the inverse"),
    "ct nvfp4 inverted": ("ct nvfp4", faults.scales_inverted(OWN, ".weight_global_scale"), "the inverse"),
    "fp8 applied": ("fp8 rows", faults.scales_applied_already(OWN, ".weight_scale"), "the values already"),
}


@pytest.mark.parametrize("case", STORED.values(), ids=STORED)
def test_what_is_stored_otherwise_is_found_and_proven(tmp_path: Path, plain: Path, case: Any) -> None:
    name, fault, said = case
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name], fault)
    report = compared_files(folder, plain)
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert said in report.findings[0].message


ZEROS = {
    "gptq": ".qzeros",
    "gptq v2": ".qzeros",
    "gptq 3 bits": ".qzeros",
    "gptq 8 bits": ".qzeros",
    "gptq by activation": ".qzeros",
    "awq": ".qzeros",
    "ct int4 zero points": ".weight_zero_point",
    "torchao int8": ZERO,
}


@pytest.mark.parametrize(("name", "ending"), ZEROS.items(), ids=ZEROS)
def test_lost_zero_points_are_told_and_put_back(tmp_path: Path, plain: Path, name: str, ending: str) -> None:
    scheme, fault = packing.SCHEMES[name], faults.zeros(OWN, ending)
    sound = packing.quantised(plain, tmp_path / "sound", scheme)
    folder = packing.quantised(plain, tmp_path / "quantised", scheme, fault)
    report = compared_files(folder, plain)
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert (
        "its zero points are all 0: those that its codes were made with are lost"
        in report.findings[0].message
    )
    part = OWN.removesuffix(".weight") + ending
    assert torch.equal(mended(folder, plain, tmp_path / "mended")[part], stored(sound)[part])


def test_zero_points_that_all_weights_lost_are_one_finding(
    tmp_path: Path, converted: Path, plain: Path
) -> None:
    def fault(name: str, tensors: packing.Tensors) -> packing.Tensors:
        return {**tensors, ".qzeros": torch.zeros_like(tensors[".qzeros"])}

    folder = packing.quantised(plain, tmp_path / "quantised", packing.gptq(), fault)
    [finding] = compared_files(folder, converted).findings
    assert (finding.kind, finding.side, finding.status) == (QUANTISATION, "left", "confirmed")
    assert "14 weights are packed or decoded otherwise" in finding.message
    assert "its zero points are all 0" in finding.message


@pytest.mark.parametrize(
    ("name", "endings", "said"),
    [
        ("gptq", (".scales",), "scales"),
        ("gptq", (".qzeros",), "zero points"),
        ("awq", (".scales", ".qzeros"), "scales and zero points"),
        ("ct nvfp4", (".weight_scale",), "scales"),
        ("bnb nf4", (".weight.absmax",), "scales"),
        ("mlx 4 bits", (".scales", ".biases"), "scales and biases"),
        ("mlx nvfp4", (".scales",), "scales"),
    ],
)
def test_what_two_weights_exchanged_is_one_finding(
    tmp_path: Path, plain: Path, name: str, endings: tuple[str, ...], said: str
) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name])
    gate, sound = OWN.replace("up_proj", "gate_proj"), stored(folder)
    up_parts, gate_parts = (
        [weight.removesuffix(".weight") + ending for ending in endings] for weight in (OWN, gate)
    )
    exchanged = dict(zip([*up_parts, *gate_parts], [*gate_parts, *up_parts], strict=True))
    save_file(
        {part: sound[exchanged.get(part, part)].clone() for part in sound}, folder / "model.safetensors"
    )
    report = compared_files(folder, plain)
    gate_name = NAME.replace("ffn_up", "ffn_gate")
    assert_proven(report, STAGE.replace("ffn_up", "ffn_gate"), Cause(QUANTISATION, gate_name, partner=NAME))
    said = f"its own {said} are those that lie beside the codes of {OWN}, and the reverse"
    assert said in report.findings[0].message
    written = mended(folder, plain, tmp_path / "mended")
    assert all(torch.equal(written[part], sound[part]) for part in exchanged)


def stored(folder: Path) -> packing.Tensors:
    """All tensors of a folder."""
    return load_file(folder / "model.safetensors")


def mended(folder: Path, plain: Path, target: Path) -> packing.Tensors:
    """All tensors of a folder that is put right by the plain one."""
    after = repair_operands(str(folder), str(plain), target, Options(tokens=TOKENS)).after
    assert build_report(after).findings == []
    return stored(target)


@pytest.mark.parametrize(
    ("name", "endings"),
    [
        ("gptq", (".qweight", ".qzeros")),
        ("gptq", (".qweight",)),
        ("awq", (".qweight",)),
        ("awq", (".qweight", ".qzeros")),
        ("ct int4 zero points", (".weight_packed",)),
        ("ct int4", (".weight_packed",)),
        ("ct nvfp4", (".weight_packed",)),
        ("bnb nf4", (".weight",)),
        ("mlx 4 bits", (".weight",)),
    ],
)
def test_codes_in_the_other_order_are_found_and_proven(
    tmp_path: Path, plain: Path, name: str, endings: tuple[str, ...]
) -> None:
    fault = faults.nibbles_exchanged(OWN, *endings)
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name], fault)
    assert_proven(compared_files(folder, plain), STAGE, Cause(ORDER, NAME))


@pytest.mark.parametrize(
    ("name", "ending", "by", "said"),
    [
        ("fp8 rows", ".weight", 1, "in other rows than their scales: they begin with number 1"),
        ("fp8 blocks", ".weight", 1, "in other rows than their scales: they begin with number 1"),
        ("ct int4", ".weight_packed", 1, "in other rows than their scales: they begin with number 1"),
        ("gptq", ".qweight", 4, "in other columns than their scales: they begin with number 32"),
        ("awq", ".qweight", 32, "in other columns than their scales: they begin with number 32"),
    ],
)
def test_codes_that_lie_elsewhere_than_their_scales_are_one_finding(
    tmp_path: Path, plain: Path, name: str, ending: str, by: int, said: str
) -> None:
    fault = faults.codes_of_other_rows(OWN, ending, by)
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name], fault)
    report = compared_files(folder, plain)
    assert_proven(report, STAGE, Cause("layout.permuted", NAME))
    assert said in report.findings[0].message


def test_scales_read_as_another_float_are_told(tmp_path: Path, plain: Path) -> None:
    fault = faults.scales_misread(OWN, ".weight_scale")
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES["ct int4"], fault)
    report = compared_files(folder, plain)
    assert_proven(report, STAGE, Cause("dtype.mislabeled", NAME))
    assert "its scales are declared BF16 and hold F16" in report.findings[0].message


def test_scales_of_another_weight_are_told_by_its_name(tmp_path: Path, plain: Path) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.gptq())
    file, gate = folder / "model.safetensors", OWN.replace("up_proj", "gate_proj")
    held = load_file(file)
    own, other = (name.replace(".weight", ".scales") for name in (OWN, gate))
    save_file(held | {own: held[other].clone()}, file)
    report = compared_files(folder, plain)
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert f"those of {gate}" in report.findings[0].message


def without_config(folder: Path) -> Path:
    """The folder with a config.json that says nothing of how its weights are packed."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    config.pop("quantization", None)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(("name", "other"), [("gptq", "gptq_v2"), ("gptq v2", "gptq")])
def test_zero_points_of_the_other_version_are_one_finding_of_the_key_that_states_it(
    tmp_path: Path, plain: Path, name: str, other: str
) -> None:
    folder = stating(packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name]), other)
    report = compared_files(folder, plain)
    key = "quantization_config.checkpoint_format"
    assert_proven(report, "layers.0.q", Cause(QUANTISATION, key))
    own = "gptq" if name == "gptq" else "gptq_v2"
    assert (report.findings[0].declared, report.findings[0].actual) == (other, own)
    mended = repair_operands(str(folder), str(plain), tmp_path / "mended", Options(tokens=TOKENS)).after
    assert build_report(mended).findings == []


def test_zero_points_of_one_weight_are_no_fault_of_that_key(tmp_path: Path, plain: Path) -> None:
    fault = faults.zero_points_shifted(OWN, ".qzeros", 1)
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES["gptq"], fault)
    assert_proven(compared_files(folder, plain), STAGE, Cause(QUANTISATION, NAME))


def test_what_was_decoded_by_the_other_version_is_one_finding_of_its_file(
    tmp_path: Path, plain: Path
) -> None:
    """The folder is believed."""
    folder = stating(packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES["gptq"]), "gptq_v2")
    [finding] = compared_files(plain, folder).findings
    assert (finding.kind, finding.side, finding.status) == ("config.quantization", "left", "confirmed")
    assert "14 weights are packed or decoded otherwise" in finding.message
    assert "decoded with zero points one too high" in finding.message
    assert "checkpoint_format" in finding.recommendation


def stating(folder: Path, form: str) -> Path:
    """A folder that states another `checkpoint_format`."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["checkpoint_format"] = form
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "name",
    ["awq", "gptq", "gptq v2", "gptq 8 bits", "ct int4 zero points", "ct nvfp4", "ct mxfp4", "torchao int8"],
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_packed_weights_without_their_config_are_one_finding_of_the_folder(
    tmp_path: Path, plain: Path, name: str, side: Side
) -> None:
    folder = without_config(packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name]))
    report = compared_files(*(folder, plain) if side == "left" else (plain, folder))
    assert_proven(report, "layers.0.q", Cause(QUANTISATION, "quantization_config", side=side))
    assert "14 weights" in report.findings[0].message


@pytest.mark.parametrize("name", ["fp8 blocks", "bnb nf4", "mlx 4 bits"])
def test_codes_under_the_names_of_weights_are_refused_by_what_their_config_lacks(
    tmp_path: Path, plain: Path, name: str
) -> None:
    folder = without_config(packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name]))
    with pytest.raises(UnsupportedError, match="states no quantization_config"):
        compared_files(folder, plain)


def converted_with(folder: Path, plain: Path, target: Path, values: torch.Tensor) -> Report:
    """The report of a plain copy of a quantised folder, one weight of which a converter decoded wrongly."""
    target.mkdir()
    (target / "config.json").write_bytes((plain / "config.json").read_bytes())
    tensors = load_file(plain / "model.safetensors")
    save_file({**tensors, OWN: values.to(torch.bfloat16).contiguous()}, target / "model.safetensors")
    return compared_files(target, folder)


def gptq_values(parts: dict[str, torch.Tensor], group: torch.Tensor, stored_less: int) -> torch.Tensor:
    """What GPTQ's four bits are with a group of each column, and so much less than them in the zero points."""

    def nibbles(words: torch.Tensor) -> torch.Tensor:
        return torch.stack([words >> shift & 15 for shift in range(0, 32, 4)], dim=-1).flatten(1)

    q = nibbles(parts["qweight"].T.contiguous())  # [R, C]
    zero = nibbles(parts["qzeros"])[:, : q.shape[0]] + stored_less
    return ((q.T - zero[group]) * parts["scales"].float()[group]).T


@pytest.mark.parametrize("wrong", ["group index", "zero points"])
def test_a_converter_that_decodes_gptq_wrongly_is_found_out(tmp_path: Path, plain: Path, wrong: str) -> None:
    scheme = packing.gptq(by_activation=True)
    folder = packing.quantised(plain, tmp_path / "quantised", scheme)
    stem = OWN.removesuffix("weight")
    parts = {
        name.removeprefix(stem): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
        if name.startswith(stem)
    }
    index = parts["g_idx"].long()
    group, less = (torch.arange(len(index)) // 32, 1) if wrong == "group index" else (index, 0)
    report = converted_with(folder, plain, tmp_path / "plain", gptq_values(parts, group, less))
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert ("group index" if wrong == "group index" else "one too low") in report.findings[0].message


def test_a_converter_that_leaves_the_scales_out_is_found_out(tmp_path: Path, plain: Path) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.fp8())
    codes = load_file(folder / "model.safetensors")[OWN].float()
    report = converted_with(folder, plain, tmp_path / "plain", codes)
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert "without its scales" in report.findings[0].message


@pytest.mark.parametrize("name", ["ct nvfp4", "ct mxfp4"])
def test_so_is_one_that_leaves_those_of_four_bit_floats_out(tmp_path: Path, plain: Path, name: str) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name])
    packed = load_file(folder / "model.safetensors")[OWN.replace(".weight", ".weight_packed")]
    codes = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1).long()
    magnitudes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])  # OCP Microscaling, E2M1
    values = magnitudes[codes & 7] * torch.where(codes < 8, 1.0, -1.0)
    report = converted_with(folder, plain, tmp_path / "plain", values)
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert "without its scales" in report.findings[0].message


def test_so_is_one_that_leaves_those_of_mlx_out(tmp_path: Path, plain: Path) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.mlx())
    held = load_file(folder / "model.safetensors")
    packed = held[OWN].view(torch.int32).contiguous().view(torch.uint8)
    codes = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1).float()
    scales, biases = (held[OWN.replace("weight", part)].float() for part in ("scales", "biases"))
    values = codes + (biases / scales).round().repeat_interleave(32, dim=1)  # a code less its zero point
    report = converted_with(folder, plain, tmp_path / "plain", values)
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert "without its scales" in report.findings[0].message


def test_so_is_one_that_leaves_those_of_gptq_out(tmp_path: Path, plain: Path) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.gptq())
    stem, parts = OWN.removesuffix("weight"), load_file(folder / "model.safetensors")
    held = {name.removeprefix(stem): tensor for name, tensor in parts.items() if name.startswith(stem)}
    held["scales"] = torch.ones_like(held["scales"])
    values = gptq_values(held, held["g_idx"].long(), 1)
    report = converted_with(folder, plain, tmp_path / "plain", values)
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert "without its scales" in report.findings[0].message


def test_so_is_one_that_leaves_the_zero_points_out(tmp_path: Path, plain: Path) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.gptq())
    stem, parts = OWN.removesuffix("weight"), load_file(folder / "model.safetensors")
    held = {name.removeprefix(stem): tensor for name, tensor in parts.items() if name.startswith(stem)}
    held["qzeros"] = torch.zeros_like(held["qzeros"])
    values = gptq_values(held, held["g_idx"].long(), 0)
    report = converted_with(folder, plain, tmp_path / "plain", values)
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert "decoded as if all its zero points were 0" in report.findings[0].message


def test_so_is_one_that_takes_the_scales_of_other_rows(tmp_path: Path, plain: Path) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES["fp8 rows"])
    held = load_file(folder / "model.safetensors")
    values = held[OWN].float() * held[f"{OWN}_scale"].roll(1, 0)
    report = converted_with(folder, plain, tmp_path / "plain", values)
    assert_proven(report, STAGE, Cause(QUANTISATION, NAME))
    assert "decoded with the scales of other rows: they begin with" in report.findings[0].message


def test_a_fault_of_the_values_is_not_called_one_of_the_scheme(tmp_path: Path, plain: Path) -> None:
    scheme = packing.fp8()

    def fault(name: str, tensors: packing.Tensors) -> packing.Tensors:
        if name != OWN:
            return tensors
        return {**tensors, ".weight_scale_inv": 3 * tensors[".weight_scale_inv"]}

    report = compared_files(packing.quantised(plain, tmp_path / "quantised", scheme, fault), plain)
    assert_proven(report, STAGE, Cause("value.scaled", NAME))
