"""C218: the config says that the head is not the embedding, and there is no head."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C218",
    "missing-head",
    "error",
    what="The config says that the head is another matrix than the embedding, and the file has no head.",
    why="The head was left out of an export as if it were tied. Loaders fall back to the embedding, or to random "
    "numbers: the logits are noise.",
    fix="Export the head, or say tie_word_embeddings where it is the embedding.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """An untied head that is not there."""
    # Of a model with parts it says more than theirs.
    outer = subject.container.metadata.get("tie_word_embeddings")
    if subject.setting("tied_embeddings") is not False or outer is True or subject.embedding is None:
        return
    heads = ("lm_head.weight", "output.weight", "embed_out.weight", "output_layer.weight")
    if not any(tensor.stem == "output.weight" or tensor.name.endswith(heads) for tensor in subject.tensors):
        yield subject.at_key("tied_embeddings", "is false, and there is no head")
