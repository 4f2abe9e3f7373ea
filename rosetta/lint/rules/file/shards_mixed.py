"""F113: the shards are not those of one model."""

from collections.abc import Iterator

from rosetta.containers.huggingface.reader import not_where_placed
from rosetta.containers.huggingface.writer import INDEX
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F113",
    "shards-mixed",
    "error",
    what="The shards are not those of one model: their numbers, their tensors or the index contradict each other.",
    why="Shards of two downloads, revisions or ways of splitting lie in one folder.",
    fix="Empty the folder, and download or split the model again.",
    refusals=(
        r"says it is shard \S+ of \S+",
        r"its shards hold \d+ tensors, \d+ were written",
        "does not begin as a GGUF file does",
        "holds no tensor, and .* places",
        "is no file of the folder",
        "has no weight_map",
    ),
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each tensor that the index places in a file that lacks it."""
    if subject.folder is None:
        return
    for tensor, name in subject.folder.absent.items():
        said = not_where_placed(subject.folder, tensor, name)
        yield Fault(said.message, tensor=tensor, file=subject.path / INDEX)
    for stored in subject.folder.tensors if subject.folder.indexed else ():
        file, start = subject.folder.place(stored)
        placed = subject.folder.indexed.get(stored)
        if placed != file.name:
            said_of_it = f"the index places it in {placed}" if placed else "the index does not name it"
            yield Fault(said_of_it, tensor=stored, byte=start, file=file)
            return
