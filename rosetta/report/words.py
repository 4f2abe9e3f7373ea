"""How people are told: labels of the sides, names of stages, numbers and kinds in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rosetta.compare.results import Side, StageDiff
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


def largest_difference(stages: Sequence[StageDiff]) -> StageDiff | None:
    """The stage with the largest difference, the last of equal ones; None when none has one."""
    measured = [(stage.max_diff, i) for i, stage in enumerate(stages) if stage.max_diff is not None]
    if not measured:
        return None
    # NaN compares with nothing: it counts as the largest.
    worst = max(
        measured, key=lambda item: (item[0] != item[0], item[0] if item[0] == item[0] else 0.0, item[1])
    )
    return stages[worst[1]]
