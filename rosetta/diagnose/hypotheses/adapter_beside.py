"""A folder that was saved with an adapter still around its modules: base_layer.weight beside lora_A and lora_B
(`adapter.merge`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rosetta.adapted import merge_of
from rosetta.containers.adapters import AdaptedContainer, Factor, Module
from rosetta.containers.container import StoredContainer, TensorEntry
from rosetta.containers.stand_in import StandIn
from rosetta.diagnose.hypotheses.known_adapter import CERTAIN, CLOSE, times_merged
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import instead
from rosetta.errors import RosettaError
from rosetta.finding_kind import FindingKind
from rosetta.model import Model, Patch, build_model

KINDS = (
    FindingKind(
        "adapter.merge",
        means="An adapter stands beside its base instead of being merged into it, was merged into a base that had been "
        "quantised, or lacks what it was trained with as a whole.",
        why="The state dict of a model that peft still wraps was saved: each adapted module has base_layer.weight, "
        "lora_A and lora_B, and loaders leave such a weight random or take it for missing. Or the adapter was trained "
        "over a base in four or eight bits (QLoRA) and merged into that base, decoded, and not into the original. Or A "
        "and B were merged by hand, and the embedding, head or rows that peft saved beside them were forgotten.",
        repair="base_layer.weight is read as the weight, with B·A merged where the other side has it. Call "
        "merge_and_unload before save_pretrained. Beneath a merge the rounding of the quantised base is taken for this "
        "side's: load the original base in 16 bits and merge the adapter into that.",
        title="adapter merge",
        together="hold the adapter otherwise than it is meant: {actual}",
        of_file="merge the whole adapter once, as peft does, into the original base of the {side} side, before "
        "anything is quantised, and export again",
        alike=True,
    ),
)

KEY = "adapter"
BASE_LAYER = re.compile(r"\.base_layer(?=\.)")  # peft, the module that a tuner's layer stands around
FACTOR = re.compile(r"(.+)\.lora_(A|B)(?:\.[^.]+)?\.weight$")  # peft, LoraLayer: one of each adapter's name
REMEDY = "call merge_and_unload on the peft model, then save_pretrained, and convert that folder"


def module_around(name: str) -> str | None:
    """The module that peft stands around, of a tensor that it has in the place of the module's weight; None of others.

    >>> module_around("model.layers.0.mlp.up_proj.lora_A.default.weight")
    'model.layers.0.mlp.up_proj'
    """
    found = FACTOR.match(name)
    if found is not None:
        return found[1]
    return name.removesuffix(".base_layer.weight") if name.endswith(".base_layer.weight") else None


class Unwrapped(StandIn):
    """A folder whose tensors have the names that they have without the adapter around them.

    Args:
        stored: the folder as it is: entries keep the names that it has.
    """

    def __init__(self, stored: StoredContainer) -> None:
        super().__init__(stored)
        self.place = stored.place
        self.tensors = {
            BASE_LAYER.sub("", name): entry
            for name, entry in stored.tensors.items()
            if FACTOR.match(name) is None
        }


@dataclass(frozen=True)
class Beside:
    """The adapter in such a folder; see `rosetta.containers.adapters.Adapter`.

    Args:
        stored: the folder.
        scale: of the product of the factors, which the folder does not state.
    """

    stored: StoredContainer
    scale: float
    kind: str = "huggingface"
    architecture: str | None = None
    base: str | None = None
    remedy: str = REMEDY
    ties: bool = False

    @property
    def path(self) -> Path:
        """The folder."""
        return self.stored.path

    @property
    def weights(self) -> Path:
        """The folder, too."""
        return self.stored.path

    @property
    def whole(self) -> Mapping[str, str]:
        """Nothing stands in the place of the base's tensors."""
        return {}

    @property
    def rows(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Nor of rows of them."""
        return {}

    @property
    def words(self) -> str:
        """What it is."""
        return f"LoRA of {len(self.modules)} modules, scale {self.scale:g}"

    @property
    def modules(self) -> tuple[Module, ...]:
        """Each module that has both factors, matrices that go with each other."""
        pairs: dict[str, dict[str, TensorEntry]] = {}
        for name, entry in self.stored.tensors.items():
            if (found := FACTOR.match(name)) is not None and len(entry.dims) == 2:
                pairs.setdefault(found[1], {})[found[2]] = entry
        fitting = {
            name: (pair["A"], pair["B"])
            for name, pair in pairs.items()
            if len(pair) == 2 and pair["A"].dims[0] == pair["B"].dims[1]
        }
        return tuple(
            Module(
                name=name,
                tensors=(f"{name}.weight",),
                left=Factor(b.name, b.dims),
                right=Factor(a.name, a.dims),
                rank=a.dims[0],
                alpha=self.scale * a.dims[0],
                scale=self.scale,
            )
            for name, (a, b) in fitting.items()
        )


def propose(fault: Fault) -> Iterator[Proposal]:
    """The folder without the adapter, or with it merged, as the other side has it."""
    for suspect in (fault.subject, fault.reference):
        stored = suspect.model.container
        if fault.recorded or stored.kind != "huggingface" or isinstance(stored, AdaptedContainer):
            continue
        if not any(map(FACTOR.match, stored.tensors)) or not isinstance(stored, StoredContainer):
            continue
        try:
            plain = build_model(Unwrapped(stored), suspect.model.overrides)
            merged = _merged(suspect, stored, 1.0)
            scale = _scale(fault, suspect, plain, merged)
            right = plain if scale == 0 else _merged(suspect, stored, scale)
        except RosettaError:  # tensors of another model
            continue
        count = len(Beside(stored, scale).modules)
        what = "does not have it" if scale == 0 else f"has it merged with the scale {scale:.4g}"
        yield Proposal(
            kind="adapter.merge",
            role=suspect.role,
            repair=Repair(patches=_patches(suspect.model, right)),
            key=KEY,
            message=f"{KEY}: {stored.path} was saved with an adapter (LoRA) of {count} modules beside its base "
            f"(base_layer.weight, lora_A, lora_B), which no reader merges; the other side {what}",
            recommendation=REMEDY,
            from_reference=None if scale == 0 else "1 number: the scale that the adapter is merged with",
        )


def _merged(suspect: Suspect, stored: StoredContainer, scale: float) -> Model:
    return build_model(AdaptedContainer(Unwrapped(stored), Beside(stored, scale)), suspect.model.overrides)


def _scale(fault: Fault, suspect: Suspect, plain: Model, merged: Model) -> float:
    """With which scale the other side has the adapter, by the first adapted weight of the stage; 0: it has it not."""
    for name in fault.names():
        weight, other = merged.weights.get(name), suspect.other.weights.get(name)
        if weight is None or other is None or merge_of(weight) is None or other.dims != weight.dims:
            continue
        times, error = times_merged(other, weight, plain.weights[name])
        return 0.0 if abs(times) <= max(CERTAIN * error, CLOSE) else times
    return 0.0


def _patches(model: Model, right: Model) -> dict[str, Patch]:
    """What is read otherwise: what the folder has under other names, and what the adapter is merged into."""
    own = model.weights
    return {
        name: instead(weight)
        for name, weight in right.weights.items()
        if name not in own or merge_of(weight) is not None
    }
