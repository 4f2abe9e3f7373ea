"""What quantization_config says of packed weights and their tensors belie: loaders go by the config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rosetta.blocks.schemes import Folder, Packed
from rosetta.blocks.schemes.auto_round import METHODS as AUTO_ROUND
from rosetta.blocks.schemes.compressed_tensors import IntWeight
from rosetta.blocks.schemes.fp8 import Fp8Weight
from rosetta.blocks.schemes.gptq import GptqWeight
from rosetta.blocks.schemes.mlx import MlxWeight

# Methods whose one number is that of all weights, but for those that GPTQ's and AutoRound's lists name.
BITS_OF_ALL, SIZE_OF_ALL = ("gptq", "mlx", *AUTO_ROUND), ("gptq", "awq", "mlx", *AUTO_ROUND)
LISTS = ("dynamic", "extra_config")
CODED = (GptqWeight, IntWeight, MlxWeight)  # whose codes may be of several widths
UNSTATED = object()


@dataclass(frozen=True)
class Misstated:
    """A key of quantization_config that is wrong.

    Args:
        key: of the config, `quantization_config.bits`.
        stated, actual: what it says, and what the tensors have.
        weight: one that belies it.
        said: how, after the key.
    """

    key: str
    stated: Any
    actual: Any
    weight: str
    said: str


def misstated(folder: Folder, packed: Sequence[Packed]) -> Iterator[Misstated]:
    """Each key that is wrong, by the first weight that belies it."""
    table = "quantization" if folder.method == "mlx" else "quantization_config"  # mlx_lm.utils.load_model
    keys = (
        (_bits(folder), _bits_of, "is {}, and its codes have {}"),
        (_group_size(folder), partial(_group_of, folder), "is {}, and its scales are of groups of {}"),
        (_block_size(folder), _block_of, "is {}, and its scales are of blocks of {}"),
    )
    for (key, stated), actual_of, said in keys:
        for weight in packed if stated is not UNSTATED else ():
            actual = actual_of(weight, stated)
            if actual is not None and actual != stated and not _says_its_own(folder, weight):
                yield Misstated(f"{table}.{key}", stated, actual, weight.name, said.format(stated, actual))
                break
    for name, modules in folder.exclusions.items():
        for weight in packed:
            module = weight.name.removesuffix(".weight")
            if folder.excludes(modules, module):
                said = f"says that {module} is not quantised, and it is packed"
                yield Misstated(f"{table}.{name}", module, None, weight.name, said)
                break


def _bits(folder: Folder) -> tuple[str, Any]:
    """The key of the bits of a code, and what it states of all weights; `UNSTATED` of a scheme whose modules may
    differ."""
    if folder.method in BITS_OF_ALL:
        return _of_all(folder, "bits")
    return _of_one_group(folder, "num_bits")


def _of_all(folder: Folder, key: str) -> tuple[str, Any]:
    """A key, and what it states of all weights; `UNSTATED` where some have their own."""
    return key, UNSTATED if any(folder.config.get(name) for name in LISTS) else folder.config.get(key)


def _bits_of(weight: Packed, stated: Any) -> int | None:
    in_bytes = isinstance(weight, IntWeight) and not weight.packed
    return None if in_bytes or not isinstance(weight, CODED) else weight.code_bits


def _group_size(folder: Folder) -> tuple[str, Any]:
    """The key of the size of groups, and what it states of all weights."""
    if folder.method in SIZE_OF_ALL:
        return _of_all(folder, "group_size")
    return _of_one_group(folder, "group_size")


def _group_of(folder: Folder, weight: Packed, stated: Any) -> int | None:
    """Columns of a group, where the scales have others than the stated size gives."""
    groups = _groups(folder, weight)
    if groups is None or not isinstance(stated, int):
        return None
    wanted = -(-weight.columns // stated) if stated > 0 else 1
    return stated if groups == wanted else -(-weight.columns // groups)


def _block_size(folder: Folder) -> tuple[str, Any]:
    """The key of blocks that share a scale, and what it states of all weights."""
    if folder.method == "fp8":
        return "weight_block_size", folder.config.get("weight_block_size")
    return _of_one_group(folder, "block_structure")


def _block_of(weight: Packed, stated: Any) -> list[int] | None:
    if not isinstance(weight, Fp8Weight) or 1 in weight.grid or 1 in weight.block:
        return None
    return [*weight.block]


def _of_one_group(folder: Folder, key: str) -> tuple[str, Any]:
    """A key of compressed-tensors' one group of modules, and what it states; `UNSTATED` where there are several."""
    groups = folder.config.get("config_groups") if folder.method.startswith("compressed") else None
    if not isinstance(groups, Mapping) or len(groups) != 1:
        return key, UNSTATED
    [(name, group)] = groups.items()
    weights = group.get("weights") if isinstance(group, Mapping) else None
    return f"config_groups.{name}.weights.{key}", (
        weights.get(key) if isinstance(weights, Mapping) else UNSTATED
    )


def _says_its_own(folder: Folder, weight: Packed) -> bool:
    """Whether the config states of a module by itself how it is packed, as MLX's does."""
    return isinstance(folder.config.get(weight.name.removesuffix(".weight")), Mapping)


def _groups(folder: Folder, weight: Packed) -> int | None:
    """How many groups of columns have scales of their own; None where the scales do not tell."""
    scales = weight.parts.get("scales")
    dims = () if scales is None else folder.dims(scales)
    if len(dims) != 2 or len(weight.dims) != 2 or weight.scale_rows != weight.rows:
        return None
    return dims[0] if weight.turned else dims[1]
