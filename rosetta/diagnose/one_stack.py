"""What the experts of one stack have in common is one finding of the stack, and so is one order that several stacks of
a layer have; heads that lie in a stack likewise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rosetta.compare.results import Evidence, Finding, Side
from rosetta.diagnose.one_cause import OTHERS, said_of
from rosetta.diagnose.words import listed
from rosetta.model import Model

MEMBER = re.compile(r"(blk\.\d+\.\w+)\.(\d+)\.(weight|bias)$")
MANY = 4  # of a larger stack: fewer may each have a cause of their own
ORDER = "layout.expert_order"
COUNTED = re.compile(r"(\d+) of (\d+) ")  # how evidence begins: what was taken from the reference


def of_stacks(findings: Sequence[Finding], models: Mapping[Side, Model]) -> list[Finding]:
    """The findings, those of all or many members of a stack in one, and those of one order in one.

    Args:
        findings: in the order of depth.
        models: both sides, which say how large a stack is.
    """
    instead: dict[int, Finding | None] = {}
    for found in _together(findings):
        stack = stack_of(found[0].tensor)
        one = _of_order(found) if stack is None else _of_stack(stack, models, found)
        if one is not None:
            instead |= {id(finding): None for finding in found} | {id(found[0]): one}
    told = (instead.get(id(finding), finding) for finding in findings)
    return [finding for finding in told if finding is not None]


def stack_of(tensor: str | None) -> str | None:
    """The stack that a weight is a member of, `blk.1.ffn_up_exps.weight` of `blk.1.ffn_up_exps.7.weight`; None where it
    is of none.

    >>> stack_of("blk.1.ffn_up_exps.7.weight")
    'blk.1.ffn_up_exps.weight'
    >>> stack_of("blk.1.ffn_up.weight")
    """
    member = MEMBER.match(tensor or "")
    return None if member is None else f"{member[1]}.{member[3]}"


def _together(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Several findings of one kind each that are of one stack, or of stacks of one layer in one order."""
    marked: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        of_whom = (finding.kind, finding.side, finding.layer, finding.status, *finding.alternatives)
        stack = stack_of(finding.tensor)
        if stack is not None and finding.partner is None:
            marked.setdefault((*of_whom, stack), []).append(finding)
        elif finding.kind == ORDER and stack is None:
            marked.setdefault((*of_whom, said_of(finding)), []).append(finding)
    # Where other weights of the layer are another model's as well, all of them are one finding of the layer.
    layers = [(f.side, f.layer, stack_of(f.tensor) or f.tensor) for f in findings if f.kind == OTHERS]
    return [
        found
        for found in marked.values()
        if len(found) > 1
        and (
            found[0].kind != OTHERS
            or {mark[2] for mark in layers if mark[:2] == (found[0].side, found[0].layer)}
            == {stack_of(found[0].tensor)}
        )
    ]


def _of_stack(stack: str, models: Mapping[Side, Model], found: Sequence[Finding]) -> Finding | None:
    """One finding of a stack in place of those of its members; None where these are few of many."""
    # The side that is accused may lack them.
    size = max(sum(stack_of(name) == stack for name in model.weights) for model in models.values())
    if len(found) < min(size, MANY):
        return None
    first, things = found[0], "experts" if "_exps." in stack else "heads"
    numbers = sorted(int(_member(finding)) for finding in found)
    which = f"all {size} {things}" if len(found) == size else f"{things} {listed(numbers)} of {size}"
    own = {(finding.left_name, finding.right_name) for finding in found}
    said = {said_of(finding) for finding in found}
    what, likewise = f"{stack}{said_of(first)}", ""
    if len(said) > 1:
        comma = "" if said_of(first).startswith(":") else ","
        what = f"{stack}, {things[:-1]} {_member(first)}{comma}{said_of(first)}"
        likewise = ", each by figures of its own"
    stored = _names_of(models[first.side], found)
    return first.model_copy(
        update={
            "tensor": stack,
            "left_name": first.left_name if len({left for left, _ in own}) == 1 else None,
            "right_name": first.right_name if len({right for _, right in own}) == 1 else None,
            "declared": first.declared if len({str(f.declared) for f in found}) == 1 else None,
            "actual": first.actual if len({str(f.actual) for f in found}) == 1 else None,
            "message": f"{what}; so it is in {which}{likewise}",
            "recommendation": first.recommendation
            + ("" if stored == 1 else f"; likewise the tensors of the other {things}"),
            "latent": all(finding.latent for finding in found),
            "evidence": _evidence(found),
        }
    )


def _of_order(found: Sequence[Finding]) -> Finding:
    """One finding of all stacks of a layer that are in one order, in place of one for each."""
    first = found[0]
    others = listed(finding.tensor for finding in found[1:])
    return first.model_copy(
        update={
            "message": f"{first.message}; so it is in {others}",
            "recommendation": f"{first.recommendation}; {others} likewise",
            "latent": all(finding.latent for finding in found),
            "evidence": _evidence(found),
        }
    )


def _evidence(found: Sequence[Finding]) -> Evidence | None:
    """The proof of the one that the repair brought back least, with all that was taken from the reference."""
    proofs = [finding.evidence for finding in found if finding.evidence is not None]
    if not proofs:
        return None
    taken = [COUNTED.match(proof.from_reference or "") for proof in proofs]
    worst = max(proofs, key=lambda proof: (proof.ratio_after or 0.0, proof.after or 0.0))
    if not all(taken) or len(taken) < len(found):
        return worst
    some, whole = (sum(int(count[n]) for count in taken if count is not None) for n in (1, 2))
    return worst.model_copy(update={"from_reference": f"{some} of {whole} weights"})


def _names_of(model: Model, found: Sequence[Finding]) -> int:
    """In how many tensors of the file the members lie that are found to have something."""
    stored = [model.weights.get(str(finding.tensor)) for finding in found]
    return len({weight.entry.name for weight in stored if weight is not None}) or 1


def _member(finding: Finding) -> str:
    member = MEMBER.match(str(finding.tensor))
    return "" if member is None else member[2]
