"""NVIDIA ModelOpt: NVFP4 with a scale for 16 columns and one for the tensor, by which those are multiplied; and E4M3
with one scale.

Arithmetic: modelopt, NVFP4QTensor.dequantize: level · (scale · weight_scale_2), rounded to the weight's own dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rosetta.blocks.schemes.compressed_tensors import Float4Weight
from rosetta.blocks.schemes.fp8 import CODES, fp8_weight
from rosetta.blocks.schemes.packed import Folder, Packed, Packing

METHODS = ("modelopt", "modelopt_fp4")
WHOLE, OF_GROUPS = ".weight_scale_2", ".weight_scale"
# Of activations, and of keys and values in a cache.
BESIDE = ("input_scale", "k_scale", "v_scale", "output_scale")
SMOOTHED = ".pre_quant_scale"  # AWQ's, by which the inputs are to be multiplied
GROUP = 16


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    folder.stated("quant_algo", "NVFP4", "NVFP4", "FP8", "MIXED_PRECISION")
    if (smoothed := next(folder.stems(SMOOTHED), None)) is not None:
        raise folder.unsupported(f"has the inputs of {smoothed} multiplied by {SMOOTHED[1:]}")
    weights = [weight for stem in folder.stems(OF_GROUPS) if (weight := _weight(folder, stem)) is not None]
    kinds = dict.fromkeys(weight.dtype.partition(":")[2] for weight in weights)
    return Packing(f"ModelOpt, {' and '.join(kinds) or 'nothing packed'}", tuple(weights))


def unstated(folder: Folder) -> Iterator[Mapping[str, Any]]:
    """See `rosetta.blocks.schemes`: older exports say it in a file of their own."""
    if next(folder.stems(WHOLE), None) is not None:
        yield {"quant_method": METHODS[0], "quant_algo": "NVFP4"}


def _weight(folder: Folder, stem: str) -> Packed | None:
    """The weight whose scales a stem has."""
    name, beside = f"{stem}.weight", folder.parts(f"{stem}.", **{end: end for end in BESIDE})
    folder.dims(name)
    if folder.tensors[name].dtype in CODES:
        found = fp8_weight(folder, name, None, scheme="MODELOPT")
        return replace(found, parts={**found.parts, **beside})
    folder.hold_dtype(name, "U8")
    folder.hold_dtype(stem + OF_GROUPS, "F8_E4M3")
    rows, half = folder.matrix(name)
    folder.hold(stem + OF_GROUPS, (rows, 2 * half // GROUP))
    folder.hold_dtype(stem + WHOLE, "F32")
    folder.hold(stem + WHOLE, (), (1,))
    parts = {"codes": name, **folder.parts(stem, scales=OF_GROUPS, all=WHOLE), **beside}
    return Float4Weight(name, (rows, 2 * half), parts, divided=False, scheme="MODELOPT")
