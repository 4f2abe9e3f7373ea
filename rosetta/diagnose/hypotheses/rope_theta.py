"""Another base of the rotary frequencies (`config.rope_theta`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.settings_hypothesis import setting_hypothesis, setting_proposal

KEY = "rope.freq_base"
# Bases of published models: most, Llama 3, Qwen2, Code Llama and Mixtral, Phi, DeepSeek, Yi, Gemma 3, …
PUBLISHED = (1e4, 5e5, 1e6, 1e5, 2.5e5, 5e6, 1e7, 8e6, 2e6, 1.5e5, 3e5, 4e4, 6e5, 1e8)
known = setting_hypothesis("config.rope_theta", KEY)


def propose(fault: Fault) -> Iterator[Proposal]:
    """The reference's base; of a recorded run that names none, those of published models."""
    yield from known(fault)
    if fault.settings_unknown and KEY in fault.keys:
        own = fault.subject.model.config[KEY]
        for base in PUBLISHED:
            if base != own.value:
                yield setting_proposal(fault, "config.rope_theta", KEY, own, base)
