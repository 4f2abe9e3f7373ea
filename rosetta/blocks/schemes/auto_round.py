"""AutoRound's own folders: the tensors of GPTQ or of AWQ, as `packing_format` says (auto_round, inference/backend.py,
GPTQ_FORMAT, GPTQ_FORMAT_NO_ZP, AWQ_FORMAT)."""

from __future__ import annotations

from dataclasses import replace

from rosetta.blocks.schemes import awq, gptq
from rosetta.blocks.schemes.packed import Folder, Packing

METHODS = ("auto-round", "intel/auto-round")
ZEROS_LESS_ONE, ZEROS_AS_THEY_ARE = gptq.FORMATS
FORMATS = {
    "auto": ZEROS_LESS_ONE,  # convert_model.py takes it so
    "auto_round:gptq": ZEROS_LESS_ONE,
    "auto_round:auto_gptq": ZEROS_LESS_ONE,
    "auto_round": ZEROS_AS_THEY_ARE,
    "auto_round:gptqmodel": ZEROS_AS_THEY_ARE,
}
"""GPTQ's `checkpoint_format` of each that has its tensors."""
AWQ = ("auto_round:awq", "auto_round:auto_awq")


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    form = folder.stated("packing_format", "auto_round:auto_gptq", *FORMATS, *AWQ)
    folder.stated("data_type", "int", "int")
    if form in AWQ:
        return awq.packing(folder)
    stated = {**folder.config, "checkpoint_format": FORMATS[form]}
    return gptq.packing(replace(folder, config=stated))
