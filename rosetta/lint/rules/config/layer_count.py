"""C208: the number of layers contradicts the tensors."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C208",
    "layer-count",
    "error",
    what="The file has tensors of another number of layers than it declares.",
    why="A shard is missing, an export broke off, or the number was copied from another size of the model. A loader "
    "refuses it, or leaves the last layers out.",
    fix="Write the number of layers that there are, or export the missing ones.",
    contradiction=True,
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Layers that are missing, and layers beyond the declared number."""
    declared = subject.count("block_count")
    if declared is None or not subject.layers:
        return
    predictors = subject.count("nextn_predict_layers") or 0
    for key in ("num_nextn_predict_layers", "mtp_num_hidden_layers"):  # a folder counts them apart
        stated = subject.container.metadata.get(key)
        predictors = max(predictors, stated if isinstance(stated, int) else 0)
    beyond = sorted(n for n in subject.layers if n >= declared + predictors)
    missing = sorted(set(range(min(declared, 1 << 16))) - subject.layers)
    if beyond:
        first = next(tensor for tensor in subject.tensors if tensor.layer == beyond[0])
        yield subject.at_tensor(
            first, f"is of layer {beyond[0]}, and {declared} layers (from 0) are declared"
        )
    if missing:
        some = ", ".join(map(str, missing[:4])) + (" …" if len(missing) > 4 else "")
        yield subject.at_key("block_count", f"is {declared}, and no tensor is of layer {some}")
