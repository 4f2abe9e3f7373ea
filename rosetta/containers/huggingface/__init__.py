"""The Hugging Face format: a folder of config.json and safetensors weights."""

from rosetta.containers.huggingface.reader import open, recognises

__all__ = ["open", "recognises"]
