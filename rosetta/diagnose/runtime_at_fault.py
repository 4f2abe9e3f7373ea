"""Whose a cause is that was found against an observed run: the file's, or the runtime's that ran it otherwise.

The repair is imitated on our side either way. Where both files agree on what it changes, the runtime is accused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rosetta.compare.settings import agree
from rosetta.compare.weights import compare_weights
from rosetta.config import Config
from rosetta.diagnose.hypothesis import Fault, Proposal, largest
from rosetta.model import Model, build_model
from rosetta.runtimes.as_observed import stated_epsilons
from rosetta.runtimes.live import known_model, read_model, what_was_run


@dataclass(frozen=True)
class Instead:
    """What is said of the side that was observed, where the cause is its own and not our file's."""

    kind: str
    message: str
    recommendation: str


def of_observed_side(fault: Fault, proposal: Proposal) -> Instead | None:
    """What is said in place of a proven proposal where the side that was observed is at fault; None where it is not."""
    runtime = _runtime_at_fault(fault, proposal)
    if runtime is not None:
        return _in_its_words(runtime, proposal)
    file = _zeros_that_were_run(fault, proposal)
    if file is None:
        return None
    said = f"{proposal.tensor} is all zeros in {file}, where the other side's is not"
    return Instead("value.zeroed", said, f"export {proposal.tensor} of {file} again")


def _runtime_at_fault(fault: Fault, proposal: Proposal) -> str | None:
    """The runtime that computes otherwise than its file says; None where the file is otherwise itself."""
    if not fault.recorded or proposal.role != "subject":
        return None
    run = what_was_run(fault.reference.model.container)
    if run is None:
        return None
    runtime, path = run
    if path is not None and _is(fault.subject.model, path):
        return runtime
    if proposal.key is not None:
        mine = _as_stored(fault.subject.model, proposal.key).get(proposal.key)
        theirs = fault.reference.model.config.get(proposal.key)
        if mine is None or theirs is None:  # what no file says, the architecture does
            return runtime if mine is theirs else None
        return runtime if agree(proposal.key, mine.value, theirs.value) else None
    model = None if path is None else known_model(path)
    return runtime if model is not None and _alike(fault, model, proposal.tensor) else None


def _zeros_that_were_run(fault: Fault, proposal: Proposal) -> Path | None:
    """The file that was run, where it holds zeros for what takes no part in the run; None where it does not, or where
    none is at hand. A tensor without any other value is at fault by itself, whichever side is believed."""
    run = what_was_run(fault.reference.model.container) if fault.recorded else None
    if run is None or run[1] is None or proposal.kind != "value.missing" or proposal.tensor is None:
        return None
    model = read_model(run[1])
    weight = None if model is None else model.weights.get(proposal.tensor)
    return run[1] if weight is not None and len(weight.dims) > 1 and largest(weight) == 0 else None


def runs_otherwise(fault: Fault) -> str | None:
    """The runtime that was observed on the very file that we compute, so that no file is at fault; None where it was
    not, or where we cannot compute the stage."""
    if not fault.recorded or fault.outcome.reasons:
        return None
    run = what_was_run(fault.reference.model.container)
    if run is None:
        return None
    runtime, path = run
    return runtime if path is not None and _is(fault.subject.model, path) else None


def _as_stored(model: Model, key: str) -> Config:
    """The settings of a model's own file, where a repair has put one of them otherwise."""
    if key not in model.overrides:
        return model.config
    if model.architecture.seen:
        return {**model.config, **stated_epsilons(model.container)}
    return build_model(model.container).config


def _is(model: Model, path: Path) -> bool:
    """Whether a model is the one that lies at a path, however that is written."""
    own = model.container.path
    return own == path or own.resolve() == path.resolve()


def _alike(fault: Fault, model: Model, tensor: str | None) -> bool:
    """Whether the runtime's file holds what the accused one does, as far as their dtypes tell."""
    mine, theirs = fault.subject.model.weights.get(tensor or ""), model.weights.get(tensor or "")
    if mine is None or theirs is None or mine.dims != theirs.dims:
        return False
    return compare_weights(mine, theirs).state in ("identical", "within_noise")


def _in_its_words(runtime: str, proposal: Proposal) -> Instead:
    """What is said of a cause that is the runtime's."""
    if proposal.key is not None and proposal.actual is not None:
        said = f"{proposal.key} is otherwise in {runtime} than in its file: it computes as with {proposal.actual}"
    else:
        said = f"{runtime} computes otherwise than its file says, as undone by this: {proposal.message}"
    mend = f"mend it in {runtime}, where it runs this architecture: the file is not at fault"
    return Instead(proposal.kind, said, mend)
