"""C212: a rotary base that no model has."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C212",
    "rope-base",
    "error",
    what="The rotary base (theta) lies outside of what models have.",
    why="It was left at 0 or 1, the factor of a rope scaling was written in its place, or the digits of an exponent "
    "were lost.",
    fix="Write rope.freq_base (rope_theta) as the model's config has it.",
)
# Published bases: 1e4 (most) to 1e8 (Llama 3 fine-tunes for a million tokens); 2,500 in ModernBERT's local layers is
# not: it has 1e4 and 1.6e5. Around them a factor of a hundred is left.
LEAST, MOST = 100.0, 1e10


def faults(subject: Subject) -> Iterator[Fault]:
    """Each base out of bounds."""
    for key in ("rope.freq_base", "rope.freq_base_swa"):
        base = subject.number(key)
        if base is not None and not LEAST <= base <= MOST:
            yield subject.at_key(key, f"is {base:.6g}; models have {LEAST:g} to {MOST:g}")
