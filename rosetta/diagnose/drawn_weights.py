"""Weights that a runtime found in no file and filled with random numbers: what it computes then is nobody's model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rosetta.compare.results import Finding, Side
from rosetta.model import Model

KIND = "value.missing"


def with_drawn_weights(findings: Iterable[Finding], models: Mapping[Side, Model]) -> list[Finding]:
    """The findings, one in front for each side whose runtime drew weights: what its stages show besides, or nothing
    explains, follows from that. Where the other side lacks weights as well, that is said already."""
    found = list(findings)
    for finding in drawn_findings(models):
        found = [
            one for one in found if one.latent or (one.side != finding.side and one.kind != "unexplained")
        ]
        if not any(one.kind == KIND and not one.latent for one in found):
            found.insert(0, finding)
    return found


def drawn_findings(models: Mapping[Side, Model]) -> Iterator[Finding]:
    """A finding for each side whose run was observed and says so."""
    for side, model in models.items():
        facts = model.container.metadata
        drawn = facts.get("drawn") if model.container.kind == "trace" else None
        if not isinstance(drawn, list) or not drawn:
            continue
        runtime, name = facts.get("runtime", "the runtime"), str(drawn[0])
        more = f" and {len(drawn) - 1:,} more" if len(drawn) > 1 else ""
        yield Finding(
            kind=KIND,
            side=side,
            tensor=name,
            message=f"{runtime} found no {name}{more} in the files, and went on with random numbers in their place",
            recommendation=f"see under which names, or in which packed form, the files hold them, and what config.json "
            f"tells {runtime} of that",
            status="confirmed",
        )
