"""What this prompt does not show: proven faults that make nothing divergent, settings that differ all the same, files
that break a rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rosetta.compare.adequacy import tokens_needed
from rosetta.compare.lockstep import Lockstep
from rosetta.compare.pairing import other_side
from rosetta.compare.results import Finding, Side
from rosetta.compare.settings import WINDOW, agree, alike, loses_window, plain
from rosetta.compare.weights import compare_weights
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.diagnose.advice import config_file, shown, write_setting, write_value
from rosetta.diagnose.engine import Engine
from rosetta.diagnose.hypothesis import Proposal
from rosetta.diagnose.refused import refused_findings
from rosetta.errors import RosettaError
from rosetta.lint.flags import contradicted_flags
from rosetta.lint.gguf_keys import REQUIRED
from rosetta.model import Model
from rosetta.settings_table import SETTINGS


def shown_or_latent(engine: Engine, lockstep: Lockstep, tokens: list[int]) -> list[Finding]:
    """The findings, marked where with the other repairs in place they make nothing divergent on this prompt; without
    what a loader's code decides and makes nothing divergent."""
    result, over = lockstep.result, set(lockstep.result.faulty_over)

    def latent(finding: Finding, proposal: Proposal | None) -> bool:
        if finding.evidence is None or finding.evidence.stage in over:
            return False
        if not result.brought_back or proposal is None:
            return True
        if len(engine.proven) == 1:
            return False
        return not _makes_divergent(proposal, engine.proven, lockstep, tokens)

    found = [
        finding.model_copy(update={"latent": latent(finding, proposal)})
        for finding, proposal in zip(engine.findings, engine.proven, strict=True)
    ]
    return [finding for finding in found if not (finding.latent and _is_in_code(finding.key))]


def _is_in_code(key: str | None) -> bool:
    """Whether it is a loader's code that decides a setting."""
    return key is not None and key in SETTINGS and SETTINGS[key].in_code


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


def latent_findings(
    models: dict[Side, Model], repaired: dict[Side, Model], reference: Side, found: list[Finding]
) -> Iterator[Finding]:
    """Latent findings about settings and flags that no other finding names.

    Args:
        models: both sides, as opened.
        repaired: both sides with all repairs in place: what was derived from a wrong setting is right there.
        reference: the side that is believed.
        found: what the run has shown.
    """
    known = {finding.key for finding in found if finding.key is not None}
    for side, model in models.items():
        yield from _contradictions(side, model, known)
        yield from _unused_head(side, repaired[side], known)
    subject = other_side(reference)
    own, believed = repaired[subject], repaired[reference]
    yield from _stated_in_vain(subject, own, believed, known)
    needed = tokens_needed(own, believed)
    for row in SETTINGS.values():
        key = row.key
        if (
            row.kind is None
            or not row.latent
            or key in known
            or key not in own.config
            or key not in believed.config
        ):
            continue
        mine, theirs = own.config[key], believed.config[key]
        if alike(key, own, believed) or (believed.container.kind == "trace" and theirs.defaulted):
            continue
        if key in models[subject].config and agree(key, models[subject].config[key].value, theirs.value):
            continue  # derived from a setting that a repair has put otherwise
        if key == WINDOW and loses_window(own, believed):
            continue
        idle = not (own.architecture.runs and believed.architecture.runs)
        if idle and any(isinstance(value.value, list) or value.value == 0 for value in (mine, theirs)):
            continue  # what differs from kind of layer to kind, or that there is none of, is said in other ways
        when = f"; it shows from {needed[key]} tokens on" if key in needed else ""
        yield Finding(
            kind=row.kind.id,
            side=subject,
            key=key,
            declared=None if mine.defaulted else plain(mine.value),
            actual=plain(theirs.value),
            message=f"{key} is {shown(mine.value)}, the reference has {shown(theirs.value)}; "
            f"no stage of this run depends on it visibly{when}",
            recommendation=write_value(own, believed, key, mine, theirs.value),
            status="suspected",
            latent=True,
        )
        own = _with_setting(own, key, theirs.value)  # what follows from it is no finding of its own


