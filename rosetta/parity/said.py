"""One side's part in each prompt: the prompt in its own tokens, and what it goes on with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rosetta.compare.listener import Listener
from rosetta.errors import UnsupportedError, UsageError
from rosetta.parity.options import ParityOptions
from rosetta.parity.prompts import Prompt
from rosetta.parity.results import Cause
from rosetta.parity.sides import Side
from rosetta.parity.speech import Speech, speak
from rosetta.runtimes.decoding import RuntimeFailed
from rosetta.runtimes.observed.capture import Facts, Failure


@dataclass
class Said:
    """One side's part in one prompt.

    Args:
        side, prompt: which.
        rendered: the text that was encoded.
        ids: of the prompt.
        speech: what it said; None where it could not.
        failure: why.
        facts: of its runtime.
    """

    side: Side
    prompt: Prompt
    rendered: str | None
    ids: list[int]
    speech: Speech | None = None
    failure: Failure | None = None
    facts: Facts | None = None


def all_said(side: Side, prompts: Sequence[Prompt], options: ParityOptions, listener: Listener) -> list[Said]:
    """What one side says to all prompts; its model is held only meanwhile."""
    column = [_asked(side, prompt, options) for prompt in prompts]
    room = max(len(one.ids) for one in column) + options.generate - 1  # the last token said is not fed
    opened = None
    for done, one in enumerate(column):
        listener.working(f"{side.operand} goes on with {one.prompt.id}", done, len(column))
        try:
            opened = opened or side.opened(room)
            one.facts = opened.facts
            one.speech = speak(opened, one.ids, options.generate, side.stops)
        except RuntimeFailed as error:
            one.failure = error.failure
            if error.failure.kind == "load":
                raise UnsupportedError(
                    f"{side.runtime} does not run it: {error.failure.message}",
                    file=side.path,
                    remedy="see what it says of the file by itself",
                ) from error
            if opened is not None:
                opened.close()  # a process that died; the next prompt may fare better
            opened = None
    if opened is not None:
        opened.close()
    return column


def _asked(side: Side, prompt: Prompt, options: ParityOptions) -> Said:
    """A prompt in a side's own tokens.

    Raises:
        UsageError: it has none, or no template for a chat.
    """
    if prompt.ids is not None and not options.chat:
        return Said(side, prompt, prompt.text, list(prompt.ids))
    if side.tokenizer is None:
        raise UsageError("has no tokenizer", file=side.path, remedy='give prompts as {"ids": [17, 10]}')
    text = side.rendered(prompt) if options.chat else prompt.text
    if text is None:
        raise UsageError("has no chat template", file=side.path, remedy="leave out --chat")
    ids = side.ids_of(text, chat=options.chat)
    if not ids:
        raise UsageError(
            f"the prompt {prompt.id!r} has no tokens", file=side.path, remedy="give a longer one"
        )
    return Said(side, prompt, text, ids)


def failures(said: Sequence[Sequence[Said]]) -> Iterator[Cause]:
    """Runtimes that ended: once a side."""
    for column in said:
        failed = [one for one in column if one.failure is not None]
        for one in failed[:1]:
            assert one.failure is not None
            yield Cause(
                kind="runtime.crash",
                side=one.side.operand,
                prompt=one.prompt.id,
                stage=None,
                message=f"{one.failure.message}, at {len(failed)} of {len(column)} prompts",
                recommendation="report it to the runtime with the file and what it printed",
                status="confirmed",
                printed=one.failure.printed or None,
            )
