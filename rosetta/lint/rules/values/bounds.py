"""V404: norms and embeddings outside of what models have."""

from collections.abc import Iterator

from rosetta.lint.bounds import suspicious
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.value_facts import SeenTensor

RULE = Rule(
    "V404",
    "value-bounds",
    "warning",
    what="The values of a norm or an embedding are far larger or smaller than those of any model.",
    why="Bytes are read as another dtype, or from another place, than they were written; a scale was applied twice.",
    fix="Compare the tensor with its source: rosetta SOURCE FILE says in what they differ.",
)


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """What is out of bounds."""
    name = seen.tensor.name if seen.tensor.stem is None else seen.tensor.stem
    if seen.nonfinite or seen.std is None or seen.rms is None or seen.zeros == seen.count:
        return
    mark = suspicious(name, seen.std, seen.rms)
    if mark is not None:
        yield seen.subject.at_tensor(seen.tensor, mark)
