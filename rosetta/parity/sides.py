"""One side of a parity run: the operand, its tokenizer and template, what ends its texts, what runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rosetta.compare.options import TRACE, live
from rosetta.containers import Container, open_container, open_operand
from rosetta.errors import UsageError
from rosetta.parity.prompts import Prompt
from rosetta.runtimes.decoding import Decoder, decoder
from rosetta.runtimes.live import options_of
from rosetta.sources import located, located_here
from rosetta.tokenizer import Tokenizer, load_tokenizer
from rosetta.tokenizer.chat_template import chat_template, named_tokens, rendered
from rosetta.tokenizer.folder_files import json_file

ENDS = ("eos", "eot", "eom")  # special tokens that end a text  # llama-vocab.cpp, special_eog_ids
OURS = "torch"


@dataclass(frozen=True)
class Side:
    """One side.

    Args:
        operand: as given.
        runtime: `torch`, `llamacpp`, `transformers`.
        path: the file or folder.
        container: open, for what it says beside the weights.
        tokenizer: its own, or the one lent to it.
        lent: the operand whose tokenizer it has; None: its own.
        options: of its runtime.
    """

    operand: str
    runtime: str
    path: Path
    container: Container
    tokenizer: Tokenizer | None
    lent: str | None
    options: Mapping[str, Any]

    @property
    def stops(self) -> frozenset[int]:
        """Tokens that end a text."""
        if self.container.kind == "huggingface":
            stated = json_file(self.path / "generation_config.json").get("eos_token_id")
            found = stated if isinstance(stated, list) else [stated]
            ids = frozenset(i for i in found if type(i) is int)
            if ids:
                return ids
        special = {} if self.tokenizer is None else self.tokenizer.facts.special_ids
        return frozenset(i for name in ENDS if (i := special.get(name)) is not None)

    def opened(self, tokens: int) -> Decoder:
        """What runs it, with room for so many tokens."""
        return decoder(self.runtime, self.path, tokens, self.options)

    def rendered(self, prompt: Prompt) -> str | None:
        """The prompt as a question to an assistant, in the side's own template; None where it has none."""
        template = chat_template(self.container)
        if template is None or prompt.text is None:
            return None
        return rendered(template, ({"role": "user", "content": prompt.text},), named_tokens(self.tokenizer))

    def ids_of(self, text: str, *, chat: bool) -> list[int]:
        """A text in the side's tokens.

        Args:
            text: a prompt; of a chat, as the template renders it.
            chat: whether the template has already written what begins a text. transformers then adds nothing,
                llama.cpp begins it as the file says, and not twice.
        """
        assert self.tokenizer is not None
        ids, facts = self.tokenizer.encode(text), self.tokenizer.facts
        if not chat:
            return ids
        bos, eos = facts.special_ids.get("bos"), facts.special_ids.get("eos")
        begins, ends = (i is not None and bool(facts.tokens[i]) for i in (bos, eos))
        written = begins and text.startswith(facts.tokens[bos])  # type: ignore[index]
        theirs = self.container.kind == "huggingface"
        if facts.add_bos and ids[:1] == [bos] and (theirs or written):
            ids = ids[1:]
        if facts.add_eos and ids[-1:] == [eos] and not (ends and text.endswith(facts.tokens[eos])):  # type: ignore[index]
            ids = ids[:-1]
        return ids

    def text_of(self, ids: list[int]) -> str | None:
        """What was said, without what ended it; None without a tokenizer."""
        if self.tokenizer is None:
            return None
        while ids and ids[-1] in self.stops:
            ids = ids[:-1]
        return self.tokenizer.decode([i for i in ids if i < self.tokenizer.size])


def open_sides(operands: list[str], options: Mapping[str, str]) -> list[Side]:
    """All sides; one without a tokenizer takes the first other's.

    Args:
        operands: as given.
        options: of runtimes, those of all together.

    Raises:
        RosettaError: an operand cannot be opened.
        UsageError: one is a recorded run.
    """
    sides = [_open(operand, options) for operand in operands]
    lender = next((side for side in sides if side.tokenizer is not None), None)
    if lender is None:
        return sides
    return [
        side if side.tokenizer is not None else replace(side, tokenizer=lender.tokenizer, lent=lender.operand)
        for side in sides
    ]


def _open(operand: str, options: Mapping[str, str]) -> Side:
    if operand.startswith(TRACE):
        raise UsageError("a recorded run says nothing new", file=operand, remedy="name a model")
    runtime, path = live(operand) or (OURS, operand)
    place = located(path) if runtime == OURS else located_here(path, runtime)
    container = open_operand(place) if runtime == OURS else open_container(place)
    own = options_of(runtime, options) if runtime != OURS else {}
    return Side(operand, runtime, place, container, load_tokenizer(container), None, own)
