"""Why two models differ: hypotheses about the cause, each proven by repairing it in memory and rerunning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rosetta.diagnose.comparison import Comparison, compare_operands

__all__ = ["Comparison", "compare_operands"]


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is first asked for: it takes torch, and `kinds` does without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rosetta.diagnose import comparison

    return getattr(comparison, name)
