"""Queries and keys turned in other layers than the file says (`config.layer_pattern`), read off an observed run: in all
layers, in none, or in every fourth from another one on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.setting_values import PerLayer

KEY, NORM = "rope.layers", "attention.head_norm"
SHOW_IT = frozenset({"q_rope", "k_rope", "attn_scores", "attn_context"})


def propose(fault: Fault) -> Iterator[Proposal]:
    """The layers in which queries came out of their rotation otherwise than they went in."""
    model = fault.subject.model
    own = model.config.get(KEY)
    if own is None or not fault.settings_unknown or fault.node.stage not in SHOW_IT:
        return
    stated = [bool(model.settings_of(layer)[KEY]) for layer in range(model.block_count)]
    seen = [_is_turned(fault, layer, stated[layer]) for layer in range(model.block_count)]
    if seen == stated:
        return
    found = setting_proposal(fault, KEY, own, PerLayer(seen))
    yield found
    if NORM in model.config:  # a norm behind the rotation, which only layers have that are meant to turn
        overrides = {**found.repair.overrides, NORM: PerLayer(stated)}
        yield replace(found, repair=Repair(overrides=overrides))


def _is_turned(fault: Fault, layer: int, stated: bool) -> bool:
    """Whether a layer's queries are turned; what the file says, where they were not recorded."""
    before, behind = (fault.recorded_stage(f"layers.{layer}.{stage}") for stage in ("q", "q_rope"))
    if before is None:
        return stated
    return behind is not None and not torch.equal(before, behind)
