"""Counts of a GGUF file that llama.cpp refuses though they can be read: facts of its source, no rule.

Sources: llama.cpp, src/llama-model.cpp, `llama_model_base::load_hparams`, whose assertions end the whole process;
ggml, src/ggml-cpu/ops.cpp, the rotation, which turns no more dimensions than a head has;
src/models/cohere2moe.cpp, llama4.cpp and minimax-m2.cpp, `load_arch_tensors`;
src/models/minicpm3.cpp and plm.cpp, whose keys have the rows of all heads and not those of the cache.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

EXPERTS, USED = "expert_count", "expert_used_count"
GROUPS, GROUPS_USED = "expert_group_count", "expert_group_used_count"
LAYERS, PREDICTORS = "block_count", "nextn_predict_layers"
ROTATED, HEAD, WINDOW = "rope.dimension_count", "attention.key_length", "attention.sliding_window"
SHARED = "expert_shared_count"
DROPS_ONE_EXPERT = ("hunyuan-dense", "hunyuan_vl")  # llama.cpp counts their one expert as none
LOADS_SHARED_BY_COUNT = ("cohere2moe",)
HEADS, KV_HEADS = "attention.head_count", "attention.head_count_kv"
KEEPS_ALL_HEADS = ("minicpm3", "plm")  # keys and values come out of a latent, and are kept for each head
NETWORK, OF_EXPERT = "feed_forward_length", "expert_feed_forward_length"
STEP, ROUTER = "interleave_moe_layer_step", ".ffn_gate_inp.weight"
LOADS_EXPERTS_BY_STEP = ("llama4",)  # of so many layers the last, whatever tensors there are
LOADS_EXPERTS_AS_NETWORK = ("minimax-m2",)  # asks for the width of experts, and takes the other one


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
    take_out: bool


def refused_counts(
    architecture: str, stated: Mapping[str, Any], tensors: Collection[str]
) -> Iterator[Refused]:
    """Each of a file's counts that does not go with the others.

    Args:
        architecture: by its name in GGUF.
        stated: the file's keys without the architecture, with their values.
        tensors: names of the file's.
    """
    counts = {key: _most(value) for key, value in stated.items()}
    experts, used = counts.get(EXPERTS, 0), counts.get(USED, 0)
    if architecture in DROPS_ONE_EXPERT and experts <= 1:
        experts = used = 0
    groups, chosen = counts.get(GROUPS, 0), counts.get(GROUPS_USED, 0)
    held_to = f"for {experts} experts" if experts else "for a model without experts"
    if used > experts:
        yield Refused(USED, used, held_to, take_out=not experts)
    if experts and not used:
        yield Refused(USED, counts.get(USED), held_to, take_out=False)
    if groups and groups >= experts:
        yield Refused(GROUPS, groups, held_to, take_out=True)
    elif groups > 1 and experts % groups:
        yield Refused(GROUPS, groups, held_to, take_out=False)
    elif groups > 1 and not 0 < chosen < groups:
        yield Refused(GROUPS_USED, counts.get(GROUPS_USED), f"for {groups} groups", take_out=False)
    turned, head = (counts.get(f"{key}_swa", counts.get(key, 0)) for key in (ROTATED, HEAD))
    if counts.get(WINDOW) and turned > head > 0:
        why = f"for heads of {head} in layers with a window"
        yield Refused(f"{ROTATED}_swa", counts.get(f"{ROTATED}_swa"), why, take_out=False)
    layers, predictors = counts.get(LAYERS, 0), counts.get(PREDICTORS, 0)
    if layers and predictors >= layers:
        yield Refused(PREDICTORS, predictors, f"for {layers} layers", take_out=True)
    heads, kept = counts.get(HEADS, 0), counts.get(KV_HEADS, 0)
    if architecture in KEEPS_ALL_HEADS and kept not in (0, heads):
        yield Refused(KV_HEADS, kept, f"for {heads} heads, each with keys of its own", take_out=False)
    held = any("_shexp." in name for name in tensors)
    if architecture in LOADS_SHARED_BY_COUNT and held and not counts.get(SHARED):
        yield Refused(SHARED, counts.get(SHARED), "for a file with a shared expert", take_out=False)
    routed = sorted(int(name.split(".")[1]) for name in tensors if name.endswith(ROUTER))
    step = counts.get(STEP, 0)
    loaded = [n for n in range(layers) if step and (n + 1) % step == 0]
    if architecture in LOADS_EXPERTS_BY_STEP and STEP in stated and routed != loaded:
        yield Refused(STEP, step, f"for experts in layers {', '.join(map(str, routed))}", take_out=False)
    width = counts.get(OF_EXPERT, 0)
    if architecture in LOADS_EXPERTS_AS_NETWORK and width and counts.get(NETWORK, width) != width:
        yield Refused(NETWORK, counts[NETWORK], f"for experts as wide as {width}", take_out=False)


def _most(value: Any) -> int:
    """A count, the largest where each layer has one; 0 of anything else."""
    numbers = value if isinstance(value, list) else [value]
    return max((n for n in numbers if type(n) is int), default=0)
