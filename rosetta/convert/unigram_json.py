"""SentencePiece's unigram model as a tokenizer.json has it."""

from __future__ import annotations

import base64
from typing import Any

from rosetta.tokenizer.json_steps import SPACE
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

NO_TEXT = "\ufdd0"  # a noncharacter: a piece that begins with it stands in no text
RUNS = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
ENDS = {"type": "Strip", "strip_left": True, "strip_right": True}


def steps(facts: Vocabulary) -> dict[str, Any]:
    """Normaliser, pre-tokenizer and decoder."""
    charsmap = base64.b64encode(facts.charsmap).decode()
    before = [
        *([{"type": "Precompiled", "precompiled_charsmap": charsmap}] if charsmap else ()),
        *([RUNS, ENDS] if facts.remove_extra_spaces else ()),
    ]
    scheme = "always" if facts.add_space_prefix or facts.remove_extra_spaces else "never"
    spaces = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False}
    return {
        "normalizer": {"type": "Sequence", "normalizers": before} if before else None,
        "pre_tokenizer": spaces,
        "decoder": {**spaces, "split": True},
    }


def model(facts: Vocabulary, kept: list[int]) -> dict[str, Any]:
    """The pieces and what each scores; every id needs one, and what is no token is a text that never comes.

    Args:
        facts: the vocabulary.
        kept: ids of tokens that are no padding.
    """
    last = max(kept, default=-1) + 1
    there = set(kept)
    pieces = [
        [facts.tokens[id] if id in there else f"{NO_TEXT}{id}", float(facts.scores[id])] for id in range(last)
    ]
    return {
        "type": "Unigram",
        "unk_id": facts.special_ids.get("unknown"),
        "vocab": pieces,
        "byte_fallback": facts.byte_fallback and any(kind == TokenType.BYTE for kind in facts.types),
    }
