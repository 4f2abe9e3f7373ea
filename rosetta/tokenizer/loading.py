"""Container -> Tokenizer."""

from __future__ import annotations

from pathlib import Path

from rosetta.containers import open_container
from rosetta.containers.container import Container
from rosetta.errors import DamagedFileError, UsageError
from rosetta.sources import located
from rosetta.tokenizer.comparison import same_encoder
from rosetta.tokenizer.embedded import apr_vocabulary, gguf_vocabulary
from rosetta.tokenizer.encoders import Codec
from rosetta.tokenizer.folder_files import json_file
from rosetta.tokenizer.huggingface import load_folder
from rosetta.tokenizer.tokenizer import Tokenizer
from rosetta.tokenizer.vocabulary import Vocabulary


def load_tokenizer(container: Container, like: Tokenizer | None = None) -> Tokenizer | None:
    """The tokenizer that a container embeds.

    Args:
        container: an open container of any kind, also one without tensors.
        like: another file's tokenizer, whose encoder serves this one too where it is made of the same facts:
            making one of 150,000 tokens takes half a second.

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
        if like is not None and isinstance(like.codec, Codec) and same_encoder(vocabulary, like.facts):
            return Tokenizer(vocabulary, Codec(vocabulary, like.codec))
        return Tokenizer(vocabulary)
    except DamagedFileError as error:
        if error.file is not None:
            raise
        message, where, remedy = error.message, error.where, error.remedy
        raise DamagedFileError(message, file=container.path, where=where, remedy=remedy) from error


def load_vocabulary(container: Container) -> Vocabulary | None:
    """The facts of the tokenizer that a container embeds: `load_tokenizer` without the half second that an encoder of
    150,000 tokens takes, and with its errors."""
    if container.kind == "huggingface":
        tokenizer = load_tokenizer(container)
        return None if tokenizer is None else tokenizer.facts
    vocabulary = apr_vocabulary(container) if container.kind == "apr" else gguf_vocabulary(container)
    if vocabulary is not None and vocabulary.kind == "unigram":  # whose encoder alone may be refused
        load_tokenizer(container)
    return vocabulary


def open_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a file or folder, which need hold nothing else.

    Args:
        path: an `.apr` or GGUF file, also of a vocabulary alone; a Hugging Face folder, also without weights.

    Raises:
        UsageError: there is no such file, or it embeds no tokenizer.
        DamagedFileError, UnsupportedError: see `load_tokenizer`, `open_container`.
    """
    folder = located(path)
    tokenizer = load_folder(folder, _architecture(folder)) if folder.is_dir() else None
    if tokenizer is None:
        container = open_container(folder)
        try:
            tokenizer = load_tokenizer(container)
        finally:
            container.close()
    if tokenizer is None:
        raise UsageError("has no tokenizer", file=path, remedy="name a file that embeds one")
    return tokenizer


def _architecture(folder: Path) -> str:
    """What a folder's config.json calls the model; empty where it does not say."""
    config = json_file(folder / "config.json")
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else config.get("model_type")
    return name if isinstance(name, str) else ""
