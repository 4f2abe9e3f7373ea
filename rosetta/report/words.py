"""How people are told: labels of the sides, names of stages, numbers and kinds in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rosetta.compare.results import Agreement, Side, StageDiff
    from rosetta.report.report import Report

SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")

CONTAINER_LABELS = {"apr": "APR", "gguf": "GGUF", "huggingface": "HF", "trace": "TRACE"}


def labels(report: Report) -> dict[Side, str]:
    """What each side is called: by its container; two of one container are told apart."""
    left, right = (
        CONTAINER_LABELS.get(s.container, s.container.upper()) for s in (report.left, report.right)
    )
    return (
        {"left": f"LEFT {left}", "right": f"RIGHT {right}"}
        if left == right
        else {"left": left, "right": right}
    )


def sided(agreement: Agreement, label: dict[Side, str]) -> str:
    """Whom a witness agrees with: `GGUF (right)`, `both`, `neither`."""
    if agreement == "left" or agreement == "right":
        return f"{label[agreement]} ({agreement})"
    return agreement


def heading(layer: int | None, op: str) -> str:
    """The section that a stage belongs to: `Layer 0`, `Embedding`, `Final norm`."""
    return op.replace("_", " ").capitalize() if layer is None else f"Layer {layer}"


def place(layer: int | None, op: str) -> str:
    """Where a stage is, in a sentence: `Layer 0 k`, `Embedding`."""
    return heading(layer, op) if layer is None else f"Layer {layer} {op}"


def stage_place(name: str) -> str:
    """`place` of a stage's name: `layers.0.k` is `Layer 0 k`."""
    parts = name.split(".")
    if len(parts) == 3 and parts[0] == "layers" and parts[1].isdigit():
        return place(int(parts[1]), parts[2])
    return place(None, name)


def number(value: float | None) -> str:
    """A difference: `1.25e-03`; `not computable` for None."""
    return "not computable" if value is None else f"{value:.2e}"


def prediction(value: float) -> str:
    """A predicted difference: exactly zero is `0`, so that it is told from a tiny one."""
    return "0" if value == 0 else number(value)


def values(numbers: Sequence[float]) -> str:
    """Values of a tensor: `[0.0123, -1.5, 3]`."""
    return "[" + ", ".join(f"{value:.6g}" for value in numbers) + "]"


def dims(shape: Sequence[int] | None) -> str:
    """Row-major dims: `[1536, 256]`; `none` for None."""
    return "none" if shape is None else str(list(shape))


def setting(value: object) -> str:
    """A configuration value: a float32 as short as it can be said (`1e-05`); `-` for None."""
    if isinstance(value, float):
        import numpy as np  # not at the program's start

        if float(np.float32(value)) == value:
            return repr(float(str(np.float32(value))))
    return "-" if value is None else str(value)


def counted(count: int, thing: str) -> str:
    """`1 stage`, `2 stages`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def times(value: float | None) -> str:
    """A size beside another in two digits: `0.041`, `12`."""
    return "not computable" if value is None else f"{value:.2g}"


def of_size(rel: float | None) -> str:
    """A difference beside the size of its stage's values: `0.041 of its size`, `4.7 times its size`."""
    if rel is None or math.isinf(rel):
        return "beside zeros" if rel is not None else "of unknown size"
    return f"{rel:.2g} times its size" if rel > 1 else f"{rel:.2g} of its size"


def ratio_over_noise(ratio: float) -> str:
    """A difference over its prediction: `0.35 of its predicted noise`, `177 times its predicted noise`."""
    if ratio == 0:
        return "exactly 0"
    return f"{ratio:.2g} of its predicted noise" if ratio <= 1 else f"{ratio:.3g} times its predicted noise"


def worst_for_its_size(stages: Iterable[StageDiff]) -> StageDiff | None:
    """The stage with the largest difference beside the size of its values; None when none has one."""
    return max((stage for stage in stages if stage.rel is not None), key=_of_size, default=None)


def worst_against_noise(stages: Iterable[StageDiff]) -> StageDiff | None:
    """The stage that is worst against its prediction, the first of equal ones; None when none has one."""
    return max((stage for stage in stages if stage.local is not None), key=_of_noise, default=None)


def _of_size(stage: StageDiff) -> float:
    return _nan_largest(stage.rel or 0.0)


def _of_noise(stage: StageDiff) -> float:
    return _nan_largest(stage.local.worst_ratio if stage.local is not None else 0.0)


def _nan_largest(value: float) -> float:
    """NaN compares with nothing: it counts as the largest."""
    return math.inf if math.isnan(value) else value
