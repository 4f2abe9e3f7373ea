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
        each: one line for every tensor, with the file's own name; else those that are as the config says share
            one, and of the others those that differ only in the layer.

    Returns:
        Lines without line breaks.
    """
    if each:
        for tensor in tensors:
            own = "" if tensor.source_name == tensor.name else f" ({tensor.source_name})"
            yield f"[{label}-LOAD] {tensor.name}{own}: {_facts(tensor)}"
        return
    sound: list[LoadedTensor] = []
    others: list[LoadedTensor] = []
    for tensor in tensors:
        (sound if _is_sound(tensor) else others).append(tensor)
    if len(_kinds(sound)) < 2:  # one line as it is
        sound, others = [], [*sound, *others]
    for group in _kinds(others):
        members = sorted(group, key=lambda t: _layer_or_first(t.name))
        layers = list(dict.fromkeys(_layer_or_first(t.name) for t in members))
        yield f"[{label}-LOAD] {with_layers(members[0].name, layers)}: {_facts(members[0])}"
    if sound:
        dtypes = ", ".join(dict.fromkeys(tensor.dtype for tensor in sound))
        count = f"{len(sound)} {'other ' if others else ''}tensors"
        yield f"[{label}-LOAD] {count}: dims as the config says, dtype={dtypes}, layout [out, in]: OK (-v lists each)"


def _kinds(tensors: Iterable[LoadedTensor]) -> list[list[LoadedTensor]]:
    """Tensors that differ only in the layer, together."""
    return groups(tensors, lambda t: (without_layer(t.name, layer_of(t.name)), _facts(t)))


def _is_sound(tensor: LoadedTensor) -> bool:
    """Whether there is nothing to say of a tensor but that it is as expected."""
    return (
        tensor.known
        and not tensor.in_out
        and tensor.expected is not None
        and _fits(tensor.dims, tensor.expected)
    )


def _facts(tensor: LoadedTensor) -> str:
    dims, expected = list(tensor.dims), tensor.expected
    start = f"dims={dims}, dtype={tensor.dtype}"
    if not tensor.known:
        return f"{start}: NOT READ, the architecture has no such tensor"
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
