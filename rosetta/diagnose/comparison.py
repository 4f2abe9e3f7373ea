"""One comparison from operands to findings: open both sides, tokenize, run them in lockstep, prove the causes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rosetta.compare.adequacy import shown_by_auto
from rosetta.compare.all_weights import compare_all_weights, strangers
from rosetta.compare.by_value import brought_together
from rosetta.compare.listener import Listener
from rosetta.compare.lockstep import Lockstep, LockstepResult
from rosetta.compare.logits import compare_logits
from rosetta.compare.options import AUTO, TRACE, Options, live
from rosetta.compare.padding import without_padding
from rosetta.compare.pair import ModelPair
from rosetta.compare.pairing import Pairing
from rosetta.compare.prompt import Tokenized, tokenize
from rosetta.compare.results import (
    Compared,
    ConfigDiff,
    Finding,
    LogitsDiff,
    Refuted,
    Side,
    StageDiff,
    TokensDiff,
    Verdict,
    WeightsDiff,
    Witness,
)
from rosetta.compare.settings import compare_config
from rosetta.compare.verdict import verdict
from rosetta.compare.weights import Copies
from rosetta.diagnose.both_nonfinite import both_nonfinite
from rosetta.diagnose.chat import chat_findings
from rosetta.diagnose.crash import crash_findings
from rosetta.diagnose.drawn_weights import with_drawn_weights
from rosetta.diagnose.engine import Engine
from rosetta.diagnose.latent import latent_findings, shown_or_latent
from rosetta.diagnose.model_notes import model_notes
from rosetta.diagnose.not_run import check_run_as, check_was_taken, notes_on
from rosetta.diagnose.one_cause import gathered, of_runtime, told_together
from rosetta.diagnose.one_sided import one_sided
from rosetta.diagnose.one_stack import of_stacks
from rosetta.diagnose.operands import open_operands
from rosetta.diagnose.other_source import made_of_other_weights
from rosetta.diagnose.precision import precision_findings
from rosetta.diagnose.tokenizers import tokenizer_findings
from rosetta.diagnose.vocabulary_rows import lacking_rows
from rosetta.diagnose.wrong_pair import in_another_basis
from rosetta.digests import Digests, is_small
from rosetta.errors import UsageError
from rosetta.model import Model
from rosetta.runtimes.as_observed import notes as of_seen
from rosetta.runtimes.runtime import Runtime
from rosetta.runtimes.torch import PRECISIONS
from rosetta.runtimes.trace import RecordedRun, Recording
from rosetta.sources import RemotePath
from rosetta.transformer import Transformer
from rosetta.weight_cache import DecodedPair
from rosetta.workers import one_thread_each


@dataclass(frozen=True)
class Comparison:
    """Everything that a report is made from.

    `repaired` holds the models with all confirmed repairs in place: equal to `models` where there is none.
    `prompt` is the text that was run; None where token ids were given, made up, or recorded without their text.
    `read` holds the weights of which all was read.
    """

    operands: dict[Side, str]
    models: dict[Side, Model]
    repaired: dict[Side, Model]
    options: Options
    prompt: str | None
    verdict: Verdict
    reason: str
    tokens: TokensDiff
    config: list[ConfigDiff]
    weights: WeightsDiff
    stages: list[StageDiff]
    findings: list[Finding]
    refuted: list[Refuted]
    logits: LogitsDiff | None
    compared: Compared
    notes: list[str]
    load_s: float
    diagnose_s: float
    total_s: float
    read: tuple[Copies, ...] = ()
    witness: Witness | None = None


@one_thread_each()
def compare_operands(
    left: str | Path,
    right: str | Path,
    options: Options,
    listener: Listener | None = None,
    digests: Digests | None = None,
) -> Comparison:
    """Compare two files or folders as the options say.

    Args:
        left, right: the operands.
        options: how to compare.
        listener: hears how far it has come.
        digests: those that a report will have, which are begun as weights are read.

    Raises:
        RosettaError: an operand is missing, damaged or unsupported, or the options ask for the impossible.
    """
    listener = listener or Listener()
    _refuse_missing_device(options)
    try:
        comparison = _compared({"left": str(left), "right": str(right)}, options, listener, digests)
    except BaseException:
        if digests is not None:
            digests.stop()
        raise
    if options.witness is None:
        return comparison
    from rosetta.diagnose.witness import witnessed  # it compares by what is defined here

    return witnessed(comparison, options.witness, listener)


def _compared(
    operands: dict[Side, str], options: Options, listener: Listener, digests: Digests | None
) -> Comparison:
    started = time.perf_counter()
    if _no_file_among(operands.values()):
        from rosetta.diagnose.two_runtimes import compare_runs  # it gives what is defined here

        return compare_runs(operands, options, listener)
    check_run_as(options.run_as)
    models = open_operands(operands, options, listener)
    options = _believing_a_recorded_run(models, options)
    check_was_taken(options.run_as, models)
    unnamed: list[str] = []
    if not all(model.architecture.runs for model in models.values()):
        models, unnamed = brought_together(models, options.reference)
    listener.working("tokenizing", 0, 0)
    tokenized = tokenize(models["left"], models["right"], options)
    runnable, padding = without_padding(models, tokenized)
    loaded = time.perf_counter()

    pair = _pair(runnable, options)
    if not all(is_small(model.container) for model in models.values()):  # else all of them will be hashed
        pair.weights.digests = digests
    engine, lockstep = _run(pair, options, tokenized.run, listener)
    result = lockstep.result
    repaired = _by_side(lockstep.repaired or pair)
    weights = compare_all_weights(pair, runnable, complete=not result.stopped)
    config = compare_config(models["left"], models["right"], _one_head(pair, result))
    findings: list[Finding] = []
    if engine is not None:
        findings = _of_runtime(_diagnosed(engine, lockstep, models, repaired, tokenized), lockstep, models)

    compared = _counted(tokenized, result, weights, config)
    word, reason = verdict(tokenized.diff, result, compared, all(model.weights for model in models.values()))
    reason = _said_of(word, reason, models, result, findings)
    crashes = list(crash_findings(models))
    if crashes:
        word, reason, findings = "divergent", crashes[0].message, [*crashes, *findings]
    seen = _as_recorded(result.logits, models)
    logits = None if crashes else compare_logits(seen, tokenized, pair.reference_side)
    return Comparison(
        operands=operands,
        models=models,
        repaired=repaired,
        options=options,
        prompt=tokenized.prompt,
        verdict=word,
        reason=reason,
        tokens=tokenized.diff,
        config=config,
        weights=weights,
        stages=[_tokens_stage(tokenized.diff), *result.stages],
        findings=findings,
        refuted=engine.refuted if engine else [],
        logits=logits,
        compared=compared,
        notes=[
            *told_together(findings),
            *tokenized.notes,
            *_auto(options, len(tokenized.run), config, findings),
            *padding,
            *notes_on(models),
            *of_seen(list(models.values())),
            *unnamed,
            *(strangers(weights) if engine is None or engine.wrong_pair else ()),
            *model_notes(models, len(tokenized.run)),
            *pair.reference.runtime.noted,
        ],
        read=tuple(pair.weights.read_whole()),
        load_s=loaded - started,
        diagnose_s=engine.seconds if engine else 0.0,
        total_s=time.perf_counter() - started,
    )


def _run(
    pair: ModelPair, options: Options, tokens: list[int], listener: Listener
) -> tuple[Engine | None, Lockstep]:
    engine = Engine(options.stop_at_first) if options.diagnose else None
    lockstep = Lockstep(pair, options.threshold, engine, options.stop_at_first, listener)
    lockstep.run(tokens)
    # In which float an observed side computes was not known from its first stage on: once more, knowing it.
    if pair.doubt.coarser is not None and lockstep.result.faulty_over:
        engine = Engine(options.stop_at_first) if options.diagnose else None
        lockstep = Lockstep(pair, options.threshold, engine, options.stop_at_first, listener)
        lockstep.run(tokens)
    return engine, lockstep


def _no_file_among(operands: Iterable[str]) -> bool:
    """Whether both sides were only observed, one of them at least while it runs: there is no file to compute from."""
    given = list(operands)
    return any(map(live, given)) and all(live(operand) or operand.startswith(TRACE) for operand in given)


def _one_head(pair: ModelPair, result: LockstepResult) -> bool:
    """Whether both sides are known to have one head, which says more than whether each calls it tied."""
    if pair.weights.frugal and result.stopped and not pair.weights.has("output.weight"):
        return False  # it is far away and was not fetched
    head = pair.weights.pair("output.weight")
    return head is not None and head.state != "differing"


def _said_of(
    word: Verdict, reason: str, models: dict[Side, Model], result: LockstepResult, findings: list[Finding]
) -> str:
    """A verdict's reason, where there is more to say than how far the stages differ."""
    idle = [model for model in models.values() if not model.architecture.runs]
    if word == "inconclusive" and idle:
        return f"nothing was run: the architecture {idle[0].architecture.name!r} is none that rosetta runs"
    if word == "drift" and any(finding.kind == "runtime.precision" for finding in findings):
        return f"{result.over_threshold[0]} and later stages differ by no more than rounding explains"
    return reason


