"""Which stored tensors a file of another kind keeps a model's weights in, and what each is made of.

Nothing here knows a layout: a name and dims are proposed, the architecture's own readings say what a reader would make
of such a tensor, and it is taken where that is what the model holds.

Letters: R = rows, C = columns of a canonical weight, row-major; S = matrices stacked in one tensor.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from rosetta.architectures.parts.readings import Centred
from rosetta.canonical_weights import read_tensor
from rosetta.containers.container import TensorEntry
from rosetta.convert.draft import Draft
from rosetta.model import Model
from rosetta.names import LAYER
from rosetta.ops.op import Settings
from rosetta.weight import Weight

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """One canonical weight of a stored tensor.

    Args:
        source: where its values are now.
        target: where a reader of the written file will find them.
    """

    source: Weight
    target: Weight


@dataclass(frozen=True)
class Placed:
    """A tensor to be written.

    Args:
        name: as the file will spell it.
        canonical: the canonical name of the tensor as a whole.
        dims: row-major, as they will be stored.
        pieces: the weights that it is made of; those of one stacked matrix follow each other.
    """

    name: str
    canonical: str
    dims: Dims
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Candidate:
    """A stored tensor that a file of some kind may have.

    Args:
        name: as that file spells it.
        canonical: its canonical name.
        like: what it has in common with others (a matrix of each expert of a layer): where one of them keeps no
            weights, none does.
    """

    name: str
    canonical: str
    like: str | None = None


class _Left(dict[str, Weight]):
    """The weights that have no place yet, and how many there are of each matrix of several that are numbered."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        super().__init__(weights)
        self.numbered = Counter(filter(None, map(_family, weights)))

    def take(self, name: str) -> None:
        """Leave one out."""
        del self[name]
        family = _family(name)
        if family is not None:
            self.numbered[family] -= 1


def _family(name: str) -> str | None:
    """`blk.0.ffn_up_exps.weight` of `blk.0.ffn_up_exps.7.weight`; None for what has no such number."""
    stem, _, suffix = name.rpartition(".")
    outer, _, number = stem.rpartition(".")
    return f"{outer}.{suffix}" if number.isdecimal() and outer else None


def place_weights(
    model: Model, weights: Mapping[str, Weight], kind: str, candidates: Iterable[Candidate]
) -> tuple[list[Placed], list[str]]:
    """Lay weights out in tensors.

    Args:
        model: whose they are.
        weights: those to be written, by canonical name.
        kind: of the file to be written.
        candidates: tensors that it may have, those that are preferred first.

    Returns:
        The tensors in the order of their first weight, and the canonical names that no tensor was found for.
    """
    left, placed, without = _Left(weights), [], set()
    for candidate in candidates:
        if candidate.like in without:
            continue
        found = _placed(model, left, kind, candidate)
        if found is not None:
            placed.append(found)
            for piece in found.pieces:
                left.take(piece.target.name)
        elif candidate.like is not None:
            without.add(candidate.like)
    order = {name: place for place, name in enumerate(weights)}
    placed.sort(key=lambda tensor: min(order[piece.target.name] for piece in tensor.pieces))
    return placed, list(left)


def _placed(model: Model, left: _Left, kind: str, candidate: Candidate) -> Placed | None:
    """The tensor, where every weight that a reader would find in it is at hand and has the dims that it would find."""
    asked: set[tuple[str, ...]] = set()
    for probe in _probes(model, candidate, left):
        names = tuple(read.name for read in _read(model, kind, candidate, probe))
        if names in asked or not names or not all(name in left for name in names):
            continue
        asked.add(names)
        sources = [left[name] for name in names]
        for dims in _possible_dims(model, sources, candidate):
            read = _read(model, kind, candidate, dims)
            if tuple(weight.name for weight in read) != names:
                continue
            if all(map(_comes_back, sources, read)):
                pieces = tuple(map(Piece, sources, read))
                return Placed(candidate.name, candidate.canonical, dims, pieces)
    return None


def _comes_back(source: Weight, target: Weight) -> bool:
    """Whether a reader finds the weight as it is: with its dims, and with its mean where reading takes that off."""
    if source.dims != target.dims:
        return False
    centring = [edit for edit in target.values_edits if isinstance(edit, Centred)]
    if not centring or source.values_edits == target.values_edits:
        return True
    values = source.values()
    return all(torch.equal(edit.values(values, 0), values) for edit in centring)


