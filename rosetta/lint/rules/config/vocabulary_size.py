"""C207: the number of tokens contradicts the embedding."""

from collections.abc import Iterator

from rosetta.architectures import architecture_of
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
    architecture = architecture_of(subject.container)
    beyond = 0 if architecture is None else architecture.tokens_beyond
    for stem, more in (("token_embd.weight", beyond), ("output.weight", 0)):
        for tensor in subject.by_stem(stem):
            wrong = [said for count, said in _counts(subject) if count + more not in tensor.dims]
            if wrong and len(tensor.dims) == 2:
                yield subject.at_tensor(tensor, f"has dims {list(tensor.dims)}, and {wrong[0]}")


def _counts(subject: Subject) -> Iterator[tuple[int, str]]:
    """How many tokens there are by the config, and in a GGUF by its list, which is what llama.cpp counts."""
    tokens = subject.container.metadata.get("tokenizer.ggml.tokens") if subject.gguf is not None else None
    if isinstance(tokens, list) and tokens:
        yield len(tokens), f"{len(tokens):,} tokens"
    stated = subject.count("vocab_size")
    if stated:
        key = subject.container.settings["vocab_size"].key
        yield stated, f"{stated:,} tokens" if key.endswith("tokens") else f"{key} says {stated:,}"
