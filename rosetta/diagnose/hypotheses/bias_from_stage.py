"""A difference that is the same at every token: a bias missing, zero or wrong (`value.missing`, `value.zeroed`,
`value.corrupted`), read off a recorded run where no weights can be compared."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import in_memory, instead


def propose(fault: Fault) -> Iterator[Proposal]:
    """The bias that the recorded stage calls for, where a bias can explain the difference."""
    names = [name for name in fault.names() if name.endswith(".bias")]
    truth = fault.recorded_value
    if truth is None or not names:
        return
    now = fault.computed()
    if now is None or now.shape != truth.shape or len(now) < 2:
        return
    gap = (truth - now).double().flatten(1)  # [T, R]
    mean = gap.mean(0)
    if float(mean.square().sum()) * len(gap) < 0.9 * float(gap.square().sum()):
        return
    name, model = names[0], fault.subject.model
    stored = model.weights.get(name)
    values = mean if stored is None else mean + stored.values().double().to(mean)
    zero = stored is not None and float(stored.values().abs().max()) == 0
    kind = "value.missing" if stored is None else ("value.zeroed" if zero else "value.corrupted")
    state = {"value.missing": "is missing", "value.zeroed": "is zero", "value.corrupted": "differs"}[kind]
    yield Proposal(
        kind=kind,
        role="subject",
        repair=Repair(patches={name: instead(in_memory(name, values.float().cpu()))}),
        tensor=name,
        message=f"{name} {state}: the stage is off by the same vector at every token",
        recommendation=f"export {stored.entry.name if stored else name}",
        from_reference=f"{len(values)} values, read off the recorded stage",
    )
