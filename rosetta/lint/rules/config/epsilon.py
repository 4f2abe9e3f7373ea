"""C211: an epsilon that no norm has."""

from collections.abc import Iterator

from rosetta.lint.gguf_keys import LAYER, RMS
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C211",
    "epsilon",
    "error",
    what="The epsilon of the norms is zero, negative, or larger than any model's.",
    why="It was parsed as a whole number (1e-6 becomes 0), written as its exponent, or left at a struct's default.",
    fix="Write the model's own: most have 1e-5 or 1e-6.",
)
# Published ones lie between 1e-12 (BERT) and 1e-5, test models have 1e-3; a factor of ten on either side is left.
LEAST, MOST = 1e-13, 1e-2


def faults(subject: Subject) -> Iterator[Fault]:
    """Each epsilon out of bounds; not the 0 that llama.cpp itself writes of the norm that a model has not."""
    stated = {key: epsilon for key in (RMS, LAYER) if (epsilon := subject.number(key)) is not None}
    for key, epsilon in stated.items():
        if not LEAST <= epsilon <= MOST and (epsilon != 0 or not any(stated.values())):
            yield subject.at_key(key, f"is {epsilon:.6g}; models have {LEAST:g} to {MOST:g}")
