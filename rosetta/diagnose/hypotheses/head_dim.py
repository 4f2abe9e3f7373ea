"""Another size of a head (`config.head_dim`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import believed_values

KEY, VALUE = "attention.key_length", "attention.value_length"


def propose(fault: Fault) -> Iterator[Proposal]:
    """The reference's size of a key and of a value; where the file has one key for both, one proposal for both."""
    config, other = fault.subject.model.config, fault.subject.other.config
    if KEY not in config or KEY not in other:  # a model without attention
        return
    one_key = config[KEY].key is not None and config[KEY].key == config[VALUE].key
    for proposal in believed_values(fault, KEY, VALUE):
        if not one_key:
            yield proposal
        elif proposal.key == KEY or agree_on_keys(fault):
            right = other if proposal.role == "subject" else config
            both = Repair(overrides={name: right[name].value for name in (KEY, VALUE)})
            yield replace(proposal, key=KEY, repair=both)


def agree_on_keys(fault: Fault) -> bool:
    """Whether the key length is no difference, so that the value length must speak for the file's one key."""
    return KEY not in fault.changed_settings()
