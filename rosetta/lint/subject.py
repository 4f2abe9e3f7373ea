"""What the rules look at: one opened file or folder, each part worked out when a rule first asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf

from rosetta.architectures import find_architecture
from rosetta.containers import StoredContainer, TensorEntry
from rosetta.containers.apr.reader import AprContainer
from rosetta.containers.gguf.reader import GgufContainer
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.containers.huggingface.reader import HuggingFaceContainer
from rosetta.containers.json_text import place_of_key
from rosetta.errors import RosettaError
from rosetta.lint.gguf_keys import REQUIRED
from rosetta.lint.rule import Fault
from rosetta.lint.tensor_names import meaning
from rosetta.model import Model, build_model
from rosetta.tokenizer.embedded import apr_vocabulary, gguf_vocabulary
from rosetta.tokenizer.huggingface import load_folder
from rosetta.tokenizer.vocabulary import Vocabulary

GGUF_ARCHITECTURES = frozenset(gguf.MODEL_ARCH_NAMES.values()) | REQUIRED.keys()
"""All that gguf-py or llama.cpp has a name for; the one lags behind the other."""


def is_gguf_architecture(name: str) -> bool:
    """Whether GGUF files go by a name: one that GGUF defines, or that of an architecture that is run here."""
    found = None if name in GGUF_ARCHITECTURES else find_architecture(name)
    return name in GGUF_ARCHITECTURES or (found is not None and found.gguf == name)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file.

    Args:
        entry: as declared.
        file, start: where its data lies.
        stem: what it is: `attn_q.weight`; None where its name says nothing.
        layer: of which layer; None outside of them.
        beside: whether it holds scales and the like of the packed codes beside it, and no weights of its own.
    """

    entry: TensorEntry
    file: Path
    start: int
    stem: str | None
    layer: int | None
    beside: bool = False

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def dims(self) -> tuple[int, ...]:
        return self.entry.dims


