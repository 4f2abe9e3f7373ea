"""The load log: each tensor's dims and dtype as its file declares them, and whether they are the config's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rosetta.compare.listener import ANY
from rosetta.report.folding import groups, layer_of, with_layers, without_layer

if TYPE_CHECKING:
    from rosetta.compare.listener import LoadedTensor


def load_log(label: str, tensors: Iterable[LoadedTensor], *, each: bool = False) -> Iterator[str]:
    """Lines of the load log of one side.

    Args:
        label: how people call its container: `APR`, `GGUF`, `HF`.
        tensors: its tensors, in file order.
        each: one line for every tensor, with the file's own name; else tensors that differ only in the
            layer share a line.

    Returns:
        Lines without line breaks.
    """
    if each:
        for tensor in tensors:
            own = "" if tensor.source_name == tensor.name else f" ({tensor.source_name})"
            yield f"[{label}-LOAD] {tensor.name}{own}: {_facts(tensor)}"
        return
    for group in groups(tensors, lambda t: (without_layer(t.name, layer_of(t.name)), _facts(t))):
        members = sorted(group, key=lambda t: _layer_or_first(t.name))
        layers = list(dict.fromkeys(_layer_or_first(t.name) for t in members))
        yield f"[{label}-LOAD] {with_layers(members[0].name, layers)}: {_facts(members[0])}"


def _facts(tensor: LoadedTensor) -> str:
    dims, expected = list(tensor.dims), tensor.expected
    start = f"dims={dims}, dtype={tensor.dtype}"
    if expected is None or _fits(tensor.dims, expected):
        axes = "[in, out]" if tensor.in_out else "[out, in]"
        return f"{start}, layout {axes}: OK" if len(dims) == 2 else f"{start}: OK"
    if _fits(tensor.dims[::-1], expected) and not tensor.in_out:
        return f"{start}, TRANSPOSE NEEDED: expected [out, in] = {_spelled(expected)}, stored {dims}"
    return f"{start}, DIMS DIFFER: expected {_spelled(expected)}, stored {dims}"


def _fits(dims: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(dims) == len(expected) and all(
        want in (ANY, got) for want, got in zip(expected, dims, strict=True)
    )


def _spelled(expected: tuple[int, ...]) -> str:
    return "[" + ", ".join("any" if want == ANY else str(want) for want in expected) + "]"


def _layer_or_first(name: str) -> int:
    layer = layer_of(name)
    return -1 if layer is None else layer
