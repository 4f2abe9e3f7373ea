"""A base with a LoRA adapter that peft saved, opened side by side: `peft:BASE+ADAPTER`.

What the adapter's files say is read and held to peft's rules here; what it makes of the base's weights is worked out
where these have their canonical names (`rosetta.adapted`).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.container import Setting, StoredContainer, TensorEntry
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.foreign import PEFT, PICKLE_SUFFIXES, SAFE
from rosetta.containers.huggingface.reader import HuggingFaceContainer
from rosetta.containers.json_text import json_object
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError
from rosetta.sources.places import names_in

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FORM = f"give {PEFT}BASE+ADAPTER, the model and the folder with {CONFIG}"
MERGE = "merge it with peft (merge_and_unload, then save_pretrained), and give that folder"
AGAIN = "save the adapter again"

_MAX_JSON = 10_000_000  # bytes
_WRAPPED = "base_model.model."  # peft, PeftModel around its tuner around the model
_BASE_LAYER = ".base_layer."  # peft, the module that a tuner's layer stands around
_LORA = re.compile(
    r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.weight)?"
)
# peft's LoraConfig: what a merge heeds, and what concerns training, choosing modules or where things are computed.
_HEEDED = frozenset(
    [
        "peft_type",
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "use_dora",
        "modules_to_save",
    ]
)
_WITHOUT_EFFECT = frozenset(
    [
        "task_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "target_modules",
        "exclude_modules",
        "lora_dropout",
        "layers_to_transform",
        "layers_pattern",
        "megatron_core",
        "qalora_group_size",
        "runtime_config",
        "bias",
        "fan_in_fan_out",
        "init_lora_weights",
        "eva_config",
        "ensure_weight_tying",
    ]
)  # biases are saved as tensors; peft's fan_in_fan_out says how a module stores what its name tells
_CHANGE_THE_BASE = (
    "pissa",
    "olora",
    "corda",
    "loftq",
    "lora_ga",
    "mica",
)  # their A and B belong to another base


@dataclass(frozen=True)
class Adapted:
    """What an adapter adds to one module.

    Args:
        module: as transformers names it: `model.layers.0.self_attn.q_proj`.
        left, right: names of the factors: of [R, r] and of [r, C]; of an embedding of their transposes.
        is_embedding: whether these are stored the other way round.
        rank, alpha: what the config says of it.
        scale: of their product.
        magnitude: name of DoRA's lengths of the rows; None without DoRA.
    """

    module: str
    left: str
    right: str
    is_embedding: bool
    rank: float
    alpha: float
    scale: float
    magnitude: str | None


class Adapter:
    """An open folder with an adapter.

    Args:
        path: the folder.

    Raises:
        UsageError: it holds no adapter.
        UnsupportedError: an adapter that is not merged here, by the name of what it has.
        DamagedFileError: the tensors contradict the config.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not os.path.isfile(path / CONFIG):
            raise UsageError(f"holds no adapter: it has no {CONFIG}", file=path, remedy=FORM)
        self.config = _config(path / CONFIG)
        if not os.path.isfile(path / WEIGHTS):
            raise _no_weights(path)
        _refuse(path / CONFIG, self.config)
        file = FileBytes(path / WEIGHTS)
        try:
            self.stored = HuggingFaceContainer(path, {}, [file])
            self.modules = tuple(self._modules())
        except BaseException:
            file.close()
            raise

    @property
    def whole(self) -> dict[str, str]:
        """Tensors in the place of the base's (modules_to_save, trained biases): their names there -> here."""
        return {
            name.removeprefix(_WRAPPED).replace(_BASE_LAYER, "."): name
            for name in self.stored.tensors
            if _LORA.fullmatch(name) is None
        }

    @property
    def words(self) -> str:
        """What the adapter is: `LoRA of 14 modules, scale 2`."""
        kind = "rsLoRA" if self.config.get("use_rslora") else "LoRA"
        kind = "DoRA" if any(found.magnitude for found in self.modules) else kind
        scales = sorted({found.scale for found in self.modules})
        said = f", scale {' and '.join(f'{scale:g}' for scale in scales[:3])}" if scales else ""
        whole = f", {len(self.whole)} tensors in place of the base's" if self.whole else ""
        return f"{kind} of {len(self.modules)} modules{said}{whole}"

    def _modules(self) -> Iterator[Adapted]:
        parts: dict[str, dict[str, str]] = {}
        for name in self.stored.tensors:
            if (found := _LORA.fullmatch(name)) is not None:
                parts.setdefault(found[1].removeprefix(_WRAPPED), {})[found[2]] = name
            elif ".lora_" in name:
                raise UnsupportedError(
                    "is no tensor of LoRA or DoRA that is merged here",
                    file=self.path / WEIGHTS,
                    where=f"tensor {name!r}",
                    remedy=MERGE,
                )
        for module, held in parts.items():
            yield self._module(module, held)

    def _module(self, module: str, held: Mapping[str, str]) -> Adapted:
        where = f"module {module!r}"
        is_embedding = "lora_embedding_A" in held or "lora_embedding_B" in held
        a, b = (held.get(f"lora_{'embedding_' * is_embedding}{letter}") for letter in "AB")
        if a is None or b is None:
            missing = "A" if a is None else "B"
            raise DamagedFileError(
                f"has no lora_{missing}", file=self.path / WEIGHTS, where=where, remedy=AGAIN
            )
        magnitude = held.get("lora_magnitude_vector")
        if bool(self.config.get("use_dora")) != (magnitude is not None):
            said = "has no lora_magnitude_vector" if magnitude is None else "has a lora_magnitude_vector"
            message = f"{said}, and {CONFIG} says use_dora {magnitude is None}".lower()
            raise DamagedFileError(message, file=self.path / WEIGHTS, where=where, remedy=AGAIN)
        if is_embedding and magnitude is not None:
            raise UnsupportedError(
                "DoRA of an embedding is not merged here", file=self.path, where=where, remedy=MERGE
            )
        rank = _number(self.path, self.config, "r", "rank_pattern", module)
        alpha = _number(self.path, self.config, "lora_alpha", "alpha_pattern", module)
        entries = self.stored.tensors[a], self.stored.tensors[b]
        if any(len(entry.dims) != 2 for entry in entries):
            raise UnsupportedError(
                f"lora_A of dims {list(entries[0].dims)} belongs to no matrix",
                file=self.path / WEIGHTS,
                where=where,
                remedy=MERGE,
            )
        ranks = entries[0].dims[0], entries[1].dims[1]
        if ranks != (rank, rank):
            message = f"lora_A has rank {ranks[0]}, lora_B {ranks[1]}, and {CONFIG} says {rank:g}"
            raise DamagedFileError(message, file=self.path / WEIGHTS, where=where, remedy=AGAIN)
        scale = alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)  # Kalajdzievski 2023
        left, right = (a, b) if is_embedding else (b, a)
        return Adapted(module, left, right, is_embedding, rank, alpha, scale, magnitude)


