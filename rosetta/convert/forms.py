"""Which tensors of a conversion lie in another form than the source's, so that a way back rounds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch

from rosetta.blocks import TORCH_FLOATS
from rosetta.convert.encoding import ranges
from rosetta.convert.placing import Piece, Placed
from rosetta.edits import OfSettings, Reversible
from rosetta.weight import Weight


def in_another_form(placed: Sequence[Placed]) -> list[str]:
    """The tensors whose stored values do not come back bit by bit from the form that they are written in.

    Args:
        placed: the tensors to be written; of those in another form all values are read.
    """
    return [tensor.name for tensor in placed if not all(map(_comes_back, tensor.pieces))]


def _comes_back(piece: Piece) -> bool:
    source = piece.source
    if source.values_edits == piece.target.values_edits:
        return True
    if any(isinstance(edit, OfSettings) for edit in source.values_edits):
        return False  # what multiplies them is not stated beside them any more
    plain = replace(source, values_edits=())
    return all(_same(source, plain, start, stop) for start, stop in ranges(source))


def _same(source: Weight, plain: Weight, start: int, stop: int) -> bool:
    """Whether undoing the form gives what is stored, in the dtype that it is stored in."""
    found = source.values(start, stop)
    for edit in source.values_edits:
        found = cast(Reversible, edit).stored(found, start)  # a reading's own
    stored = plain.values(start, stop)
    return torch.equal(found.to(TORCH_FLOATS.get(source.dtype, torch.float32)).float(), stored)
