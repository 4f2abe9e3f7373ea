"""How the tensors of a file become canonical weights, where that is not one for one: fused and stacked tensors, rows
in another order, values that a container keeps in another form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rosetta.edits import Reversible
from rosetta.lazily import torch
from rosetta.ops.latent import NOPE
from rosetta.ops.op import Settings
from rosetta.row_order import Order, Part

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Stored:
    """A tensor as a file has it.

    Args:
        stem: canonical name without `blk.N.` and without `.weight` or `.bias`: `attn_qkv`, `ffn_up_exps`, `output`.
        suffix: `weight`, `bias`; empty where the name has none.
        dims: row-major, as stored.
        container: `apr`, `gguf` or `huggingface`.
        layer: whose it is; None outside the layers.
        foreign: whether it has a Hugging Face name: an `.apr` may hold tensors of either.
        metadata: all that the file states, where how a tensor is read hangs on what is no setting.
        packed: whether a scheme quantised it: by rows of outputs, also where plain weights lie the other way.
    """

    stem: str
    suffix: str
    dims: tuple[int, ...]
    container: str
    layer: int | None
    foreign: bool
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)
    packed: bool = False


@dataclass(frozen=True)
class Reading:
    """One canonical weight out of a stored tensor.

    Args:
        name: canonical, without `blk.N.`: `attn_q.weight`, `ffn_up_exps.7.weight`.
        slot, part, order, columns, transposed: see `Weight`.
        dims: of the stored matrix, where they are not those of the tensor (or of one slot of it).
        edit: what makes canonical values of the stored ones.
    """

    name: str
    slot: tuple[int, int] | None = None
    part: Part | None = None
    order: Order | None = None
    columns: Order | None = None
    transposed: bool | None = None
    dims: tuple[int, ...] | None = None
    edit: Reversible | None = None


Readings = Callable[[Stored, Settings], Sequence[Reading] | None]
"""What a stored tensor is read as, given its layer's settings; None: as the one weight that it is."""

QKV = ("attn_q", "attn_k", "attn_v")
GATE_UP = ("ffn_gate", "ffn_up")
EXPERTS_GATE_UP = tuple(f"{stem}_exps" for stem in GATE_UP)


def standard_readings(stored: Stored, c: Settings) -> Sequence[Reading] | None:
    """What holds everywhere: q, k and v fused, experts stacked in one tensor of three dims."""
    if stored.stem == "attn_qkv":
        return fused(stored, QKV, qkv_sizes(c))
    if stored.stem == "exp_probs_b" and stored.dims:  # of a suffix, or of dims, as a converter left it
        return [Reading("exp_probs_b.bias", dims=stored.dims[-1:])]
    if stored.stem == "ffn_gate_inp_shexp" and len(stored.dims) == 1:
        # ggml drops a dim of one when it quantises.
        return [Reading(f"{stored.stem}.{stored.suffix}", dims=(1, *stored.dims))]
    if stored.stem == "ffn_gate_up_exps":
        return experts(stored, ("ffn_gate_exps", "ffn_up_exps"))
    if stored.stem.endswith("_exps"):
        return experts(stored)
    return None


def qkv_sizes(c: Settings) -> tuple[int, int, int]:
    """Rows of q, k and v."""
    heads, kv_heads = c["attention.head_count"], c["attention.head_count_kv"]
    key, value = c["attention.key_length"], c["attention.value_length"]
    return heads * key, kv_heads * key, kv_heads * value


def fused(stored: Stored, stems: Sequence[str], sizes: Sequence[int], groups: int = 1) -> list[Reading]:
    """Weights whose rows lie in one tensor.

    Args:
        stored: the tensor.
        stems: of the weights, in the order in which they lie.
        sizes: rows of each; in each group of rows, where there are several.
        groups: see `Part`.
    """
    return [
        Reading(f"{stem}.{stored.suffix}", part=Part(which, tuple(sizes), groups))
        for which, stem in enumerate(stems)
    ]