def _as_recorded(
    logits: tuple[Tensor | None, Tensor | None], models: dict[Side, Model]
) -> tuple[Tensor | None, Tensor | None]:
    """The logits of the tokens that both sides have some of: a recording may hold the last one's alone."""
    for model in models.values():
        entry = model.container.stages.get("logits") if isinstance(model.container, Recording) else None
        if entry is not None and len(entry.dims) > 1:
            believed, other = (None if x is None else x[-entry.dims[0] :] for x in logits)
            return believed, other
    return logits


def _auto(options: Options, count: int, config: list[ConfigDiff], findings: list[Finding]) -> list[str]:
    """A note of what `--prompt auto` showed."""
    if options.tokens is not None or options.prompt != AUTO:
        return []
    differing = [row.key for row in config if row.status == "differs"]
    shown = {finding.key for finding in findings if finding.key is not None and not finding.latent}
    return [shown_by_auto(count, differing, shown, asked=options.diagnose)]


def _refuse_missing_device(options: Options) -> None:
    if "cuda" in (options.left_device, options.right_device) and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available", remedy="leave out --device cuda")


def _believing_a_recorded_run(models: dict[Side, Model], options: Options) -> Options:
    """The options, with the reference on the side of a recorded run: its stages are all there is."""
    recorded: list[Side] = [side for side, model in models.items() if isinstance(model.container, Recording)]
    return replace(options, reference=recorded[0]) if recorded else options


