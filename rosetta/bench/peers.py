"""What other tools' rules make of the same pair: each a fixed limit on one number of two captured runs.

Re-implemented from their sources at their default limits; the tools themselves are not run. They are given more
than they have: every stage, in one order of rows, under one name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from rosetta.errors import RosettaError
from rosetta.model import Model
from rosetta.runtimes.torch import run_stages

Rule = Callable[[Tensor, Tensor], bool]
"""(the run in question, the reference), float64 of one shape -> whether the rule raises an alarm."""


def max_difference(a: Tensor, b: Tensor) -> bool:
    """Largest absolute difference above 1e-3: paiml/aprender issue 188."""
    return not float((a - b).abs().max()) <= 1e-3


def relative_difference(a: Tensor, b: Tensor) -> bool:
    """1 - 2a·b / (a·a + b·b) above 1e-3: sglang, debug_utils/comparator."""
    return not float(1 - 2 * (a * b).sum() / (a * a + b * b).sum()) <= 1e-3


def cosine(a: Tensor, b: Tensor) -> bool:
    """Cosine similarity below 0.997: Polygraphy's comparison of distances."""
    return not float((a * b).sum() / (a.norm() * b.norm())) >= 0.997


def last_token_nmse(a: Tensor, b: Tensor) -> bool:
    """Squared error of the last token's logits over their square above 1e-2: llama.cpp, check-nmse.py."""
    return not float((a[-1] - b[-1]).square().sum() / b[-1].square().sum()) <= 1e-2


STAGE_RULES: Mapping[str, Rule] = {
    "max difference 1e-3": max_difference,
    "relative difference 1e-3": relative_difference,
    "cosine 0.997": cosine,
}
LOGITS_RULES: Mapping[str, Rule] = {"last-token NMSE 1e-2": last_token_nmse}
RULES = (*STAGE_RULES, *LOGITS_RULES)


def alarms(
    subject: Model, reference: Model, ids: Sequence[int], reference_ids: Sequence[int]
) -> dict[str, str]:
    """The stage of each rule's first alarm, `-` of a rule that names none; rules that raise none are absent.

    A stage that one side cannot compute, or computes in another shape, alarms every rule that looks at stages.

    Args:
        subject, reference: the two models.
        ids, reference_ids: what each runs: its own tokens.
    """
    found: dict[str, str] = {}
    runs = [dict(_captured(model, run)) for model, run in ((subject, ids), (reference, reference_ids))]
    for name in dict.fromkeys([*_planned(reference), *_planned(subject)]):
        a, b = (run.get(name) for run in runs)
        comparable = a is not None and b is not None and a.shape == b.shape
        for rule, raises in STAGE_RULES.items():
            if rule not in found and (not comparable or raises(a, b)):  # type: ignore[arg-type]
                found[rule] = name
    a, b = (run.get("logits") for run in runs)
    for rule, raises in LOGITS_RULES.items():
        if a is None or b is None or a.shape[-1] != b.shape[-1] or raises(a, b):
            found[rule] = "-"
    return found


def _captured(model: Model, ids: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
    """Stages up to where the run breaks off."""
    try:
        for name, value in run_stages(model, ids):
            yield name, value.to(torch.float64)
    except RosettaError:
        return


def _planned(model: Model) -> list[str]:
    return [node.name for node in model.graph]
