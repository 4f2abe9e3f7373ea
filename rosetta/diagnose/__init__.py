"""Why two models differ: hypotheses about the cause, each proven by repairing it in memory and rerunning."""

from rosetta.diagnose.comparison import Comparison, compare_operands

__all__ = ["Comparison", "compare_operands"]
