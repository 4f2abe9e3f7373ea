"""Another factor than the settings say, of a whole stage or of what a sum adds: a residual or an embedding factor that
is lost, values counted otherwise, a shared expert left out (`config.residual_scale`, `config.logit_scale`,
`config.expert_weights`, …), read off a recorded run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.ops.attention import Context
from rosetta.ops.chain import Chain
from rosetta.ops.edit import Edit, Exchanged, Followed, OpEdit
from rosetta.ops.experts import ExpertSum
from rosetta.ops.lookup import Embedding
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op
from rosetta.ops.pointwise import Add, Scale, Times, WeightedSum
from rosetta.settings_table import SETTINGS

DIGITS = 4  # significant ones that a factor is published with
LEFT = 1e-2  # of what a factor is to explain: what it may leave, before the engine judges it by the noise
SAME = 1e-6


def propose(fault: Fault) -> Iterator[Proposal]:
    """The factor that fits, where the stage has a setting for one, or is a shared expert's."""
    truth = fault.recorded_value if fault.settings_unknown else None
    own = None if truth is None else fault.computed()
    if own is None or truth is None or own.shape != truth.shape:
        return
    ops = fault.node.op.ops if isinstance(fault.node.op, Chain) else (fault.node.op,)
    yield from _of_setting(fault, ops[-1], own, truth)
    if isinstance(ops[0], Add) and len(ops) == 1:
        if ops[0].scale is not None:
            yield from _of_summand(fault, ops[0].scale, own, truth)
        yield from _of_sum(fault, ops[0], truth)
    if isinstance(ops[0], ExpertSum) and len(fault.node.inputs) > 2:
        yield from _of_shared(fault, ops, own, truth)
    elif _is_normed_embedding(ops) and (factor := multiple(truth, own)) is not None:
        yield _of_embedding(fault, factor)
    elif isinstance(ops[0], Context) and (factor := multiple(truth, own)) is not None:
        yield _of_values(fault, factor)
    elif _is_shared(fault) and (factor := multiple(truth, own)) is not None:
        yield _shared(factor, Followed(fault.node.stage, Times(factor)))


def multiple(truth: Tensor, of: Tensor) -> float | None:
    """The number that one is times the other; None where it is no such multiple, or the other itself."""
    a, b = truth.double().flatten(), of.double().flatten()
    squares = float(b @ b)
    factor = float(a @ b) / squares if squares else 1.0
    fits = float((a - factor * b).norm()) <= LEFT * float(b.norm())
    return _published(factor) if fits and abs(factor - 1) > SAME else None


def _published(factor: float) -> float:
    """The round number beside it, where it is as near as float32 tells."""
    short = float(f"{factor:.{DIGITS}g}")
    near = abs(short - factor) <= SAME * max(1.0, abs(factor))
    return 0.0 if abs(factor) <= SAME else short if near else factor


def _of_setting(fault: Fault, op: Op, own: Tensor, truth: Tensor) -> Iterator[Proposal]:
    """The last factor of a stage."""
    if isinstance(op, Scale) and (factor := multiple(truth, own)):
        yield from _with(fault, op.by, 1 / factor if op.inverse else factor)


def _of_summand(fault: Fault, key: str, own: Tensor, truth: Tensor) -> Iterator[Proposal]:
    """The factor of what a sum adds to its first input."""
    first = fault.input()
    if first is not None and first.shape == own.shape:
        factor = multiple(truth.double() - first, own.double() - first)
        if factor is not None:
            yield from _with(fault, key, factor)


