"""What quantization_config says of packed weights and their tensors belie: loaders go by the config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rosetta.blocks.schemes import Folder, Packed

# Methods whose one number is that of all weights, but for those that GPTQ's `dynamic` names.
BITS_OF_ALL, SIZE_OF_ALL = ("gptq",), ("gptq", "awq")


@dataclass(frozen=True)
class Misstated:
    """A key of quantization_config that is wrong.

    Args:
        key: within it.
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
    config = folder.config
    stated = config.get("bits")
    if folder.method in BITS_OF_ALL and not config.get("dynamic"):
        other = next((w for w in packed if w.code_bits != stated), None)
        if other is not None:
            yield Misstated(
                "bits",
                stated,
                other.code_bits,
                other.name,
                f"is {stated}, and its codes have {other.code_bits}",
            )
    key, size = _group_size(folder)
    for weight in packed if isinstance(size, int) else ():
        groups = _groups(folder, weight)
        wanted = -(-weight.columns // size) if size > 0 else 1
        if groups is not None and groups != wanted:
            actual = -(-weight.columns // groups)
            yield Misstated(
                key, size, actual, weight.name, f"is {size}, and its scales are of groups of {actual}"
            )
            break
    for name, modules in folder.exclusions.items():
        for weight in packed:
            module = weight.name.removesuffix(".weight")
            if folder.excludes(modules, module):
                said = f"says that {module} is not quantised, and it is packed"
                yield Misstated(name, module, None, weight.name, said)
                break


def _group_size(folder: Folder) -> tuple[str, Any]:
    """The key of the size of groups, and what it states of all weights; of compressed-tensors that of the one group of
    modules, and nothing of a scheme whose modules may differ."""
    config = folder.config
    if folder.method in SIZE_OF_ALL:
        return "group_size", None if config.get("dynamic") else config.get("group_size")
    groups = config.get("config_groups") if folder.method.startswith("compressed") else None
    if not isinstance(groups, Mapping) or len(groups) != 1:
        return "group_size", None
    [(name, group)] = groups.items()
    weights = group.get("weights") if isinstance(group, Mapping) else None
    stated = weights.get("group_size") if isinstance(weights, Mapping) else None
    return f"config_groups.{name}.weights.group_size", stated


def _groups(folder: Folder, weight: Packed) -> int | None:
    """How many groups of columns have scales of their own; None where the scales do not tell."""
    scales = weight.parts.get("scales")
    dims = () if scales is None else folder.dims(scales)
    if len(dims) != 2 or len(weight.dims) != 2 or weight.scale_rows != weight.rows:
        return None
    return dims[0] if weight.turned else dims[1]