def _with_setting(model: Model, key: str, value: Any) -> Model:
    """A model with one setting put right; itself where that contradicts what else its file says."""
    try:
        return model.repaired({key: value})
    except RosettaError:
        return model


def _contradictions(side: Side, model: Model, known: set[str]) -> Iterator[Finding]:
    """Where a file breaks a rule of its own container, though it can be read."""
    yield from refused_findings(side, model, known)
    if isinstance(model.container, QuantisedContainer):
        for wrong in model.container.misstated:
            own = wrong.key
            right = "without that module" if wrong.actual is None else shown(wrong.actual)
            yield Finding(
                kind="config.quantization",
                side=side,
                key=own,
                left_name=own if side == "left" else None,
                right_name=own if side == "right" else None,
                declared=wrong.stated,
                actual=wrong.actual,
                message=f"{own} {wrong.said} ({wrong.weight}): loaders go by the config",
                recommendation=f"write {own} {right} into {config_file(model.container)}",
                status="suspected",
                latent=True,
            )
    for flag in contradicted_flags(model.container):
        if flag.key in known:
            continue
        yield Finding(
            kind="value.missing",
            side=side,
            key=flag.key,
            declared=flag.stated,
            actual=not flag.stated,
            message=f"{flag.key} {flag.words}; the tensors were read as they are",
            recommendation=f"write {flag.key} {str(not flag.stated).lower()} into {config_file(model.container)}",
            status="suspected",
            latent=True,
        )
    if model.container.column_major:
        yield Finding(
            kind="layout.transposed",
            side=side,
            key="flags",
            declared="LAYOUT_COLUMN_MAJOR",
            actual="LAYOUT_ROW_MAJOR",
            message="flags: LAYOUT_COLUMN_MAJOR is set, which aprender refuses; the tensors were read row-major",
            recommendation="write the file with LAYOUT_ROW_MAJOR (0x0400) and without LAYOUT_COLUMN_MAJOR (0x0800)",
            status="suspected",
            latent=True,
        )


def _stated_in_vain(side: Side, model: Model, believed: Model, known: set[str]) -> Iterator[Finding]:
    """Keys of a GGUF file that llama.cpp does not read of its architecture, and that say something else than it
    computes: whoever wrote them meant another model."""
    if model.container.kind != "gguf" or not model.architecture.runs:
        return
    for key, stated in model.container.settings.items():
        row, computed = SETTINGS.get(key), model.config.get(key)
        # Of a setting that it has not, a note says so.
        if row is None or row.kind is None or computed is None:
            continue
        if key in known or model.architecture.llamacpp.computes_by(key):
            continue
        if stated not in model.unheeded:  # it says what is computed anyway
            continue
        others = believed.container.settings.get(key)
        if believed.container.kind == "gguf" and others is not None and others.value == stated.value:
            continue
        yield Finding(
            kind=row.kind.id,
            side=side,
            key=key,
            declared=stated.value,
            actual=plain(computed.value),
            message=f"{key} is {shown(stated.value)}, which llama.cpp does not read of {model.architecture.gguf}: "
            f"it computes with {shown(computed.value)}",
            recommendation=f"write {stated.key} {shown(computed.value)} into {config_file(model.container)}"
            if key in REQUIRED.get(model.architecture.gguf, ())  # it asks for the key all the same
            else f"take {stated.key} out of {config_file(model.container)}",
            status="suspected",
            latent=True,
        )


def _unused_head(side: Side, model: Model, known: set[str]) -> Iterator[Finding]:
    """A file that ties its head by config and stores another one all the same: every loader uses the stored one.

    The model is the repaired one: of a stored copy that is damaged, it is the damage that is wrong."""
    key = "tied_embeddings"
    head, embedding = model.weights.get("output.weight"), model.weights.get("token_embd.weight")
    if key in known or head is None or embedding is None or head.entry is embedding.entry or not model[key]:
        return
    if head.dims == embedding.dims and compare_weights(head, embedding).state == "differing":
        yield Finding(
            kind="config.tied_embeddings",
            side=side,
            key=key,
            declared=True,
            actual=False,
            message=f"{key} is true, and a head is stored that is not the embedding",
            recommendation=write_setting(model.container, key, model.config[key], "False", "True"),
            status="suspected",
            latent=True,
        )
