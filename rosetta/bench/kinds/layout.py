"""Values in the wrong place."""

from __future__ import annotations

from dataclasses import replace

from numpy.random import Generator

from fixtures.dtypes import block_size
from rosetta.bench.case import Cause, NotHere, Plant, Subject
from rosetta.bench.kinds._choosing import ROTARY, is_matrix, one, plant, stem, tensor
from rosetta.bench.reads import stage_of

STEPS = {"Q8_0": 34, "Q4_0": 18, "Q4_K": 144, "Q6_K": 210, "Q5_K": 176, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of a weight or block: shifts by a whole one leave numbers, others leave garbage; both happen."""
FEW_BYTES = 256


def transposed(rng: Generator, subject: Subject) -> Plant:
    """A matrix turned, its dims with it or not; of a square one no dims tell."""
    wanted = is_matrix(subject)
    name = tensor(rng, subject, lambda n: (wanted(n) and ".attn_qkv." not in n) or n == "token_embd.weight")
    declared = one(rng, ("as_stored", "as_expected"))
    return plant("layout.transposed", name, f"transposed:{name}:{declared}")


def dims_swapped(rng: Generator, subject: Subject) -> Plant:
    """The dims of a matrix that is not square reversed, its bytes left."""
    wanted = is_matrix(subject)

    def oblong(n: str) -> bool:
        dims = subject.file.tensor(n).dims
        whole = subject.container != "gguf" or dims[0] % block_size(subject.file.tensor(n).dtype) == 0
        return (
            (wanted(n) or n == "token_embd.weight")
            and dims[0] != dims[-1]
            and ".attn_qkv." not in n
            and whole
        )

    name = tensor(rng, subject, oblong)
    return plant("layout.dims_swapped", name, f"dims_swapped:{name}")


def rope_order(rng: Generator, subject: Subject) -> Plant:
    """Rows of q or k in the other rotary order, in one layer; a bias goes with its weight."""
    if subject.spec.architecture == "gpt2":
        raise NotHere
    name = tensor(rng, subject, lambda n: stem(n) in ROTARY and n.endswith(".weight"))
    single = plant("layout.rope_order", name, f"rope_order_changed:{name}")
    bias = name.replace(".weight", ".bias")
    if bias not in subject.file.tensors or rng.random() < 0.5:
        return single
    return replace(
        single,
        faults=(*single.faults, f"rope_order_changed:{bias}"),
        causes=(*single.causes, Cause(("layout.rope_order",), (bias,))),
        touches=single.touches | {bias},
    )


def fused_order(rng: Generator, subject: Subject) -> Plant:
    """The parts of GPT-2's fused tensor in another order."""
    if subject.spec.architecture != "gpt2":
        raise NotHere
    name = tensor(rng, subject, lambda n: stem(n) == "attn_qkv")
    order = one(rng, ("qvk", "kqv", "kvq", "vqk", "vkq"))
    moved = next(part for part, stored in zip("qkv", order, strict=True) if part != stored)
    made = plant("layout.fused_order", name, f"fused_order:{name}:{order}")
    return replace(made, stage=stage_of(name.replace("attn_qkv", f"attn_{moved}")))


def shifted(rng: Generator, subject: Subject) -> Plant:
    """The data of a tensor some bytes late or early."""
    name = tensor(rng, subject, lambda n: stem(n) != "rope_freqs")
    step = STEPS.get(subject.file.tensor(name).dtype, 4)
    nbytes = one(rng, (1, -1)) * one(rng, [step * n for n in (1, 2, 3, 16) if step * n <= FEW_BYTES])
    return plant("layout.shifted", name, f"shifted:{name}:{nbytes}")


KINDS = {
    "layout.transposed": transposed,
    "layout.dims_swapped": dims_swapped,
    "layout.rope_order": rope_order,
    "layout.fused_order": fused_order,
    "layout.shifted": shifted,
}
