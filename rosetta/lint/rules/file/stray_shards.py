"""F114: weight files that lie beside the model's own and that only some loaders read."""

import json
from collections.abc import Iterator
from pathlib import Path

from rosetta.containers.huggingface.writer import INDEX, WEIGHTS
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F114",
    "stray-shards",
    "warning",
    what="A folder holds weight files of two models: a single file beside shards, or shards that the index lacks.",
    why="A model was saved into the folder of another, or of an earlier revision. transformers reads one of them, "
    "llama.cpp's converter the other.",
    fix="Remove the weight files that are not this model's, and an index that no longer fits.",
)
_OTHERS = ("adapter_model", "consolidated", "optimizer", "training_args")  # weights that lie there by design


def faults(subject: Subject) -> Iterator[Fault]:
    """Each stray file."""
    if subject.folder is None:
        return
    read = {path.name for path in subject.folder.files}
    named = _named_by_index(subject.path)
    for path in sorted(subject.path.glob("*.safetensors")):
        if path.name in read or path.name.startswith(_OTHERS):
            continue
        beside = (
            f"{INDEX} names it, and {WEIGHTS} is what is read"
            if path.name in named
            else f"no {INDEX} names it"
        )
        if path.name.startswith("model"):
            yield Fault(f"{beside}", file=path)


def _named_by_index(folder: Path) -> set[str]:
    try:
        placed = json.loads((folder / INDEX).read_bytes())["weight_map"]
        return {name for name in placed.values() if isinstance(name, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
