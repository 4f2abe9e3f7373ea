"""What a file has in many of its weights has one cause: one sentence, told first, and one finding where what is done
about one weight is done about all. So has what most weights of one layer have, and what a runtime does in several.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rosetta.compare.results import Finding, Side
from rosetta.diagnose.kinds import all_kinds
from rosetta.diagnose.lost_experts import told_at_once
from rosetta.diagnose.words import listed
from rosetta.finding_kind import FindingKind
from rosetta.names import LAYER

OTHERS = "value.other_weights"
UNPROVABLE = (OTHERS,)
MANY = 4  # weights: of fewer their own diagnoses are as short
OF_LAYER = re.compile(r"\b(blk|layers)\.\d+\.")
NORM = "norm"  # which the stems of norms have in them
WORDS = re.compile(r"[._]")  # of a key, the last of which says what it is: an epsilon, a base
# Of layers with a window; of a shared expert, or of others.
OF_KIND = re.compile(r"_swa$|_shexp$|_exps(\.\d+)?$")


def told_together(findings: Sequence[Finding]) -> Iterator[str]:
    """A sentence for each kind that many weights of one file are found to have.

    >>> one = dict(kind="value.requantised", side="left", actual="NF4", status="confirmed")
    >>> found = [Finding(tensor=f"blk.{n}.attn_q.weight", message="", recommendation="", **one) for n in range(4)]
    >>> next(told_together(found))[:67]
    '4 weights of the left file lie on the levels of a quantised format,'
    """
    for (kind, side, _), found in _of_many(findings).items():
        if (words := _words(kind, found)) is not None:
            yield f"{len(found)} weights of the {side} file {words}"


def gathered(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, those of many weights in one where their kind is a file's, or they are one layer's.

    >>> one = dict(kind="value.requantised", side="left", actual="NF4", status="confirmed")
    >>> found = [Finding(tensor=f"blk.{n}.attn_q.weight", message="", recommendation="", **one) for n in range(4)]
    >>> [(finding.tensor, finding.actual) for finding in gathered(found)]
    [(None, 'NF4')]
    """
    told = told_at_once(findings)
    for found in _of_layers(told):
        told = _with_one(told, found, _of_layer(found))
    for (kind, side, _), found in _of_many(told).items():
        words, known = _words(kind, found), all_kinds().get(kind)
        if words is None or known is None or known.of_file is None:
            continue
        if known.stated and any(finding.declared is None for finding in found):
            continue
        shown = [finding for finding in found if not finding.latent] or found
        one = shown[0].model_copy(
            update={
                "tensor": None,
                "layer": None,
                "left_name": None,
                "right_name": None,
                "declared": _commonest(finding.declared for finding in found),
                "actual": _commonest(finding.actual for finding in found),
                "message": _of_all(found) or f"{len(found)} weights {words}{_besides(known, found)}",
                "recommendation": known.of_file.format(side=side),
            }
        )
        told = _with_one(told, found, one)
    return told


def of_runtime(findings: Sequence[Finding], runtime: Side | None = None) -> list[Finding]:
    """The findings of an observed run, those in one of which the same is said, and to be done, in several layers; of
    the side of the runtime those in one, too, which it makes by one step: of one setting, of norms, of biases.

    >>> said = "transformers computes otherwise than its file says, as undone by this: blk.{}.ssm_d takes no part"
    >>> one = dict(kind="value.missing", side="right", recommendation="mend it in transformers", status="confirmed")
    >>> [found] = of_runtime([Finding(layer=n, message=said.format(n), **one) for n in range(3)])
    >>> found.message[-53:]
    'blk.0.ssm_d takes no part; so it is in layers 1 and 2'
    """
    of_cause: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        if finding.layer is not None:
            said = OF_LAYER.sub("", finding.message)
            mark = (finding.kind, finding.side, finding.status, finding.recommendation, said)
            of_cause.setdefault(mark, []).append(finding)
    told = list(findings)
    for found in of_cause.values():
        others = [finding.layer for finding in found[1:]]
        if others:
            layers = f"layer{'s' if len(others) > 1 else ''} {listed(others)}"
            told = _with_one(told, found, _extended(found, f"; so it is in {layers}"))
    return told if runtime is None else _by_steps(told, runtime)


def _by_steps(findings: Sequence[Finding], runtime: Side) -> list[Finding]:
    """The findings, those of a runtime in one that name one setting, or alike tensors or settings of which the same is
    so."""
    told = list(findings)
    for step in (_setting, _alike):
        of_step: dict[tuple[str, ...], list[Finding]] = {}
        for finding in told:
            if finding.side == runtime and finding.status == "confirmed" and (mark := step(finding)):
                of_step.setdefault((finding.kind, *mark), []).append(finding)
        for found in of_step.values():
            if len(found) > 1:
                _, *names = dict.fromkeys(finding.tensor or finding.key for finding in found)
                said = f"; so it is with {listed(names)}" if names else ""
                told = _with_one(told, found, _extended(found, said))
    return told


def _setting(finding: Finding) -> tuple[str, ...]:
    """The setting that a finding names; nothing where it names none."""
    return () if finding.key is None else (finding.key,)


