"""Faults that undo each other: the output is right, and two or more tensors are not."""

from __future__ import annotations

from collections.abc import Iterable

from numpy.random import Generator

from rosetta.bench.case import Cause, NotHere, Plant, Subject
from rosetta.bench.kinds._choosing import one
from rosetta.bench.reads import place, stage_of

KIND = "cancelling"


def cancelling(rng: Generator, subject: Subject) -> Plant:
    """One way of several, in one layer."""
    ways = (
        _double_permutation,
        _scaled_scores,
        _scaled_network,
        _permuted_values,
        _permuted_network,
        _permuted_heads,
    )
    layer = f"blk.{int(rng.integers(subject.spec.layers))}."
    found: Plant = one(rng, ways)(rng, subject, layer)
    return found


def _double_permutation(rng: Generator, subject: Subject, layer: str) -> Plant:
    """Rows of q and of k in the other rotary order: the scores see only which frequency turns which pair."""
    if subject.spec.architecture == "gpt2":
        raise NotHere
    names = [f"{layer}attn_{part}.weight" for part in "qk"]
    return _plant([(name, f"rope_order_changed:{name}") for name in names], "layout.rope_order")


def _scaled_scores(rng: Generator, subject: Subject, layer: str) -> Plant:
    """q times a factor, k divided by it."""
    if subject.spec.architecture == "qwen3":
        raise NotHere  # a norm over each head undoes it at once
    factor = one(rng, (2.0, 4.0, -1.0))
    weights = _with_biases(subject, f"{layer}attn_q"), _with_biases(subject, f"{layer}attn_k")
    faults = [(name, f"scaled:{name}:{factor}") for name in weights[0]]
    faults += [(name, f"scaled:{name}:{1 / factor}") for name in weights[1]]
    return _plant(faults, "value.scaled")


def _scaled_network(rng: Generator, subject: Subject, layer: str) -> Plant:
    """Up times a factor, down divided by it."""
    if subject.spec.architecture == "gpt2":
        raise NotHere  # its activation lies between
    factor = one(rng, (2.0, 4.0, -1.0))
    up, down = f"{layer}ffn_up.weight", f"{layer}ffn_down.weight"
    return _plant([(up, f"scaled:{up}:{factor}"), (down, f"scaled:{down}:{1 / factor}")], "value.scaled")


def _permuted_values(rng: Generator, subject: Subject, layer: str) -> Plant:
    """The features of each head of v in another order, and the columns of the output projection likewise."""
    seed = int(rng.integers(1 << 20))
    rows = _with_biases(subject, f"{layer}attn_v")
    faults = [(name, f"head_features_permuted:{name}:0:{seed}") for name in rows]
    output = f"{layer}attn_output.weight"
    return _plant([*faults, (output, f"head_features_permuted:{output}:1:{seed}")], "value.corrupted")


def _permuted_network(rng: Generator, subject: Subject, layer: str) -> Plant:
    """The features of the feed-forward network in another order."""
    seed = int(rng.integers(1 << 20))
    rows = _with_biases(subject, f"{layer}ffn_up")
    if subject.spec.architecture != "gpt2":
        rows = [f"{layer}ffn_gate.weight", *rows]
    faults = [(name, f"features_permuted:{name}:0:{seed}") for name in rows]
    down = f"{layer}ffn_down.weight"
    return _plant([*faults, (down, f"features_permuted:{down}:1:{seed}")], "value.corrupted")


def _permuted_heads(rng: Generator, subject: Subject, layer: str) -> Plant:
    """Without rotation: the features of q and k in one other order."""
    if subject.spec.architecture != "gpt2":
        raise NotHere
    seed = int(rng.integers(1 << 20))
    names = _with_biases(subject, f"{layer}attn_q") + _with_biases(subject, f"{layer}attn_k")
    return _plant([(name, f"head_features_permuted:{name}:0:{seed}") for name in names], "value.corrupted")


def _with_biases(subject: Subject, stem: str) -> list[str]:
    """The weight and, where there is one, the bias."""
    if f"{stem}.weight" not in subject.file.tensors:
        raise NotHere  # part of a fused tensor
    return [name for name in (f"{stem}.weight", f"{stem}.bias") if name in subject.file.tensors]


def _plant(faults: Iterable[tuple[str, str]], kind: str) -> Plant:
    faults = list(faults)
    names = [name for name, _ in faults]
    stage = min((stage_of(name) for name in names), key=place)
    causes = tuple(Cause((kind,), (name,)) for name in names)
    return Plant(KIND, tuple(text for _, text in faults), causes, stage, frozenset(names), combines=False)


KINDS = {KIND: cancelling}
