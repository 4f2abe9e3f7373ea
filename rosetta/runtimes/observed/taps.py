"""Where a stage is read in a foreign run, and how its values come to the dims that the stage has everywhere.

Letters: T = tokens, N = heads, D = head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Form = Literal["features", "heads", "scores", "experts", "routing"]


class NotPlaced(Exception):
    """A value whose dims do not tell which of them the tokens are."""


@dataclass(frozen=True)
class Tap:
    """A stage of a foreign run.

    Args:
        stage: its full name.
        nodes: the nodes that hold it: one, of a routing the chosen experts and their weights, of scores perhaps the
            softmax and what a sink leaves of it.
        form: `features` [T, …], `heads` [T, N, width], `scores` [N, T, T], `experts` [T, chosen, width],
            `routing` [T, chosen, 2].
        width: of a head or of an expert's output.
        columns: the part of the last dimension that is meant; None: all of it.
        interleaved: of a rotated stage, whether adjacent values are a pair.
        order: of features, or of a head's values, which of the node's each is, where they are in another order.
        factor: what the node's values (of a routing, the weights) are times to be the stage's: a number that the
            runtime multiplies at another place.
    """

    stage: str
    nodes: tuple[int, ...]
    form: Form = "features"
    width: int = 0
    columns: slice | None = None
    interleaved: bool | None = None
    order: Array | None = None
    factor: float = 1.0


def token_axis(
    dims: Sequence[int], probed: Sequence[int], tokens: int, probed_tokens: int
) -> tuple[int, int]:
    """(the axis of the tokens, how many values lie on it for each): it grows with them from one run to another.

    Args:
        dims, probed: of one node in both runs.
        tokens, probed_tokens: how many they had.

    Raises:
        NotPlaced: there is none, or more than one.
    """
    found = [
        (axis, here // tokens)
        for axis, (here, there) in enumerate(zip(dims, probed, strict=False))
        if here and here % tokens == 0 and here // tokens * probed_tokens == there
    ]
    if len(dims) != len(probed) or len(found) != 1:
        raise NotPlaced(f"its dims are {list(dims)}, and {list(probed)} with {probed_tokens} tokens")
    return found[0]


def canonical(tap: Tap, value: Array, probed: Sequence[int], probed_tokens: int, tokens: int) -> Array:
    """A node's values as the stage has them; a view of `value` where numpy can give one.

    Args:
        tap: the stage.
        value: what the node holds, row-major.
        probed: the node's dims in the run with `probed_tokens`.
        tokens: of this run.

    Raises:
        NotPlaced: the dims do not fit the stage.
    """
    if tap.form == "scores":
        if value.ndim < 3 or value.shape[-2] != tokens or value.shape[-1] < tokens:
            raise NotPlaced(f"its dims are {list(value.shape)}")
        return value.reshape(-1, *value.shape[-2:])[..., :tokens]
    axis, each = token_axis(value.shape, probed, tokens, probed_tokens)
    if each > 1:  # heads or choices of one token after another
        value = value.reshape(*value.shape[:axis], tokens, each, *value.shape[axis + 1 :])
    value = np.moveaxis(value, axis, 0)
    if tap.columns is not None:
        value = value[..., tap.columns]
    if tap.form == "features":
        value = value.reshape(tokens, -1)
        if tap.order is None:
            return value
        if value.shape[1] != len(tap.order):
            raise NotPlaced(f"it has {value.shape[1]} features, not {len(tap.order)}")
        return value[:, tap.order]
    if not tap.width or value.size % (tokens * tap.width):
        raise NotPlaced(f"its dims are {list(value.shape)}, not a multiple of {tap.width}")
    value = value.reshape(tokens, -1, tap.width)
    return value if tap.order is None else value[..., tap.order]


def overwritten(
    tap: Tap, value: Array, new: Array, probed: Sequence[int], probed_tokens: int, tokens: int
) -> Array:
    """A node's values with those of the stage put in: the way back from `canonical`.

    Raises:
        NotPlaced: the stage's dims are others.
    """
    places = np.arange(value.size).reshape(value.shape)
    chosen = canonical(tap, places, probed, probed_tokens, tokens)
    if new.size != chosen.size:
        raise NotPlaced(f"{tap.stage} has dims {list(chosen.shape)}, and is given {list(new.shape)}")
    out = np.array(value, order="C")  # so that its flat form is a view of it
    out.reshape(-1)[chosen.reshape(-1)] = np.asarray(new).reshape(-1)
    return out
