"""A copy of a wrong file with all confirmed repairs in it, compared again. Never touches what it is given."""

from rosetta.repair.repair import Repair, repair_operands

__all__ = ["Repair", "repair_operands"]
