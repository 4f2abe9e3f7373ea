"""C207: the number of tokens contradicts the embedding."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C207",
    "vocabulary-size",
    "error",
    what="The embedding or the head has another number of rows than the file has tokens.",
    why="Tokens were counted where the embedding is padded to a round number of rows, or tokens were added and the "
    "embedding was not resized. llama.cpp refuses a GGUF whose embedding has not one row for each token.",
    fix="GGUF: pad the token list with unused tokens up to the embedding's rows. Folder: resize_token_embeddings.",
    contradiction=True,
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The embedding, and the head, that have another number of rows."""
    stated = subject.count("vocab_size")
    for stem in ("token_embd.weight", "output.weight"):
        for tensor in subject.by_stem(stem):
            if stated and len(tensor.dims) == 2 and stated not in tensor.dims:
                key = subject.container.settings["vocab_size"].key
                what = f"{stated:,} tokens" if key.endswith("tokens") else f"{key} says {stated:,}"
                yield subject.at_tensor(tensor, f"has dims {list(tensor.dims)}, and {what}")
