"""A file or folder -> Inspection: everything it declares, typed, and what is taken by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from rosetta import __version__
from rosetta.compare.listener import loaded_tensors
from rosetta.compare.results import Result
from rosetta.compare.settings import plain as plain_setting
from rosetta.containers import Container, open_operand
from rosetta.errors import RosettaError
from rosetta.index_entries import needless_entries
from rosetta.inspection.statistics import TensorStatistics, tensor_statistics, untrained
from rosetta.model import Model, build_model
from rosetta.report.report import Tool
from rosetta.strict_json import json_text
from rosetta.tokenizer import load_vocabulary


class SettingFacts(Result):
    """One configuration value."""

    key: str
    """GGUF's key without the architecture."""
    value: Any
    """Its value."""
    source_key: str | None
    """The file's own spelling; null for a default."""
    defaulted: bool
    """Whether the file lacks the key."""
    note: str = ""
    """Where a default comes from."""


class TokenizerFacts(Result):
    """The tokenizer that the file embeds."""

    kind: str
    """What encodes: `bpe`, `spm`, `unigram`, `hex`, …"""
    model: str
    """What the file calls it."""
    pre: str | None
    """The pre-tokenizer in use."""
    vocab_size: int
    """Number of tokens."""
    merges: int
    """Number of merges."""
    special_ids: dict[str, int]
    """`bos`, `eos`, `unknown`, … and their ids."""
    add_bos: bool
    """Whether a prompt gets a BOS."""
    add_eos: bool
    """Whether a prompt gets an EOS."""
    notes: list[str]
    """What is wrong with it, and what was assumed."""


class TensorFacts(Result):
    """One tensor as the file declares it."""

    name: str
    """The file's name of it."""
    canonical: str | None
    """GGUF's name of it; null where it is not known."""
    dtype: str
    """Declared dtype."""
    dims: list[int]
    """Row-major dims, as stored."""
    nbytes: int
    """Bytes of data."""
    statistics: TensorStatistics | None = None
    """What its values look like; null where that was not asked for, or the dtype cannot be decoded."""


class Inspection(Result):
    """Everything a file or folder says of the model it holds."""

    schema_version: Literal["1.0"] = "1.0"
    """Fields are only ever added within major version 1."""
    tool: Tool
    """What wrote this."""
    path: str
    """The file or folder."""
    container: str
    """`apr`, `gguf` or `huggingface`."""
    architecture: str | None
    """As declared."""
    supported: bool
    """Whether rosetta runs it."""
    parameters: int
    """Weights in all tensors."""
    dtypes: dict[str, int]
    """Number of tensors of each dtype."""
    file_bytes: int
    """Size of the file, or of the folder's model files."""
    config: list[SettingFacts]
    """Canonical settings; of an unsupported model, those that the file declares."""
    tokenizer: TokenizerFacts | None
    """The tokenizer; null where there is none that can be read."""
    tensors: list[TensorFacts]
    """Every tensor, in file order."""
    notes: list[str]
    """What a reader should know: what was tolerated, why the model cannot be run."""

    def to_json(self) -> str:
        """This as strict JSON (RFC 8259), with a final line break."""
        return json_text(self.model_dump())


Progress = Callable[[str, int, int], None]
"""Hears of each tensor: its name, how many are done, how many there are."""


def inspection(path: str | Path, *, statistics: bool = False, progress: Progress | None = None) -> Inspection:
    """Inspect a file or folder.

    Args:
        path: of an architecture that rosetta runs or not.
        statistics: whether to read all tensors' values, one at a time.
        progress: hears how far the reading is.

    Raises:
        RosettaError: it is none that can be opened.
    """
    container = open_operand(path)
    try:
        notes = list(container.notes)
        model = _model(container, notes)
        tokenizer = _tokenizer(container, notes)
        tensors = list(_tensors(container, model, statistics, progress))
        never = untrained((tensor.dims, tensor.statistics) for tensor in tensors)
        notes += [] if never is None else [never]
        dtypes: dict[str, int] = {}
        for tensor in tensors:
            dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + 1
        return Inspection(
            tool=Tool(version=__version__),
            path=str(path),
            container=container.kind,
            architecture=container.architecture,
            supported=model is not None,
            parameters=sum(_count(tensor) for tensor in tensors),
            dtypes=dtypes,
            file_bytes=container.file_bytes,
            config=_declared(container) if model is None else _canonical(model),
            tokenizer=tokenizer,
            tensors=tensors,
            notes=notes,
        )
    finally:
        container.close()


def _model(container: Container, notes: list[str]) -> Model | None:
    """The model in canonical form; None, and a note, where rosetta does not run it."""
    try:
        model = build_model(container)
    except RosettaError as error:
        notes.append(f"cannot be run: {error.message}" + (f" ({error.remedy})" if error.remedy else ""))
        return None
    notes += needless_entries(container)
    return model


def _canonical(model: Model) -> list[SettingFacts]:
    return [
        SettingFacts(
            key=key, value=plain_setting(v.value), source_key=v.key, defaulted=v.defaulted, note=v.note
        )
        for key, v in model.config.items()
    ]


def _declared(container: Container) -> list[SettingFacts]:
    return [
        SettingFacts(key=key, value=setting.value, source_key=setting.key, defaulted=False)
        for key, setting in container.settings.items()
    ]


def _tokenizer(container: Container, notes: list[str]) -> TokenizerFacts | None:
    try:
        vocabulary = load_vocabulary(container)
    except RosettaError as error:
        notes.append(f"the tokenizer cannot be read: {error}")
        return None
    if vocabulary is None:
        return None
    return TokenizerFacts(
        kind=vocabulary.kind,
        model=vocabulary.model,
        pre=vocabulary.pre,
        vocab_size=len(vocabulary.tokens),
        merges=len(vocabulary.merges),
        special_ids=dict(vocabulary.special_ids),
        add_bos=vocabulary.add_bos,
        add_eos=vocabulary.add_eos,
        notes=[*(finding.message for finding in vocabulary.findings), *vocabulary.notes],
    )


def _tensors(
    container: Container, model: Model | None, statistics: bool, progress: Progress | None
) -> Iterator[TensorFacts]:
    loaded = [] if model is None else loaded_tensors(model)
    unknown = () if model is None else model.unread
    names = {tensor.source_name: tensor.name for tensor in loaded if tensor.source_name not in unknown}
    for done, entry in enumerate(container.tensors.values()):
        if progress is not None:
            progress(entry.name, done, len(container.tensors))
        canonical = names.get(entry.name)
        yield TensorFacts(
            name=entry.name,
            canonical=canonical,
            dtype=entry.dtype,
            dims=list(entry.dims),
            nbytes=entry.file_bytes,
            statistics=tensor_statistics(container, entry, canonical) if statistics else None,
        )


def _count(tensor: TensorFacts) -> int:
    count = 1 if tensor.nbytes else 0
    for size in tensor.dims:
        count *= size
    return count
