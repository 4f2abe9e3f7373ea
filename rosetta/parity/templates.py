"""The sides' chat templates, held to each other by what they make of the prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rosetta.parity.prompts import Prompt
from rosetta.parity.results import Cause
from rosetta.parity.sides import Side

AROUND = (12, 24)  # characters before and after the place where two texts part


def template_causes(sides: Sequence[Side], prompts: Sequence[Prompt], believes_left: bool) -> Iterator[Cause]:
    """Sides whose template writes a prompt otherwise than the one they are held to."""
    first, *others = sides
    for other in others:
        side, believed = (other, first) if believes_left else (first, other)
        unlike = [
            (prompt, mine, theirs)
            for prompt in prompts
            if (mine := side.rendered(prompt)) != (theirs := believed.rendered(prompt))
        ]
        if not unlike:
            continue
        prompt, mine, theirs = unlike[0]
        yield Cause(
            kind="tokenizer.chat_template",
            side=side.operand,
            prompt=prompt.id,
            stage="tokens",
            message=f"its template writes {len(unlike)} of {len(prompts)} prompts otherwise: "
            f"{parted(mine or '', theirs or '')}",
            recommendation=f"embed the template of {believed.operand}",
            status="confirmed",
        )


def parted(a: str, b: str) -> str:
    """Where two texts part, in words.

    >>> parted("<user>hi", "<user> hi")
    "from character 6 on 'hi' for ' hi'"
    """
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    before, after = AROUND
    start = at if at < before else at - before
    return f"from character {at} on {a[start : at + after]!r} for {b[start : at + after]!r}"