class Subject:
    """An open file or folder.

    Args:
        container: open as long as rules look at it.
    """

    def __init__(self, container: StoredContainer) -> None:
        self.container, self.path, self.kind = container, container.path, container.kind

    @property
    def gguf(self) -> GgufContainer | None:
        """The file, where it is a GGUF."""
        return self.container if isinstance(self.container, GgufContainer) else None

    @property
    def apr(self) -> AprContainer | None:
        """The file, where it is an `.apr`."""
        return self.container if isinstance(self.container, AprContainer) else None

    @property
    def folder(self) -> HuggingFaceContainer | None:
        """The folder, where it is a Hugging Face one; of a quantised one as it is stored."""
        return self.stored if isinstance(self.stored, HuggingFaceContainer) else None

    @property
    def stored(self) -> StoredContainer:
        """The tensors as they lie there: of a quantised folder those that packed weights are made of."""
        return self.container.stored if isinstance(self.container, QuantisedContainer) else self.container

    @property
    def architecture(self) -> str:
        """As declared; empty where the file does not say."""
        return self.container.architecture or ""

    @cached_property
    def tensors(self) -> tuple[StoredTensor, ...]:
        """In file order."""
        found = []
        for name, entry in self.container.tensors.items():
            file, start = self.container.place(name)
            found.append(StoredTensor(entry, file, start, *meaning(name)))
        return tuple(found)

    def parts_of(self, tensor: StoredTensor) -> Iterator[StoredTensor]:
        """The tensors that a packed weight is made of; none of any other."""
        packed = (
            self.container.packed.get(tensor.name) if isinstance(self.container, QuantisedContainer) else None
        )
        for name in () if packed is None else packed.parts.values():
            entry, (file, start) = self.stored.tensors[name], self.stored.place(name)
            codes = packed is not None and name == packed.parts.get("codes")
            yield StoredTensor(entry, file, start, None, tensor.layer, beside=not codes)

    def by_stem(self, stem: str) -> Iterator[StoredTensor]:
        """The tensors of one kind, those without data left out: `attn_q.weight` of every layer."""
        return (tensor for tensor in self.tensors if tensor.stem == stem and tensor.entry.nbytes)

    @cached_property
    def layers(self) -> frozenset[int]:
        """The layers that tensors speak of."""
        return frozenset(tensor.layer for tensor in self.tensors if tensor.layer is not None)

    @cached_property
    def _model(self) -> tuple[Model | None, RosettaError | None]:
        try:
            return build_model(self.container), None
        except RosettaError as error:
            return None, error

    @property
    def model(self) -> Model | None:
        """What the architecture's own declarations make of the headers; None where they make nothing of them."""
        return self._model[0]

    @property
    def model_refusal(self) -> RosettaError | None:
        """Why they make nothing of them."""
        return self._model[1]

    # --- settings ---------------------------------------------------------------------------------------------

    def setting(self, key: str, layer: int | None = None) -> Any:
        """What the file declares under a GGUF key without the architecture, of one layer where it lists them; None
        where it declares nothing."""
        found = self.container.settings.get(key)
        if found is None:
            return None
        value = found.value
        if isinstance(value, list) and layer is not None:
            return value[layer] if layer < len(value) else None
        return value

    def count(self, key: str, layer: int | None = None) -> int | None:
        """The same, where it is a whole number."""
        value = self.setting(key, layer)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def number(self, key: str) -> float | None:
        """The same, where it is a number."""
        value = self.setting(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def at_key(self, key: str, message: str) -> Fault:
        """A fault of a setting, with the file's spelling of its key and where it stands."""
        found = self.container.settings.get(key)
        return self.at_file_key(key if found is None else found.key, message)

    def at_file_key(self, key: str, message: str) -> Fault:
        """A fault of a key as the file spells it."""
        file = self.path / "config.json" if self.kind == "huggingface" else None
        return Fault(message, key=key, file=file)

    def placed(self, fault: Fault) -> Fault:
        """The fault with the byte at which its key stands, where a file has that key."""
        if fault.key is None or fault.byte is not None:
            return fault
        byte = None
        if fault.file is None and fault.key in self.key_places:
            byte = self.key_places[fault.key][0]
        elif fault.file is None and self.apr is not None:
            within = place_of_key(self.apr.metadata_text(), fault.key)
            byte = None if within is None else self.apr.header.metadata_at + within
        elif fault.file is not None and fault.file.suffix == ".json" and fault.file.is_file():
            byte = place_of_key(fault.file.read_bytes(), fault.key)
        return replace(fault, byte=byte)

    def at_tensor(self, tensor: StoredTensor, message: str, byte: int | None = None) -> Fault:
        """A fault of a tensor; `byte` is counted from the start of its data."""
        file = None if tensor.file == self.path else tensor.file
        return Fault(message, tensor=tensor.name, byte=tensor.start + (byte or 0), file=file)

    @cached_property
    def key_places(self) -> Mapping[str, tuple[int, int]]:
        """Where a GGUF's keys stand and of which type their values are; empty elsewhere."""
        return {} if self.gguf is None else self.gguf.key_places

    # --- tokenizer --------------------------------------------------------------------------------------------

    @cached_property
    def _vocabulary(self) -> tuple[Vocabulary | None, RosettaError | None]:
        try:
            if self.folder is not None:
                tokenizer = load_folder(self.path, self.architecture)
                return (None if tokenizer is None else tokenizer.facts), None
            read = apr_vocabulary if self.kind == "apr" else gguf_vocabulary
            return read(self.container), None
        except RosettaError as error:
            return None, error

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The embedded vocabulary; None where there is none that can be read."""
        return self._vocabulary[0]

    @cached_property
    def token_set(self) -> frozenset[str]:
        """The texts of the vocabulary's tokens; empty where there is none that can be read."""
        return frozenset(() if self.vocabulary is None else self.vocabulary.tokens)

    @property
    def vocabulary_refusal(self) -> RosettaError | None:
        """Why the vocabulary cannot be read."""
        return self._vocabulary[1]

    @property
    def embedding(self) -> StoredTensor | None:
        """The table of token embeddings."""
        return next(self.by_stem("token_embd.weight"), None)
