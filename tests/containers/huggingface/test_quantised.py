"""Packed weights of quantised folders are decoded bit for bit as the scheme's own library, or its published arithmetic,
decodes them; what belongs to a weight is no tensor of its own; what is not decoded is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fixtures import packing
from fixtures.comparing import tiny
from fixtures.pairs import build
from rosetta import blocks
from rosetta.containers import open_container
from rosetta.containers.container import Container
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.inspection.facts import inspection
from rosetta.lint.rules.file import overlapping, unused_bytes
from rosetta.lint.subject import Subject
from rosetta.model import build_model

STEM = "model.layers.0.mlp.up_proj"
ROWS, COLUMNS = 96, 256


def drawn(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> Tensor:
    """A weight as a model has it, float32 [rows, columns]."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.05


def folder(path: Path, tensors: dict[str, Tensor], config: dict[str, Any], stem: str = STEM) -> Path:
    """A folder of one packed weight."""
    path.mkdir(parents=True, exist_ok=True)
    save_file(
        {stem + ending: part.contiguous() for ending, part in tensors.items()}, path / "model.safetensors"
    )
    key = "quantization_config" if "quant_method" in config else "quantization"
    described = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], key: config}
    (path / "config.json").write_text(json.dumps(described))
    return path


def decoded(container: Container, name: str = f"{STEM}.weight") -> Tensor:
    """All values of a tensor."""
    entry = container.tensors[name]
    return blocks.decode(entry.dtype, torch.from_numpy(container.read(name)), entry.dims)


def values_of(path: Path, scheme: packing.Scheme, tensors: dict[str, Tensor]) -> Tensor:
    return decoded(open_container(folder(path, tensors, dict(scheme.config))))


