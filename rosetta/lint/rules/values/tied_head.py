"""V410: a head that is said to be the embedding, and is stored differing."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "V410",
    "tied-head-differs",
    "error",
    what="The config says that the head is the embedding, and the file stores a head that is another matrix.",
    why="One of the two was trained, merged or quantised and the other was not. transformers takes the embedding and "
    "llama.cpp's converter the stored head: the two compute different logits.",
    fix="Store no head where it is tied, or say that it is not.",
    reads_values=True,
)
_CHUNK = 1 << 22  # bytes


def faults(subject: Subject) -> Iterator[Fault]:
    """The first byte at which the two differ."""
    embedding, head = subject.embedding, next(subject.by_stem("output.weight"), None)
    outer = subject.container.metadata.get("tie_word_embeddings")
    if subject.setting("tied_embeddings") is not True or outer is False or embedding is None or head is None:
        return
    if (embedding.entry.dtype, embedding.dims) != (head.entry.dtype, head.dims):
        return  # other dtypes differ by their rounding, which is no fault
    for start in range(0, head.entry.nbytes, _CHUNK):
        size = min(_CHUNK, head.entry.nbytes - start)
        ours, theirs = (subject.container.read(tensor.name, start, size) for tensor in (head, embedding))
        if (ours != theirs).any():
            at = start + int((ours != theirs).argmax())
            yield subject.at_tensor(head, f"is said to be {embedding.name!r}, and differs from it", at)
            return
