"""Tokenizers that cut the prompt in another way."""

from __future__ import annotations

from dataclasses import replace

from numpy.random import Generator
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from fixtures.tokenizer import SPECIAL, vocabulary
from rosetta.bench.case import Cause, NotHere, Plant, Shown, Subject
from rosetta.bench.kinds._choosing import one
from rosetta.bench.pairs import draw_prompt

# Published tokenizer.json files: Qwen/Qwen2-0.5B and meta-llama/Meta-Llama-3-8B.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = {"qwen2": _WORDS % "", "llama-bpe": _WORDS % "{1,3}"}
"""Name -> the expression that it stands for."""


def with_prompt(rng: Generator, subject: Subject) -> Subject:
    """The same pair, run on a text that both sides tokenize."""
    prompt = draw_prompt(rng)
    if rng.random() < 0.15:
        prompt = SPECIAL[0] + prompt
    return replace(subject, prompt=prompt, ids=tuple(encode(prompt)))


def encode(prompt: str, words: str | None = None) -> list[int]:
    """What the clean tokenizer makes of a text, by the tokenizers library itself.

    Args:
        prompt: the text.
        words: another expression that cuts it into words.
    """
    tokenizer = Tokenizer.from_str(vocabulary().json)
    if words is not None:
        split = Split(Regex(words), "isolated")
        tokenizer.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    return list(tokenizer.encode(prompt).ids)


def exchanged(rng: Generator, subject: Subject) -> Plant:
    """Two entries of the vocabulary exchanged, one of them in the prompt."""
    first = one(rng, [i for i in subject.ids if i >= len(SPECIAL)])
    second = one(rng, [i for i in range(len(SPECIAL), len(vocabulary().tokens)) if i not in subject.ids])
    return _plant("vocabulary", f"tokens_exchanged:{first}:{second}")


def merges_lost(rng: Generator, subject: Subject) -> Plant:
    """All merges lost, or the later half of them, where the prompt needs some of these."""
    kept = one(rng, (0, len(vocabulary().merges) // 2))
    first_lost = len(SPECIAL) + 256 + kept
    if not any(i >= first_lost for i in subject.ids):
        raise NotHere
    return _plant("merges", f"merges_lost:{kept}")


def pre_tokenizer(rng: Generator, subject: Subject) -> Plant:
    """The name of another way to cut text into words."""
    _needs_keys(subject)
    name = one(rng, list(PRE_TOKENIZERS))
    made = _plant("pre_tokenizer", f"pre_tokenizer:{name}")
    assert subject.prompt is not None
    differs = encode(subject.prompt, PRE_TOKENIZERS[name]) != encode(subject.prompt)
    return replace(made, shown=Shown.yes if differs else Shown.latent)


def bos_added(rng: Generator, subject: Subject) -> Plant:
    """A BOS in front that does not belong there."""
    _needs_keys(subject)
    return _plant("bos", "bos_added")


def special_token_lost(rng: Generator, subject: Subject) -> Plant:
    """A control token that has become an ordinary one, spelled in the prompt."""
    _needs_keys(subject)
    if not any(i < len(SPECIAL) for i in subject.ids):
        raise NotHere
    return _plant("special_tokens", f"special_token_lost:{next(i for i in subject.ids if i < len(SPECIAL))}")


def _plant(kind: str, fault: str) -> Plant:
    full = f"tokenizer.{kind}"
    return Plant(full, (fault,), (Cause((full,)),), "tokens", frozenset({"tokenizer"}))


def _needs_keys(subject: Subject) -> None:
    if subject.container == "hf":
        raise NotHere


KINDS = {
    "tokenizer.vocabulary": exchanged,
    "tokenizer.merges": merges_lost,
    "tokenizer.pre_tokenizer": pre_tokenizer,
    "tokenizer.special_tokens": special_token_lost,
    "tokenizer.bos": bos_added,
}
