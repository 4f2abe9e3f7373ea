"""C215: a sliding window that cannot be meant."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.config.context import MOST
from rosetta.lint.subject import Subject

RULE = Rule(
    "C215",
    "sliding-window",
    "warning",
    what="The sliding window is of one token or none, or its pattern lists another number of layers.",
    why="The window was parsed as a flag (true becomes 1), or the pattern was copied from another size of the model.",
    fix="Write attention.sliding_window in tokens, and one entry of the pattern for each layer.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """A window or a pattern that cannot be."""
    window, pattern = (
        subject.setting("attention.sliding_window"),
        subject.setting("attention.sliding_window_pattern"),
    )
    if isinstance(window, int) and not isinstance(window, bool):
        if window == 1:
            yield subject.at_key("attention.sliding_window", f"is {window}: each token would see only itself")
        elif window == 0 and isinstance(pattern, list) and any(pattern):
            yield subject.at_key("attention.sliding_window", "is 0, and layers are said to have a window")
        elif not 0 <= window <= MOST:
            yield subject.at_key("attention.sliding_window", f"is {window:,}; models have up to {MOST:,}")
    layers = subject.count("block_count")
    if isinstance(pattern, list) and layers and len(pattern) < layers:
        yield subject.at_key(
            "attention.sliding_window_pattern", f"has {len(pattern)} entries, and there are {layers} layers"
        )
