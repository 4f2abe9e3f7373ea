"""Stores that are read over a network; imported where an operand lies in one, for the libraries may be missing."""
