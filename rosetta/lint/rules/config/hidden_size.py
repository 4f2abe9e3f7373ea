"""C210: the hidden size contradicts the tensors."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C210",
    "hidden-size",
    "error",
    what="The hidden size is not that of the embedding or of the norms.",
    why="It was read from the wrong axis of the embedding, or copied from another size of the model.",
    fix="Write embedding_length (hidden_size) as the tensors have it.",
    contradiction=True,
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first tensor of another width."""
    hidden = subject.count("embedding_length")
    for stem in ("token_embd.weight", "output_norm.weight", "attn_norm.weight"):
        for tensor in subject.by_stem(stem):
            if hidden and len(tensor.dims) in (1, 2) and hidden not in tensor.dims:
                yield subject.at_tensor(
                    tensor, f"has dims {list(tensor.dims)}, and the config says {hidden:,}"
                )
                return
