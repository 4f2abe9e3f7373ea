"""F121: an index that counts other bytes than its shards hold."""

from collections.abc import Iterator

from rosetta.containers.huggingface.writer import INDEX
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F121",
    "index-size",
    "warning",
    what="The index's total_size is not how many bytes the tensors in the shards have.",
    why="Shards of another revision or another dtype lie beside the index, or tensors were changed and the index was "
    "not written again. What loads a model by shares of its size, or checks a download by it, goes wrong.",
    fix="Download the folder again if it was not you who changed it; else save the model again, with its index.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Both numbers, where the index states one and names no tensor that is not there."""
    folder = subject.folder
    if folder is None or folder.indexed_bytes is None or folder.absent:
        return
    said, held = folder.indexed_bytes, sum(entry.nbytes for entry in folder.tensors.values())
    if not isinstance(said, int | float) or said != held:
        number = f"{said:,}" if isinstance(said, int) else f"{said!r:.40}"
        yield Fault(
            f"is {number}, and the tensors have {held:,} bytes",
            key="metadata.total_size",
            file=subject.path / INDEX,
        )