def _read(model: Model, kind: str, candidate: Candidate, dims: Dims) -> list[Weight]:
    """What a reader would make of the tensor."""
    entry = TensorEntry(candidate.name, "F32", dims, 4 * math.prod(dims))
    found = LAYER.match(candidate.canonical)
    c = settings_in(model, kind, int(found[1]) if found else None)
    draft = Draft(model.container.path, kind, tensors={candidate.name: entry})
    try:
        return read_tensor(draft, model.architecture, c, candidate.canonical, entry)
    except (ArithmeticError, IndexError, ValueError):  # dims that mean nothing to it
        return []


def settings_in(model: Model, kind: str, layer: int | None) -> Settings:
    """The settings of a layer, with the order of rotary rows that files of a kind keep."""
    architecture = model.architecture
    if layer is not None and layer >= model.block_count:
        layer = model.block_count - 1
    c = model.settings_of(layer)
    if architecture.rope is None or "rope.type" not in c:
        return c
    return {**c, "rope.type": architecture.gguf_rope(c) if kind == "gguf" else architecture.huggingface.rope}


def _probes(model: Model, candidate: Candidate, left: _Left) -> Iterator[Dims]:
    """Dims to find out with which weights a tensor would be read as: as many stacked as there are."""
    own = left.get(candidate.canonical)
    if own is not None:
        yield own.dims
    found = LAYER.match(candidate.canonical)
    c = model.settings_of(int(found[1]) if found else None)
    counts: list[Any] = [left.numbered[candidate.canonical]]
    counts += [c.get("expert_count"), c.get("attention.head_count")]
    for count in dict.fromkeys(counts):
        if isinstance(count, int) and count:
            yield from ((count, 4, 4), (count, 4))
    yield from ((4, 4), (4,))


def _possible_dims(model: Model, sources: list[Weight], candidate: Candidate) -> Iterator[Dims]:
    """Dims of a tensor that holds these weights: those that a file under GGUF's names would have first, or those in
    which other files differ from them."""
    foreign = candidate.name != candidate.canonical
    declared = model.architecture.huggingface.dims.get(stem_of(candidate.canonical)) if foreign else None
    if declared is not None:
        left = sources[0].count // math.prod(size for size in declared if size >= 0)
        yield tuple(left if size < 0 else size for size in declared)
        return
    first = sources[0].dims
    if not first:
        yield from ((), (1,))
        return
    columns = first[1:]
    rows = sum(weight.dims[0] for weight in sources)
    if not foreign and stem_of(candidate.canonical) in model.architecture.llamacpp.padded:
        yield (rows, 1, *columns)
    plain: list[Dims] = [(rows, *columns)]
    other: list[Dims] = []
    if len(first) == 2:
        plain += [(columns[0], rows)]
        plain += [(columns[0],)] if rows == 1 else []
        other += [(rows, 1, columns[0]), *([(rows * columns[0],)] if rows > 1 else [])]
    if len(first) == 1:
        plain += [(1, 1, rows), (1, rows), (rows, 1)]
    if len(first) == 3:
        other += [(rows * columns[0], columns[1]), (1, rows, *columns)]
    stacked = len({weight.name.rpartition(".")[0].rpartition(".")[2] for weight in sources})
    if stacked > 1 and rows % stacked == 0:
        each = rows // stacked
        plain += [(stacked, each, *columns), *([(stacked, columns[0], each)] if columns else [])]
    heads = model.settings_of(None).get("attention.head_count")
    if len(first) == 2 and isinstance(heads, int) and heads and rows % heads == 0 and rows > heads:
        # Taken only where a reading flattens it: attn_v_b.
        plain.insert(0, (heads, rows // heads, columns[0]))
    yield from dict.fromkeys([*other, *plain] if foreign else [*plain, *other])


def stem_of(canonical: str) -> str:
    """A canonical name without its layer, and without `weight` or `bias`."""
    found = LAYER.match(canonical)
    stem, _, suffix = (found[2] if found else canonical).rpartition(".")
    return stem if suffix in ("weight", "bias") else (found[2] if found else canonical)


def same_place(piece: Piece) -> bool:
    """Whether a weight lies in the written tensor as it does in the stored one, all of it."""
    source, target = piece.source, piece.target
    alike = replace(
        target,
        container=source.container,
        entry=source.entry,
        dtype=source.dtype,
        fused=source.fused,
        repaired=source.repaired,
    )
    return alike == source and source.bytes_edit is None
