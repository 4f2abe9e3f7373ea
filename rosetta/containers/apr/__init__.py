"""The `.apr` format: aprender's model file, in every dialect of its version 2."""

from rosetta.containers.apr.reader import open, recognises

__all__ = ["open", "recognises"]
