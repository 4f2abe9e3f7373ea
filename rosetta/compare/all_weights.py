"""All weights of two models beside each other: how many are equal, which differ, which are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rosetta.compare.pair import ModelPair
from rosetta.compare.results import Side, WeightsDiff
from rosetta.compare.weight_measures import in_measures
from rosetta.compare.weights import WeightPair, describe, readable
from rosetta.model import Model
from rosetta.weight import Weight

MEASURED = 8  # weights, those that differ most, of which it is said how and where: each is decoded once more
UNRELATED = 0.2  # |cosine| of two copies below which they share no more than chance does


def compare_all_weights(pair: ModelPair, models: Mapping[Side, Model], complete: bool) -> WeightsDiff:
    """Every weight that both sides have, each counted once: a tied head is the embedding.

    Args:
        pair: the run's pair, which has compared most of them already.
        models: the sides.
        complete: compare those that no stage used as well; a run that stopped early leaves them out.
    """
    left, right = models["left"].weights, models["right"].weights
    names = list(dict.fromkeys([*right, *left]))
    tied = all(
        "output.weight" in w and w["output.weight"].entry is w["token_embd.weight"].entry
        for w in (left, right)
        if "token_embd.weight" in w
    )
    settings = {name for model in models.values() for name in model.graph.settings_tensors}
    shared = [n for n in names if n in left and n in right and not (tied and n == "output.weight")]
    found = {n: pair.weights.pair(n) for n in shared if complete or pair.weights.has(n)}
    pairs = {name: compared for name, compared in found.items() if compared is not None}
    differing = [name for name, compared in pairs.items() if compared.state == "differing"]
    measured = _measured(pair, {name: pairs[name] for name in differing})
    return WeightsDiff(
        compared=sum(left[name].dims == right[name].dims for name in pairs),
        identical_bytes=sum(compared.identical_bytes for compared in pairs.values()),
        within_noise=sum(c.state != "differing" and not c.identical_bytes for c in pairs.values()),
        differing=len(differing),
        missing_left=[name for name in right if left and name not in left and name not in settings],
        missing_right=[name for name in left if right and name not in right and name not in settings],
        differing_tensors=[
            describe(
                name,
                left[name],
                right[name],
                pairs[name],
                _difference_in_words(left[name], right[name], pairs[name]),
            ).model_copy(update=measured.get(name, {}))
            for name in differing
        ],
    )


def _measured(pair: ModelPair, differing: Mapping[str, WeightPair]) -> dict[str, dict[str, Any]]:
    """Of the weights that differ most, the fields that say how and where; two models differ everywhere."""
    a, b = pair.reference.model.weights, pair.subject.model.weights
    looked_at = [name for name, found in differing.items() if found.sampled is None]
    known = [name for name in looked_at if _measurable(a[name], b[name])]
    most = sorted(known, key=lambda name: -(differing[name].rel_rmse or 0.0))
    return {name: in_measures(a[name], b[name]) for name in most[:MEASURED]}


def _measurable(a: Weight, b: Weight) -> bool:
    """Whether both are matrices of the same dims whose bytes can be decoded."""
    return a.dims == b.dims and len(a.dims) > 1 and min(a.dims) > 0 and readable(a) and readable(b)


def _difference_in_words(left: Weight, right: Weight, pair: WeightPair) -> str:
    if left.dims != right.dims:
        return "dims differ"
    if pair.worst_block is None:
        return ""
    row, column = pair.worst_block
    said = f"worst block at row {row}, column {column}: {pair.worst_ratio:.3g} × its predicted error"
    return said if pair.sampled is None else f"{said}, of the {pair.sampled} rows that were looked at"


def strangers(weights: WeightsDiff) -> list[str]:
    """A note where most weights have nothing in common: no list of damaged tensors says that as well."""
    unrelated = sum(abs(weight.cosine or 0.0) < UNRELATED for weight in weights.differing_tensors)
    if 2 * unrelated <= weights.compared or not weights.compared:
        return []
    return [
        f"{unrelated} of {weights.compared} weights have nothing in common: these are two different models"
    ]
