"""Container -> Tokenizer."""

from __future__ import annotations

from rosetta.containers.container import Container
from rosetta.errors import DamagedFileError
from rosetta.tokenizer.embedded import apr_vocabulary, gguf_vocabulary
from rosetta.tokenizer.huggingface import load_folder
from rosetta.tokenizer.tokenizer import Tokenizer


def load_tokenizer(container: Container) -> Tokenizer | None:
    """The tokenizer that a container embeds.

    Args:
        container: an open container of any kind, also one without tensors.

    Returns:
        None where it embeds none.

    Raises:
        DamagedFileError: what it embeds contradicts itself.
        UnsupportedError: its vocabulary is of a kind that is not read; the kind is named.
    """
    if container.kind == "huggingface":
        return load_folder(container.path, container.architecture or "")
    vocabulary = apr_vocabulary(container) if container.kind == "apr" else gguf_vocabulary(container)
    if vocabulary is None:
        return None
    try:
        return Tokenizer(vocabulary)
    except DamagedFileError as error:
        if error.file is not None:
            raise
        message, where, remedy = error.message, error.where, error.remedy
        raise DamagedFileError(message, file=container.path, where=where, remedy=remedy) from error
