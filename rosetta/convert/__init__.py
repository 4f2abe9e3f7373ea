"""A model in another container: Hugging Face folder, `.apr`, GGUF. Proven by comparing it with its source."""

from rosetta.convert.convert import Conversion, convert

__all__ = ["Conversion", "convert"]
