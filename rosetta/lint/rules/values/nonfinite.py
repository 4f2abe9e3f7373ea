"""V401: values that are NaN or Inf."""

from collections.abc import Iterator

from rosetta.dtypes import DTYPES
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.value_facts import SeenTensor

RULE = Rule(
    "V401",
    "nonfinite",
    "error",
    what="Weights are NaN or Inf, or the scale of a quantised block is.",
    why="BF16 or F32 values beyond 65,504 were converted to F16; quantising by an importance matrix divided by zero; "
    "the model diverged in training. One of them makes every logit NaN.",
    fix="Convert again from the source (to BF16 where F16 has not the range); where the source has them too, it is "
    "spoilt.",
)


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """The first one, and how many there are."""
    if not seen.nonfinite:
        return
    block = DTYPES[seen.dtype].block_size
    total = seen.count // block
    what = (
        f"{seen.nonfinite:,} of {total:,} values are"
        if block == 1
        else (f"the scales of {seen.nonfinite:,} of {total:,} blocks are")
    )
    yield seen.subject.at_tensor(seen.tensor, f"{what} NaN or Inf", seen.first_nonfinite)
