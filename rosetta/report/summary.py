"""The end of the text report: the verdict in words, its causes in a table, what it rests on, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rosetta.diagnose.kinds import headline
from rosetta.report.causes import Cause, subject, turned_weight
from rosetta.report.folding import groups, layer_of, with_layers, without_layer
from rosetta.report.words import (
    SIDES,
    counted,
    largest_difference,
    number,
    place,
    setting,
    stage_place,
)

if TYPE_CHECKING:
    from rosetta.compare.results import Side, StageDiff
    from rosetta.report.report import Report, SideFacts

GIB = 2**30  # bytes


def verdict_line(report: Report) -> str:
    """The verdict in one line: `FAILED: layout mismatch at Layer 0 k`."""
    limit, compared = f"{report.threshold:g}", counted(report.compared.stages, "stage")
    match report.verdict:
        case "divergent":
            return f"FAILED: {_failure(report)}"
        case "drift":
            over = [stage for stage in report.stages if stage.status in ("drift", "carried")]
            first = f", first at {place(over[0].layer, over[0].op)}" if over else ""
            return (
                f"DRIFT: {len(over)} of {compared} over the threshold {limit}{first}{_largest(over)}; "
                "the declared dtypes explain it"
            )
        case "match":
            return f"MATCHED: {compared} within the threshold {limit}{_largest(report.stages)}"
        case "inconclusive":
            return f"INCONCLUSIVE: {report.reason}"


def summary_lines(
    report: Report, label: dict[Side, str], found: Sequence[Cause], verbosity: int
) -> list[str]:
    """The summary, from its heading to the recommendations."""
    lines = ["=== Summary ===", verdict_line(report), *_meaning(report, label)]
    lines += _causes(found, label) + _config(report, label, verbosity) + _weights(report, label, verbosity)
    if verbosity > 0:
        lines += _refuted(report) + _timing(report)
    return lines + _warnings(report, label) + _recommendations(report, found)


def _failure(report: Report) -> str:
    first = report.first_divergence
    if first is None:
        return report.reason
    if first.name == "tokens":
        return f"the token IDs differ at position {report.tokens.first_mismatch}"
    return f"{_trouble(report, first.name)} at {place(first.layer, first.op)}"


def _trouble(report: Report, name: str) -> str:
    here = [f for f in report.findings if f.evidence and f.evidence.stage == name and not f.latent]
    if here:
        return headline(here[0].kind)
    stage = next((stage for stage in report.stages if stage.name == name), None)
    if stage is None or not stage.detail.not_computable:
        return "divergence"
    return headline("layout.transposed") if turned_weight(stage, []) else "unusable weights"


def _largest(stages: Sequence[StageDiff]) -> str:
    """Where the largest difference is, as the end of a sentence."""
    worst = largest_difference(stages)
    if worst is None:
        return ""
    if worst.max_diff == 0:
        return ", every difference exactly 0"
    return f", largest max_diff {number(worst.max_diff)} at {place(worst.layer, worst.op)}"


def _meaning(report: Report, label: dict[Side, str]) -> list[str]:
    """What the verdict means, where its word does not say it all."""
    if report.verdict == "inconclusive":
        return ["  Nothing comparable was compared. That is never a pass: --assert-match exits 3."]
    if report.verdict == "drift":
        sides = "; ".join(f"{label[side]} {_dtypes(getattr(report, side))}" for side in SIDES)
        return [
            f"  Drift is what rounding the weights to the declared dtypes does, and no more ({sides}).",
            "  It passes --assert-match; --strict, or a --threshold on the command line, makes it fail.",
        ]
    faulty = sum(stage.status == "faulty" for stage in report.stages)
    if report.verdict == "match" and faulty:
        return [f"  {counted(faulty, 'stage')} beyond the predicted noise, though within the threshold."]
    return []


def _dtypes(facts: SideFacts) -> str:
    return ", ".join(
        f"{dtype} {count}" for dtype, count in sorted(facts.dtypes.items(), key=lambda item: -item[1])
    )


def _causes(found: Sequence[Cause], label: dict[Side, str]) -> list[str]:
    rows = [
        [
            label[cause.first.side],
            subject(cause) or "-",
            cause.first.kind,
            cause.said_of_all(stage_place(cause.stage)) if cause.stage else "-",
            cause.first.status + (", latent" if cause.first.latent else ""),
        ]
        for cause in found
    ]
    return _table(["side", "tensor or key", "kind", "shows at", "status"], rows)


def _config(report: Report, label: dict[Side, str], verbosity: int) -> list[str]:
    shown = [key for key in report.config if verbosity > 0 or key.status == "differs"]
    rows = [[key.key, _short(key.left), _short(key.right), key.status, key.note] for key in shown]
    return _table(["config", label["left"], label["right"], "", ""], rows)


def _short(value: object) -> str:
    text = setting(value)
    return text if len(text) <= 48 else text[:47] + "…"


def _weights(report: Report, label: dict[Side, str], verbosity: int) -> list[str]:
    weights = report.weights
    lines = [
        f"  Weights: {weights.compared} compared, {weights.identical_bytes} with identical bytes, "
        f"{weights.within_noise} within the noise of their dtypes, {weights.differing} differing"
    ]
    missing = {"left": weights.missing_left, "right": weights.missing_right}
    for side in SIDES:
        lines += [f"  Missing in {label[side]}: {name}" for name in _folded(missing[side])]
    if verbosity > 0:
        rows = [
            [
                w.name,
                w.left_dtype,
                w.right_dtype,
                w.left_dims,
                w.right_dims,
                number(w.rel_rmse),
                number(w.predicted),
                w.note,
            ]
            for w in weights.differing_tensors
        ]
        sides = [f"{label[side]} {what}" for what in ("dtype", "dims") for side in SIDES]
        lines += _table(["weight", *sides, "rel_rmse", "predicted", ""], rows)
    return lines


def _folded(names: Sequence[str]) -> list[str]:
    """Names that differ only in the layer, once each."""
    folded = []
    for group in groups(names, lambda name: without_layer(name, layer_of(name))):
        layers = sorted({layer for name in group if (layer := layer_of(name)) is not None})
        first = min(group, key=lambda name: layer_of(name) or 0)
        folded.append(with_layers(first, layers))
    return folded


def _refuted(report: Report) -> list[str]:
    rows = [
        [
            tried.kind,
            tried.tensor or tried.key or "-",
            stage_place(tried.stage),
            number(tried.before),
            number(tried.after),
        ]
        for tried in report.refuted
    ]
    return _table(["tried, and did not help", "tensor or key", "stage", "before", "after"], rows)


def _timing(report: Report) -> list[str]:
    t = report.timing
    return [
        f"  Time: load {t.load_s:.2f} s, compare {t.compare_s:.2f} s, diagnose {t.diagnose_s:.2f} s, "
        f"in all {t.total_s:.2f} s; peak memory {report.peak_rss_bytes / GIB:.2f} GiB"
    ]


def _warnings(report: Report, label: dict[Side, str]) -> list[str]:
    lines = []
    latent = [finding for finding in report.findings if finding.latent]
    if latent:
        lines.append(
            f"LATENT: {counted(len(latent), 'finding')} without a divergence on this prompt; another prompt "
            "may show it, and --strict fails on it"
        )
    nll = report.logits.nll if report.logits else None
    if nll is not None:
        cost = {"left": nll.left, "right": nll.right}
        above = [side for side in SIDES if (value := cost[side]) is not None and not value <= nll.uniform]
        if above:
            said = " and ".join(f"{label[side]} {cost[side]:.2f}" for side in above)
            doubt = f"{label[above[0]]} may be wrong"
            if len(above) == 2:
                agree = report.verdict in ("match", "drift")
                doubt = "both sides agree and both may be wrong" if agree else "both sides may be wrong"
            lines.append(
                f"WARNING: the prompt's own tokens cost {said} nats each, more than the {nll.uniform:.2f} "
                f"of guessing: {doubt}"
            )
    return lines


def _recommendations(report: Report, found: Sequence[Cause]) -> list[str]:
    said = list(dict.fromkeys(cause.said_of_all(cause.first.recommendation) for cause in found))
    if not said and report.verdict == "divergent":
        first = report.first_divergence
        where = place(first.layer, first.op) if first else "the stages"
        said = [f"look at {where} with -vv; without --no-diagnose the cause is looked for as well"]
    if report.verdict == "inconclusive":
        said.append("compare two files that hold the same model, with a prompt that both can run")
    return [f"Recommendation: {text}" for text in said]


def _table(headers: list[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table, indented; nothing where there are no rows."""
    if not rows:
        return []
    from tabulate import tabulate  # 20 ms that only a table is worth

    table = tabulate(
        [[str(cell) for cell in row] for row in rows], headers, tablefmt="simple", disable_numparse=True
    )
    return [f"  {line}".rstrip() for line in table.splitlines()]
