"""Wrong numbers in the right place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from numpy.random import Generator

from rosetta.bench.case import Cause, NotHere, Plant, Subject
from rosetta.bench.kinds._choosing import is_matrix, names_of, one, plant, stem, tensor
from rosetta.bench.reads import place, stage_of

NORMS = ("attn_norm", "ffn_norm", "output_norm", "attn_q_norm", "attn_k_norm")
WEIGHTLESS = ("rope_freqs",)


def zeroed(rng: Generator, subject: Subject) -> Plant:
    """A whole tensor, or some of its rows; of the embedding, rows that the prompt uses."""
    name = tensor(rng, subject, _plain)
    rows = subject.file.tensor(name).dims[0]
    if name == "token_embd.weight":
        row = one(rng, subject.ids)
        return plant("value.zeroed", name, f"zeroed:{name}:{row}:{row + 1}", shown=None)
    if name == "position_embd.weight" or rng.random() < 0.4:
        return plant("value.zeroed", name, f"zeroed:{name}", shown=None)
    _needs_one_stage(name)
    start = int(rng.integers(rows - 4))
    stop = start + one(rng, (1, 2, 4))
    return plant("value.zeroed", name, f"zeroed:{name}:{start}:{stop}", shown=None)


def nonfinite(rng: Generator, subject: Subject) -> Plant:
    """One NaN or infinity, or the scale of one block."""
    name = tensor(rng, subject, lambda n: _plain(n) and subject.file.tensor(n).dtype != "APR_Q8")
    _needs_one_stage(name)
    dims = subject.file.tensor(name).dims
    row = int(rng.integers(dims[0]))
    if name == "token_embd.weight":
        row = one(rng, subject.ids)
    elif name == "position_embd.weight":
        row = int(rng.integers(len(subject.ids)))
    index = row * (dims[1] if len(dims) > 1 else 1) + (int(rng.integers(dims[1])) if len(dims) > 1 else 0)
    value = one(rng, ("nan", "inf", "-inf"))
    # as a literal: 1e999 is infinite, and there is none for NaN
    return plant(
        "value.nonfinite",
        name,
        f"nonfinite:{name}:{index}:{value.replace('inf', '1e999')}".replace(":nan", ""),
    )


def scaled(rng: Generator, subject: Subject) -> Plant:
    """Every value times a factor, from a lost sign to two per cent."""
    name = tensor(rng, subject, _plain)
    factor = one(rng, (-1.0, 2.0, 0.5, 8.0, 0.125, 1.5, 1.1, 0.9, 1.02))
    return plant("value.scaled", name, f"scaled:{name}:{factor}", shown=None)


def offset(rng: Generator, subject: Subject) -> Plant:
    """Something added to every value: 1 to a norm, less to a bias or a norm."""
    name = tensor(rng, subject, lambda n: stem(n) in NORMS or n.endswith(".bias"))
    amount = one(rng, (1.0, -1.0, 1.0, -1.0, 0.1, -0.1, 0.01))
    return plant("value.offset", name, f"offset:{name}:{amount}", shown=None)


def swapped(rng: Generator, subject: Subject) -> Plant:
    """Two tensors of the same dims exchanged: gate and up, k and v, a tensor of two layers, two norms."""
    name, other = _alike(rng, subject)
    names = frozenset({*names_of(name), *names_of(other)})
    causes = (Cause(("value.swapped",), names_of(name), names_of(other)),)
    stage = min(stage_of(name), stage_of(other), key=place)
    fault = f"swapped:{name}:{other}"
    return Plant("value.swapped", (fault,), causes, stage, names, shown=None, tolerated=names)


def layers_exchanged(rng: Generator, subject: Subject) -> Plant:
    """All tensors of two layers exchanged."""
    first = int(rng.integers(subject.spec.layers - 1))
    second = int(rng.integers(first + 1, subject.spec.layers))
    here, there = f"blk.{first}.", f"blk.{second}."
    pairs = [(n, n.replace(here, there, 1)) for n in subject.file.tensors if n.startswith(here)]
    names = frozenset(part for pair in pairs for name in pair for part in names_of(name))
    causes = tuple(Cause(("value.swapped",), names_of(name), names_of(other)) for name, other in pairs)
    stage = f"layers.{first}.attn_norm"
    fault = f"layers_swapped:{first}:{second}"
    return Plant("layers exchanged", (fault,), causes, stage, names, tolerated=names, combines=False)


def missing(rng: Generator, subject: Subject) -> Plant:
    """A bias, a norm, a position table or a matrix left out."""
    needed = ["token_embd.weight"]  # nothing runs without it
    if subject.container != "hf":
        needed.append("output.weight")  # without a head it is the embedding: config.tied_embeddings
    name = tensor(rng, subject, lambda n: _plain(n) and n not in needed)
    return plant("value.missing", name, f"dropped:{name}")


def corrupted(rng: Generator, subject: Subject) -> Plant:
    """Random bytes, rows of other values, or another tensor's copy in place of the tensor."""
    draw: Callable[[Generator, Subject], Plant] = one(rng, (_random_bytes, _other_rows, _copy_of_another))
    return draw(rng, subject)


