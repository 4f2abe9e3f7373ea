"""Weights of two models of which one or both are not run, brought together by what they hold where no name or layout
tells: a tensor of another name, a matrix turned, rows of q and k in the other rotary order, 1 + w for w."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from rosetta.architectures.parts.readings import Mapped
from rosetta.compare.pairing import other_side
from rosetta.compare.results import Side
from rosetta.compare.weights import compare_weights, readable
from rosetta.model import Model
from rosetta.names import LAYER
from rosetta.row_order import INTERLEAVED, SPLIT_HALF, RowOrder
from rosetta.weight import Weight

ROTARY = ("attn_q", "attn_k")
Form = Callable[[Weight, Weight], Weight | None]
"""A weight in another form, where it is the other side's then."""


def brought_together(models: Mapping[Side, Model], reference: Side) -> tuple[dict[Side, Model], list[str]]:
    """The models, the subject's weights under the reference's names and in its order; and what was done, in sentences.

    Args:
        models: both sides.
        reference: the side whose names and orders stay.
    """
    subject = other_side(reference)
    believed, own = models[reference].weights, dict(models[subject].weights)
    renamed = dict(_same_values(own, believed))
    for name, called in renamed.items():
        own[called.name] = called
        del own[name]
    notes = [f"{len(renamed)} weights are matched by equal values: {_some(renamed)}"] if renamed else []
    forms: dict[str, Form] = {
        "stored turned": _turned,
        "of other dims and the same values": _reshaped,
        "with rows in the other rotary order": partial(_reordered, models[subject]),
        "of which one side has 1 + w": _one_more,
    }
    formed: dict[str, dict[str, Weight]] = {what: {} for what in forms}
    for name, weight in own.items():
        if name not in believed or weight.container is believed[name].container:
            continue
        for what, form in forms.items():
            if (found := form(weight, believed[name])) is not None:
                formed[what][name] = found
                break
    for what, group in formed.items():
        own |= group
        if group:
            notes.append(f"{len(group)} weights {what} ({subject}) are brought to one form: {_some(group)}")
    return {**models, subject: replace(models[subject], weights=own)}, notes


def _some(found: Mapping[str, Weight]) -> str:
    shown = [
        name if name == weight.name else f"{name} = {weight.name}" for name, weight in list(found.items())[:3]
    ]
    return ", ".join(shown) + (" …" if len(found) > 3 else "")


def _same_values(own: Mapping[str, Weight], believed: Mapping[str, Weight]) -> Iterator[tuple[str, Weight]]:
    """Weights that the other side has under another name, with that name."""
    free = {name: weight for name, weight in believed.items() if name not in own and readable(weight)}
    for name, weight in own.items():
        if name in believed or not readable(weight):
            continue
        for other in list(free):
            called = replace(weight, name=other)
            ways = (_as_it_is, _turned, _reshaped, _one_more)
            found = next((found for way in ways if (found := way(called, free[other]))), None)
            if found is not None:
                del free[other]
                yield name, found
                break


def _as_it_is(weight: Weight, other: Weight) -> Weight | None:
    return weight if _equal(weight, other) else None


def _turned(weight: Weight, other: Weight) -> Weight | None:
    """The matrix turned, where it is the other one then and not as it is."""
    if weight.dims[::-1] != other.dims or len(weight.dims) != 2 or not readable(weight):
        return None
    turned = replace(weight, transposed=not weight.transposed)
    square = weight.dims == other.dims
    return turned if _equal(turned, other) and not (square and _equal(weight, other)) else None


def _reshaped(weight: Weight, other: Weight) -> Weight | None:
    """The weight under the other one's dims, where it is that one then: dims of one more or less, heads in a row."""
    if (
        weight.dims == other.dims
        or weight.count != other.count
        or weight.transposed
        or weight.part is not None
    ):
        return None
    shaped = replace(weight, stored_dims=other.dims)
    return shaped if _equal(shaped, other) else None


def _more(x: Tensor) -> Tensor:
    return x + 1


def _less(x: Tensor) -> Tensor:
    return x - 1


def _one_more(weight: Weight, other: Weight) -> Weight | None:
    """The norm's weight with one added or taken off, where it is the other one then."""
    if weight.dims != other.dims or len(weight.dims) != 1 or _equal(weight, other):
        return None
    edits = (Mapped(_more, _less), Mapped(_less, _more))
    ways = (replace(weight, values_edits=(*weight.values_edits, edit)) for edit in edits)
    return next((way for way in ways if _equal(way, other)), None)


def _reordered(model: Model, weight: Weight, other: Weight) -> Weight | None:
    """The weight with the rows of each head in the other rotary order, where it is the other one then."""
    head = _head_size(model, weight)
    if not head or weight.dims != other.dims or weight.order is not None or _equal(weight, other):
        return None
    for source in (INTERLEAVED, SPLIT_HALF):
        ordered = replace(weight, order=RowOrder(head, head, source))
        if _equal(ordered, other):
            return ordered
    return None


def _equal(a: Weight, b: Weight) -> bool:
    """Whether two weights differ by no more than their dtypes explain; the first row is looked at before all are."""
    if a.dims != b.dims or not (readable(a) and readable(b)):
        return False
    first, other = a.values(0, 1), b.values(0, 1)
    allowed = 6 * (a.sigma(0, 1).square() + b.sigma(0, 1).square()).sqrt() + 1e-6 * other.abs()
    if not torch.isfinite(first).all() or bool(((first - other).abs() > allowed).float().mean() > 0.1):
        return False
    return compare_weights(b, a).state != "differing"


def _head_size(model: Model, weight: Weight) -> int:
    """Rows of a head of queries or keys; 0 where it is none, or the file does not say."""
    found = LAYER.match(weight.name)
    if found is None or found[2].rpartition(".")[0] not in ROTARY:
        return 0
    stated = {key: model.config[key].value for key in model.config}
    length, heads = stated.get("attention.key_length"), stated.get("attention.head_count")
    if not isinstance(length, int) and isinstance(heads, int) and heads:
        length = stated.get("embedding_length", 0) // heads
    return length if isinstance(length, int) and length > 0 and weight.dims[0] % length == 0 else 0
