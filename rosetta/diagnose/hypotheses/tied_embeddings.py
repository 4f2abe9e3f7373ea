"""A head taken for the embedding that is not, or stored where the embedding serves (`config.tied_embeddings`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import instead
from rosetta.model import Model

KEY, HEAD, EMBEDDING = "tied_embeddings", "output.weight", "token_embd.weight"


def propose(fault: Fault) -> Iterator[Proposal]:
    """Tie the subject's head as the reference's is, or untie it."""
    subject = fault.subject
    if (
        fault.stage != "logits"
        or tied(subject.model) == tied(subject.other)
        or KEY not in subject.model.config
    ):
        return
    other = subject.other.weights.get(HEAD)
    container, spelled = subject.model.container, subject.model.config[KEY].key or KEY
    if not tied(subject.model):
        yield Proposal(
            kind="config.tied_embeddings",
            role="subject",
            repair=Repair(overrides={KEY: True}),
            key=KEY,
            declared=False,
            actual=True,
            message=f"{KEY}: a head of its own is stored, the reference's head is the embedding",
            recommendation=f"leave the head out of the {container.label} file, or store the embedding as its head",
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
        recommendation=f"write {spelled} false"
        if own_head or other is None
        else f"export the head ({other.entry.name} of the other file)",
        from_reference=None if own_head or other is None else f"all {other.count} weights of the head",
    )


def tied(model: Model) -> bool:
    """Whether a model's head is its embedding, or a copy of it by the file's own word."""
    head, embedding = model.weights.get(HEAD), model.weights.get(EMBEDDING)
    if KEY in model.config and model[KEY]:
        return True
    return head is not None and embedding is not None and head.entry is embedding.entry