def fields(words: Tensor, bits: int) -> np.ndarray[Any, Any]:
    """Codes along the last dim of int32 words, one by one."""
    rows, width = words.shape
    numbers = [int.from_bytes(words[r].numpy().tobytes(), "little") for r in range(rows)]
    return np.array(
        [[n >> (bits * k) & ((1 << bits) - 1) for k in range(width * 32 // bits)] for n in numbers]
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("by_activation", [False, True])
def test_gptq_is_scale_times_code_less_zero_point(
    tmp_path: Path, bits: int, version: int, by_activation: bool
) -> None:
    scheme = packing.gptq(bits, 64, version, by_activation)
    tensors = scheme.pack(drawn())
    q = fields(tensors[".qweight"].T.contiguous(), bits).T  # [C, R]
    zero = fields(tensors[".qzeros"], bits)[:, :ROWS]
    zero = (zero + 1) % (1 << bits) if version == 1 else zero
    index = tensors[".g_idx"].long()
    whole = torch.from_numpy(q - zero[index.numpy()]).half()  # GPTQModel: in the dtype of the scales
    assert torch.equal(values_of(tmp_path, scheme, tensors), (tensors[".scales"][index] * whole).T.float())


def test_awq_takes_the_rows_of_a_word_in_its_own_order(tmp_path: Path) -> None:
    scheme = packing.awq(64)
    tensors = scheme.pack(drawn())
    order = [0, 4, 1, 5, 2, 6, 3, 7]  # AutoAWQ, AWQ_REVERSE_ORDER
    q, zero = (
        packing.in_runs(torch.from_numpy(fields(tensors[part], 4)), 8)[..., order].flatten(1)
        for part in (".qweight", ".qzeros")
    )
    groups = torch.arange(COLUMNS) // 64
    wanted = (q - zero[groups]).half() * tensors[".scales"][groups]
    assert torch.equal(values_of(tmp_path, scheme, tensors), wanted.T.float())


@pytest.mark.parametrize("shared", ["blocks", "rows", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_fp8_is_what_transformers_makes_of_it(tmp_path: Path, shared: str, dtype: torch.dtype) -> None:
    fp8 = pytest.importorskip("transformers.integrations.finegrained_fp8")
    scheme = packing.fp8(shared, dtype, (32, 64))
    tensors = scheme.pack(drawn())
    scale = tensors[".weight_scale_inv" if shared == "blocks" else ".weight_scale"]
    wanted = fp8.Fp8Dequantize(None)._dequantize_one(
        tensors[".weight"], scale.reshape(1, 1) if not scale.dim() else scale
    )
    assert torch.equal(values_of(tmp_path, scheme, tensors), wanted)


def test_blocks_of_fp8_may_end_with_the_weight(tmp_path: Path) -> None:
    scheme, weight = packing.fp8(block=(128, 128)), drawn(160, 200)
    tensors = scheme.pack(weight)
    scale = tensors[".weight_scale_inv"].repeat_interleave(128, 0).repeat_interleave(128, 1)[:160, :200]
    assert torch.equal(values_of(tmp_path, scheme, tensors), tensors[".weight"].float() * scale)


@pytest.mark.parametrize("rows", [64, 96])  # 96: as many inputs as outputs
@pytest.mark.parametrize("form", [(3, 1, 96), (3, 96, 1)])
def test_stacked_experts_of_fbgemm_have_a_scale_for_each_output(
    tmp_path: Path, rows: int, form: tuple[int, ...]
) -> None:
    """transformers, FbgemmFp8Llama4TextExperts: codes [experts, in, out], scales [experts, 1, out] of gate and up and
    [experts, out, 1] of down."""
    weight, stem = drawn(3 * rows, 96).view(3, rows, 96), "model.layers.0.feed_forward.experts.down_proj"
    scale = weight.abs().amax(1, keepdim=True) / 448
    codes = (weight / scale).to(torch.float8_e4m3fn)
    tensors = {"": codes, "_scale": scale.view(form)}
    container = open_container(folder(tmp_path, tensors, {"quant_method": "fbgemm_fp8"}, stem))
    assert torch.equal(decoded(container, stem), codes.float() * scale)


def test_mxfp4_is_what_transformers_makes_of_it(tmp_path: Path) -> None:
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    tensors = packing.gpt_oss_experts(drawn(3 * 64, 96).view(3, 64, 96))
    stem = "model.layers.0.mlp.experts.gate_up_proj"
    container = open_container(folder(tmp_path, tensors, {"quant_method": "mxfp4"}, stem))
    wanted = mxfp4.convert_moe_packed_tensors(tensors["_blocks"], tensors["_scales"])  # [experts, C, R]
    assert torch.equal(decoded(container, stem), wanted.transpose(1, 2).float())


CT = {
    "int8": packing.int8(),
    "int4": packing.packed_int(),
    "int4 zero points": packing.packed_int(symmetric=False),
    "int3": packing.packed_int(3),
    "fp8": packing.float8(),
    "nvfp4": packing.nvfp4(),
    "mxfp4": packing.mxfp4(),
}


def test_nvfp4_of_modelopt_is_level_times_both_scales(tmp_path: Path) -> None:
    """ModelOpt, NVFP4QTensor.dequantize: the low half of a byte first."""
    scheme = packing.modelopt()
    tensors = scheme.pack(drawn())
    levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    codes = tensors[".weight"].long()
    wanted = torch.stack([levels[codes & 15], levels[codes >> 4]], -1).view(ROWS, -1, 16)
    wanted = wanted * (tensors[".weight_scale"].float() * tensors[".weight_scale_2"])[..., None]
    found = values_of(tmp_path, scheme, tensors)
    assert torch.equal(found, wanted.view(ROWS, COLUMNS).bfloat16().float())
    assert (found - drawn()).norm() < 0.12 * drawn().norm()


def test_fp8_of_modelopt_is_code_times_scale(tmp_path: Path) -> None:
    scheme = packing.modelopt_fp8()
    tensors = scheme.pack(drawn())
    assert torch.equal(
        values_of(tmp_path, scheme, tensors), tensors[".weight"].float() * tensors[".weight_scale"]
    )


@pytest.mark.parametrize("scheme", CT.values(), ids=CT)
def test_compressed_tensors_is_what_its_library_makes_of_it(tmp_path: Path, scheme: packing.Scheme) -> None:
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme

    tensors = scheme.pack(drawn())
    group = scheme.config["config_groups"]["group_0"]
    own = {ending.removeprefix("."): part for ending, part in tensors.items()}
    compressor = BaseCompressor.get_value_from_registry(scheme.config["format"])
    wanted = compressor.decompress(own, QuantizationScheme(**group))["weight"]
    assert torch.equal(values_of(tmp_path, scheme, tensors), wanted.float())


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_bitsandbytes_is_what_its_library_makes_of_it(
    tmp_path: Path, kind: str, nested: bool, dtype: torch.dtype
) -> None:
    library = pytest.importorskip("bitsandbytes.functional")
    packed, state = library.quantize_4bit(drawn().to(dtype), quant_type=kind, compress_statistics=nested)
    tensors = {f".weight.{name}": part for name, part in state.as_dict(packed=True).items()}
    container = open_container(
        folder(tmp_path, {".weight": packed, **tensors}, {"quant_method": "bitsandbytes"})
    )
    assert torch.equal(decoded(container), library.dequantize_4bit(packed, state).float())


def test_int8_of_bitsandbytes_is_what_its_library_makes_of_it(tmp_path: Path) -> None:
    library = pytest.importorskip("bitsandbytes.functional")
    scheme = packing.bitsandbytes_int8()
    tensors = scheme.pack(drawn())
    wanted = library.int8_vectorwise_dequant(tensors[".weight"], tensors[".SCB"])
    assert torch.equal(values_of(tmp_path, scheme, tensors), wanted)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_mlx_is_what_its_library_makes_of_it(tmp_path: Path, bits: int, dtype: str) -> None:
    mx = pytest.importorskip("mlx.core")
    given = mx.array(drawn().numpy()).astype(getattr(mx, dtype))
    parts = mx.quantize(given, group_size=64, bits=bits)
    wanted = np.array(mx.dequantize(*parts, group_size=64, bits=bits).astype(mx.float32))
    codes = torch.from_numpy(np.array(parts[0]))
    scales, biases = (torch.from_numpy(np.array(part.astype(mx.float32))) for part in parts[1:])
    scales, biases = (part.to(getattr(torch, dtype)) for part in (scales, biases))
    tensors = {".weight": codes, ".scales": scales, ".biases": biases}
    container = open_container(folder(tmp_path, tensors, {"bits": bits, "group_size": 64}))
    assert torch.equal(decoded(container), torch.from_numpy(wanted))


@pytest.mark.parametrize("mode", ["mxfp4", "nvfp4", "mxfp8"])
def test_floats_of_mlx_are_what_its_library_makes_of_them(tmp_path: Path, mode: str) -> None:
    mx = pytest.importorskip("mlx.core")
    parts = mx.quantize(mx.array(drawn().numpy()).astype(mx.bfloat16), mode=mode)
    wanted = np.array(mx.dequantize(*parts, mode=mode).astype(mx.float32))
    codes, scales = (torch.from_numpy(np.array(part)) for part in parts)
    config = {**packing.mlx_floats(mode).config}
    container = open_container(folder(tmp_path, {".weight": codes, ".scales": scales}, config))
    assert torch.equal(decoded(container), torch.from_numpy(wanted))


def test_a_module_of_mlx_that_states_no_group_has_its_librarys(tmp_path: Path) -> None:
    """mlx_lm's mixed recipes write null."""
    scheme = packing.mlx(6, 64)
    config = {"bits": 4, "group_size": 64, STEM: {"bits": 6, "group_size": None, "mode": "affine"}}
    container = open_container(folder(tmp_path, scheme.pack(drawn()), config))
    assert container.tensors[f"{STEM}.weight"].dtype == "MLX:INT6"
    assert container.tensors[f"{STEM}.weight"].dims == (ROWS, COLUMNS)


def test_float8_of_torchao_is_code_times_scale_in_the_dtype_that_the_weight_had(tmp_path: Path) -> None:
    scheme = packing.torchao_float8()
    tensors = scheme.pack(drawn())
    wanted = (tensors["._weight_qdata"].float() * tensors["._weight_scale"]).bfloat16().float()
    beside = {"_norm.weight": torch.ones(8, dtype=torch.bfloat16)}
    assert torch.equal(values_of(tmp_path, scheme, tensors | beside), wanted)


@pytest.mark.parametrize(
    ("form", "other"),
    [
        ("auto_round:auto_gptq", packing.gptq()),
        ("auto_round", packing.gptq(version=2)),
        ("auto_round:auto_awq", packing.awq()),
    ],
    ids=["gptq", "gptq v2", "awq"],
)
def test_autorounds_files_are_those_that_its_packing_format_names(
    tmp_path: Path, form: str, other: packing.Scheme
) -> None:
    """auto_round, inference/backend.py."""
    tensors = other.pack(drawn())
    config = {"quant_method": "auto-round", "packing_format": form, "bits": 4, "group_size": 32}
    container = open_container(folder(tmp_path / "auto", tensors, config))
    assert torch.equal(decoded(container), values_of(tmp_path / "own", other, tensors))


def test_words_of_zero_points_tell_the_bits_of_a_module_where_there_is_no_group_index(tmp_path: Path) -> None:
    tensors = packing.gptq(8).pack(drawn())
    del tensors[".g_idx"]
    config = {"quant_method": "gptq", "bits": 4, "group_size": 32, "dynamic": {"up_proj": {"bits": 8}}}
    container = open_container(folder(tmp_path / "stated", tensors, config))
    assert container.tensors[f"{STEM}.weight"].dtype == "GPTQ:INT8"
    assert torch.equal(decoded(container), values_of(tmp_path / "own", packing.gptq(8), tensors))


@pytest.mark.parametrize("scheme", packing.SCHEMES.values(), ids=packing.SCHEMES)
def test_rows_are_decoded_alone_as_with_the_others(tmp_path: Path, scheme: packing.Scheme) -> None:
    container = open_container(folder(tmp_path, scheme.pack(drawn()), dict(scheme.config)))
    name, row = f"{STEM}.weight", COLUMNS * 8
    whole = container.read(name)
    assert container.tensors[name].dims == (ROWS, COLUMNS)
    for first, last in ((0, 1), (5, 7), (31, 70), (95, 96)):
        assert np.array_equal(
            container.read(name, first * row, (last - first) * row), whole[first * row : last * row]
        )
    assert np.array_equal(container.read(name, 3 * row + 80, 5 * row), whole[3 * row + 80 :][: 5 * row])


def test_zero_points_of_a_router_of_few_experts_fill_no_word(tmp_path: Path) -> None:
    scheme, weight = packing.packed_int(symmetric=False), drawn()[:4]
    container = open_container(folder(tmp_path, scheme.pack(weight), dict(scheme.config)))
    row = COLUMNS * 8
    found = container.read(f"{STEM}.weight", 0, 4 * row).view(np.float32).reshape(4, COLUMNS, 2)[..., 0]
    step = (weight.amax(1) - weight.amin(1)) / 15
    assert (torch.from_numpy(found) - weight).abs().amax() <= 0.6 * step.max()


@pytest.mark.parametrize("scheme", packing.SCHEMES.values(), ids=packing.SCHEMES)
def test_the_rounding_of_a_plain_encoder_is_what_sigma_says(tmp_path: Path, scheme: packing.Scheme) -> None:
    weight = drawn(ROWS, 512, seed=3)
    container = open_container(folder(tmp_path, scheme.pack(weight), dict(scheme.config)))
    entry = container.tensors[f"{STEM}.weight"]
    raw = torch.from_numpy(container.read(entry.name))
    error = blocks.decode(entry.dtype, raw, entry.dims) - weight
    predicted = blocks.sigma(entry.dtype, raw, entry.dims)
    assert 0.7 < float(error.norm() / predicted.norm()) < 1.2


@pytest.mark.parametrize("scheme", packing.SCHEMES.values(), ids=packing.SCHEMES)
def test_what_belongs_to_a_weight_is_no_tensor_of_its_own(tmp_path: Path, scheme: packing.Scheme) -> None:
    tensors = scheme.pack(drawn())
    container = open_container(folder(tmp_path, tensors, dict(scheme.config)))
    assert isinstance(container, QuantisedContainer)
    assert list(container.tensors) == [f"{STEM}.weight"]
    assert container.tensors[f"{STEM}.weight"].file_bytes == sum(part.nbytes for part in tensors.values())
    assert container.scheme in container.notes[-1]


def test_scales_of_activations_belong_to_their_weight(tmp_path: Path) -> None:
    scheme = packing.float8()
    tensors = scheme.pack(drawn()) | {".input_scale": torch.ones(1)}
    assert list(open_container(folder(tmp_path, tensors, dict(scheme.config))).tensors) == [f"{STEM}.weight"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quant_method": "aqlm"}, "is quantised with 'aqlm', which rosetta does not decode"),
        ({"quant_method": "gptq", "bits": 5}, "states bits 5 for gptq"),
        (
            {"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"},
            "states checkpoint_format 'marlin'",
        ),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "states version 'gemv' for awq"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, "states format 'marlin-24'"),
        ({"group_size": 32, "bits": 4, "mode": "mxint4"}, "states mode 'mxint4' for MLX"),
        (
            {"quant_method": "auto-round", "packing_format": "auto_round:fp8"},
            "packing_format 'auto_round:fp8'",
        ),
        ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, "states quant_algo 'W4A16_AWQ'"),
    ],
)
def test_what_is_not_decoded_is_refused_by_name(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    tensors = packing.gptq().pack(drawn()) | {".scales": torch.ones(2, 2)}
    path = folder(tmp_path, tensors, config)
    with pytest.raises(UnsupportedError, match=said):
        build_model(open_container(path))
    assert any(said in note for note in inspection(path).notes), "it can be looked at all the same"


def test_scales_that_are_missing_or_of_other_dims_are_an_error(tmp_path: Path) -> None:
    scheme = packing.gptq()
    tensors = scheme.pack(drawn())
    scales = tensors.pop(".scales")
    with pytest.raises(DamagedFileError, match=r"up_proj\.scales.*is missing"):
        open_container(folder(tmp_path / "a", tensors, dict(scheme.config)))
    with pytest.raises(DamagedFileError, match=r"up_proj\.scales.*needs"):
        open_container(folder(tmp_path / "b", {**tensors, ".scales": scales[:, :-8]}, dict(scheme.config)))


def refusal(path: Path) -> str | None:
    """Why a folder is not decoded; None where all of it is."""
    try:
        container = open_container(path)
    except DamagedFileError as error:
        return str(error)
    for name in container.tensors:
        container.read(name)
    said = getattr(container, "refusal", None)
    return None if said is None else str(said)


def test_four_bits_of_torchao_are_refused_by_name(tmp_path: Path) -> None:
    """Its scales lie the other way round, and were said to be damaged."""
    tensors = {
        "._weight_qdata": torch.zeros(64, 64, dtype=torch.int8),
        "._weight_scale": torch.ones(4, 64),
        "._weight_zero_point": torch.zeros(4, 64, dtype=torch.int8),
    }
    kind = {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 32}}
    config = {"quant_method": "torchao", "quant_type": {"default": kind}}
    assert "torchao's Int4WeightOnlyConfig" in str(refusal(folder(tmp_path / "int4", tensors, config)))


@pytest.mark.parametrize("scheme", packing.SCHEMES.values(), ids=packing.SCHEMES)
def test_parts_of_other_dtypes_or_dims_are_refused_in_a_sentence(
    tmp_path: Path, scheme: packing.Scheme
) -> None:
    tensors, said = scheme.pack(drawn()), []
    for ending, part in tensors.items():
        for which, held in enumerate((part.to(torch.float64), part[None, None], None)):
            rest = {name: x for name, x in tensors.items() if name != ending}
            broken = rest if held is None else {**rest, ending: held}
            said.append(refusal(folder(tmp_path / f"{ending}{which}", broken, dict(scheme.config))))
    assert all(text is None or STEM in text for text in said)
    assert sum(text is not None for text in said) >= 2, said


def test_a_module_of_other_bits_is_read_with_its_own(tmp_path: Path) -> None:
    scheme = packing.gptq(8)
    config = {**scheme.config, "bits": 4, "dynamic": {"+:.*up_proj": {"bits": 8}}}
    container = open_container(folder(tmp_path, scheme.pack(drawn()), config))
    assert container.tensors[f"{STEM}.weight"].dtype == "GPTQ:INT8"
    assert float((decoded(container) - drawn()).abs().max()) < 0.002


def test_a_packed_module_that_the_config_excludes_is_noted(tmp_path: Path) -> None:
    scheme = packing.fp8()
    config = {**scheme.config, "modules_to_not_convert": ["mlp.up_proj"]}
    (*_, note) = open_container(folder(tmp_path, scheme.pack(drawn()), config)).notes
    said = f"says that {STEM} is not quantised, and it is packed"
    assert note == f"quantization_config.modules_to_not_convert {said}"


def test_a_folder_that_was_dequantised_and_says_so_no_longer_is_plain(tmp_path: Path) -> None:
    path = folder(tmp_path, {".weight": drawn()}, {"quant_method": "aqlm"})
    assert torch.equal(decoded(open_container(path)), drawn())


def test_packed_weights_have_a_place_and_share_no_bytes(tmp_path: Path) -> None:
    plain = build(tmp_path, tiny("llama", hidden=128, ffn=192), "hf:BF16")
    path = packing.quantised(plain, tmp_path / "quantised", packing.gptq())
    assert [fault.message for fault in overlapping.faults(Subject(open_container(path)))] == []
    assert [fault.message for fault in unused_bytes.faults(Subject(open_container(path)))] == []


@pytest.mark.requires_transformers
def test_torchao_is_what_its_library_makes_of_it(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import AutoModelForCausalLM, TorchAoConfig

    plain = build(tmp_path / "plain", tiny("llama", tied=False), "hf:BF16")
    config = TorchAoConfig(Int8WeightOnlyConfig(version=2))
    AutoModelForCausalLM.from_pretrained(
        plain, dtype=torch.bfloat16, quantization_config=config
    ).save_pretrained(tmp_path / "own")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "own", dtype=torch.bfloat16)
    weight = dict(loaded.named_parameters())[f"{STEM}.weight"]
    found = decoded(open_container(tmp_path / "own"))
    assert torch.equal(found, weight.dequantize().float())  # type: ignore[operator]