class AdaptedContainer:
    """A base and an adapter: what the base's files hold, and what is to be made of it.

    Args:
        base: open.
        adapter: open.
    """

    def __init__(self, base: StoredContainer, adapter: Adapter) -> None:
        self.base, self.adapter = base, adapter
        self.kind, self.path, self.architecture = base.kind, base.path, base.architecture
        self.label = f"{base.label}+LoRA"
        self.metadata: Mapping[str, Any] = base.metadata
        self.settings: Mapping[str, Setting] = base.settings
        self.tensors: Mapping[str, TensorEntry] = base.tensors
        self.file_bytes = base.file_bytes + adapter.stored.file_bytes
        self.notes: tuple[str, ...] = (
            *base.notes,
            f"{adapter.path} is merged in memory: {adapter.words}",
        )
        self.absent: Mapping[str, str] = getattr(base, "absent", {})
        self.refusal = getattr(base, "refusal", None)
        self.transposed_linears = bool(getattr(base, "transposed_linears", False))

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """Where tensor data begins in each file of both."""
        starts: Mapping[Path, int] = getattr(self.base, "data_starts", {})
        return {**starts, **self.adapter.stored.data_starts} if starts else {}

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`: of the base."""
        return self.base.read(name, start, nbytes)

    def place(self, name: str) -> tuple[Path, int]:
        """See `StoredContainer.place`: of the base."""
        return self.base.place(name)

    def close(self) -> None:
        """Release the files of both."""
        self.base.close()
        self.adapter.stored.close()


def open_adapted(operand: str, open_base: Callable[[str], StoredContainer]) -> AdaptedContainer:
    """The base and the adapter of an operand `peft:BASE+ADAPTER`.

    Args:
        operand: the whole of it.
        open_base: opens any container.

    Raises:
        RosettaError: either is missing, damaged or unsupported.
    """
    base, adapter = _parts(operand)
    opened = Adapter(adapter)
    try:
        return AdaptedContainer(open_base(base), opened)
    except BaseException:
        opened.stored.close()
        raise


def is_base(name: str) -> bool:
    """Whether a tensor of an adapter is a copy of the base's own, saved because its module is adapted, too."""
    return _BASE_LAYER in name


def _parts(operand: str) -> tuple[str, Path]:
    """(base, adapter): cut at the plus sign behind which there is a folder, for paths may have some, too."""
    pieces = operand.removeprefix(PEFT).split("+")
    cuts = [("+".join(pieces[:n]), "+".join(pieces[n:])) for n in range(1, len(pieces))]
    cuts = [(base, adapter) for base, adapter in cuts if base and adapter]
    if not cuts:
        raise UsageError("does not name a base and an adapter", file=operand, remedy=FORM)
    base, adapter = next((cut for cut in cuts if os.path.isdir(cut[1]) and os.path.exists(cut[0])), cuts[-1])
    if not os.path.isdir(adapter):
        raise UsageError("no such folder", file=adapter, remedy=FORM)
    return base, Path(adapter)


def _config(path: Path) -> dict[str, Any]:
    file = FileBytes(path)
    try:
        if file.size > _MAX_JSON:
            message = f"has {file.size:,} bytes, rosetta reads {_MAX_JSON:,}"
            raise DamagedFileError(message, file=path, remedy=AGAIN)
        return json_object(path, file.bytes(0, file.size), "the config", lenient=True)
    finally:
        file.close()


def _no_weights(path: Path) -> UsageError | UnsupportedError:
    pickles = [name for name in names_in(path) if name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        message = f"holds its adapter as a pickle only ({pickles[0]}), which rosetta never opens"
        return UnsupportedError(message, file=path, remedy=SAFE.replace("transformers", "peft"))
    return UsageError(f"has no {WEIGHTS}", file=path, remedy="copy the adapter again")


def _refuse(path: Path, config: Mapping[str, Any]) -> None:
    """Name what a merge would have to heed and this one does not."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedError(f"peft_type {kind!r:.40} is not merged here, LORA is", file=path, remedy=MERGE)
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGE_THE_BASE):
        raise UnsupportedError(
            f"init_lora_weights {start!r:.40} changes the base itself", file=path, remedy=MERGE
        )
    for key, value in config.items():
        if value and key not in _HEEDED and key not in _WITHOUT_EFFECT:
            raise UnsupportedError(f"{key} is not merged here", file=path, remedy=MERGE)


def _number(path: Path, config: Mapping[str, Any], key: str, pattern_key: str, module: str) -> float:
    """r or lora_alpha of a module: of the first pattern that its name ends with (peft, get_pattern_key), else the one
    of all."""
    patterns = config.get(pattern_key) or {}
    if not isinstance(patterns, Mapping):
        raise DamagedFileError(f"{pattern_key} is no object", file=path / CONFIG, remedy=AGAIN)
    value, where = config.get(key, 8), key  # peft, LoraConfig
    for pattern, own in patterns.items():
        try:
            found = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            message = f"{pattern!r:.80} is no regular expression: {error}"
            raise DamagedFileError(message, file=path / CONFIG, where=pattern_key, remedy=AGAIN) from error
        if found:
            value, where = own, f"{pattern_key} {pattern!r:.80}"
            break
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (key == "r" and value <= 0):
        raise DamagedFileError(
            f"is {value!r:.40}, not a number" + " above 0" * (key == "r"),
            file=path / CONFIG,
            where=where,
            remedy=AGAIN,
        )
    return float(value)
