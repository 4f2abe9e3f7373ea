"""An architecture that is not run: its weights, settings and tokenizer can be compared, and that is all."""

from __future__ import annotations

import re
from collections.abc import Sequence

import gguf

from rosetta.architectures.parts.architecture import Architecture
from rosetta.architectures.parts.readings import Reading, Stored, standard_readings
from rosetta.errors import RosettaError
from rosetta.graph import Stage
from rosetta.ops.op import Settings

LONGEST_NAME = 80  # of one that a file declares, and that is repeated


def not_run(declared: str) -> Architecture:
    """What stands for an architecture that is not run.

    Args:
        declared: what a file calls it.
    """
    return Architecture(
        declared[:LONGEST_NAME],
        gguf=_gguf_name(declared),
        classes=(),
        runs=False,
        attention=False,
        feed_forward=False,
        rope=None,
        readings=_readings,
        before=_no_stages,
        layer=_no_stages,
        after=_no_stages,
    )


def _gguf_name(declared: str) -> str:
    """The name that gguf-py has for it: the same but for case and dashes, or of the class's name; else as declared."""
    bare = _bare(declared)
    known: dict[str, str] = {_bare(name): name for name in gguf.MODEL_ARCH_NAMES.values()}
    return known.get(bare, known.get(bare.removesuffix("forcausallm"), declared[:LONGEST_NAME]))


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _no_stages(*of: object) -> list[Stage]:
    return []


def _readings(stored: Stored, c: Settings) -> Sequence[Reading] | None:
    """Experts one by one, and q, k and v where the file says how large they are."""
    try:
        return standard_readings(stored, c)
    except (KeyError, RosettaError):  # a size that the file does not state
        return None
