"""A LoRA as peft saves it: a folder beside its base, `peft:BASE+ADAPTER`; what it says is held to peft's rules.

Letters: R = rows, C = columns of a matrix of the base, r = rank, E = experts.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rosetta.containers.adapters.adapter import Factor, Module, scales_of
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.foreign import PEFT, PICKLE_SUFFIXES, SAFE
from rosetta.containers.huggingface.reader import HuggingFaceContainer
from rosetta.containers.json_text import json_object
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError
from rosetta.sources.places import names_in

PREFIX = PEFT
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FORM = f"give {PEFT}BASE+ADAPTER, the model and the folder with {CONFIG}"
MERGE = "merge it with peft (merge_and_unload, then save_pretrained), and give that folder"
AGAIN = "save the adapter again"

_MAX_JSON = 10_000_000  # bytes
_WRAPPED = "base_model.model."  # peft, PeftModel around its tuner around the model
_BASE_LAYER = ".base_layer."  # peft, the module that a tuner's layer stands around
# peft, ModulesToSaveWrapper: the trained one, the base's.
_COPIES = (".modules_to_save.", ".original_module.")
_TOKENS = ".token_adapter.trainable_tokens_delta"  # peft, TrainableTokensWrapper: rows of an embedding, whole
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
        "target_parameters",
        "trainable_token_indices",
        "ensure_weight_tying",
    ]
)
# Biases are saved as tensors; peft's fan_in_fan_out says how a module stores what its name tells.
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
    ]
)
# Their A and B belong to another base.
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")


class PeftAdapter:
    """An open folder with an adapter.

    Args:
        path: the folder.

    Raises:
        UsageError: it holds no adapter.
        UnsupportedError: an adapter that is not merged here, by the name of what it has.
        DamagedFileError: the tensors contradict the config.
    """

    kind = "huggingface"
    architecture: str | None = None
    remedy = MERGE

    def __init__(self, path: Path) -> None:
        self.path, self.weights = path, path / WEIGHTS
        if not path.is_dir():
            raise UsageError("no such folder", file=path, remedy=FORM)
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
            self.rows = {
                f"{module}.weight": (name, self._trained_rows(module, name))
                for name in self.stored.tensors
                if name.endswith(_TOKENS)
                for module in [name.removeprefix(_WRAPPED).removesuffix(_TOKENS)]
            }
        except BaseException:
            file.close()
            raise

    @property
    def ties(self) -> bool:
        """As it was trained with `ensure_weight_tying`."""
        return bool(self.config.get("ensure_weight_tying"))

    @property
    def base(self) -> str | None:
        """The model that the config names."""
        named = self.config.get("base_model_name_or_path")
        return named if isinstance(named, str) else None

    @property
    def whole(self) -> dict[str, str]:
        """Tensors in the place of the base's (modules_to_save, trained biases): their names there -> here."""
        return {
            name.removeprefix(_WRAPPED).replace(_BASE_LAYER, "."): name
            for name in self.stored.tensors
            if _LORA.fullmatch(name) is None and not name.endswith(_TOKENS) and not self._is_second_copy(name)
        }

    def _trained_rows(self, module: str, name: str) -> tuple[int, ...]:
        """Which rows of a module's weight a tensor holds: the config lists them, for all modules or for each."""
        stated = self.config.get("trainable_token_indices")
        if isinstance(stated, Mapping):
            named = [rows for key, rows in stated.items() if module == key or module.endswith(f".{key}")]
            stated = named[0] if named else None
        rows = stated if isinstance(stated, list) else []
        if not rows or not all(type(row) is int and row >= 0 for row in rows):
            message = f"trainable_token_indices lists no rows of {module}"
            raise DamagedFileError(message, file=self.path / CONFIG, remedy=AGAIN)
        dims = self.stored.tensors[name].dims
        if len(dims) != 2 or dims[0] != len(rows):
            message = f"is {list(dims)}, and {CONFIG} lists {len(rows)} rows in trainable_token_indices"
            raise DamagedFileError(message, file=self.weights, where=f"tensor {name!r}", remedy=AGAIN)
        return tuple(rows)

    def _is_second_copy(self, name: str) -> bool:
        """Whether peft saved a tensor once more, under the names of its wrapper: an embedding that was both trained and
        resized."""
        return any(copy in name and name.replace(copy, ".") in self.stored.tensors for copy in _COPIES)

    @property
    def words(self) -> str:
        """What the adapter is: `LoRA of 14 modules, scale 2`."""
        kind = "rsLoRA" if self.config.get("use_rslora") else "LoRA"
        kind = "DoRA" if any(found.magnitude for found in self.modules) else kind
        whole = f", {len(self.whole)} tensors in place of the base's" if self.whole else ""
        trained = sum(len(rows) for _, rows in self.rows.values())
        rows = f", {trained} rows in place of the base's" if trained else ""
        return f"{kind} of {len(self.modules)} modules{scales_of(self.modules)}{whole}{rows}"

    def _modules(self) -> Iterator[Module]:
        parts: dict[str, dict[str, str]] = {}
        for name in self.stored.tensors:
            if (found := _LORA.fullmatch(name)) is not None:
                parts.setdefault(found[1].removeprefix(_WRAPPED), {})[found[2]] = name
            elif ".lora_" in name:
                raise UnsupportedError(
                    "is no tensor of LoRA or DoRA that is merged here",
                    file=self.weights,
                    where=f"tensor {name!r}",
                    remedy=MERGE,
                )
        for module, held in parts.items():
            yield self._module(module, held)
        self._check_targets(parts)

    def _module(self, module: str, held: Mapping[str, str]) -> Module:
        where = f"module {module!r}"
        is_embedding = "lora_embedding_A" in held or "lora_embedding_B" in held
        a, b = (held.get(f"lora_{'embedding_' * is_embedding}{letter}") for letter in "AB")
        if a is None or b is None:
            missing = "A" if a is None else "B"
            raise DamagedFileError(f"has no lora_{missing}", file=self.weights, where=where, remedy=AGAIN)
        magnitude = held.get("lora_magnitude_vector")
        if bool(self.config.get("use_dora")) != (magnitude is not None):
            said = "has no lora_magnitude_vector" if magnitude is None else "has a lora_magnitude_vector"
            message = f"{said}, and {CONFIG} says use_dora {magnitude is None}".lower()
            raise DamagedFileError(message, file=self.weights, where=where, remedy=AGAIN)
        parameters = self._parameters(module)
        named = parameters[0] if parameters else module
        rank = _number(self.path, self.config, "r", "rank_pattern", named)
        alpha = _number(self.path, self.config, "lora_alpha", "alpha_pattern", named)
        left, right = self._factors((a, b), rank, is_embedding, where, bool(parameters))
        scale = alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)  # Kalajdzievski 2023
        return Module(module, parameters or (f"{module}.weight",), left, right, rank, alpha, scale, magnitude)

    def _factors(
        self, names: tuple[str, str], rank: float, is_embedding: bool, where: str, of_parameter: bool
    ) -> tuple[Factor, Factor]:
        """What the tensors A [r, C] and B [R, r] mean; those of stacked experts hold all of them, [r·E, C] and
        [R, r·E] (peft, ParamWrapper)."""
        entries = [self.stored.tensors[name] for name in names]
        if any(len(entry.dims) != 2 for entry in entries):
            raise UnsupportedError(
                f"lora_A of dims {list(entries[0].dims)} belongs to no matrix",
                file=self.weights,
                where=where,
                remedy=MERGE,
            )
        (held, columns), (rows, other) = (entry.dims for entry in entries)
        count = int(held // rank) if of_parameter and rank <= held else 1
        if (held, other) != (count * rank, count * rank):
            message = f"lora_A has rank {held}, lora_B {other}, and {CONFIG} says {rank:g}"
            raise DamagedFileError(message, file=self.weights, where=where, remedy=AGAIN)
        r = int(rank)
        if count > 1:
            left = Factor(names[1], (count, rows, r), interleaved=True)
            return left, Factor(names[0], (count, r, columns))
        if is_embedding:  # the product's transpose
            return Factor(names[0], (columns, r), turned=True), Factor(names[1], (r, rows), turned=True)
        return Factor(names[1], (rows, r)), Factor(names[0], (r, columns))

    def _parameters(self, module: str) -> tuple[str, ...]:
        """Names of the parameters that a module of peft may stand around, where it stands around one and no module:
        with several of one module it does so in turns, and says not which is which."""
        own = module.replace(_BASE_LAYER.rstrip("."), "")
        found = []
        for target in self._targets():
            outer, _, parameter = target.rpartition(".")
            if own == outer or own.endswith(f".{outer}"):
                found.append(f"{own}.{parameter}")
        return tuple(found)

    def _targets(self) -> list[str]:
        targets = self.config.get("target_parameters") or []
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            raise DamagedFileError(
                "target_parameters is no list of names", file=self.path / CONFIG, remedy=AGAIN
            )
        return targets

    def _check_targets(self, modules: Mapping[str, Any]) -> None:
        """Each parameter that the config names has factors."""
        held = {parameter for module in modules for parameter in self._parameters(module)}
        for target in self._targets():
            if not any(name == target or name.endswith(f".{target}") for name in held):
                message = f"has no tensors for {target!r:.80}, which {CONFIG} lists in target_parameters"
                raise DamagedFileError(message, file=self.weights, remedy=AGAIN)


def open(path: Path) -> PeftAdapter:
    """Open an adapter; see `PeftAdapter`."""
    return PeftAdapter(path)


def is_base(name: str) -> bool:
    """Whether a tensor of an adapter is a copy of the base's own, saved because its module is adapted, too."""
    return _BASE_LAYER in name


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
