"""One comparison from operands to findings: open both sides, tokenize, run them in lockstep, prove the causes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rosetta.compare.adequacy import hidden_from, shown_by_auto
from rosetta.compare.all_weights import compare_all_weights, strangers
from rosetta.compare.listener import Listener, loaded_tensors
from rosetta.compare.lockstep import Lockstep
from rosetta.compare.logits import compare_logits
from rosetta.compare.options import TRACE, Options
from rosetta.compare.pair import ModelPair
from rosetta.compare.prompt import AUTO, Tokenized, tokenize
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
)
from rosetta.compare.settings import compare_config
from rosetta.compare.verdict import verdict
from rosetta.diagnose.engine import Engine
from rosetta.diagnose.hypothesis import Proposal
from rosetta.diagnose.tokenizers import tokenizer_findings
from rosetta.diagnose.unseen import unseen_findings
from rosetta.errors import UsageError
from rosetta.model import Model, open_model
from rosetta.runtimes.trace import RecordedRun, Recording, open_recording, recorded_model
from rosetta.transformer import Transformer
from rosetta.weight import Weight
from rosetta.weight_cache import Kept
from rosetta.workers import one_thread_each

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Comparison:
    """Everything that a report is made from.

    `repaired` holds the models with all confirmed repairs in place: equal to `models` where there is none.
    """

    operands: dict[Side, str]
    models: dict[Side, Model]
    repaired: dict[Side, Model]
    options: Options
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


@one_thread_each()
def compare_operands(left: str, right: str, options: Options, listener: Listener | None = None) -> Comparison:
    """Compare two files or folders as the options say.

    Raises:
        RosettaError: an operand is missing, damaged or unsupported, or the options ask for the impossible.
    """
    started = time.perf_counter()
    listener = listener or Listener()
    if "cuda" in (options.left_device, options.right_device) and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available", remedy="leave out --device cuda")
    operands: dict[Side, str] = {"left": left, "right": right}
    models = open_operands(operands, listener)
    for side, model in models.items():
        if isinstance(model.container, Recording):
            options = replace(
                options, reference=side
            )  # its stages are all there is: the model is held to them
    listener.working("tokenizing", 0, 0)
    tokenized = tokenize(models["left"], models["right"], options)
    runnable, notes = without_padding(models, tokenized)
    load_s = time.perf_counter() - started

    engine = Engine() if options.diagnose else None
    pair = _pair(runnable, options)
    lockstep = Lockstep(pair, options.threshold, engine, options.stop_at_first, listener)
    result = lockstep.run(tokenized.run)
    weights = compare_all_weights(pair, runnable, complete=not result.stopped)
    head = pair.weight_pair("output.weight")
    config = compare_config(models["left"], models["right"], head is not None and head.state != "differing")
    compared = Compared(
        stages=sum(stage.max_diff is not None for stage in result.stages),
        weights=weights.compared,
        config_keys=sum(row.left is not None and row.right is not None for row in config),
        tokens=len(tokenized.diff.left),
    )
    both_have_weights = all(model.weights for model in models.values())
    findings: list[Finding] = []
    if engine is not None:
        prompt = tokenized.prompt if options.tokens is None else None
        findings = tokenizer_findings(models, tokenized, options.reference, prompt)
        findings += _marked_latent(engine, lockstep, tokenized.run)
        findings += unseen_findings(models, _by_side(lockstep.repaired or pair), options.reference, findings)
    word, reason = verdict(tokenized.diff, result, compared, both_have_weights)
    return Comparison(
        operands=operands,
        models=models,
        repaired=_by_side(lockstep.repaired or pair),
        options=options,
        verdict=word,
        reason=reason,
        tokens=tokenized.diff,
        config=config,
        weights=weights,
        stages=[_tokens_stage(tokenized.diff), *result.stages],
        findings=findings,
        refuted=engine.refuted if engine else [],
        logits=compare_logits(result.logits, tokenized, pair.reference_side),
        compared=compared,
        notes=[
            *tokenized.notes,
            *_auto(options, len(tokenized.run), config, findings),
            *notes,
            *strangers(weights),
            *hidden_from(len(tokenized.run), *models.values()),
            *(note for model in models.values() for note in _notes(model)),
        ],
        load_s=load_s,
        diagnose_s=engine.seconds if engine else 0.0,
        total_s=time.perf_counter() - started,
    )


def _auto(options: Options, count: int, config: list[ConfigDiff], findings: list[Finding]) -> list[str]:
    """A note of what `--prompt auto` showed."""
    if options.tokens is not None or options.prompt != AUTO:
        return []
    differing = [row.key for row in config if row.status == "differs"]
    shown = {finding.key for finding in findings if finding.key is not None and not finding.latent}
    return [shown_by_auto(count, differing, shown, asked=options.diagnose)]


def open_operands(operands: dict[Side, str], listener: Listener) -> dict[Side, Model]:
    """Both sides, opened; `trace:FILE` is a recorded run, everything else a file or folder.

    Raises:
        RosettaError: see `compare_operands`.
    """
    models: dict[Side, Model] = {}
    recordings: dict[Side, Recording] = {}
    for side, operand in operands.items():
        listener.working(f"opening {operand}", 0, 0)
        if operand.startswith(TRACE):
            recordings[side] = open_recording(Path(operand.removeprefix(TRACE)))
        else:
            models[side] = open_model(operand)
    if len(recordings) == 2:
        raise UsageError("two traces have no model to run", remedy="compare a trace with a model file")
    for model in models.values():
        listener.loaded(model.container.label, loaded_tensors(model))
    for side, recording in recordings.items():
        models[side] = recorded_model(recording, next(iter(models.values())))
    return {side: models[side] for side in operands}


def without_padding(models: dict[Side, Model], tokenized: Tokenized) -> tuple[dict[Side, Model], list[str]]:
    """Both models with as many rows of embedding and head as they have in common, where the rest is padding.

    A row is padding where no tokenizer has a token of its number. Otherwise the models stay as they are, and
    the stages say that their dims differ.
    """
    if not all(model.weights for model in models.values()):
        return models, []
    if any(
        "token_embd.weight" in m.weights and m["vocab_size"] not in m.weights["token_embd.weight"].dims
        for m in models.values()
    ):
        return models, []  # a config that denies the embedding is wrong, and its stage says so
    rows = {side: model["vocab_size"] for side, model in models.items()}
    common = min(rows.values())
    tokens = [len(t.vocabulary) for t in tokenized.tokenizers.values() if t is not None]
    if len(set(rows.values())) == 1 or (tokens and min(tokens) > common):
        return models, []
    larger: Side = "left" if rows["left"] > common else "right"

    def shorter(weight: Weight | None) -> Weight | None:
        total = weight.dims[0] if weight is not None and weight.dims else 0
        if weight is None:
            return None
        return replace(weight, part=(0, (common, total - common))) if total == rows[larger] else weight

    patches = {"token_embd.weight": shorter, "output.weight": shorter}
    path, padding = models[larger].container.path, rows[larger] - common
    note = f"{path}: {padding} rows of padding behind the vocabulary are left out"
    return {**models, larger: models[larger].repaired({"vocab_size": common}, patches)}, [note]


def _pair(models: dict[Side, Model], options: Options) -> ModelPair:
    devices = {"left": options.left_device, "right": options.right_device}
    sides: dict[Side, Transformer] = {}
    kept = Kept()
    for side, model in models.items():
        if isinstance(model.container, Recording):
            sides[side] = RecordedRun(model.container, model, devices[side], DTYPES[options.dtype])
        else:
            sides[side] = Transformer(model, devices[side], DTYPES[options.dtype], kept)
    other: Side = "left" if options.reference == "right" else "right"
    return ModelPair(sides[options.reference], sides[other], options.reference)


def _by_side(pair: ModelPair) -> dict[Side, Model]:
    other: Side = "left" if pair.reference_side == "right" else "right"
    return {pair.reference_side: pair.reference.model, other: pair.subject.model}


def _tokens_stage(tokens: TokensDiff) -> StageDiff:
    return StageDiff(
        name="tokens",
        layer=None,
        op="tokens",
        status="ok" if tokens.match else "faulty",
        left_dims=[len(tokens.left)],
        right_dims=[len(tokens.right)],
    )


def _marked_latent(engine: Engine, lockstep: Lockstep, tokens: list[int]) -> list[Finding]:
    """The findings, marked where with the other repairs in place they make nothing divergent on this prompt."""
    result, over = lockstep.result, set(lockstep.result.faulty_over)

    def latent(finding: Finding, proposal: Proposal | None) -> bool:
        if finding.evidence is None or finding.evidence.stage in over:
            return False
        if not result.brought_back or proposal is None:
            return True
        if len(engine.proven) == 1:
            return False
        return not _makes_divergent(proposal, engine.proven, lockstep, tokens)

    return [
        finding.model_copy(update={"latent": latent(finding, proposal)})
        for finding, proposal in zip(engine.findings, engine.proven, strict=True)
    ]


def _makes_divergent(
    proposal: Proposal, proven: list[Proposal | None], lockstep: Lockstep, tokens: list[int]
) -> bool:
    """Whether a fault alone, all others repaired, puts a stage over the threshold that its repair brings back."""
    stored, repaired = lockstep.stored, lockstep.repaired
    assert repaired is not None
    models = {"reference": stored.reference.model, "subject": stored.subject.model}
    for other in proven:
        if other is not None and other is not proposal:
            models[other.role] = other.repair.applied(models[other.role])
    alone = Lockstep(stored.with_models(models["reference"], models["subject"]), lockstep.threshold).run(
        tokens
    )
    mended = Lockstep(
        repaired.with_models(repaired.reference.model, repaired.subject.model), lockstep.threshold
    )
    return bool(set(alone.over_threshold) - set(mended.run(tokens).over_threshold))


def _notes(model: Model) -> list[str]:
    path = model.container.path
    notes = [f"{path}: {note}" for note in model.container.notes]
    if model.unknown:
        some = ", ".join(model.unknown[:3]) + (" …" if len(model.unknown) > 3 else "")
        notes.append(
            f"{path}: {len(model.unknown)} tensors that {model.architecture.name} does not know: {some}"
        )
    return notes
