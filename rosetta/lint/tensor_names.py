"""Which tensor of a model a name means, by gguf-py's tables of all architectures: no architecture is imported.

Letters: n = number of the layer.
"""

from __future__ import annotations

import re
from functools import cache

import gguf
from gguf.tensor_mapping import TensorNameMap

from rosetta.names import within_text_part, wrapper_of

_LAYER = re.compile(r"(?:^|\.)(?:blk|layers|layer|h|blocks)\.(\d{1,5})\.")
_SUFFIX = re.compile(r"\.(weight|bias|scale|input_scale)$")
# What transformers 5 saves and gguf-py 0.19 does not know; the row of a stacked expert has a number of its own.
_EXPERT = re.compile(r"\.experts\.\d{1,5}\.")


def meaning(name: str) -> tuple[str | None, int | None]:
    """GGUF's stem of a tensor (`attn_q.weight`; None where no table has the name), and its layer."""
    wrapped = wrapper_of(name)
    if wrapped is not None:
        name = name.replace(wrapped, "", 1)
    found = _LAYER.search(name)
    layer = None if found is None else int(found[1])
    suffix = _SUFFIX.search(name)
    stem = name if suffix is None else name[: suffix.start()]
    ending = "" if suffix is None else suffix[0]
    if found is not None:
        stem = stem.replace(f".{found[1]}.", ".{bid}.", 1)
    stem = _EXPERT.sub(".experts.", stem)
    inner = within_text_part(stem).removeprefix("model.")
    for spelled in (stem, f"model.{inner}", inner):
        known = _table().get(spelled)
        if known is not None:
            return known.removeprefix("blk.{bid}.") + ending, layer
    return None, layer


# llama.cpp has them, the published gguf-py not yet (src/llama-arch.cpp).
_NEWER = ("indexer.q_proj", "indexer.k_proj", "indexer.q_norm")


@cache
def _table() -> dict[str, str]:
    """Name with `{bid}` for the layer -> GGUF's; of a name that means several things, the first."""
    table: dict[str, str] = {}
    for tensor, canonical in gguf.TENSOR_NAMES.items():
        table[canonical] = canonical
        for mapping in (TensorNameMap.mappings_cfg, TensorNameMap.block_mappings_cfg):
            for foreign in mapping.get(tensor, ()):
                table.setdefault(foreign, canonical)
    return table | {f"blk.{{bid}}.{stem}": f"blk.{{bid}}.{stem}" for stem in _NEWER}
