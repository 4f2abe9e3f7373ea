"""What kind of operation a torch function is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rosetta.runtimes.observed.graph import Kind

NAMES: dict[Kind, str] = {
    "product": "linear matmul mm bmm baddbmm addmm einsum __matmul__ __rmatmul__",
    "add": "add __add__ __radd__ __iadd__ add_ sub __sub__ __rsub__ __isub__ sub_ subtract rsub",
    "mul": "mul __mul__ __rmul__ __imul__ mul_ multiply div __truediv__ __rtruediv__ __itruediv__ div_ divide "
    "true_divide",
    "scale": "neg neg_ __neg__ negative",
    "reduce": "mean sum var std norm var_mean amax max vector_norm",
    "softmax": "softmax",
    "act": "silu gelu relu sigmoid tanh softplus square relu_ silu_ logsigmoid relu6 clamp clamp_ __pow__ pow exp mish "
    "hardtanh leaky_relu elu",
    "conv": "conv1d conv2d",
    "rows": "embedding index_select gather take_along_dim",
    "norm": "layer_norm rms_norm group_norm normalize",
    "join": "cat concat concatenate stack __setitem__",
    "experts": "experts",
    "select": "where masked_fill masked_fill_",
    "rope": "view_as_real",  # of complex numbers that were turned
}
_MOVES = """
view reshape transpose permute contiguous to float double half bfloat16 type type_as unsqueeze squeeze flatten
unflatten clone detach dropout alias swapaxes movedim moveaxis T mT t view_as reshape_as real view_as_complex
__getitem__ narrow chunk split unbind select split_with_sizes tensor_split expand expand_as broadcast_to repeat
repeat_interleave roll copy_ requires_grad_ data transpose_ swapdims
"""
MOVES = frozenset(_MOVES.split())  # the same numbers, or some of them, in another place
KIND_OF: dict[str, Kind] = {name: kind for kind, names in NAMES.items() for name in names.split()}


def function_name(function: Any) -> str:
    """`silu`, `__getitem__`, `T`: of an attribute, its name."""
    name: str = getattr(function, "__name__", "")
    if name == "__get__":
        owner = getattr(function, "__self__", None)
        name = getattr(owner, "__name__", name)
    return name


def kind_of(name: str, tensors: list[Tensor], output: Tensor, args: tuple[Any, ...]) -> Kind:
    """The kind of one call.

    Args:
        name: of the function.
        tensors: its tensor arguments.
        output: what it gave.
        args: all positional arguments.
    """
    if name == "view_as_complex":
        return "view"
    if name == "__getitem__" and _by_tensor(args):
        return "rows"
    if name in MOVES:
        before = tensors[0].numel() if tensors else output.numel()
        return "view" if output.numel() == before else "slice" if output.numel() < before else "repeat"
    kind: Kind = KIND_OF.get(name, "other")
    if kind in ("mul", "add") and (len(tensors) < 2 or _scalar(tensors)):
        return "scale" if kind == "mul" or not _nothing(args) else "view"
    return kind


def factor_of(name: str, args: tuple[Any, ...]) -> float | None:
    """The number that a call multiplies a tensor with, where it is one.

    >>> factor_of("__truediv__", (torch.ones(2), 4.0))
    0.25
    """
    plain = name.strip("_")
    if plain in ("neg", "negative"):
        return -1.0
    numbers = [x for x in args[:2] if isinstance(x, int | float) or (isinstance(x, Tensor) and x.ndim == 0)]
    if (
        len(numbers) != 1
        or plain not in (*MULTIPLIES, *DIVIDES)
        or (plain in DIVIDES and numbers[0] is args[0])
    ):
        return None
    number = float(numbers[0])
    return number if plain in MULTIPLIES else 1 / number if number else None


MULTIPLIES = ("mul", "rmul", "imul", "multiply")
DIVIDES = ("div", "truediv", "itruediv", "divide", "true_divide")


def _scalar(tensors: list[Tensor]) -> bool:
    """Whether one of two factors is a single number that no weight is."""
    return any(t.numel() == 1 and not isinstance(t, torch.nn.Parameter) and t.ndim == 0 for t in tensors[:2])


def _nothing(args: tuple[Any, ...]) -> bool:
    return any(isinstance(a, int | float) and a == 0 for a in args[:2])


def _by_tensor(args: tuple[Any, ...]) -> bool:
    index = args[1] if len(args) > 1 else None
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.ndim > 0 for part in parts)
