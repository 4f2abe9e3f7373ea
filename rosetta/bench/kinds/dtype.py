"""Bytes that are not what the file calls them."""

from __future__ import annotations

from numpy.random import Generator

from fixtures.dtypes import block_size
from rosetta.bench.case import NotHere, Plant, Subject
from rosetta.bench.kinds._choosing import one, plant, tensor

# dtype of the bytes -> labels of the same size (and, in a GGUF file, of a smaller one: the rest is never read)
SAME_SIZE = {
    "F16": ("BF16",),
    "BF16": ("F16",),
    "Q4_0": ("Q4_K", "IQ4_NL"),
    "Q4_K": ("Q4_0", "IQ4_NL"),
    "IQ4_NL": ("Q4_0", "Q4_K"),
    "Q5_0": ("Q5_K",),
    "Q5_K": ("Q5_0",),
}
SMALLER = {
    "F32": ("F16", "BF16"),
    "Q6_K": ("Q4_K", "Q5_K"),
    "Q5_K": ("Q4_K",),
    "Q8_0": ("Q4_0", "Q5_0"),
    "Q5_1": ("Q4_0",),
}
APR_LABELS = ("Q4_0", "Q4_K", "BF16", "F16")
PACKED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "APR_Q4", "Q4_K", "Q5_K")


def mislabeled(rng: Generator, subject: Subject) -> Plant:
    """Another dtype in the tensor's entry."""
    name = tensor(
        rng, subject, lambda n: len(subject.file.tensor(n).dims) == 2 and n != "position_embd.weight"
    )
    stored = subject.file.tensor(name).dtype
    smaller = SMALLER.get(stored, ()) if subject.container == "gguf" else ()
    labels = [
        label for label in SAME_SIZE.get(stored, ()) if subject.container != "apr" or label in APR_LABELS
    ]
    row = subject.file.tensor(name).dims[-1]
    label = one(rng, [label for label in (*labels, *smaller) if row % block_size(label) == 0])
    fault = f"relabeled:{name}:{label}" if label in smaller else f"mislabeled:{name}:{stored}:{label}"
    return plant("dtype.mislabeled", name, fault)


def block_order(rng: Generator, subject: Subject) -> Plant:
    """Nibbles in pairs instead of halves, or the reverse; APR_Q4 and Q4_0 differ in nothing else."""
    if subject.dtype not in PACKED and not subject.dtype.endswith("_M"):
        raise NotHere
    name = tensor(rng, subject, lambda n: subject.file.tensor(n).dtype in PACKED)
    if subject.container == "apr" and subject.dtype in ("Q4_0", "APR_Q4") and rng.random() < 0.5:
        stored = {"Q4_0": "APR_Q4", "APR_Q4": "Q4_0"}[subject.dtype]
        fault = f"mislabeled:{name}:{stored}:{subject.dtype}"
        return plant("dtype.block_order", name, fault, kinds=("dtype.mislabeled",))
    if subject.dtype == "APR_Q4":
        return plant("dtype.block_order", name, f"nibbles_reordered:{name}", kinds=("dtype.mislabeled",))
    kinds = ("dtype.mislabeled",) if subject.container == "apr" and subject.dtype == "Q4_0" else ()
    return plant("dtype.block_order", name, f"nibbles_reordered:{name}", kinds=kinds)


KINDS = {"dtype.mislabeled": mislabeled, "dtype.block_order": block_order}
