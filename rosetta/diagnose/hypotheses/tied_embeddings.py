"""A head taken for the embedding that is not, or stored where the embedding serves (`config.tied_embeddings`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.advice import config_file, write_setting
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import instead
from rosetta.model import Model

KEY, HEAD, EMBEDDING = "tied_embeddings", "output.weight", "token_embd.weight"


def propose(fault: Fault) -> Iterator[Proposal]:
    """Tie the subject's head as the reference's is, or untie it."""
    subject = fault.subject
    if fault.stage != "logits" or KEY not in subject.model.config:
        return
    # What a runtime was run on says what its file does, and it may compute otherwise.
    untied_in_both = fault.settings_unknown and not tied(subject.model)
    if tied(subject.model) == tied(subject.other) and not untied_in_both:
        return
    other = subject.other.weights.get(HEAD)
    container, own = subject.model.container, subject.model.config[KEY]
    if not tied(subject.model):
        yield Proposal(
            kind="config.tied_embeddings",
            role="subject",
            repair=Repair(overrides={KEY: True}),
            key=KEY,
            declared=False,
            actual=True,
            message=f"{KEY}: {_untied(subject.model)}, the reference's head is the embedding",
            recommendation=_tie(subject.model),
        )
        return
    stored = subject.model.repaired({KEY: False}).weights.get(HEAD)
    own_head = stored is not None and stored.entry is not subject.model.weights[EMBEDDING].entry
    if other is None and not own_head:
        return  # a recorded run has no head to take
    yield Proposal(
        kind="config.tied_embeddings",
        role="subject",
        repair=Repair(
            overrides={KEY: False},
            patches={} if own_head or other is None else {HEAD: instead(other)},
        ),
        key=KEY,
        declared=True,
        actual=False,
        alternatives=() if own_head else ("value.missing",),
        message=f"{KEY}: the head is taken from the embedding, the reference has a head of its own",
        recommendation=write_setting(container, KEY, own, "False", "True")
        if own_head or other is None
        else f"export the head into {container.path} ({other.entry.name} of {subject.other.container.path})"
        + (
            "" if container.kind == "gguf" else f", and {write_setting(container, KEY, own, 'False', 'True')}"
        ),
        from_reference=None if own_head or other is None else f"all {other.count} weights of the head",
    )


def _untied(model: Model) -> str:
    """How a model comes to have another head than its embedding."""
    return (
        "a head of its own is stored"
        if HEAD in model.weights
        else "the config says no, and no head is stored"
    )


def _tie(model: Model) -> str:
    """Advice to make the embedding the head, as the container says that."""
    container, head = model.container, model.weights.get(HEAD)
    if container.kind == "gguf":  # which has no key for it: a head is stored or not
        return f"leave {HEAD} out of {config_file(container)}, or store the embedding as it"
    advice = write_setting(container, KEY, model.config[KEY], "True", "False")
    return advice if head is None else f"{advice}, and leave {head.entry.name} out"


def tied(model: Model) -> bool:
    """Whether a model's head is its embedding, or a copy of it by the file's own word."""
    head, embedding = model.weights.get(HEAD), model.weights.get(EMBEDDING)
    if KEY in model.config and model[KEY]:
        return True
    return head is not None and embedding is not None and head.entry is embedding.entry
