"""BERT's word pieces as a tokenizer.json has them."""

from __future__ import annotations

from typing import Any

from rosetta.tokenizer.json_steps import SPACE
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

PREFIX = "##"
WHOLE = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
LONGEST_WORD = 1 << 20  # characters; llama.cpp has no bound


def steps(facts: Vocabulary) -> dict[str, Any]:
    """Normaliser, pre-tokenizer and decoder."""
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": facts.strip_accents,
            "lowercase": facts.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": False},
    }


def model(facts: Vocabulary, kept: list[int]) -> dict[str, Any]:
    """The pieces: what begins a word plainly, what goes on with one behind the prefix.

    Args:
        facts: the vocabulary.
        kept: ids of tokens that are no padding.
    """
    unknown = facts.special_ids.get("unknown")
    return {
        "type": "WordPiece",
        "unk_token": "[UNK]" if unknown is None else facts.tokens[unknown],
        "continuing_subword_prefix": PREFIX,
        "max_input_chars_per_word": LONGEST_WORD,
        "vocab": {_spelt(facts, id): id for id in kept},
    }


def _spelt(facts: Vocabulary, id: int) -> str:
    token = facts.tokens[id]
    if int(facts.types[id]) in WHOLE:
        return token
    return token.removeprefix(SPACE) if token.startswith(SPACE) else PREFIX + token