def _alike(finding: Finding) -> tuple[str, ...]:
    """What findings have in common of alike settings or tensors, where one step of a runtime's code makes them."""
    if finding.tensor is None:
        stem = WORDS.split(OF_KIND.sub("", finding.key or ""))[-1]
    else:
        stem, _, suffix = OF_LAYER.sub("", finding.tensor).rpartition(".")
        stem = "biases" if suffix == "bias" else "norms" if NORM in stem else OF_KIND.sub("", stem)
    return (stem, str(finding.actual), *sorted(finding.alternatives)) if stem else ()


def _extended(found: Sequence[Finding], more: str) -> Finding:
    """The first of some findings, with what is said of the others."""
    return found[0].model_copy(
        update={
            "message": found[0].message + more,
            "latent": all(finding.latent for finding in found),
        }
    )


def _with_one(told: Sequence[Finding], found: Sequence[Finding], one: Finding) -> list[Finding]:
    """The findings with one in the place of the first of some others, which are left out."""
    return [
        one if f is found[0] else f for f in told if f is found[0] or all(f is not other for other in found)
    ]


def _of_layers(findings: Sequence[Finding]) -> list[list[Finding]]:
    """The findings of other weights that many weights of a layer have; of copies those that are of one other layer."""
    of_layers: dict[tuple[Side, str, str | None], list[Finding]] = {}
    for finding in findings:
        own = LAYER.match(finding.tensor or "") if finding.kind == OTHERS else None
        theirs = LAYER.match(finding.partner or "")
        if own is None or (finding.partner is not None and (theirs is None or theirs[2] != own[2])):
            continue
        of_layers.setdefault((finding.side, own[1], theirs and theirs[1]), []).append(finding)
    return [found for found in of_layers.values() if len(found) >= MANY]


def _of_layer(found: Sequence[Finding]) -> Finding:
    """One finding in place of those that many weights of one layer have.

    That of copies is proven by what the file has elsewhere, and keeps the first one's tensors to say so.
    """
    first = found[0]
    own, theirs = (LAYER.match(name or "") for name in (first.tensor, first.partner))
    layer = f"layer {own[1] if own else first.layer}"
    if theirs is not None:
        return first.model_copy(
            update={
                "message": f"{layer} holds the values of layer {theirs[1]}, which stand there too: its own are not in "
                f"the file: {len(found)} weights, {_names(found)}",
                "recommendation": f"write {layer} with its own weights: layer {theirs[1]} was exported twice",
            }
        )
    return first.model_copy(
        update={
            "tensor": None,
            "left_name": None,
            "right_name": None,
            "message": f"{layer}: {len(found)} of its weights are not those of the other side, {_names(found)}: it "
            "was trained on, initialised anew, or is another checkpoint's; " + first.message,
            "recommendation": f"see where {layer} of the {first.side} side was taken from: it is another model's",
        }
    )


def _of_many(findings: Sequence[Finding]) -> dict[tuple[str, Side, Any], list[Finding]]:
    """The findings of each kind that many weights of a side have; of some kinds those with one `actual`, and those of
    which the same is said where that is so of many whatever is said."""
    of_weights: dict[tuple[str, Side, Any], dict[str, Finding]] = {}
    concerned = [
        finding
        for finding in findings
        if finding.tensor is not None and (finding.status == "confirmed" or finding.kind in UNPROVABLE)
    ]
    said = Counter((finding.kind, finding.side, said_of(finding)) for finding in concerned)
    for finding in concerned:
        known = all_kinds().get(finding.kind)
        counts = [
            count for (kind, side, _), count in said.items() if (kind, side) == (finding.kind, finding.side)
        ]
        if known is not None and known.alike:
            truth: str | None = str(finding.actual)
        else:
            truth = said_of(finding) if min(counts) >= MANY else None
        of_weights.setdefault((finding.kind, finding.side, truth), {}).setdefault(
            str(finding.tensor), finding
        )
    return {mark: [*found.values()] for mark, found in of_weights.items() if len(found) >= MANY}


def said_of(finding: Finding) -> str:
    """What is said of a weight, without its name."""
    return finding.message.removeprefix(str(finding.tensor))


def _words(kind: str, found: Sequence[Finding]) -> str | None:
    """What many weights of a kind say of their file; None where they have no cause in common."""
    known = all_kinds().get(kind)
    if known is None or known.together is None or (known.alike and found[0].actual is None):
        return None
    return known.together.format(actual=_commonest(finding.actual for finding in found))


def _of_all(found: Sequence[Finding]) -> str | None:
    """What is said of each weight in the same words after a colon, said of all; None where the words differ."""
    said = {said_of(finding) for finding in found}
    one = said.pop()
    return None if said or not one.startswith(": ") else f"{len(found)} weights{one}: {_names(found)}"


def _besides(known: FindingKind, found: Sequence[Finding]) -> str:
    """Which weights they are, where all are alike, and what is said of the first beyond that; or what is said of the
    first, where nothing says what they have."""
    if known.alike:
        more = "" if str(found[0].actual) in found[0].message else f"; {found[0].message}"
        return f": {_names(found)}{more}"
    return "" if "{actual}" in str(known.together) else f"; {found[0].message}"


def _names(found: Sequence[Finding]) -> str:
    names = [str(finding.tensor) for finding in found]
    return ", ".join(names[:MANY]) + (f" and {len(names) - MANY} more" if len(names) > MANY else "")


def _commonest(values: Iterable[Any]) -> str:
    return Counter(map(str, values)).most_common(1)[0][0]
