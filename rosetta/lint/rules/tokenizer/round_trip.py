"""T314: a text does not come back from its tokens."""

from collections.abc import Iterator

from rosetta.lint.health import Health
from rosetta.lint.rule import Fault, Rule

RULE = Rule(
    "T314",
    "round-trip",
    "warning",
    what="A text given by --text, encoded and decoded, is another text.",
    why="Bytes have no tokens, spaces are squeezed or added, or letters are folded. Some tokenizers do so by design "
    "(BERT's lower case); of a model that writes code it is a bug.",
    fix="Look at the first character that differs, and at the normaliser and the byte tokens of the source.",
)


def health_faults(health: Health) -> Iterator[Fault]:
    """The first character that does not come back."""
    if not health.round_trip:
        yield Fault(f"character {health.differs_at:,} of the text comes back as {health.comes_back_as!r}")
