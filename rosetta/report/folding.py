"""Names that differ only in the layer or the expert, said once: `blk.{0..27}.attn_q.weight`."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

# How files and people number layers: blk.3.attn_q (GGUF), model.layers.3.mlp (HF), h.3.attn (GPT-2), layer 3.
_LAYER = re.compile(r"\b(blk\.|layers\.|h\.|layer |Layer )(\d{1,6})\b")
# As files number experts: blk.0.ffn_up_exps.3 (ours of GGUF), mlp.experts.3.up_proj (HF).
_EXPERT = re.compile(r"(_exps\.|\bexperts\.)(\d{1,6})\b")


def layer_of(name: str) -> int | None:
    """The layer that a tensor's name is numbered with; None outside the layers."""
    found = _LAYER.search(name)
    return int(found[2]) if found else None


def with_layers(text: str, layers: Sequence[int]) -> str:
    """Text about the first of some layers, said of all of them.

    Args:
        text: a name or a sentence.
        layers: layer numbers, ascending; the text is about the first.

    >>> with_layers("blk.0.attn_q.weight", [0, 1, 2])
    'blk.{0..2}.attn_q.weight'
    >>> with_layers("blk.7.attn_q.weight", [7])
    'blk.7.attn_q.weight'
    """
    if len(layers) < 2:
        return text
    return _LAYER.sub(lambda m: m[1] + (ranges(layers) if int(m[2]) == layers[0] else m[2]), text)


def without_layer(text: str, layer: int | None) -> str:
    """Text with the number of its layer taken out: equal for texts that differ only in the layer."""
    return _LAYER.sub(lambda m: m[1] + ("{}" if int(m[2]) == layer else m[2]), text)


def ranges(layers: Sequence[int]) -> str:
    """Ascending numbers in braces, runs shortened.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '{0..2,5,7,8}'
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts = [
        f"{run[0]}..{run[-1]}" if len(run) > 2 else ",".join(str(layer) for layer in run) for run in runs
    ]
    return "{" + ",".join(parts) + "}"


def groups(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Items with equal keys together, in the order in which each key first appears."""
    found: dict[Hashable, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


def folded(names: Iterable[str]) -> list[str]:
    """Names that differ only in the layer, or beyond that only in the expert, once each.

    >>> folded(["blk.0.attn_q.weight", "output.weight", "blk.1.attn_q.weight"])
    ['blk.{0,1}.attn_q.weight', 'output.weight']
    >>> folded(f"blk.{n}.ffn_up_exps.{e}.weight" for e in range(4, 8) for n in range(2))
    ['blk.{0,1}.ffn_up_exps.{4..7}.weight']
    """
    found = []
    for group in groups(names, lambda name: without_layer(name, layer_of(name))):
        layers = sorted({layer for name in group if (layer := layer_of(name)) is not None})
        first = min(group, key=lambda name: layer_of(name) or 0)
        found.append(with_layers(first, layers))
    return [_of_experts(group) for group in groups(found, lambda name: _EXPERT.sub(r"\1", name))]


def _of_experts(names: Sequence[str]) -> str:
    """The first of some names that differ in the expert alone, said of all of them."""
    experts = sorted({int(found[2]) for name in names if (found := _EXPERT.search(name))})
    return names[0] if len(names) < 2 else _EXPERT.sub(lambda m: m[1] + ranges(experts), names[0])
