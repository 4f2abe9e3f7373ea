"""aprender's stage files: `apr trace --save-tensor` and its GPU tap write `layer-N/STAGE.bin` and `STAGE.bin`.

A file is "APRT", u32 layer (2³² − 1 outside the layers), u32 count, and so many float32, all little-endian: no shape,
no tokens. Source: paiml/aprender, contracts/apr-cli-trace-save-tensor-v1.yaml, and `forward_traced_with_plan` for what
a stage holds. `attn_scores` there is before the softmax, `attn_softmax` is our `attn_scores`.

Letters: T = tokens, N = heads.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rosetta.containers.file_bytes import FileBytes
from rosetta.errors import DamagedFileError, UsageError
from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.attention import Scores
from rosetta.ops.op import size
from rosetta.runtimes.dumps import Reading

MAGIC = b"APRT"
HEADER = 12  # bytes
WHOLE_MODEL = 0xFFFFFFFF
LAYER_FOLDER = re.compile(r"layer-(0|[1-9]\d{0,3})$")

OUTSIDE: Mapping[str, str] = {"final_norm": "final_norm", "lm_head": "logits"}
IN_LAYER: Mapping[str, str] = {
    "attn_norm": "attn_norm",
    "qkv_bias": "attn_qkv",
    "q_post_rope": "q_rope",
    "k_post_rope": "k_rope",
    "attn_softmax": "attn_scores",
    "attention": "attn_context",
    "attn_out": "attn_out",
    "post_attn_residual": "attn_residual",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "ffn_gate",
    "ffn_up": "ffn_up",
    "ffn_swigl": "ffn_act",
    "ffn_out": "ffn_out",
    "moe_ffn_out": "ffn_out",
    "post_ffn_residual": "residual",
    "layer_output": "residual",
}
NO_STAGE: Mapping[str, str] = {
    "attn_scores": "products before the softmax are no stage here",
    "ffn_silu": "the activation before its product is no stage here",
    "moe_router": "weights without the experts that they are of",
    "moe_router_indices": "experts without their weights",
}
PROJECTION = "qkv_matmul"  # before the bias: our q, k and v where the model has none


def recognises(path: Path) -> bool:
    """Whether a folder holds a stage file."""
    return path.is_dir() and any(_has_magic(file) for file, _ in _files(path))


def open(path: Path) -> StageFolder:
    """The folder, the header of each of its files checked; see `StageFolder`."""
    return StageFolder(path, {file: _checked(file, layer) for file, layer in _files(path)})


def _files(path: Path) -> list[tuple[Path, int]]:
    """The stage files of a folder, each with the layer that its place says."""
    found = [(file, WHOLE_MODEL) for file in sorted(path.glob("*.bin"))]
    for folder in sorted(path.iterdir()):
        if (layer := LAYER_FOLDER.match(folder.name)) is not None and folder.is_dir():
            found += [(file, int(layer[1])) for file in sorted(folder.glob("*.bin"))]
    return found


def _has_magic(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _checked(path: Path, layer: int) -> int:
    """How many values a stage file holds.

    Raises:
        DamagedFileError: its header is not sound.
    """
    file = FileBytes(path)
    try:
        head, length = file.bytes(0, min(HEADER, file.size)), file.size
    finally:
        file.close()
    if len(head) < HEADER or head[:4] != MAGIC:
        raise DamagedFileError(
            "does not begin with an APRT header of 12 bytes", file=path, remedy="dump the stage again"
        )
    stated, count = struct.unpack("<II", head[4:])
    if length != HEADER + 4 * count:
        raise DamagedFileError(
            f"its header says {count:,} values, which end at byte {HEADER + 4 * count:,}, and the file at {length:,}",
            file=path,
            remedy="dump the stage again",
        )
    if stated != layer:
        raise DamagedFileError(
            f"its header says {_words(stated)}, its place {_words(layer)}",
            file=path,
            where="byte 4",
            remedy="put it back where it was written",
        )
    return int(count)


def _words(layer: int) -> str:
    return "the whole model" if layer == WHOLE_MODEL else f"layer {layer}"


@dataclass(frozen=True)
class StageFolder:
    """A folder of stage files; see `dumps.Dump`.

    Args:
        path: the folder.
        counts: how many values each file holds.
    """

    path: Path
    counts: Mapping[Path, int]
    label: str = "APRT"
    tokens: None = None

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """Behind each header."""
        return dict.fromkeys(self.counts, HEADER)

    def stages(self, like: Model, tokens: int, reading: Reading) -> Iterator[tuple[str, Tensor]]:
        """See `dumps.Dump`."""
        done: set[str] = set()
        for file, count in self.counts.items():
            folder = LAYER_FOLDER.match(file.parent.name) if file.parent != self.path else None
            layer = None if folder is None else int(folder[1])
            name, why = self._stage(file.stem, layer, like)
            if name is None or name in done:
                reading.left_out[file.relative_to(self.path).as_posix()] = why or f"{name} is there already"
                continue
            dims = _dims(file, name, count, tokens, like)
            if dims is None:
                reading.left_out[file.relative_to(self.path).as_posix()] = "the model has no such stage"
                continue
            done.add(name)
            opened = FileBytes(file)
            data = opened.array(HEADER, 4 * count)
            opened.close()
            yield name, torch.from_numpy(data.view(np.dtype("<f4")).astype(np.float32)).reshape(dims)

    def _stage(self, stem: str, layer: int | None, like: Model) -> tuple[str | None, str]:
        """Our name of a stage, or None and why it has none."""
        if layer is None:
            return OUTSIDE.get(stem), f"no stage of aprender's is called {stem}"
        if stem == "embedding" and layer == 0:
            return "embedding", ""
        if stem == PROJECTION:
            biased = any(f"blk.{layer}.attn_{part}.bias" in like.weights for part in "qkv")
            beside = self.path / f"layer-{layer}" / "qkv_bias.bin" in self.counts
            return (
                None if biased or beside else f"layers.{layer}.attn_qkv"
            ), "before the bias is no stage here"
        own = IN_LAYER.get(stem)
        why = NO_STAGE.get(stem, f"no stage of aprender's is called {stem}")
        return (None if own is None else f"layers.{layer}.{own}"), why


def _dims(file: Path, name: str, count: int, tokens: int, like: Model) -> tuple[int, ...] | None:
    """The dims of a stage: of all tokens, or of the last one; None where the model has no such stage.

    Raises:
        UsageError: it is of another number of tokens.
    """
    node = like.graph.get(name)
    if node is None and not name.endswith(".attn_qkv"):
        return None
    if node is not None and isinstance(node.op, Scores):
        heads, rest = divmod(count, tokens * tokens)
        if heads and not rest:
            return heads, tokens, tokens
        raise _other_tokens(file, count, f"heads of {tokens} × {tokens}")
    width = _width(like, name, node)
    if width is None and count and count % tokens == 0:
        return tokens, count // tokens
    if width is not None and count == tokens * width:
        return tokens, width
    if width is not None and count == width:
        return 1, width  # aprender computes the head, and with a cache every stage, of the last token only
    raise _other_tokens(file, count, f"{width} each" if width else "each as many")


def _other_tokens(file: Path, count: int, of: str) -> UsageError:
    return UsageError(
        f"holds {count:,} values, which are not {of} of the tokens of this run",
        file=file,
        remedy="give the tokens that it was dumped with: --prompt or --tokens (apr trace runs 'What is 2+2?')",
    )


def _width(like: Model, name: str, node: Node | None) -> int | None:
    """How many values a stage has at one token; None where only its inputs tell."""
    if node is None:
        prefix = name.removesuffix("attn_qkv")
        parts = [_width(like, prefix + part, like.graph.get(prefix + part)) for part in ("q", "k", "v")]
        return None if None in parts else sum(part for part in parts if part is not None)
    if node.op.shape:
        c = like.settings_of(node.layer)
        return prod(size(c, part) for part in node.op.shape)
    before = like.graph.get(node.inputs[0])
    return None if before is None or isinstance(before.op, Scores) else _width(like, before.name, before)
