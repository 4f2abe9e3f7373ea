"""Whether the rules on single settings find that config and tensors contradict each other: what follows from that is
no fault of its own. No rule itself."""

from rosetta.lint.rules.config import (
    dims_turned,
    experts,
    feed_forward,
    heads,
    hidden_size,
    layer_count,
    missing_key,
    vocabulary_size,
)
from rosetta.lint.subject import Subject

_RULES = (dims_turned, experts, feed_forward, heads, hidden_size, layer_count, missing_key, vocabulary_size)


def contradicts_config(subject: Subject) -> bool:
    """Whether any of them speaks."""
    return any(True for rule in _RULES for _ in rule.faults(subject))
