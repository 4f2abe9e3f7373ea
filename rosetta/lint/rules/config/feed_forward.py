"""C206: the width of the feed-forward network contradicts the tensors."""

from collections.abc import Iterator

from rosetta.architectures import architecture_of
from rosetta.containers.huggingface.text_part import tables
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import StoredTensor, Subject

RULE = Rule(
    "C206",
    "feed-forward",
    "error",
    what="The width of the feed-forward network is not that of its matrices.",
    why="It was read from the wrong axis of a matrix, or a multiple of the hidden size was assumed.",
    fix="Write feed_forward_length (intermediate_size) as the matrices have it.",
    contradiction=True,
)
# What the config's width is multiplied with: Qwen 1 counts both halves of its gated network, Gemma 3n and 4 double
# it in layers that share keys.
_FACTORS = {
    "qwen": (0.5,),
    "gemma4": (1, 2),
    "gemma3n": (1, 2),
    "gemma4_text": (1, 2),
    "gemma3n_text": (1, 2),
}
# Folders whose class takes four times the hidden size instead.
_WORKED_OUT = ("gpt_refact", "refact", "codeshell")

# Whose config says the width of their experts under the usual key, and no other.
_OF_EXPERTS = ("arctic",)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first matrix with another width."""
    if subject.folder is not None and subject.architecture in _WORKED_OUT:
        return
    if subject.architecture in _OF_EXPERTS:
        return
    factors = _FACTORS.get(subject.architecture, (1,))
    for tensor in subject.by_stem("ffn_down.weight"):
        width = _width(subject, tensor)
        if width and len(tensor.dims) == 2 and not any(_fits(width * n, subject, tensor) for n in factors):
            yield subject.at_tensor(
                tensor, f"has dims {list(tensor.dims)}, and the config says a width of {width:,}"
            )
            return


def _width(subject: Subject, tensor: StoredTensor) -> int | None:
    """What the config says; of a folder whose class has a key of its own, under that one."""
    architecture = None if subject.folder is None else architecture_of(subject.container)
    own = None if architecture is None else architecture.huggingface.spellings.get("feed_forward_length")
    if own is None:
        return subject.count("feed_forward_length", tensor.layer)
    stated = next((table[own] for table, _ in tables(subject.container.metadata) if own in table), None)
    return stated if type(stated) is int else None


def _fits(width: float, subject: Subject, tensor: StoredTensor) -> bool:
    """Whether a matrix has a side of this width, besides that of the hidden size."""
    if width == subject.count("embedding_length"):
        return tensor.dims[0] == tensor.dims[1] == width
    return width in tensor.dims
