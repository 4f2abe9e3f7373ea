"""C214: a context that no model has."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

# How files spell it.
NAMES = r"\S*(context_length|max_position_embeddings|n_positions|n_ctx|max_seq_len|seq_length)"
RULE = Rule(
    "C214",
    "context",
    "error",
    what="The context is zero, or longer than any model's.",
    why="The key was left at a default, or tokenizer_config.json's model_max_length (1e30 for none) was taken for it.",
    fix="Write context_length (max_position_embeddings) as the model's config has it.",
    refusals=(rf"^key '{NAMES}' is .*anything counts to",),
)
MOST = 1 << 28  # tokens; the longest published context is 10,485,760 (Llama 4 Scout)


def faults(subject: Subject) -> Iterator[Fault]:
    """A context out of bounds, or longer than the table of positions."""
    context = subject.count("context_length")
    if context is None:
        return
    if not 0 < context <= MOST:
        yield subject.at_key("context_length", f"is {context:,}; models have 1 to {MOST:,}")
    for table in subject.by_stem("position_embd.weight"):
        if len(table.dims) == 2 and context > max(table.dims):
            yield subject.at_tensor(
                table, f"has dims {list(table.dims)}, and a context of {context:,} is declared"
            )
