"""The end of the text report: the verdict in words, its causes in a table, what it rests on, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rosetta.compare.pairing import other_side
from rosetta.diagnose.kinds import headline
from rosetta.report.causes import Cause, advice, diagnosis, explanation, proof, subject, turned_weight
from rosetta.report.folding import folded
from rosetta.report.table import table
from rosetta.report.words import (
    SIDES,
    counted,
    number,
    of_size,
    place,
    ratio_over_noise,
    setting,
    sided,
    stage_place,
    worst_against_noise,
    worst_for_its_size,
)

if TYPE_CHECKING:
    from rosetta.compare.results import LocalError, Side, StageDiff
    from rosetta.report.report import Report, SideFacts
    from rosetta.report.view import View

GIB = 2**30  # bytes
SHOWN = 6  # stages that a line names


def verdict_line(report: Report) -> str:
    """The verdict in one line: `FAILED: layout mismatch at Layer 0 k; 1 latent finding`.

    A fault that is proven and does not show on this prompt is named: the line may begin with MATCHED.
    """
    latent = [finding for finding in report.findings if finding.latent]
    proven = [finding for finding in latent if finding.status == "confirmed"]
    line = _verdict(report)
    if proven:
        named = proven[0].tensor or proven[0].key
        where = (f" in {named}" if named else "") + (
            f" and {len(proven) - 1} more" if len(proven) > 1 else ""
        )
        line += f"; proven, without a divergence on this prompt: {headline(proven[0].kind)}{where}"
    return line + (f"; {counted(len(latent), 'latent finding')}" if latent else "")


def _verdict(report: Report) -> str:
    limit, compared = f"{report.threshold:g}", counted(report.compared.stages, "stage")
    match report.verdict:
        case "divergent":
            return f"FAILED: {_failure(report)}"
        case "drift":
            over = [stage for stage in report.stages if stage.status in ("drift", "carried")]
            first = f", first at {place(over[0].layer, over[0].op)}" if over else ""
            faulty = _faulty(report)
            explained = f"all but {counted(faulty, 'stage')} within the threshold" if faulty else "it"
            return (
                f"DRIFT: {len(over)} of {compared} over the threshold {limit}{first}{_worst(report.stages)}; "
                f"the declared dtypes explain {explained}"
            )
        case "match":
            return f"MATCHED: {compared} within the threshold {limit}{_worst(report.stages)}"
        case "inconclusive":
            return f"INCONCLUSIVE: {report.reason}"
        case "error":
            return f"ERROR: {report.reason}"


def summary_lines(report: Report, label: dict[Side, str], found: Sequence[Cause], view: View) -> list[str]:
    """The summary, from its heading on: what fails first, what is latent last."""
    shown = [cause for cause in found if not cause.first.latent]
    latent = [cause for cause in found if cause.first.latent]
    lines = ["=== Summary ===", verdict_line(report), *_meaning(report, label)]
    lines += _believed(report, label) + _causes(shown, label, view) + witness_lines(report, label)
    lines += _config(report, label, view) + _next_token(report, label, view) + _weights(report, label, view)
    lines += fetched_lines(report, label)
    if view.verbosity > 0:
        lines += _refuted(report, view) + _timing(report)
    return lines + _warnings(report, label) + _recommendations(report, shown) + _latent(latent, label)


def fetched_lines(report: Report, label: dict[Side, str]) -> list[str]:
    """For each side that lies elsewhere, how much of it came over the network, and what it is pinned to."""
    lines = []
    for side in SIDES:
        facts: SideFacts = getattr(report, side)
        if (far := facts.remote) is None:
            continue
        pinned = f", commit {far.revision}" if far.revision else ""
        if far.versions:
            first, others = next(iter(far.versions.values())), len(far.versions) - 1
            pinned = f", pinned to {first}" + (f" and {counted(others, 'other version')}" if others else "")
        asked = counted(far.requests, "request")
        lines.append(
            f"  Fetched of {label[side]}: {far.fetched_bytes:,} of {facts.file_bytes:,} bytes in {asked}{pinned}"
        )
    return lines


def _failure(report: Report) -> str:
    first = report.first_divergence
    if first is None:
        return report.reason
    if first.name == "tokens":
        return f"the token IDs differ at position {report.tokens.first_mismatch}"
    sides = report.left.architecture, report.right.architecture
    unlike = f"{sides[0]} and {sides[1]} are different architectures: " if sides[0] != sides[1] else ""
    return f"{unlike}{_trouble(report, first.name)} at {place(first.layer, first.op)}"


def _trouble(report: Report, name: str) -> str:
    here = [f for f in report.findings if f.evidence and f.evidence.stage == name and not f.latent]
    if here:
        return headline(here[0].kind)
    stage = next((stage for stage in report.stages if stage.name == name), None)
    if stage is None or not stage.detail.not_computable:
        return "divergence"
    return headline("layout.transposed") if turned_weight(stage, []) else "unusable weights"


def _worst(stages: Sequence[StageDiff]) -> str:
    """Which stage is worst against its prediction, as the end of a sentence."""
    measured = [stage for stage in stages if stage.max_diff is not None]
    if measured and all(stage.max_diff == 0 for stage in measured):
        return ", every difference exactly 0"
    worst, largest = worst_against_noise(stages), worst_for_its_size(stages)
    said = ""
    if largest is not None:
        said = f", largest difference {of_size(largest.rel)} at {place(largest.layer, largest.op)}"
    if worst is None or worst.local is None:
        return said
    return f"{said}, worst against its prediction {place(worst.layer, worst.op)} ({_figure(worst.local)})"


def _figure(local: LocalError) -> str:
    return f"local error {ratio_over_noise(local.worst_ratio)}"


def _believed(report: Report, label: dict[Side, str]) -> list[str]:
    """The verdict as the JSON report spells it, and which side is taken to be right where that decides anything."""
    verdict = f"  Verdict: {report.verdict}."
    if report.verdict in ("match", "inconclusive") and not report.findings:
        return [verdict]
    who = f"{verdict} {label[report.reference]} ({report.reference}) is believed"
    if getattr(report, report.reference).runtime == "trace":
        return [f"{who}: it is a recorded run."]
    return [f"{who}; --reference {other_side(report.reference)} turns it round."]


def _meaning(report: Report, label: dict[Side, str]) -> list[str]:
    """What the verdict means, where its word does not say it all."""
    if report.verdict == "inconclusive":
        what = (
            "No stage was compared, only what the files hold"
            if report.compared.weights
            else "Nothing comparable was compared"
        )
        return [f"  {what}. That is never a pass: --assert-match exits 3."]
    if report.verdict == "drift":
        sides = "; ".join(f"{label[side]} {_dtypes(getattr(report, side))}".rstrip() for side in SIDES)
        rounds = "rounding the weights to the declared dtypes does"
        if any(finding.kind == "runtime.precision" for finding in report.findings):
            rounds = (
                "rounding does, of the weights to the declared dtypes and in the runtime's own arithmetic"
            )
        return [
            f"  Drift is what {rounds}, and no more ({sides}).",
            *_within_threshold(report),
            "  It passes --assert-match; --fail-on drift, or a --threshold on the command line, makes it fail.",
        ]
    return _within_threshold(report) if report.verdict == "match" else []


def _within_threshold(report: Report) -> list[str]:
    faulty = _faulty(report)
    return [f"  {counted(faulty, 'stage')} beyond the predicted noise, though within the threshold."] * bool(
        faulty
    )


def _faulty(report: Report) -> int:
    return sum(stage.status == "faulty" for stage in report.stages)


def _dtypes(facts: SideFacts) -> str:
    return ", ".join(
        f"{dtype} {count}" for dtype, count in sorted(facts.dtypes.items(), key=lambda item: -item[1])
    )


def _causes(found: Sequence[Cause], label: dict[Side, str], view: View) -> list[str]:
    rows = [
        [
            label[cause.first.side],
            subject(cause) or "-",
            cause.first.kind,
            cause.said_of_all(stage_place(cause.stage)) if cause.stage else "-",
            cause.first.status,
        ]
        for cause in found
    ]
    return table(["side", "tensor or key", "kind", "shows at", "status"], rows, view.width)


def witness_lines(report: Report, label: dict[Side, str]) -> list[str]:
    """What the witness says, a line for each side that it agrees with."""
    if report.witness is None:
        return []
    who = f"  Witness {report.witness.operand}"
    if not report.witness.stages:
        return [f"{who}: has nothing to say, no stage is at fault."]
    at: dict[str, list[str]] = {}
    for word in report.witness.stages:
        said = "cannot say" if word.agrees is None else f"agrees with {sided(word.agrees, label)}"
        at.setdefault(said, []).append(stage_place(word.stage))
    return [
        f"{who} {said} at {', '.join(places[:SHOWN])}{' …' if len(places) > SHOWN else ''}"
        for said, places in at.items()
    ]


def _config(report: Report, label: dict[Side, str], view: View) -> list[str]:
    shown = [key for key in report.config if view.verbosity > 0 or key.status == "differs"]
    rows = [[key.key, _short(key.left), _short(key.right), key.status, key.note] for key in shown]
    return table(["config", label["left"], label["right"], "", ""], rows, view.width)


def _next_token(report: Report, label: dict[Side, str], view: View) -> list[str]:
    """What both sides would say next, and how far apart they are in it; with `-vv` the five best of each."""
    logits = report.logits
    if logits is None or not (logits.left_top and logits.right_top):
        return []
    tops = {"left": logits.left_top, "right": logits.right_top}
    best = ", ".join(f"{label[side]} {tops[side][0].id} {_piece(tops[side][0].token)}" for side in SIDES)
    same = {True: " ✓", False: " (another token)", None: ""}[logits.argmax_match]
    numbers = "" if logits.kl is None else f", KL={logits.kl:.2e}"
    lost = next(
        (stage for stage in report.stages if stage.status == "faulty" and stage.max_diff is None), None
    )
    if lost is not None and logits.argmax_match:  # no merit of theirs
        same = f" (both go on from one value behind {place(lost.layer, lost.op)})"
    lines = [f"  Next token: {best}{numbers}{same}"]
    if view.verbosity > 1:
        for side in SIDES:
            five = ", ".join(f"{top.id} {_piece(top.token)} {top.logit:.4f}" for top in tops[side][:5])
            lines.append(f"  {label[side]} top 5: {five}")
    return lines


def _piece(token: str | None) -> str:
    return "" if token is None else repr(token)


def _short(value: object) -> str:
    text = setting(value)
    return text if len(text) <= 48 else text[:47] + "…"


def _weights(report: Report, label: dict[Side, str], view: View) -> list[str]:
    weights = report.weights
    looked_at = weights.identical_bytes + weights.within_noise + weights.differing  # some have other dims
    lines = [
        f"  Weights: {looked_at} compared, {weights.identical_bytes} with identical bytes, "
        f"{weights.within_noise} within the noise of their dtypes, {weights.differing} differing"
    ]
    missing = {"left": weights.missing_left, "right": weights.missing_right}
    for side in SIDES:
        lines += [f"  Missing in {label[side]}: {name}" for name in folded(missing[side])]
    if view.verbosity > 0 or not report.compared.stages:  # then weights are all there is to see
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
        lines += table(["weight", *sides, "rel_rmse", "predicted", ""], rows, view.width)
    return lines


def _refuted(report: Report, view: View) -> list[str]:
    rows = [
        [
            tried.kind,
            tried.tensor or tried.key or "-",
            stage_place(tried.stage),
            number(tried.before),
            tried.why or number(tried.after),
        ]
        for tried in report.refuted
    ]
    return table(["tried, and did not help", "tensor or key", "stage", "before", "after"], rows, view.width)


def _timing(report: Report) -> list[str]:
    t = report.timing
    return [
        f"  Time: load {t.load_s:.2f} s, compare {t.compare_s:.2f} s, diagnose {t.diagnose_s:.2f} s, "
        f"in all {t.total_s:.2f} s; peak memory {report.peak_rss_bytes / GIB:.2f} GiB"
    ]


def _warnings(report: Report, label: dict[Side, str]) -> list[str]:
    lines = []
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
    said = advice(found)
    if not said and report.verdict == "divergent":
        first = report.first_divergence
        where = place(first.layer, first.op) if first else "the stages"
        said = [f"look at {where} with -vv; without --no-diagnose the cause is looked for as well"]
    if report.verdict == "inconclusive" and report.compared.weights:
        said.append(
            "run the model as an architecture that is near its own, with --as; the notes say which are run"
        )
    elif report.verdict == "inconclusive":
        said.append("compare two files that hold the same model, with a prompt that both can run")
    return [f"Recommendation: {text}" for text in said]


def _latent(found: Sequence[Cause], label: dict[Side, str]) -> list[str]:
    """What does not show on this prompt, each with its proof and advice, after everything that does."""
    if not found:
        return []
    count = counted(sum(len(cause.findings) for cause in found), "finding")
    lines = [
        f"LATENT: {count} without a divergence on this prompt; another prompt may show it, and --fail-on latent "
        "fails on it"
    ]
    for cause in found:
        lines.append(f"  {cause.first.kind}: {diagnosis(cause, label)}")
        said = (proof(cause), explanation(cause))
        lines += [
            f"     {name}{text}" for name, text in zip(("proof: ", ""), said, strict=True) if text is not None
        ]
        lines.append(f"     Recommendation: {cause.said_of_all(cause.first.recommendation)}")
    return lines