def one_block(rng: Generator, subject: Subject) -> Plant:
    """A single block of 32 weights too large or too small."""
    matrix = is_matrix(subject)
    name = tensor(rng, subject, matrix)
    _needs_one_stage(name)
    block = int(rng.integers(subject.file.tensor(name).dims[0] * subject.file.tensor(name).dims[1] // 32))
    factor = one(rng, (1.5, 2.0, 3.0, -1.0, 0.25))
    found = plant("value.corrupted", name, f"block_scaled:{name}:{factor}:{block}", shown=None)
    return replace(found, kind="one block of 32")


def _needs_one_stage(name: str) -> None:
    """Part of a fused tensor is part of q, k or v: which, is the container's matter."""
    if ".attn_qkv." in name:
        raise NotHere


def _plain(name: str) -> bool:
    return stem(name) not in WEIGHTLESS


def _alike(rng: Generator, subject: Subject) -> tuple[str, str]:
    """Two tensors that could be taken for one another."""
    file = subject.file
    name = tensor(rng, subject, lambda n: n.startswith("blk.") or stem(n) == "output_norm")
    layer = name.split(".")[1] if name.startswith("blk.") else ""

    def near(n: str) -> bool:
        same_layer = n.startswith(f"blk.{layer}.")
        same_place = n.startswith("blk.") and n.split(".", 2)[2] == name.split(".", 2)[-1]
        return n != name and n.startswith("blk.") and (same_layer or same_place)

    this = file.tensor(name)
    alike = [
        n
        for n in file.tensors
        if near(n) and (file.tensor(n).dims, file.tensor(n).dtype) == (this.dims, this.dtype)
    ]
    return name, one(rng, alike)


def _random_bytes(rng: Generator, subject: Subject) -> Plant:
    name = tensor(rng, subject, lambda n: is_matrix(subject)(n) or n.endswith("norm.weight"))
    _needs_one_stage(name)
    size = subject.file.tensor(name).data.size
    nbytes = min(size, one(rng, (64, 512, 4096)))
    start = int(rng.integers(size - nbytes + 1)) // 4 * 4
    # The random bytes of a float may be NaN: then that is what they are.
    fault = f"corrupted:{name}:{start}:{nbytes}:{int(rng.integers(1 << 20))}"
    return plant("value.corrupted", name, fault, kinds=("value.nonfinite",))


def _other_rows(rng: Generator, subject: Subject) -> Plant:
    name = tensor(rng, subject, is_matrix(subject))
    _needs_one_stage(name)
    rows = subject.file.tensor(name).dims[0]
    start = int(rng.integers(rows - 8))
    fault = f"shuffled:{name}:{start}:{start + one(rng, (1, 4, 8))}:{int(rng.integers(1 << 20))}"
    return plant("value.corrupted", name, fault, shown=None)


def _copy_of_another(rng: Generator, subject: Subject) -> Plant:
    name, source = _alike(rng, subject)
    _needs_one_stage(name)
    found = plant("value.corrupted", name, f"duplicated:{name}:{source}", shown=None)
    return replace(found, touches=found.touches | {*names_of(source)})


KINDS = {
    "value.zeroed": zeroed,
    "value.nonfinite": nonfinite,
    "value.scaled": scaled,
    "value.offset": offset,
    "value.swapped": swapped,
    "layers exchanged": layers_exchanged,
    "value.missing": missing,
    "value.corrupted": corrupted,
    "one block of 32": one_block,
}
