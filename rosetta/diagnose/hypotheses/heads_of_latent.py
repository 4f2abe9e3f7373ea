"""Keys and values of latent attention that lie otherwise in their tensor: each head's matrix turned, its values before
its keys, or all keys before all values.

Letters: N = heads, U = rows of a head's keys, V = of its values, L = size of the latent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like
from rosetta.diagnose.patches import reading
from rosetta.model import Patch
from rosetta.weight import Weight

LATENT = re.compile(r"(blk\.\d+\.attn_)(?:k_b\.\d+|v_b|kv_b)\.weight$")


@dataclass(frozen=True)
class Heads:
    """How many heads a tensor holds, and what it has of each: N, U, V, L; U = 0 where it holds values alone."""

    count: int
    keys: int
    values: int
    latent: int


Arrangement = Callable[[Tensor, Heads], tuple[Tensor, Tensor]]
"""All values of a stored tensor, flat -> each head's keys [N, U, L] and values [N, V, L]."""


@dataclass(frozen=True, eq=False)
class Arranged:
    """Rows of what an arrangement makes of a whole stored tensor; the noise goes with them.

    Args:
        whole: the stored tensor.
        pick: all its values -> those of the weight that is repaired, [R, L].
    """

    whole: Weight
    pick: Callable[[Tensor], Tensor] = field(hash=False)

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return self.pick(self.whole.values())[start : start + len(values)].to(values.device)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return self.pick(self.whole.sigma())[start : start + len(sigma)].to(sigma.device)


def _beside(
    stored: Tensor, h: Heads, *, turned: str = "", values_first: bool = False
) -> tuple[Tensor, Tensor]:
    """Those of a head beside each other; `turned`: which of k and v are stored [L, rows], of each head by itself."""
    heads = stored.reshape(h.count, -1)
    cut = h.values * h.latent if values_first else h.keys * h.latent
    parts = (heads[:, :cut], heads[:, cut:])
    keys, values = parts[::-1] if values_first else parts
    return _matrices(keys, h.keys, h.latent, "k" in turned), _matrices(
        values, h.values, h.latent, "v" in turned
    )


def _each_whole(stored: Tensor, h: Heads, *, values_first: bool = False) -> tuple[Tensor, Tensor]:
    """All heads' keys, then all their values, or the reverse."""
    cut = h.count * h.latent * (h.values if values_first else h.keys)
    parts = (stored.reshape(-1)[:cut], stored.reshape(-1)[cut:])
    keys, values = parts[::-1] if values_first else parts
    return keys.reshape(h.count, h.keys, h.latent), values.reshape(h.count, h.values, h.latent)


def _block_turned(stored: Tensor, h: Heads) -> tuple[Tensor, Tensor]:
    """Of each head [L, U + V] where [U + V, L] is read."""
    heads = stored.reshape(h.count, h.latent, h.keys + h.values).transpose(1, 2)
    return heads[:, : h.keys], heads[:, h.keys :]


def _all_turned(stored: Tensor, h: Heads) -> tuple[Tensor, Tensor]:
    """[L, N, U + V]: the whole matrix turned, whatever dims it is stored with."""
    heads = stored.reshape(h.latent, h.count, h.keys + h.values).permute(1, 2, 0)
    return heads[:, : h.keys], heads[:, h.keys :]


def _matrices(flat: Tensor, rows: int, columns: int, turned: bool) -> Tensor:
    if turned:
        return flat.reshape(len(flat), columns, rows).transpose(1, 2)
    return flat.reshape(len(flat), rows, columns)