def _pair(models: dict[Side, Model], options: Options) -> ModelPair:
    devices: dict[Side, str] = {"left": options.left_device, "right": options.right_device}
    sides: dict[Side, Runtime] = {}
    kept = DecodedPair()
    for side, model in models.items():
        if isinstance(model.container, Recording):
            sides[side] = RecordedRun(model.container, model, devices[side], PRECISIONS[options.dtype], kept)
        else:
            sides[side] = Transformer(model, devices[side], PRECISIONS[options.dtype], kept)
    far = any(isinstance(model.container.path, RemotePath) for model in models.values())
    return ModelPair(Pairing.of(sides, options.reference), frugal=options.stop_at_first and far)


def _by_side(pair: ModelPair) -> dict[Side, Model]:
    return pair.lanes.each(lambda lane: lane.model).by_side()


def _diagnosed(
    engine: Engine,
    lockstep: Lockstep,
    models: dict[Side, Model],
    repaired: dict[Side, Model],
    tokenized: Tokenized,
) -> list[Finding]:
    """The findings of all kinds: of tokenizers, of the stages that were run, and of what the run did not show."""
    reference = lockstep.stored.reference_side
    findings = tokenizer_findings(models, tokenized, reference)
    shown = shown_or_latent(engine, lockstep, tokenized.run)
    told = shown if lockstep.stored.observed is None else of_runtime(shown, reference)
    findings += of_stacks(told, models)
    if engine.wrong_pair:  # of two models no setting of one is advice for the other
        findings = gathered(findings)
        apart = next((stage.rel_l2 for stage in lockstep.result.stages if stage.name == "logits"), None)
        return [in_another_basis(found, apart) for found in findings] if engine.strangers else findings
    known = {finding.tensor for finding in findings}
    findings += (found for found in lacking_rows(models, tokenized) if found.tensor not in known)
    findings += both_nonfinite(models, reference, lockstep.result.stages, known)
    findings += made_of_other_weights(lockstep.stored.weights.order, reference)
    findings += one_sided(repaired, reference, {finding.tensor for finding in findings})
    findings += latent_findings(models, repaired, reference, findings)
    findings += chat_findings(models, tokenized.tokenizers, reference, findings)
    return gathered(findings)


def _of_runtime(findings: list[Finding], lockstep: Lockstep, models: dict[Side, Model]) -> list[Finding]:
    """The findings beside an observed run: with what its runtime rounds, and put down to the runtime or its file."""
    observed = lockstep.stored.observed
    if observed is None:
        return findings
    runtime = str(observed.model.container.metadata.get("runtime", "its runtime"))
    rounded = precision_findings(lockstep.result, lockstep.stored.reference_side, runtime)
    return with_drawn_weights([*findings, *rounded], models)


def _counted(
    tokenized: Tokenized, result: LockstepResult, weights: WeightsDiff, config: list[ConfigDiff]
) -> Compared:
    """How much was compared."""
    return Compared(
        stages=sum(stage.max_diff is not None for stage in result.stages),
        weights=weights.compared,
        config_keys=sum(row.left is not None and row.right is not None for row in config),
        tokens=len(tokenized.diff.left),
    )


def _tokens_stage(tokens: TokensDiff) -> StageDiff:
    return StageDiff(
        name="tokens",
        layer=None,
        op="tokens",
        status="ok" if tokens.match else "faulty",
        left_dims=[len(tokens.left)],
        right_dims=[len(tokens.right)],
    )
