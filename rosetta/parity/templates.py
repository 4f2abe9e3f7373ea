"""The sides' chat templates, held to each other by what they make of the prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rosetta.diagnose.chat import parted
from rosetta.parity.prompts import Prompt
from rosetta.parity.results import Cause
from rosetta.parity.sides import Side


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
