"""Which tokens are found in a text before anything else, and the cutting of a text at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

_SPACES = " \t\n\v\f\r"  # isspace in the C locale

# llama-vocab.cpp, llama_vocab::impl::load: tokens that are control tokens whatever the file says of them
END_OF_GENERATION = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
)  # fmt: skip
_INFILL = {  # of each only one, and only where the file names none itself
    "fim_pre": (
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
        "<|code_prefix|>", "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
        "<|code_suffix|>", "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
        "<|code_middle|>", "<|middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}  # fmt: skip
_ALWAYS_MATCHED = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")
_END_IS_NO_END = (("<|return|>", "<|call|>"), ("<|return|>", "<|calls|>"), ("<|call|>", "<|flush|>"),
                  ("<|calls|>", "<|flush|>"))  # fmt: skip
_S_IS_NO_END = ("<|tool_response>", "<|plamo:eos|>")
_NAMED = frozenset(
    (
        *END_OF_GENERATION,
        *_ALWAYS_MATCHED,
        *_S_IS_NO_END,
        *(text for texts in _INFILL.values() for text in texts),
    )
)
# Tokens that llama.cpp's converter types as control tokens though their tokenizer calls them no special ones
# (conversion/base.py, does_token_look_special)
_LOOK_SPECIAL = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
_FRAMED = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
TYPED_BY_NAME = {
    "gemma4": dict.fromkeys(
        (
            *(
                "<|channel>",
                "<channel|>",
                "<|tool_call>",
                "<tool_call|>",
                "<|tool_response>",
                "<tool_response|>",
            ),
            '<|"|>',
        ),
        TokenType.USER_DEFINED,
    ),
    "laguna": {"</assistant>": TokenType.CONTROL},
}
"""GGUF's name of an architecture -> tokens whose types llama.cpp's converter gives by name, whatever their flags:
those that a reader of chats waits for, and what ends a turn (conversion/gemma.py, conversion/laguna.py)."""
_UNSTRIPPED = frozenset(("<mask>", "[MASK]", "<unk>", "<s>", "<|endoftext|>"))


def looks_special(token: str) -> bool:
    """Whether llama.cpp's converter takes an added token for a control token by its spelling.

    >>> looks_special("<|im_start|>"), looks_special("<tool_call>")
    (True, False)
    """
    return token in _LOOK_SPECIAL or any(token.startswith(a) and token.endswith(b) for a, b in _FRAMED)


class SpecialTokens:
    """The special tokens of a vocabulary.

    Args:
        vocabulary: whose control, unknown and user-defined tokens they are.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokens = vocabulary.tokens
        self._only_when_special = special_ids(vocabulary)
        longest_first = sorted(
            self._only_when_special, key=lambda token: (-len(tokens[token].encode()), token)
        )
        self._order = [(token, tokens[token]) for token in longest_first if tokens[token]]
        self._left_stripped, self._right_stripped = _stripping(vocabulary, self._only_when_special)

    def __contains__(self, token: int) -> bool:
        return token in self._only_when_special

    def parts(self, text: str, special: bool) -> list[str | int]:
        """Cut a text at its special tokens: the longest token first wherever it stands, then the next.

        Args:
            text: the prompt, or what is left of it.
            special: match control and unknown tokens too; user-defined ones always are.

        Returns:
            Texts and ids in order; no empty text.
        """
        parts: list[str | int] = [text] if text else []
        for token, spelling in self._order:
            if spelling not in text or (self._only_when_special[token] and not special):
                continue
            parts = [piece for part in parts for piece in self._cut(part, token, spelling)]
        return parts

    def _cut(self, part: str | int, token: int, spelling: str) -> Iterator[str | int]:
        if isinstance(part, int):
            yield part
            return
        pieces: Sequence[str] = part.split(spelling)
        for index, piece in enumerate(pieces):
            if index:
                yield token
                piece = piece.lstrip(_SPACES) if token in self._right_stripped else piece
            if token in self._left_stripped and index < len(pieces) - 1:
                piece = piece.rstrip(_SPACES)
            if piece:
                yield piece


def special_ids(vocabulary: Vocabulary) -> dict[int, bool]:
    """Id of a token that is found as a whole -> whether only where special tokens are asked for; what llama.cpp makes
    of the file's types in loading it."""
    types = vocabulary.types
    hidden = np.flatnonzero((types == TokenType.CONTROL) | (types == TokenType.UNKNOWN)).tolist()
    special = dict.fromkeys(hidden, True)
    special |= dict.fromkeys(np.flatnonzero(types == TokenType.USER_DEFINED).tolist(), False)
    ids = _ids(vocabulary, _NAMED)
    for role, spellings in _INFILL.items():
        if role not in vocabulary.special_ids:
            special |= dict.fromkeys(sorted(ids[s] for s in spellings if s in ids)[:1], True)
    special |= {ids[s]: True for s in END_OF_GENERATION if s in ids}
    special |= {ids[s]: False for s in _ALWAYS_MATCHED if s in ids}
    if "<|end|>" in ids and any(a in ids and b in ids for a, b in _END_IS_NO_END):
        special[ids["<|end|>"]] = False
    if "</s>" in ids and any(s in ids for s in _S_IS_NO_END):
        special.pop(ids["</s>"])
    return special


def _ids(vocabulary: Vocabulary, texts: frozenset[str]) -> dict[str, int]:
    """Those of some texts that are tokens, and their ids; of a token that stands twice, the first id."""
    return {text: vocabulary.tokens.index(text) for text in texts.intersection(vocabulary.tokens)}


def _stripping(vocabulary: Vocabulary, special: dict[int, bool]) -> tuple[set[int], set[int]]:
    """Ids that swallow the spaces on their left, and those that do on their right; a few models have them."""
    ids = _ids(vocabulary, _UNSTRIPPED)
    pre, name = vocabulary.declared_pre or "", vocabulary.name.lower()
    if any(part in pre for part in ("jina-v2-de", "jina-v2-es", "jina-v2-code")) or any(
        part in vocabulary.architecture for part in ("nomic-bert-moe", "jina-bert-v3")
    ):
        return {ids["<mask>"]} if "<mask>" in ids else set(), set()
    if "phi-3" in name or "phi3" in name:
        return set(), set(special) - {ids.get(spelling, -1) for spelling in ("<unk>", "<s>", "<|endoftext|>")}
    if "modern-bert" in name:
        return {ids["[MASK]"]} if "[MASK]" in ids else set(), set()
    return set(), set()