def by_key_group(stored: Stored, c: Settings) -> list[Reading]:
    """q, k and v of a tensor in which the queries that share a key, that key and its value lie beside each other; with
    as many heads of keys as of queries: those of each head."""
    groups = c["attention.head_count_kv"]
    return fused(stored, QKV, [rows // groups for rows in qkv_sizes(c)], groups=groups)


def readings_by_key_group(stored: Stored, c: Settings) -> Sequence[Reading] | None:
    """What holds everywhere, but a folder's fused q, k and v go by group of heads; GGUF has all q first."""
    if stored.stem == "attn_qkv" and stored.foreign:
        return by_key_group(stored, c)
    return standard_readings(stored, c)


def experts(
    stored: Stored,
    stems: Sequence[str] | None = None,
    groups: int | None = None,
    transposed: bool = False,
) -> list[Reading]:
    """The matrices, or biases, of all experts, stacked in one tensor.

    Args:
        stored: [E, rows, columns], or [E, rows] of biases.
        stems: of the weights whose rows are fused in each matrix; None: it is one.
        groups: see `Part`; None: the fused ones lie one after the other.
        transposed: whether each matrix is stored [in, out].
    """
    count, dims = stored.dims[0] if stored.dims else 0, stored.dims[1:]
    turned = transposed and len(dims) == 2
    rows = dims[-1] if turned else dims[0] if dims else 0
    found = []
    for e in range(count):
        for which, stem in enumerate(stems or (stored.stem,)):
            part = None
            if stems is not None:
                share = rows // len(stems)
                sizes = (share,) * len(stems) if groups is None else (share // groups,) * len(stems)
                part = Part(which, sizes, groups or 1)
            name = f"{stem}.{e}.{stored.suffix or 'weight'}"
            found.append(Reading(name, slot=(e, count), part=part, transposed=turned, dims=dims))
    return found


def first_of(*ways: Readings) -> Readings:
    """The first of several ways that has an answer."""

    def read(stored: Stored, c: Settings) -> Sequence[Reading] | None:
        return next((found for way in ways if (found := way(stored, c)) is not None), None)

    return read


def gate_beside_up(stored: Stored, c: Settings) -> Sequence[Reading] | None:
    """Gate and up in one tensor of the name of up, the gate first."""
    if stored.stem != "ffn_up" or not stored.dims:
        return None
    half = stored.dims[0] // 2
    return fused(stored, GATE_UP, (half, half))


def latent_keys_values(stored: Stored, c: Settings) -> list[Reading] | None:
    """Keys and values of latent attention: GGUF has a tensor of each, the keys' matrices turned; a Hugging Face folder
    (and a GGUF of before 2025) one in which those of a head lie beside each other.

    Canonical are a matrix of each head for the keys, `attn_k_b.3.weight`, and one of all heads' rows for the values.
    """
    heads, rank = c["attention.head_count"], c["attention.kv_lora_rank"]
    own, value = c[NOPE], c["attention.value_length"]
    # ggml drops a dim of one.
    dims = (1, *stored.dims) if heads == 1 and len(stored.dims) == 2 else stored.dims
    if stored.stem == "attn_k_b" and len(dims) == 3:
        return [
            Reading(f"attn_k_b.{head}.weight", slot=(head, dims[0]), transposed=True, dims=dims[1:])
            for head in range(dims[0])
        ]
    if stored.stem == "attn_v_b" and len(stored.dims) == 3:
        rows = stored.dims[0] * stored.dims[1]
        return [Reading("attn_v_b.weight", dims=(rows, stored.dims[2]))]
    if stored.stem == "attn_kv_b" and rank:
        keys = [
            Reading(f"attn_k_b.{head}.weight", part=Part(2 * head, (own, value) * heads))
            for head in range(heads)
        ]
        return [*keys, Reading("attn_v_b.weight", part=Part(1, (own, value), heads))]
    return None


def one_more_where(*stems: str) -> Readings:
    """Norms of which Hugging Face stores w and GGUF 1 + w, which is the canonical form.

    Args:
        stems: of the norms.
    """

    def read(stored: Stored, c: Settings) -> Sequence[Reading] | None:
        if not stored.foreign or stored.stem not in stems or stored.suffix != "weight":
            return None
        return [Reading(f"{stored.stem}.{stored.suffix}", edit=ONE_MORE)]

    return read


@dataclass(frozen=True)
class Mapped:
    """An edit that holds of each value by itself: what a container keeps in another form.

    Args:
        function: stored -> canonical values.
        inverse: canonical -> stored values, up to the rounding of float32.
    """

    function: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]

    def touches(self, start: int, stop: int) -> bool:
        """All of them."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """Canonical values."""
        return self.function(values)

    def stored(self, values: Tensor, start: int) -> Tensor:
        """Stored values that canonical ones are made of: where float32 has any that give these very values, those."""
        found = self.inverse(values)
        up, down, above = found, found, torch.tensor(torch.inf)
        for _ in range(NEIGHBOURS):  # the inverse of a rounded function may round to a neighbour
            up, down = torch.nextafter(up, above), torch.nextafter(down, -above)
            for near in (up, down):
                better = (self.function(found) != values) & (self.function(near) == values)
                found = torch.where(better, near, found)
        return found

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """To first order: what a step of its size changes, and the rounding of the result."""
        moved: Tensor = (self.function(values + sigma) - self.function(values)).abs()
        return torch.hypot(moved, self.function(values).abs() * 2.0**-24)


@dataclass(frozen=True)
class Centred:
    """An edit that takes off a vector its mean; one that has none but for rounding stays as it is.

    Args:
        count: of its values; a part of them is left as it is, for it does not tell the mean.
    """

    count: int

    def touches(self, start: int, stop: int) -> bool:
        """All of them."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """Canonical values."""
        if values.numel() != self.count:
            return values
        mean = values.mean()
        return values if mean.abs() <= values.abs().amax() * 2.0**-23 else values - mean

    def stored(self, values: Tensor, start: int) -> Tensor:
        """The same: the mean that was taken off changes nothing, and is not known."""
        return values

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """Its own rounding, and that of the mean and the difference."""
        mean = sigma.square().mean().sqrt() / self.count**0.5
        return torch.hypot(torch.hypot(sigma, mean), values.abs().amax() * 2.0**-23)


def _one_more(x: Tensor) -> Tensor:
    return 1 + x


def _one_less(x: Tensor) -> Tensor:
    return x - 1


def _minus_exp(x: Tensor) -> Tensor:
    return -x.exp()


def _log_of_minus(x: Tensor) -> Tensor:
    return (-x).log()


NEIGHBOURS = 4
ONE_MORE = Mapped(_one_more, _one_less)
"""1 + w of a norm's w."""
MINUS_EXP = Mapped(_minus_exp, _log_of_minus)
"""A of A_log: −exp(x)."""
