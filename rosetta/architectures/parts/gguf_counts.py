"""Counts of a GGUF file that llama.cpp refuses though they can be read: facts of its source, no rule.

What it asks of every architecture stands here; what it asks of one stands with that one, as its `llamacpp.refuses`.

Sources: llama.cpp, src/llama-model.cpp, `llama_model_base::load_hparams`, whose assertions end the whole process;
ggml, src/ggml-cpu/ops.cpp, the rotation, which turns no more dimensions than a head has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rosetta.architectures.parts.architecture import Architecture

EXPERTS, USED = "expert_count", "expert_used_count"
GROUPS, GROUPS_USED = "expert_group_count", "expert_group_used_count"
LAYERS, PREDICTORS = "block_count", "nextn_predict_layers"
ROTATED, HEAD, WINDOW = "rope.dimension_count", "attention.key_length", "attention.sliding_window"
HEADS, KV_HEADS = "attention.head_count", "attention.head_count_kv"


@dataclass(frozen=True)
class Refused:
    """A count that llama.cpp refuses.

    Args:
        key: GGUF's, without the architecture.
        value: what the file states; None: nothing.
        why: a sentence's end, after "is 4".
        take_out: whether the key is to be taken out; else it is to be written.
    """

    key: str
    value: int | None
    why: str
    take_out: bool = False


@dataclass(frozen=True)
class Counts:
    """What a file states.

    Args:
        stated: its keys without the architecture, with their values.
        tensors: names of its tensors.
    """

    stated: Mapping[str, Any]
    tensors: Collection[str]

    def get(self, key: str) -> int | None:
        """A count, the largest where each layer has one; 0 of anything else, None where it is not stated."""
        if key not in self.stated:
            return None
        value = self.stated[key]
        numbers = value if isinstance(value, list) else [value]
        return max((n for n in numbers if type(n) is int), default=0)

    def of(self, key: str) -> int:
        """The count; 0 where none is stated."""
        return self.get(key) or 0

    def of_windows(self, key: str) -> int:
        """The count in layers with a window."""
        own = f"{key}_swa"
        return self.of(own if own in self.stated else key)


def refused_counts(architecture: Architecture, counts: Counts) -> Iterator[Refused]:
    """Each of a file's counts that does not go with the others.

    Args:
        architecture: of the file.
        counts: what it states.
    """
    yield from _experts(counts, drops_one=architecture.llamacpp.drops_one_expert)
    turned, head = (counts.of_windows(key) for key in (ROTATED, HEAD))
    if counts.of(WINDOW) and turned > head > 0:
        why = f"for heads of {head} in layers with a window"
        yield Refused(f"{ROTATED}_swa", counts.get(f"{ROTATED}_swa"), why)
    layers, predictors = counts.of(LAYERS), counts.of(PREDICTORS)
    if layers and predictors >= layers:
        yield Refused(PREDICTORS, predictors, f"for {layers} layers", take_out=True)
    heads, kept = counts.of(HEADS), counts.of(KV_HEADS)
    if architecture.llamacpp.keeps_heads and kept not in (0, heads):
        yield Refused(KV_HEADS, kept, f"for {heads} heads, each with keys of its own")
    yield from architecture.llamacpp.refuses(counts)


def _experts(counts: Counts, drops_one: bool) -> Iterator[Refused]:
    """Experts, those used, and groups of them."""
    experts, used = counts.of(EXPERTS), counts.of(USED)
    if drops_one and experts <= 1:
        experts = used = 0
    groups, chosen = counts.of(GROUPS), counts.of(GROUPS_USED)
    held_to = f"for {experts} experts" if experts else "for a model without experts"
    if used > experts:
        yield Refused(USED, used, held_to, take_out=not experts)
    if experts and not used:
        yield Refused(USED, counts.get(USED), held_to)
    if groups and groups >= experts:
        yield Refused(GROUPS, groups, held_to, take_out=True)
    elif groups > 1 and experts % groups:
        yield Refused(GROUPS, groups, held_to)
    elif groups > 1 and not 0 < chosen < groups:
        yield Refused(GROUPS_USED, counts.get(GROUPS_USED), f"for {groups} groups")
