"""What a comparison is asked to do: the command line's options, already checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DEFAULT_PROMPT = "2+2="
DEFAULT_THRESHOLD = 1e-3
AUTO = "auto"
"""As a prompt: the shortest token sequence that can show every difference found in config; what it did not show is
said after the run."""
TRACE = "trace:"  # before the path of a recorded run
LIVE = ("llamacpp", "transformers")  # runtimes that may stand before the colon of an operand


def live(operand: str) -> tuple[str, str] | None:
    """(runtime, path) of an operand that a runtime of somebody else's is to run; None for any other.

    >>> live("llamacpp:model.gguf"), live("model.gguf")
    (('llamacpp', 'model.gguf'), None)
    """
    runtime, colon, path = operand.partition(":")
    return (runtime, path) if colon and runtime in LIVE else None


@dataclass(frozen=True)
class Options:
    """How two operands are compared.

    Args:
        prompt: the text to run; each side uses its own tokenizer.
        tokens: ids to run instead of the prompt.
        threshold: largest allowed difference of a stage, times the larger of 1 and the reference's rms.
        threshold_is_explicit: whether the user gave it, which makes it a hard limit.
        reference: the side that is believed.
        stop_at_first: stop at the first divergent stage, after diagnosing it.
        diagnose: look for causes and prove them.
        left_device: where the left side computes.
        right_device: where the right side computes.
        dtype: in what precision the torch runtime computes.
        runtime_options: of the runtimes that run an operand.
        witness: a third operand, which says with which side it agrees at each stage at fault; None: there is none.
        run_as: the architecture that a model is taken for which declares none that is run.
    """

    prompt: str = DEFAULT_PROMPT
    tokens: tuple[int, ...] | None = None
    threshold: float = DEFAULT_THRESHOLD
    threshold_is_explicit: bool = False
    reference: Literal["left", "right"] = "right"
    stop_at_first: bool = False
    diagnose: bool = True
    left_device: Literal["cpu", "cuda"] = "cpu"
    right_device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    runtime_options: Mapping[str, str] = field(default_factory=dict, hash=False)
    witness: str | None = None
    run_as: str | None = None