def _of_sum(fault: Fault, op: Add, truth: Tensor) -> Iterator[Proposal]:
    """Factors of a residual sum that no setting says: the stream is lost, or what is added."""
    given = [fault.input(place) for place in range(len(fault.node.inputs))]
    columns = [x.double().flatten() for x in given if x is not None and x.shape == truth.shape]
    if len(columns) < max(len(given), 2):
        return
    terms, y = torch.stack(columns, -1), truth.double().flatten()
    if float(torch.linalg.cond(terms)) > 1 / SAME:  # a term is the others' sum
        return
    fitted = torch.linalg.lstsq(terms, y).solution
    factors = tuple(_published(float(factor)) for factor in fitted)
    settings = fault.subject.model.settings_of(fault.layer)
    scale = 1.0 if op.scale is None else float(settings[op.scale])
    own = (1.0, *(scale for _ in columns[1:]))
    changed = max(abs(factor - stated) for factor, stated in zip(factors, own, strict=True)) > SAME
    if not changed or float((y - terms @ fitted).norm()) > LEFT * float(y.norm()):
        return
    names = [name.rpartition(".")[2] for name in fault.node.inputs]
    stated, found = _sum_in_words(names, own), _sum_in_words(names, factors)
    yield Proposal(
        kind="config.residual_scale",
        role="subject",
        repair=Repair(operations=(Exchanged(fault.node.stage, op, WeightedSum(factors)),)),
        message=f"{fault.node.stage} is {stated}, in what was recorded it is {found}",
        recommendation=f"add {' and '.join(names)} as the architecture does",
        key=fault.node.stage,
        declared=stated,
        actual=found,
    )


def _sum_in_words(names: Sequence[str], factors: Sequence[float]) -> str:
    """`residual + 0.5 · attn_out`; what is counted 0 times is left out."""
    terms = [name if f == 1 else f"{f:g} · {name}" for name, f in zip(names, factors, strict=True) if f]
    return " + ".join(terms) or "0"


def _with(fault: Fault, key: str, factor: float) -> Iterator[Proposal]:
    """A setting times a factor; what is read by layers is no one number."""
    stated = fault.subject.model.config.get(key)
    if stated is not None and isinstance(stated.value, int | float) and SETTINGS[key].kind is not None:
        value = _published(float(stated.value) * factor)
        yield setting_proposal(fault, key, stated, value)


def _is_normed_embedding(ops: Sequence[Op]) -> bool:
    """Whether the rows of the tokens end in a norm without a weight: no tensor can be what is scaled."""
    return isinstance(ops[0], Embedding) and isinstance(ops[-1], Norm) and ops[-1].stem is None


def _of_embedding(fault: Fault, factor: float) -> Proposal:
    """The factor of an embedding, where the architecture has none."""
    return Proposal(
        kind="config.embedding_scale",
        role="subject",
        repair=Repair(operations=(Followed(fault.node.stage, Times(factor)),)),
        message=f"the embedding is taken as it is normed, in what was recorded it is times {factor:g}",
        recommendation="take the embedding as its norm gives it",
        key="embedding_scale",
        declared=1.0,
        actual=factor,
    )


def _of_values(fault: Fault, factor: float) -> Proposal:
    """The factor of the values of attention, where the architecture has none."""
    key, stage = "attention.value_scale", fault.node.stage
    return Proposal(
        kind="config.attention_scale",
        role="subject",
        repair=Repair(operations=(Followed(stage, Times(factor)),)),
        message=f"{key} is 1, what was recorded was computed with {factor:g}",
        recommendation="attend to the values as they are",
        key=key,
        declared=1.0,
        actual=factor,
    )


def _of_shared(fault: Fault, ops: tuple[Op, ...], own: Tensor, truth: Tensor) -> Iterator[Proposal]:
    """The shared expert's part of the sum of experts."""
    without = OpEdit(ExpertSum, (("shared_by", 0.0),))
    rest = fault.computed(Repair(operations=(without,)))
    if rest is None:
        return
    factor = multiple(truth.double() - rest, own.double() - rest)
    if factor is not None:
        yield _shared(factor, OpEdit(ExpertSum, (("shared_by", factor),)))


def _is_shared(fault: Fault) -> bool:
    """Whether a sum of experts adds the stage to them."""
    for node in fault.pair.subject.graph:
        op = node.op.ops[0] if isinstance(node.op, Chain) else node.op
        if isinstance(op, ExpertSum) and fault.stage in node.inputs[2:]:
            return True
    return False


def _shared(factor: float, edit: Edit) -> Proposal:
    how = "left out" if factor == 0 else f"counted {factor:g} times"
    return Proposal(
        kind="config.expert_weights",
        role="subject",
        repair=Repair(operations=(edit,)),
        message=f"the shared expert is added once, in what was recorded it is {how}",
        recommendation="add the shared expert to the others, once",
        key="expert_shared_weight",
        declared=1.0,
        actual=factor,
    )
