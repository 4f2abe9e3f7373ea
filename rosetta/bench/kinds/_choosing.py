"""What the drawers share: choosing a tensor, and saying what must be found of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from numpy.random import Generator

from rosetta.bench.case import Cause, NotHere, Plant, Shown, Subject
from rosetta.bench.reads import stage_of

T = TypeVar("T")
ROTARY = ("attn_q", "attn_k")


def one(rng: Generator, choices: Sequence[T]) -> T:
    """One of them."""
    if not choices:
        raise NotHere
    return choices[int(rng.integers(len(choices)))]


def tensor(rng: Generator, subject: Subject, wanted: Callable[[str], bool]) -> str:
    """The canonical name of a tensor of the faulty file."""
    return one(rng, [name for name in subject.file.tensors if wanted(name)])


def is_matrix(subject: Subject) -> Callable[[str], bool]:
    """Whether a tensor is a matrix of a layer or the head: what embeddings have beside them is asked for by name."""
    return lambda name: (
        len(subject.file.tensor(name).dims) == 2 and not name.startswith(("token_embd", "position_embd"))
    )


def stem(name: str) -> str:
    """`attn_q` of `blk.0.attn_q.weight`."""
    return name.split(".")[-2]


def names_of(name: str) -> tuple[str, ...]:
    """The names under which a tensor may be accused: a fused one as a whole or by its parts."""
    parts = (name.replace(".attn_qkv.", f".attn_{part}.") for part in "qkv")
    return (name, *parts) if ".attn_qkv." in name else (name,)


def plant(
    kind: str, name: str, fault: str, *, shown: Shown | None = Shown.yes, kinds: tuple[str, ...] = ()
) -> Plant:
    """A fault of one tensor.

    Args:
        kind: of the finding, and the row.
        name: of the tensor.
        fault: its text.
        shown: what it does; None: to be worked out.
        kinds: other kinds that name it as well.
    """
    names = names_of(name)
    causes = (Cause((kind, *kinds), names),)
    touches = frozenset(names)
    return Plant(kind, (fault,), causes, stage_of(name), touches, shown=shown, tolerated=touches)
