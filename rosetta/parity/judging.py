"""One cell of the matrix: whether two sides say the same, and if not, whether a stage is at fault or a tie was near."""

from __future__ import annotations

from dataclasses import replace

from rosetta.compare.options import Options, live
from rosetta.compare.prompt import first_difference
from rosetta.compare.results import Finding, StageDiff
from rosetta.diagnose import compare_operands
from rosetta.diagnose.comparison import Comparison
from rosetta.parity.options import ParityOptions
from rosetta.parity.outputs import forgets
from rosetta.parity.parting import Parting, parting
from rosetta.parity.results import Candidate, Cause, Cell, Class, Mark
from rosetta.parity.said import Said
from rosetta.runtimes.live import known_options
from rosetta.tokenizer import compare_vocabularies

EXPECTED = "expected"
"""The stored oracle, as the reference of a cell."""
PRECISION = "runtime.precision"


def judged(
    subject: Said, believed: Said, options: ParityOptions, marks: list[Mark]
) -> tuple[Cell, list[Cause]]:
    """One side held to another, and why it is at fault, where it is.

    Args:
        subject, believed: the same prompt.
        options: see there.
        marks: of the subject.
    """
    mine, theirs = subject.speech, believed.speech
    if subject.ids != believed.ids:
        at = first_difference(subject.ids, believed.ids)
        cell = _cell(subject, believed, "fault", Parting(_parted(subject, believed), None, 0.0), marks)
        return cell.model_copy(update={"stage": "tokens", "error": None}), _tokens(subject, believed, at or 0)
    if mine is None or theirs is None:
        cell = _cell(subject, believed, "fault", Parting(None, None, 0.0), marks)
        return cell.model_copy(update={"error": None}), []  # the runtime's end is a finding of its own
    where = parting(mine, theirs)
    if where.at is None:
        return _cell(subject, believed, "match", where, marks), []
    if where.margin is None and _ends_otherwise(subject, believed, where.at):
        return _cell(subject, believed, "fault", where, marks), [_end(subject, believed, where.at)]
    run = [*subject.ids, *mine.ids[: where.at]]
    comparison = _compared(subject, believed, run, options)
    stage = _faulty(comparison)
    if stage is None and any(forgets(said, options, where.at) for said in (subject, believed)):
        # What a cache lost is in the measured error, and makes no tie; it is a finding of its own.
        return _cell(subject, believed, "fault", where, marks).model_copy(update={"stage": "cache"}), []
    near = stage is None and where.margin is not None and where.margin <= where.error
    cell = _cell(subject, believed, "near_tie" if near else "fault", where, marks)
    cell = cell.model_copy(update={"stage": None if stage is None else stage.name})
    return cell, [] if near else _causes(subject, believed, comparison, stage, where)


def judged_by_oracle(said: Said, marks: list[Mark], error: float | None) -> Cell:
    """One side held to what a stored oracle goes on with.

    Args:
        said: the side.
        marks: of it.
        error: measured between two sides at this prompt; None where there are not two.
    """
    speech, prompt = said.speech, said.prompt
    assert speech is not None
    text = said.side.text_of(speech.ids)
    expected = list(prompt.expected_ids) if prompt.expected_ids is not None else _expected_ids(said)
    if prompt.expected_ids is None and prompt.expected_text is not None and text is not None:
        shorter = min(len(text), len(prompt.expected_text))
        same = text[:shorter] == prompt.expected_text[:shorter] and shorter > 0
    else:
        shorter = min(len(speech.ids), len(expected))
        same = speech.ids[:shorter] == expected[:shorter] and shorter > 0
    at = None if same else first_difference(speech.ids, expected)
    margin = None
    if at is not None and at < len(speech.ids) and at < len(expected) and expected[at] < len(speech.row(at)):
        row = speech.row(at)
        margin = float(row[speech.ids[at]] - row[expected[at]])
    near = margin is not None and error is not None and margin <= error
    return Cell(
        prompt=prompt.id,
        side=said.side.operand,
        reference=EXPECTED,
        class_="match" if same else "near_tie" if near else "fault",
        left_ids=speech.ids,
        right_ids=expected,
        left_text=text,
        right_text=prompt.expected_text if prompt.expected_text is not None else said.side.text_of(expected),
        first_mismatch=at,
        left_candidate=_candidate(said, speech.ids, at),
        right_candidate=_candidate(said, expected, at),
        margin=margin,
        error=error,
        stage=None,
        marks=marks,
    )


def _expected_ids(said: Said) -> list[int]:
    """The oracle's text in the side's tokens, behind the prompt; none where that cannot be told apart from it."""
    tokenizer, text = said.side.tokenizer, said.prompt.expected_text
    if tokenizer is None or text is None or said.rendered is None:
        return []
    ids = said.side.ids_of(said.rendered + text, chat=said.rendered != said.prompt.text)
    return ids[len(said.ids) :] if ids[: len(said.ids)] == said.ids else []


