"""T309: tokens without a row of the embedding."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.tokenizer.duplicate_tokens import at_tokens
from rosetta.lint.subject import Subject

RULE = Rule(
    "T309",
    "tokens-beyond-embedding",
    "error",
    what="There are more tokens than the embedding has rows.",
    why="Tokens were added to the tokenizer, and the embedding was not resized: a text that holds one of them stops "
    "the runtime, or reads another tensor's bytes.",
    fix="Call resize_token_embeddings before saving, or take the added tokens out.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """How many tokens have no row."""
    vocabulary, embedding = subject.vocabulary, subject.embedding
    if vocabulary is None or embedding is None or len(embedding.dims) != 2:
        return
    hidden = subject.count("embedding_length")
    rows = (
        embedding.dims[0] if embedding.dims[1] == hidden or embedding.dims[0] != hidden else embedding.dims[1]
    )
    if subject.gguf is None and len(vocabulary.tokens) > rows:  # of a GGUF file C207 says it either way
        token = vocabulary.tokens[rows]
        sizes = f"has {len(vocabulary.tokens):,} tokens, the embedding {rows:,} rows"
        yield at_tokens(subject, f"{sizes}: {token!r:.40} has none")
