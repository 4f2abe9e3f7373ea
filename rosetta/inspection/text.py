"""An inspection as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from rosetta.errors import one_line
from rosetta.inspection.facts import Inspection, SettingFacts, TensorFacts, TokenizerFacts
from rosetta.inspection.statistics import TensorStatistics
from rosetta.report.words import CONTAINER_LABELS, counted, setting

LONGEST_VALUE = 60  # characters


def render(facts: Inspection) -> str:
    """The inspection as text; control characters out of names are spelled out."""
    dtypes = ", ".join(f"{dtype} {count}" for dtype, count in facts.dtypes.items())
    lines = [
        f"{CONTAINER_LABELS.get(facts.container, facts.container)}: {facts.path}",
        f"  architecture: {facts.architecture or 'not declared'}",
        f"  {facts.parameters:,} parameters in {counted(len(facts.tensors), 'tensor')} ({dtypes or 'none'})",
        f"  {facts.file_bytes:,} bytes",
        *(f"  note: {note}" for note in facts.notes),
        *("", "=== Config ===", *_config(facts.config)),
        *("", "=== Tokenizer ===", *_tokenizer(facts.tokenizer)),
        *("", "=== Tensors ===", *_tensors(facts.tensors)),
    ]
    return "".join(one_line(line) + "\n" for line in lines)


def _config(config: Sequence[SettingFacts]) -> list[str]:
    rows = [[item.key, _short(setting(item.value)), _source(item)] for item in config]
    return _table(["key", "value", "from"], rows)


def _source(item: SettingFacts) -> str:
    if not item.defaulted:
        return item.source_key or ""
    return "defaulted" + (f": {item.note}" if item.note else "")


def _tokenizer(facts: TokenizerFacts | None) -> list[str]:
    if facts is None:
        return ["  none"]
    pre = f", pre-tokenizer {facts.pre}" if facts.pre else ""
    adds = [name for name, added in (("BOS", facts.add_bos), ("EOS", facts.add_eos)) if added]
    special = ", ".join(f"{role} {number}" for role, number in facts.special_ids.items())
    return [
        f"  {facts.kind} ({facts.model}){pre}",
        f"  {counted(facts.vocab_size, 'token')}, {counted(facts.merges, 'merge')}",
        f"  special tokens: {special or 'none'}",
        f"  adds to a prompt: {' and '.join(adds) or 'nothing'}",
        *(f"  note: {note}" for note in facts.notes),
    ]


def _tensors(tensors: Sequence[TensorFacts]) -> list[str]:
    renamed = any(tensor.canonical not in (None, tensor.name) for tensor in tensors)
    headers = ["name", *(["canonical name"] if renamed else []), "dtype", "dims"]
    rows = [
        [tensor.name, *([tensor.canonical or "-"] if renamed else []), tensor.dtype, str(tensor.dims)]
        for tensor in tensors
    ]
    if any(tensor.statistics is not None for tensor in tensors):
        headers += ["min", "max", "mean", "std", "zeros", "NaN", "Inf", "first values", ""]
        rows = [row + _numbers(tensor.statistics) for row, tensor in zip(rows, tensors, strict=True)]
    return _table(headers, rows)


def _numbers(statistics: TensorStatistics | None) -> list[str]:
    if statistics is None:
        return ["-"] * 8 + [""]
    s = statistics
    moments = ["-" if value is None else f"{value:.4g}" for value in (s.min, s.max, s.mean, s.std)]
    counts = [str(count) for count in (s.zeros, s.nan, s.inf)]
    first = " ".join(f"{value:.4g}" for value in s.first)
    return [*moments, *counts, first, f"SUSPICIOUS: {s.mark}" if s.mark else ""]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _table(headers: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["  none"]
    table = tabulate(rows, headers, tablefmt="simple", disable_numparse=True)
    return [f"  {line}".rstrip() for line in table.splitlines()]
