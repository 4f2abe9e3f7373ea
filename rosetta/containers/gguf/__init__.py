"""The GGUF format: llama.cpp's model file, versions 2 and 3 of either byte order, whole or split."""

from rosetta.containers.gguf.reader import open, recognises

__all__ = ["open", "recognises"]