def _cell(subject: Said, believed: Said, class_: Class, where: Parting, marks: list[Mark]) -> Cell:
    mine = [] if subject.speech is None else subject.speech.ids
    theirs = [] if believed.speech is None else believed.speech.ids
    return Cell(
        prompt=subject.prompt.id,
        side=subject.side.operand,
        reference=believed.side.operand,
        class_=class_,
        left_ids=mine,
        right_ids=theirs,
        left_text=None if subject.speech is None else subject.side.text_of(mine),
        right_text=None if believed.speech is None else believed.side.text_of(theirs),
        first_mismatch=where.at,
        left_candidate=_candidate(subject, mine, where.at),
        right_candidate=_candidate(believed, theirs, where.at),
        margin=where.margin,
        error=where.error,
        stage=None,
        marks=marks,
    )


def _candidate(said: Said, ids: list[int], at: int | None) -> Candidate | None:
    if at is None or at >= len(ids):
        return None
    tokenizer = said.side.tokenizer
    known = tokenizer is not None and ids[at] < tokenizer.size
    return Candidate(id=ids[at], token=tokenizer.piece(ids[at]) if known and tokenizer is not None else None)


def _parted(subject: Said, believed: Said) -> int | None:
    mine = [] if subject.speech is None else subject.speech.ids
    return first_difference(mine, [] if believed.speech is None else believed.speech.ids)


def _tokens(subject: Said, believed: Said, at: int) -> list[Cause]:
    """Why two sides have other ids of one prompt."""
    a, b = subject.side.tokenizer, believed.side.tokenizer
    if subject.rendered != believed.rendered:
        return []  # the templates are a finding of their own
    facts = [] if a is None or b is None else compare_vocabularies(a.facts, b.facts)
    shown = [f"{ids[at]}" if at < len(ids) else "no more" for ids in (subject.ids, believed.ids)]
    said = f"the prompt's token {at} is {shown[0]} for {shown[1]}"
    return [
        Cause(
            kind=fact.kind,
            side=subject.side.operand,
            prompt=subject.prompt.id,
            stage="tokens",
            message=f"{said}: {fact.message}",
            recommendation=f"embed the tokenizer of {believed.side.operand}",
            status="suspected",
        )
        for fact in facts
    ] or [
        Cause(
            kind="unexplained",
            side=subject.side.operand,
            prompt=subject.prompt.id,
            stage="tokens",
            message=said,
            recommendation="compare both tokenizers: rosetta tokenize says what each makes of a text",
            status="suspected",
        )
    ]


def _ends_otherwise(subject: Said, believed: Said, at: int) -> bool:
    """Whether a side ended where the other went on with what it did not choose otherwise."""
    assert subject.speech is not None
    assert believed.speech is not None
    short = min((subject.speech, believed.speech), key=lambda speech: len(speech.ids))
    return at == len(short.ids) and short.ended == "stop"


def _end(subject: Said, believed: Said, at: int) -> Cause:
    assert subject.speech is not None
    ends = len(subject.speech.ids) == at
    token = (subject if ends else believed).speech.ids[at - 1]  # type: ignore[union-attr]
    return Cause(
        kind="tokenizer.special_tokens",
        side=subject.side.operand,
        prompt=subject.prompt.id,
        stage="tokens",
        message=f"token {token} {'ends' if ends else 'does not end'} a text here, and "
        f"{'does not' if ends else 'does'} in {believed.side.operand}",
        recommendation="state the same ids of EOS and of the end of a turn in both",
        status="confirmed",
    )


def _compared(subject: Said, believed: Said, ids: list[int], options: ParityOptions) -> Comparison:
    """Both sides over the common tokens, stage by stage, the believed one as the reference."""
    operands = subject.side.operand, believed.side.operand
    runtimes = [run[0] for operand in operands if (run := live(operand)) is not None]
    known = {name for runtime in runtimes for name in known_options(runtime)}
    own = {name: value for name, value in options.runtime_options.items() if name in known}
    asked = Options(tokens=tuple(ids), threshold=options.threshold, stop_at_first=True, runtime_options=own)
    return compare_operands(*operands, replace(asked, reference="right"))


def _faulty(comparison: Comparison) -> StageDiff | None:
    """The first stage at fault; one that an arithmetic explains is none."""
    return next((stage for stage in comparison.stages if stage.status == "faulty"), None)


def _causes(
    subject: Said, believed: Said, comparison: Comparison, stage: StageDiff | None, where: Parting
) -> list[Cause]:
    """What the comparison found; where it found nothing, that."""
    found = [finding for finding in comparison.findings if finding.kind != PRECISION]
    operands = {"left": subject.side.operand, "right": believed.side.operand}
    if stage is not None and found:
        return [_cause(finding, operands[finding.side], subject.prompt.id) for finding in found]
    held = "not both chosen from" if where.margin is None else f"{where.margin:.3g} apart"
    return [
        Cause(
            kind="unexplained",
            side=subject.side.operand,
            prompt=subject.prompt.id,
            stage=None if stage is None else stage.name,
            message=f"at token {where.at} the candidates are {held}, where logits differ by {where.error:.3g}, and "
            + (f"{stage.name} is the first stage at fault" if stage is not None else "no stage is at fault"),
            recommendation="compare both over these tokens: rosetta LEFT RIGHT --tokens …",
            status="suspected",
        )
    ]


def _cause(finding: Finding, operand: str, prompt: str) -> Cause:
    return Cause(
        kind=finding.kind,
        side=operand,
        prompt=prompt,
        stage=finding.evidence.stage if finding.evidence is not None else None,
        message=finding.message,
        recommendation=finding.recommendation,
        status=finding.status,
    )
