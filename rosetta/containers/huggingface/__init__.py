"""The Hugging Face format: a folder of config.json and safetensors weights."""

from pathlib import Path

from rosetta.containers.container import Container
from rosetta.containers.huggingface.reader import open as open_folder
from rosetta.containers.huggingface.reader import recognises
from rosetta.containers.huggingface.settings import huggingface_quantisation

__all__ = ["open", "recognises"]


def open(path: Path) -> Container:
    """Open a Hugging Face folder; weights that a scheme has packed are read as if they were plain.

    Raises:
        RosettaError: see `reader.open` and `quantised.as_if_plain`.
    """
    folder = open_folder(path)
    config = huggingface_quantisation(folder.metadata)
    if config is None:
        return folder
    from rosetta.containers.huggingface.quantised import (
        as_if_plain,  # it needs torch, which a plain folder does not
    )

    return as_if_plain(folder, config)
