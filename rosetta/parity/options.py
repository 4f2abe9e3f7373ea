"""What a parity run is asked to do: the command line's options, already checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rosetta.compare.options import DEFAULT_THRESHOLD


@dataclass(frozen=True)
class ParityOptions:
    """What is asked.

    Args:
        generate: tokens that each side says.
        chat: whether prompts are questions to an assistant.
        believes_left: whether the first operand is believed by the others, not they by it.
        threshold: largest allowed difference, times the larger of 1 and the root mean square of what it is of.
        runtime_options: of runtimes.
    """

    generate: int = 32
    chat: bool = False
    believes_left: bool = False
    threshold: float = DEFAULT_THRESHOLD
    runtime_options: Mapping[str, str] = field(default_factory=dict, hash=False)
