"""A folder of packed weights whose config.json does not say so (`config.quantization`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from rosetta.blocks.schemes import Folder, unstated_configs
from rosetta.containers.huggingface.quantised import QuantisedContainer, StoredParts
from rosetta.containers.huggingface.reader import HuggingFaceContainer
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, looks_like
from rosetta.diagnose.patches import instead
from rosetta.errors import RosettaError
from rosetta.model import Model, build_model
from rosetta.weight import Weight

KEY = "quantization_config"


def propose(fault: Fault) -> Iterator[Proposal]:
    """The config that a folder's tensors go with, where the stage lacks a weight that they are the parts of."""
    for suspect in (fault.subject, fault.reference):
        stored, lacking = suspect.model.container, set(fault.names()) - {*suspect.model.weights}
        if fault.recorded or not lacking or not isinstance(stored, HuggingFaceContainer):
            continue
        for config, packed in _read_otherwise(suspect.model, stored):
            held = {name: weight for name, weight in packed.items() if name not in suspect.model.weights}
            both = [(held[name], suspect.other.weights.get(name)) for name in lacking & {*held}]
            if not any(other is not None and looks_like(weight, other) for weight, other in both):
                continue
            method = config["quant_method"]
            own = ", ".join(f"{key} {value}" for key, value in config.items() if key != "config_groups")
            yield Proposal(
                kind="config.quantization",
                role=suspect.role,
                repair=Repair(patches={name: instead(weight) for name, weight in held.items()}),
                key=KEY,
                actual=method,
                message=f"{KEY} is not stated, and {len(held)} weights of {stored.path} are packed: read by {own} "
                "they are the other side's",
                recommendation=f"write {KEY} into config.json of {stored.path} as the library of {method} wrote it, or "
                "copy that file from the folder that they came in: no reader knows the weights without it",
            )


def _read_otherwise(
    model: Model, stored: HuggingFaceContainer
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Weight]]]:
    """What the folder's weights are by each config that its tensors may go with."""
    folder = Folder(stored.path, {}, stored.tensors, StoredParts(stored))
    with suppress(RosettaError):  # its parts go with no scheme
        for config in unstated_configs(folder):
            packed = QuantisedContainer(stored, config)
            yield config, build_model(packed, model.overrides).weights
