"""What the steps of a tokenizer.json say in GGUF's words, of the two models that are no byte pairs: unigrams and word
pieces. Of steps that GGUF has no word for nothing is said: whoever writes a file tries its texts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.tokenizer.vocabulary import TokenType

SPACE = "▁"
# Tokens that are looked for in a text as they stand.
_WHOLE = frozenset((TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED))
_ADDED_SPACES = (" ", SPACE)

Step = Mapping[str, Any]


def facts_of_steps(parsed: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Fields of `Vocabulary` that a tokenizer.json states: none where its model is of another kind.

    Args:
        parsed: the whole file.
        size: how many tokens there are, added ones too.
    """
    model = parsed.get("model")
    kind = model.get("type") if isinstance(model, Mapping) else None
    if kind == "Unigram":
        return _unigram(parsed, model, size)
    if kind == "WordPiece":
        return _word_pieces(parsed)
    return {"lowercase": any(step.get("type") == "Lowercase" for step in _steps(parsed, "normalizer"))}


def spaced_pieces(tokens: Sequence[str], types: Sequence[int] | NDArray[np.int32], prefix: str) -> list[str]:
    """Word pieces as GGUF spells them: ▁ before what begins a word, nothing before what goes on with one.

    Args:
        tokens, types: of a folder.
        prefix: what it puts before a piece that goes on.
    """
    return [
        token if kind in _WHOLE else token.removeprefix(prefix) if token.startswith(prefix) else SPACE + token
        for token, kind in zip(tokens, types, strict=True)
    ]


def _unigram(parsed: Mapping[str, Any], model: Any, size: int) -> dict[str, Any]:
    """SentencePiece's unigram: its scores, its normaliser, and what it makes of spaces."""
    before, cuts = list(_steps(parsed, "normalizer")), list(_steps(parsed, "pre_tokenizer"))
    scores = np.zeros(size, np.float32)
    stated = [piece[1] for piece in model.get("vocab") or () if isinstance(piece, list) and len(piece) == 2][
        :size
    ]
    scores[: len(stated)] = stated
    return {
        "scores": scores,
        "charsmap": next((data for step in before if (data := _charsmap(step))), b""),
        "add_space_prefix": any(map(_adds_space, (*before, *cuts))),
        "remove_extra_spaces": any(map(_merges_spaces, (*before, *cuts))),
        "byte_fallback": model.get("byte_fallback") is True,
    }


def _word_pieces(parsed: Mapping[str, Any]) -> dict[str, Any]:
    """BERT's normaliser, in one step or in several; accents go with the capitals where nothing is said of them."""
    before = list(_steps(parsed, "normalizer"))
    kinds = [step.get("type") for step in before]
    whole = next((step for step in before if step.get("type") == "BertNormalizer"), {})
    model = parsed["model"]
    lowercase = whole.get("lowercase", True) is True if whole else "Lowercase" in kinds
    stated = whole.get("strip_accents")
    return {
        "continuing_prefix": str(model.get("continuing_subword_prefix", "##")),
        "lowercase": lowercase,
        "strip_accents": stated
        if isinstance(stated, bool)
        else bool(whole and lowercase) or "StripAccents" in kinds,
    }


def _steps(parsed: Mapping[str, Any], name: str) -> Iterator[Step]:
    """The steps in order, those of a sequence one by one."""
    waiting = [parsed.get(name)]
    while waiting:
        step = waiting.pop(0)
        if isinstance(step, Mapping):
            yield step
            inner = step.get("normalizers") or step.get("pretokenizers")
            waiting = [*(inner if isinstance(inner, list) else ()), *waiting]


def has_broken_charsmap(parsed: Mapping[str, Any]) -> bool:
    """Whether a step of a tokenizer.json has a normaliser that is no base64."""
    try:
        for step in _steps(parsed, "normalizer"):
            _charsmap(step)
    except binascii.Error:
        return True
    return False


def _charsmap(step: Step) -> bytes:
    text = step.get("precompiled_charsmap")
    return base64.b64decode(text, validate=True) if isinstance(text, str) else b""


def _adds_space(step: Step) -> bool:
    if step.get("type") == "Metaspace":
        return step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space") is not False
    return step.get("type") == "Prepend" and step.get("prepend") in _ADDED_SPACES


def _merges_spaces(step: Step) -> bool:
    pattern = step.get("pattern")
    runs = (
        step.get("type") == "Replace" and isinstance(pattern, Mapping) and "{2,}" in str(pattern.get("Regex"))
    )
    return runs or step.get("type") == "WhitespaceSplit"
