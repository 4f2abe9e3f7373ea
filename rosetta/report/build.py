"""A finished comparison as the typed report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from rosetta import __version__
from rosetta.compare.options import DEFAULT_THRESHOLD, LIVE, live
from rosetta.compare.results import Compared, Side, TokensDiff, WeightsDiff
from rosetta.compare.verdict import first_divergence
from rosetta.containers import Container, open_container
from rosetta.diagnose.comparison import Comparison
from rosetta.digests import Digests, is_small
from rosetta.errors import without_secrets
from rosetta.model import Model
from rosetta.report.exit_code import USAGE
from rosetta.report.fingerprint import header_sha256, read_sha256, tensors_sha256, whole_sha256
from rosetta.report.report import Asked, Assertion, RemoteFacts, Report, RunFacts, SideFacts, Timing, Tool
from rosetta.sources import RemotePath
from rosetta.system import peak_memory

Detail = Literal["summary", "stages", "tokens"]


def build_report(
    comparison: Comparison,
    detail: Detail = "tokens",
    run: RunFacts | None = None,
    *,
    hashed: bool = False,
    of_read: bool = True,
    digests: Digests | None = None,
) -> Report:
    """The report of a comparison, with the process's peak memory as of now.

    Args:
        comparison: what was found.
        detail: how much of the stages is to be written.
        run: the run of the program, where it is one.
        hashed: whether to read both operands whole once more, for their SHA-256 and that of each tensor; small ones
            are without being asked, and of others the tensors that were read anyway, if `of_read`.
        of_read: whether anyone will see those.
        digests: those that were begun by the comparison.
    """
    c, options = comparison, comparison.options
    whole = hashed or all(is_small(model.container) for model in c.models.values())
    read: Mapping[Side, dict[str, str]] = {} if whole or not of_read else read_sha256(c.read, digests)
    return Report(
        tool=Tool(version=__version__),
        verdict=c.verdict,
        reason=c.reason,
        left=_facts(c, "left", hashed, read.get("left")),
        right=_facts(c, "right", hashed, read.get("right")),
        reference=options.reference,
        prompt=c.prompt,
        threshold=options.threshold,
        tokens=c.tokens,
        config=c.config,
        weights=c.weights,
        stages=c.stages,
        first_divergence=first_divergence(c.verdict, c.tokens, c.stages),
        findings=c.findings,
        refuted=c.refuted,
        logits=c.logits,
        compared=c.compared,
        timing=Timing(
            load_s=c.load_s,
            compare_s=max(0.0, c.total_s - c.load_s - c.diagnose_s),
            diagnose_s=c.diagnose_s,
            total_s=c.total_s,
        ),
        peak_rss_bytes=peak_memory(),
        notes=c.notes,
        witness=c.witness,
        options=Asked(
            threshold_is_explicit=options.threshold_is_explicit,
            stop_at_first=options.stop_at_first,
            diagnose=options.diagnose,
            left_device=options.left_device,
            right_device=options.right_device,
            dtype=options.dtype,
            runtime_options=dict(options.runtime_options),
            run_as=options.run_as,
            detail=detail,
        ),
        run=run,
    )


def error_report(
    operands: Mapping[Side, str],
    message: str,
    run: RunFacts | None,
    prompt: str | None = None,
    tokens: Sequence[int] = (),
) -> Report:
    """A report that says why there was no comparison: what a job reads must not be yesterday's.

    Args:
        operands: as given.
        message: what the program says, in one sentence.
        run: the run of the program.
        prompt, tokens: what was to be run, where it is known: a dashboard keeps this with the pair's other runs.
    """
    sides = {
        side: SideFacts(
            operand=without_secrets(operand), path=without_secrets(operand), container="", runtime="",
            device="", architecture="", parameters=0, dtypes={}, file_bytes=0,
        )
        for side, operand in operands.items()
    }  # fmt: skip
    return Report(
        tool=Tool(version=__version__),
        verdict="error",
        reason=message,
        left=sides["left"],
        right=sides["right"],
        reference="right",
        prompt=prompt,
        threshold=DEFAULT_THRESHOLD,
        tokens=TokensDiff(left=list(tokens), right=list(tokens), match=bool(tokens)),
        config=[],
        weights=WeightsDiff(),
        stages=[],
        first_divergence=None,
        findings=[],
        refuted=[],
        logits=None,
        compared=Compared(),
        timing=Timing(load_s=0.0, compare_s=0.0, diagnose_s=0.0, total_s=0.0),
        peak_rss_bytes=peak_memory(),
        assertion=Assertion(passed=None, exit_code=USAGE),
        run=run,
        error=message,
    )


def _facts(c: Comparison, side: Side, hashed: bool, read: dict[str, str] | None) -> SideFacts:
    """What a report says of a side.

    Args:
        c: what was found.
        side: of the two.
        hashed: whether all of it is to be hashed.
        read: SHA-256 of the tensors that were read anyway.
    """
    model = c.models[side]
    dtypes = Counter(entry.dtype for entry in model.container.tensors.values())
    was_run = live(c.operands[side]) is not None  # the recording is gone: the facts are of what was run
    held = open_container(model.container.path) if was_run else model.container
    hashed = hashed or is_small(held)
    facts = SideFacts(
        operand=without_secrets(c.operands[side]),
        path=str(model.container.path),
        container=model.container.kind,
        runtime=_runtime(model),
        device=c.options.left_device if side == "left" else c.options.right_device,
        architecture=model.architecture.gguf,
        parameters=model.parameters,
        dtypes=dict(dtypes.most_common()),
        file_bytes=held.file_bytes,
        header_sha256=header_sha256(held),
        sha256=whole_sha256(held) if hashed else None,
        tensors_sha256=tensors_sha256(held) if hashed else read or None,
        remote=_remote(held),
    )
    if was_run:
        held.close()
    return facts


def _remote(container: Container) -> RemoteFacts | None:
    """What was fetched of a side; None where it lies on this machine."""
    if not isinstance(container.path, RemotePath):
        return None
    store = container.path.store
    return RemoteFacts(
        fetched_bytes=store.fetched_bytes,
        requests=store.files.requests,
        revision=store.revision,
        versions={} if store.revision else store.versions,
    )


def _runtime(model: Model) -> str:
    """Who computed a side: a recording that was made for this comparison names its runtime."""
    if model.container.kind != "trace":
        return "torch"
    named = model.container.metadata.get("runtime")
    return named if named in LIVE else "trace"
