"""Flags of config.json that the tensors of a folder deny; no rule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rosetta.architectures import architecture_of
from rosetta.containers.container import Container
from rosetta.containers.huggingface.settings import huggingface_quantisation
from rosetta.containers.huggingface.text_part import text_config
from rosetta.lint.tensor_names import meaning
from rosetta.tensor_flags import LEFT_OUT, VAGUE, left_out

WITHOUT_WEIGHTS = frozenset({"use_qk_norm", "qk_layernorm"})
"""Flags of what may have no tensor in a class that is not known, as Llama 4's norm of heads."""
NAMELESS = frozenset({"use_expert_bias"})
"""Flags of a tensor whose name says nothing by itself."""


@dataclass(frozen=True)
class Contradiction:
    """A flag that the tensors deny.

    Args:
        key: as config.json spells it.
        stated: what it says.
        tensor: one that is there though it says no; else the stem of what is not there though it says yes.
    """

    key: str
    stated: bool
    tensor: str

    @property
    def words(self) -> str:
        """What is wrong, and what transformers makes of it."""
        if self.stated:
            return f"is true, and no layer has a tensor {self.tensor}: transformers makes one that nobody trained"
        return f"is false, and {self.tensor} is stored: transformers leaves it out"


def contradicted_flags(container: Container) -> Iterator[Contradiction]:
    """Each flag of a folder's config.json that its class heeds and its tensors deny; nothing of another container, or
    of packed weights."""
    if container.kind != "huggingface" or huggingface_quantisation(container.metadata) is not None:
        return  # GPTQ's packers store biases of zeros for every matrix
    config = {**container.metadata, **text_config(container.metadata)}
    own = architecture_of(container)
    known = own is not None and own.huggingface.in_transformers
    heeded = set(own.huggingface.flags) if own is not None and known else LEFT_OUT.keys() - VAGUE
    silent = NAMELESS if known else NAMELESS | WITHOUT_WEIGHTS
    stated = {key: config[key] for key in heeded if isinstance(config.get(key), bool)}
    if not stated:
        return
    held: dict[str, str] = {}
    unknown: list[str] = []
    for name in container.tensors:
        stem, _ = meaning(name)
        if stem is None:
            unknown.append(name)
        if stem is not None:
            held.setdefault(stem, name)
    if not held:  # names of a class that is not known here: any of them may be the one
        return
    places = {_place(name) for name in held.values()}
    unknown = [name for name in unknown if _place(name) in places]  # none of a part that sees
    for key, said in stated.items():
        stems = left_out(heeded, key)
        there = [held[stem] for stem in stems if stem in held]
        ending = stems[0].rpartition("_")[2].rpartition(".")[2]
        if said and not there and any(name.endswith(f".{ending}") for name in unknown):
            continue  # it may be there by another name
        if said and not there and key not in silent:
            yield Contradiction(key, said, stems[0])
        elif there and not said:
            yield Contradiction(key, said, there[0])


def _place(name: str) -> str:
    """What stands before a layer's number in the name of a tensor."""
    return re.split(r"\.\d+\.", name, maxsplit=1)[0]