TURNED, ORDER = "layout.transposed", "layout.fused_order"
FUSED: tuple[tuple[str, str, Arrangement], ...] = (
    (TURNED, "the keys' matrix of each head is turned", lambda s, h: _beside(s, h, turned="k")),
    (TURNED, "the values' matrix of each head is turned", lambda s, h: _beside(s, h, turned="v")),
    (TURNED, "both matrices of each head are turned", lambda s, h: _beside(s, h, turned="kv")),
    (TURNED, "what belongs to a head is turned as one matrix", _block_turned),
    (TURNED, "it is turned as a whole", _all_turned),
    (ORDER, "of each head the values come before the keys", lambda s, h: _beside(s, h, values_first=True)),
    (ORDER, "all keys come before all values, those of a head are not beside each other", _each_whole),
    (ORDER, "all values come before all keys", lambda s, h: _each_whole(s, h, values_first=True)),
)
ALONE = (FUSED[1], FUSED[4])  # of a tensor of values


def propose(fault: Fault) -> Iterator[Proposal]:
    """The way of lying in which all that an accused tensor holds of each head resembles the other side's."""
    if fault.recorded:
        return
    seen: set[str] = set()
    for suspect, weight in fault.accused_weights():
        if not LATENT.match(weight.name) or weight.entry.name in seen or weight.slot is not None:
            continue
        seen.add(weight.entry.name)
        held = [w for w in suspect.model.weights.values() if w.beside(weight)]
        heads = _heads(suspect, held)
        if heads is not None:
            yield from _found(suspect, weight, held, heads)


def _heads(suspect: Suspect, held: list[Weight]) -> Heads | None:
    """What the tensor has of each head, as the other side's matrices say; None where they do not fit."""
    others = [suspect.other.weights.get(weight.name) for weight in held]
    found = [other for other in others if other is not None]
    count = suspect.other.config.get("attention.head_count")
    if len(found) < len(held) or count is None or any(len(other.dims) != 2 for other in found):
        return None
    keys = [other for other in found if ".attn_k_b." in other.name]
    values = sum(other.dims[0] for other in found if ".attn_k_b." not in other.name)
    n = len(keys) or int(count.value)
    if n < 1 or values % n or (keys and not values):
        return None
    heads = Heads(n, keys[0].dims[0] if keys else 0, values // n, found[0].dims[1])
    size = n * (heads.keys + heads.values) * heads.latent
    return heads if size == math.prod(held[0].entry.dims) else None


def _found(suspect: Suspect, weight: Weight, held: list[Weight], heads: Heads) -> Iterator[Proposal]:
    dims = (heads.count * (heads.keys + heads.values), heads.latent)
    whole = replace(weight, part=None, order=None, columns=None, values_edits=(), stored_dims=dims)
    for kind, said, arrangement in FUSED if heads.keys else ALONE:
        patches: dict[str, Patch] = {}
        alike = True
        for part in held:
            other = suspect.other.weights[part.name]
            edit = Arranged(whole, _picker(arrangement, heads, part.name))
            mended = reading(stored_dims=dims, values_edits=(edit,))
            patches[part.name] = mended
            alike = alike and looks_like(_mended(mended, part), other)
        if alike:
            own, fused = weight.entry.name, weight.fused or weight.name
            yield Proposal(
                kind=kind,
                role=suspect.role,
                repair=Repair(patches=patches),
                tensor=fused,
                message=f"{fused} lies otherwise than it is read: {said} "
                f"({heads.count} heads, {heads.keys} + {heads.values} rows of {heads.latent} each)",
                recommendation=f"write {own} head by head, keys then values, rows [out, in]: here {said}",
            )
            return


def _mended(patch: Patch, weight: Weight) -> Weight:
    found = patch(weight)
    assert found is not None
    return found


def _picker(arrangement: Arrangement, heads: Heads, name: str) -> Callable[[Tensor], Tensor]:
    """Of all values of the tensor those of one weight."""
    head = re.search(r"\.attn_k_b\.(\d+)\.", name)

    def pick(stored: Tensor) -> Tensor:
        keys, values = arrangement(stored, heads)
        taken = keys[int(head[1])] if head else values.reshape(-1, heads.latent)
        return taken.contiguous()

    return pick
