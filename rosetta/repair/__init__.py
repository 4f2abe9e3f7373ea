"""A copy of a wrong file with all confirmed repairs in it, compared again. Never touches what it is given."""

from rosetta.repair.repair import RepairOutcome, repair_operands

__all__ = ["RepairOutcome", "repair_operands"]
