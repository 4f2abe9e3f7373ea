"""What the index of a folder places in a file that lacks it: refused where the model needs it, else noted."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rosetta.architectures import Architecture
from rosetta.containers.container import Container
from rosetta.containers.huggingface.reader import not_where_placed
from rosetta.containers.huggingface.writer import INDEX
from rosetta.graph import Graph
from rosetta.names import canonical_name


def hold_to_index(
    container: Container, architecture: Architecture, graph: Graph, weights: Collection[str], layers: int
) -> None:
    """See that nothing the model needs is missing where the index of its folder has it.

    An entry is needless where no stage reads a tensor of its name and all that stages need is there without it: it may
    be a part of a fused tensor.

    Args:
        container: the folder, or what stands for it; other containers have no index.
        architecture, graph: of the model; one that is not run does not say what it needs.
        weights: the canonical names of what is there.
        layers: of the model.

    Raises:
        DamagedFileError: a tensor that is needed is in no file.
    """
    if not container.absent:
        return
    lacking = {name for node in graph for name in node.required} - {*weights}
    for tensor, file in container.absent.items():
        if lacking or not architecture.runs or canonical_name(tensor, architecture, layers) in graph.dims:
            raise not_where_placed(container, tensor, file)


def needless_entries(container: Container) -> Iterator[str]:
    """A note of each entry of an index that is absent, of a model that was found not to need it."""
    for tensor, file in container.absent.items():
        yield (
            f"{INDEX} names {tensor}, which is not in {file} and is not needed: take it out of the weight_map, or "
            "download the folder again"
        )
