"""What a conversion is asked to do, and which dtype each tensor of the new file gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rosetta.canonical_weights import stored_in_out
from rosetta.containers.container import TensorEntry
from rosetta.containers.spool import Progress, TensorSource
from rosetta.convert.draft import Draft
from rosetta.convert.encoding import encodable, held_exactly, is_copied, keeps_bytes, tensor_source
from rosetta.convert.gguf_tensors import always_float32
from rosetta.convert.placing import Piece, Placed
from rosetta.dtypes import DTYPES, flat_bytes, whole_rows
from rosetta.errors import UsageError
from rosetta.model import Model
from rosetta.names import canonical_name
from rosetta.weight import Weight

Kind = Literal["apr", "gguf", "huggingface"]
Refuses = Callable[[TensorEntry], Exception | None]
# Where rows are no whole blocks (llama.cpp, llama-quant.cpp, tensor_type_fallback); of all IQ it is IQ4_NL.
# fmt: off
FALLBACKS = {
    "Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
}
# fmt: on


@dataclass(frozen=True)
class Request:
    """What is to be written.

    Args:
        model: the source.
        target: the file or folder.
        dtype: what matrices are to be encoded as; None: they stay as they are.
        split_bytes: most bytes of tensor data in one file; 0 for one file.
        progress: hears how far the writing has come.
    """

    model: Model
    target: Path
    dtype: str | None
    split_bytes: int
    progress: Progress


@dataclass
class Done:
    """What was written.

    Args:
        files: all of them, under their names.
        copied, moved, encoded: how many tensors are the source's bytes as they lay; the same bytes in another order;
            decoded and encoded anew.
        notes: what is to be known, one sentence each.
        lost: what the file has no place for, one sentence each.
    """

    files: tuple[Path, ...] = ()
    copied: int = 0
    moved: int = 0
    encoded: int = 0
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def check_dtype(dtype: str | None) -> None:
    """Refuse a dtype that nothing encodes.

    Raises:
        UsageError: it is none.
    """
    if dtype is not None and (dtype not in DTYPES or not encodable(dtype)):
        able = [name for name in DTYPES if encodable(name)]
        by_ggml = (
            "" if "Q4_K" in able else "; pip install 'rosetta-trace[llamacpp]' for those that ggml encodes"
        )
        takes = f"--dtype takes {', '.join(able)}{by_ggml}"
        raise UsageError(f"nothing here encodes {dtype!r:.40}", remedy=takes)


def as_stored(model: Model, kind: Kind) -> list[Placed]:
    """All tensors of a source whose names the new file keeps, each as it is: but a matrix that files of one of both
    kinds store `[in, out]` (transformers' Conv1D) is turned.

    Args:
        model: the source.
        kind: of the file to be written.
    """
    container, architecture, placed = model.container, model.architecture, []
    target = container if container.kind == kind else Draft(container.path, kind)
    for name, entry in container.tensors.items():
        canonical = canonical_name(name, architecture, model.block_count + 1) or name
        turned = stored_in_out(container, architecture, canonical, entry)
        weight = Weight(name, container, entry, entry.dtype, entry.dims, turned)
        stays = stored_in_out(target, architecture, canonical, entry) == turned
        dims = entry.dims if stays else entry.dims[::-1]
        written = weight if stays else replace(
            weight, entry=replace(entry, dims=dims), stored_dims=dims, transposed=not turned
        )  # fmt: skip
        placed.append(Placed(name, name, dims, (Piece(weight, written),)))
    return placed


def with_dtypes(
    request: Request,
    placed: list[Placed],
    canonical: dict[str, str],
    refuses: Refuses,
    done: Done,
    narrowing: bool = False,
) -> list[TensorSource]:
    """The tensors to be written, each with a dtype that the file holds.

    Args:
        request: what is asked for.
        placed: the tensors.
        canonical: the canonical name of each.
        refuses: why the file does not hold a tensor; None where it does.
        done: where it is noted what becomes of them.
        narrowing: whether what GGUF files keep in float32 is to be of the dtype of the matrices where that holds it
            value for value, as it was in the folder that such a file was made of.
    """
    dtypes = _dtypes(request, placed, canonical, refuses, done)
    kept_wide = [always_float32(canonical.get(tensor.name, tensor.name), tensor.dims) for tensor in placed]
    if narrowing:
        matrices = [
            _entry(t, dtype) for t, dtype, wide in zip(placed, dtypes, kept_wide, strict=True) if not wide
        ]
        narrow = most_bytes(matrices)
        if narrow in ("F16", "BF16"):
            dtypes = [
                narrow if wide and dtype == "F32" and held_exactly(tensor, narrow) else dtype
                for tensor, dtype, wide in zip(placed, dtypes, kept_wide, strict=True)
            ]
    sources = []
    for tensor, dtype in zip(placed, dtypes, strict=True):
        sources.append(tensor_source(tensor, dtype))
        if _kept(tensor) != dtype:
            done.encoded += 1
        elif is_copied(tensor, dtype):
            done.copied += 1
        else:
            done.moved += 1
    return sources


def _dtypes(
    request: Request, placed: list[Placed], canonical: dict[str, str], refuses: Refuses, done: Done
) -> list[str]:
    """What is asked for, or what is stored, where the file holds it; float32 where GGUF files always have that."""
    dtypes, widened = [], []
    unfit: dict[str, list[str]] = {}
    for tensor in placed:
        kept = _kept(tensor)
        flat = always_float32(canonical.get(tensor.name, tensor.name), tensor.dims)
        asked = None if flat else request.dtype
        dtype = asked or kept or "F32"
        if asked and not whole_rows(asked, tensor.dims):
            dtype = _narrower(asked, tensor.dims)
            unfit.setdefault(dtype, []).append(tensor.name)
        named_alike = tensor.name == tensor.pieces[0].source.entry.name
        if flat and not (named_alike and kept):
            dtype = "F32"
        if refuses(_entry(tensor, dtype)) is not None:
            widened.append(tensor.name)
            dtype = "F32"
        dtypes.append(dtype)
    for dtype, names in unfit.items():
        done.notes.append(f"{some(names)} as {dtype}: rows are no whole blocks of {request.dtype}")
    if widened:
        done.notes.append(
            f"{some(widened)} as F32: the file holds no such dtype, and nothing is rounded again"
        )
    return dtypes


def _kept(tensor: Placed) -> str | None:
    """The dtype that its weights have where their bytes can stay."""
    stored = {piece.source.dtype for piece in tensor.pieces}
    return stored.pop() if len(stored) == 1 and keeps_bytes(tensor) else None


def most_bytes(entries: Iterable[TensorEntry]) -> str | None:
    """The dtype of most bytes of the matrices; None where there are none."""
    bytes_of: Counter[str] = Counter()
    for entry in entries:
        if len(entry.dims) > 1:
            bytes_of[entry.dtype] += entry.nbytes
    most = bytes_of.most_common(1)
    return most[0][0] if most else None


def _narrower(asked: str, dims: Sequence[int]) -> str:
    """What rows that are no whole blocks of a dtype are written as: what llama.cpp's quantiser falls back to where its
    blocks fit, else F16."""
    instead = FALLBACKS.get(asked, "IQ4_NL" if asked.startswith("IQ") else "F16")
    return instead if whole_rows(instead, dims) and encodable(instead) else "F16"


def _entry(tensor: Placed, dtype: str) -> TensorEntry:
    return TensorEntry(tensor.name, dtype, tensor.dims, flat_bytes(dtype, tensor.dims))


def some(names: list[str]) -> str:
    return (
        f"{len(names)} tensors ({names[0]}{', …' if len(names) > 1 else ''})" if len(names) > 1 else names[0]
    )
