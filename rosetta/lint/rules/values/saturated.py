"""V407: F16 values held at the largest number there is."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.value_facts import SeenTensor

RULE = Rule(
    "V407",
    "f16-saturated",
    "warning",
    what="Values of an F16 tensor are exactly ±65,504, the largest number of F16.",
    why="BF16 or F32 values beyond its range were clamped when they were converted. Few weights of a model are so "
    "large, and those few matter most.",
    fix="Convert again to BF16 or F32.",
)
_LARGEST = (0x7BFF, 0xFBFF)  # ±65,504


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """How many are."""
    if seen.dtype != "F16" or seen.patterns is None:
        return
    held = int(seen.patterns[list(_LARGEST)].sum())
    if held:
        yield seen.subject.at_tensor(
            seen.tensor, f"{held:,} values are exactly ±65,504, where BF16 may have had more"
        )
