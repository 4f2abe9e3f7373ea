"""Findings in words: folded over layers, each with its diagnosis, its proof and what to do."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.report.folding import folded, groups, with_layers, without_layer
from rosetta.report.words import number, prediction, ratio_over_noise, setting, stage_place

if TYPE_CHECKING:
    from rosetta.compare.results import Evidence, Finding, Side, StageDiff

TRANSPOSED = ("layout.transposed", "layout.dims_swapped")
"""Kinds whose weight is stored [in, out]."""


@dataclass(frozen=True)
class Cause:
    """Findings that differ only in the layer, ascending; most causes are one finding."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The finding of the first layer."""
        return self.findings[0]

    @property
    def stage(self) -> str | None:
        """The stage at which the first finding was found; None without evidence."""
        return self.first.evidence.stage if self.first.evidence else None

    @property
    def stages(self) -> list[str]:
        """The stages at which its findings were found."""
        return [finding.evidence.stage for finding in self.findings if finding.evidence]

    def said_of_all(self, text: str) -> str:
        """Text about the first finding, said of all of them."""
        return with_layers(text, [f.layer for f in self.findings if f.layer is not None])


def causes(findings: Sequence[Finding]) -> list[Cause]:
    """Findings folded: those that differ only in the layer are one cause."""
    return [
        Cause(tuple(sorted(group, key=lambda f: -1 if f.layer is None else f.layer)))
        for group in groups(findings, _same_but_layer)
    ]


def subject(cause: Cause) -> str:
    """The tensor or key concerned: `blk.{0..27}.attn_q.weight`; empty where there is neither."""
    return cause.said_of_all(cause.first.tensor or cause.first.key or "")


def diagnosis(cause: Cause, label: dict[Side, str]) -> str:
    """One sentence: whose tensor or key, under both its names, and what is wrong with it."""
    finding, name = cause.first, subject(cause)
    own = finding.left_name if finding.side == "left" else finding.right_name
    own = cause.said_of_all(own) if own else None
    named = f"{label[finding.side]} {name}" + (f" ({own})" if own and own != name else "") if name else ""
    wrong = _message(cause)[0]
    also = f"; or {' or '.join(finding.alternatives)}, which this prompt cannot tell apart"
    doubt = " (suspected, not proven)" if finding.status == "suspected" else ""
    joined = named + wrong if wrong.startswith(":") else f"{named} {wrong}".lstrip()
    return joined + (also if finding.alternatives else "") + doubt


def explanation(cause: Cause) -> str | None:
    """What the message of a cause says beyond its first clause; None where that is all."""
    return _message(cause)[1]


def _message(cause: Cause) -> tuple[str, str | None]:
    """The message without the name that it begins with: its first clause, and what follows a colon."""
    rest = cause.said_of_all(cause.first.message).removeprefix(subject(cause)).lstrip()
    colon = ": " if rest.startswith(":") else ""
    clause, _, more = rest.removeprefix(colon.strip()).lstrip().partition(": ")
    return colon + clause, more or None


def advice(found: Sequence[Cause]) -> list[str]:
    """What to do, each once: of tensors that want the same, in one sentence with all their names."""
    said: dict[tuple[str, str], list[str]] = {}
    for cause in found:
        text, layer, own = cause.first.recommendation, cause.first.layer, _own_name(cause.first)
        rest = text if own is None else text.replace(own, "\0")
        if own is None or without_layer(rest, layer) != rest:  # it speaks of the layer elsewhere too
            said.setdefault(("", cause.said_of_all(text)), [])
        else:
            said.setdefault((cause.first.kind, rest), []).extend(
                _own_name(finding) or own for finding in cause.findings
            )
    return [text.replace("\0", ", ".join(folded(names))) for (_, text), names in said.items()]


def _own_name(finding: Finding) -> str | None:
    """The name that a finding's advice calls its tensor by; None where it names none."""
    names = (finding.left_name, finding.right_name, finding.tensor)
    return max((name for name in names if name and name in finding.recommendation), key=len, default=None)


def proof(cause: Cause) -> str | None:
    """What rerunning the stage with the repair showed; None where nothing was rerun.

    Of several layers, the one that the repair brought back least. The figure that decided comes first.
    """
    measured = [(f, f.evidence) for f in cause.findings if f.evidence and f.evidence.after is not None]
    if not measured:
        return None
    finding, evidence = max(measured, key=lambda pair: (pair[1].ratio_after or 0.0, pair[1].after or 0.0))
    where = (
        stage_place(evidence.stage).split()[-1] if finding.layer is not None else stage_place(evidence.stage)
    )
    each = f" in each of {len(cause.findings)} layers" if len(cause.findings) > 1 else ""
    taken = f"; taken from the reference: {evidence.from_reference}" if evidence.from_reference else ""
    if finding.kind.startswith("tokenizer."):
        return f"{where} with the repair: the token IDs {'agree' if evidence.after == 0 else 'differ'}{taken}"
    return f"{where} computed with {_repair(finding)}{each}, {_measured(evidence)}{taken}"


def turned_weight(stage: StageDiff, found: Sequence[Cause]) -> tuple[Side, str] | None:
    """The side and the weight of a stage that are stored the other way round, where that is known.

    Args:
        stage: the stage that uses the weight.
        found: the causes found at it; without one, dims that are swapped and cannot be used say it as well.
    """
    for finding in (finding for cause in found for finding in cause.findings):
        here = finding.evidence is None or finding.evidence.stage == stage.name
        if here and finding.kind in TRANSPOSED and finding.tensor is not None and not finding.latent:
            return finding.side, finding.tensor
    for name, left, right in stage.detail.weight_dims:
        if left is not None and right is not None and len(left) == 2 and left == right[::-1] != right:
            for side in stage.detail.not_computable:
                return side, name
    return None


def _measured(evidence: Evidence) -> str:
    metric = "local difference" if evidence.metric == "local_max_diff" else evidence.metric.replace("_", " ")
    predicted = "" if evidence.predicted is None else f" (predicted {prediction(evidence.predicted)})"
    before = "" if evidence.before is None else f", without it {number(evidence.before)}"
    if evidence.ratio_after is None or not evidence.after:  # nothing left: the difference itself says it all
        return f"{metric} {number(evidence.after)}{predicted}{before}"
    then = "" if evidence.ratio_before is None else f", without it {ratio_over_noise(evidence.ratio_before)}"
    return f"local error {ratio_over_noise(evidence.ratio_after)}{then}"


def _repair(finding: Finding) -> str:
    if finding.kind in TRANSPOSED:
        return "the transpose"
    if finding.kind == "dtype.mislabeled" and finding.actual is not None:
        return f"the bytes read as {finding.actual}"
    if finding.key is not None and isinstance(finding.actual, (int, float, str)):
        return f"{finding.key} = {setting(finding.actual)}"
    return "the repair"


def _same_but_layer(finding: Finding) -> Hashable:
    texts = (
        finding.tensor, finding.partner, finding.left_name, finding.right_name,
        finding.message, finding.recommendation, finding.evidence and finding.evidence.stage,
    )  # fmt: skip
    return (
        finding.kind, finding.side, finding.key, finding.status, finding.latent, finding.layer is None,
        tuple(finding.alternatives), str(finding.declared), str(finding.actual),
        *(without_layer(text, finding.layer) if text else None for text in texts),
    )  # fmt: skip
