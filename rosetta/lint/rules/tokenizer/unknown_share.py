"""T313: a text becomes unknown tokens, or hardly any different ones."""

from collections.abc import Iterator

from rosetta.lint.health import Health
from rosetta.lint.rule import Fault, Rule

RULE = Rule(
    "T313",
    "unknown-share",
    "error",
    what="Of a text given by --text, many tokens are unknown, or the tokens hardly differ.",
    why="The vocabulary spells its tokens in another way than the encoder looks them up: hex digits against GPT-2's "
    "alphabet, ▁ against Ġ. The model is then shown the same id over and over.",
    fix="Look at the spelling that is printed beside it, and translate the vocabulary on export.",
)
# Of eight published vocabularies on source code and prose the least has 6.4 bits, and none has an unknown token; the
# report that this rule is from had 0.1 bits and 99 % unknown. Below some hundred tokens no text has 5 bits.
MOST_UNKNOWN, LEAST_BITS, ENOUGH = 0.01, 5.0, 500


def health_faults(health: Health) -> Iterator[Fault]:
    """A share or an entropy out of bounds."""
    if health.unknown_share > MOST_UNKNOWN:
        yield Fault(f"{health.unknown_share:.1%} of the text's tokens are unknown")
    if health.tokens >= ENOUGH and health.entropy < LEAST_BITS:
        yield Fault(
            f"the text's tokens carry {health.entropy:.2f} bits each, a healthy encoder's at least {LEAST_BITS:g}"
        )
