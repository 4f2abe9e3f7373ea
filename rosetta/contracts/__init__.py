"""Contracts as YAML: what must hold of models or of rosetta itself, each with runs that would show that it does not."""
