"""T312: a vocabulary that spells bytes in hex digits under the name of a byte-level one."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.tokenizer.duplicate_tokens import at_tokens
from rosetta.lint.subject import Subject

RULE = Rule(
    "T312",
    "hex-bytes",
    "error",
    what="The vocabulary spells bytes as two hex digits, and is declared as byte-level BPE, which spells them in "
    "GPT-2's alphabet.",
    why="The trainer of the tokenizer wrote bytes as hex, and the exporter did not translate them. A byte-level "
    "encoder finds hardly any token of a text: 99 % are unknown.",
    fix="Translate tokens and merges into GPT-2's byte alphabet on export.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The count of hex bytes that tells it."""
    vocabulary = subject.vocabulary
    if vocabulary is not None and vocabulary.kind == "hex":
        pairs = {f"{byte:02x}" for byte in range(256)}.intersection(vocabulary.tokens)
        yield at_tokens(subject, f"holds {len(pairs)} of the 256 bytes in hex, as '0a'")
