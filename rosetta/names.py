"""Canonical (GGUF) tensor names from whatever names a file uses, by gguf-py's own tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import gguf

from rosetta.architectures import Architecture

# Spellings of `.apr` writers that gguf-py's tables lack (aprender, tensor_expectation.rs).
ALIASES = {
    "model.position_embedding": "position_embd",
    "model.embed_positions": "position_embd",
}
BLOCK_ALIASES = {"self_attn.c_attn": "attn_qkv", "self_attn.qkv_proj": "attn_qkv"}
EXPERT = re.compile(r"\.experts\.(\d{1,5})\.")
PREFIXES = ("", "model.", "transformer.")  # some exporters strip the outermost module's name


def canonical_name(name: str, architecture: Architecture, block_count: int) -> str | None:
    """The GGUF name of a tensor, or None for one that the architecture does not know."""
    table, known = _tables(architecture, block_count)
    stem, dot, suffix = name.rpartition(".")
    if suffix not in ("weight", "bias"):
        stem, dot, suffix = name, "", ""  # a parameter of a module itself: A_log
    if stem in known:
        return name
    expert = EXPERT.search(stem)
    if expert is not None:  # one of those that GGUF stacks in one tensor
        number, stem = expert[1], EXPERT.sub(".experts.", stem)
    for prefix in PREFIXES:
        found = table.get(prefix + stem)
        if found is not None:
            return found + dot + suffix if expert is None else f"{found}.{number}.{suffix}"
    return None


def canonical_names(
    names: Iterable[str], architecture: Architecture, block_count: int
) -> dict[str, str | None]:
    """File name -> canonical name (None: unknown), for all of a container's tensors."""
    return {name: canonical_name(name, architecture, block_count) for name in names}


@lru_cache(maxsize=8)
def _tables(own: Architecture, block_count: int) -> tuple[dict[str, str], frozenset[str]]:
    """(foreign stem -> GGUF stem, all GGUF stems). Llama's table fills what the architecture's own lacks,
    because `.apr` files give every architecture llama's Hugging Face names."""
    by_name = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    table: dict[str, str] = {}
    for architecture in ("llama", own.gguf):
        if architecture not in by_name:
            continue
        mapping = gguf.get_tensor_name_map(by_name[architecture], block_count).mapping
        table |= {foreign: canonical for foreign, (_, canonical) in mapping.items()}
    table |= ALIASES
    for layer in range(block_count):
        table |= {
            f"model.layers.{layer}.{alias}": f"blk.{layer}.{name}" for alias, name in BLOCK_ALIASES.items()
        }
        table |= {name.format(bid=layer): found.format(bid=layer) for name, found in own.names.items()}
    return table, frozenset(table.values()) | {"rope_freqs"}
