"""GGUF's and APR's embedded tokenizers -> Vocabulary, with llama.cpp's defaults for what is left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.container import Container
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.tokenizer.guesses import likely_pre_tokenizer
from rosetta.tokenizer.metadata import REMEDY, Metadata
from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from rosetta.tokenizer.vocabulary import Kind, Spelling, TokenizerFinding, TokenType, Vocabulary, ids_of

_HEX_BYTES = frozenset(f"{byte:02x}" for byte in range(256))
_ENOUGH_HEX_BYTES = 200  # of 256; GPT-2's, Llama 3's and Falcon's own vocabularies hold 136 by chance

Number = TypeVar("Number", np.int32, np.float32)

_KINDS: dict[str, Kind] = {  # tokenizer.ggml.model, tokenizer.model or tokenizer.model_type, lower case
    "gpt2": "bpe", "bpe": "bpe", "gemma4": "bpe", "llama": "spm", "spm": "spm", "sentencepiece": "spm",
    "t5": "unigram", "unigram": "unigram", "bert": "wordpiece", "wordpiece": "wordpiece",
    "whitespace": "whitespace",
}  # fmt: skip
KNOWN_ELSEWHERE = {
    "rwkv": "RWKV",
    "plamo2": "PLaMo-2",
    "hybriddna": "hybrid DNA",
    "test": "llama.cpp's test",
}
"""Kinds that llama.cpp encodes with and rosetta does not."""
_NONE = ("none", "no_vocab")

# llama-vocab.cpp, llama_vocab::impl::load: ids where the file names none
_DEFAULT_IDS: dict[Kind, dict[str, int]] = {
    "bpe": {"bos": 11, "eos": 11},
    "hex": {},
    "whitespace": {"bos": 11, "eos": 11},
    "spm": {"bos": 1, "eos": 2, "unknown": 0},
    "unigram": {"eos": 1, "unknown": 2, "padding": 0},
    "wordpiece": {"bos": 101, "unknown": 100, "separator": 102, "padding": 0, "mask": 103},
}
_GGUF_IDS = {
    "bos": "bos", "eos": "eos", "eot": "eot", "eom": "eom", "unknown": "unknown", "separator": "seperator",
    "padding": "padding", "mask": "mask", "cls": "cls", "fim_pre": "fim_pre", "fim_suf": "fim_suf",
    "fim_mid": "fim_mid", "fim_pad": "fim_pad", "fim_rep": "fim_rep", "fim_sep": "fim_sep",
}  # fmt: skip
_APR_PLACES = {
    f"tokenizer.ggml.{key}": f"tokenizer.{own}"
    for key, own in {
        "tokens": "vocabulary", "merges": "merges", "pre": "pre_type", "token_type": "token_type",
        "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id",
        "add_bos_token": "add_bos_token", "add_eos_token": "add_eos_token",
    }.items()
}  # fmt: skip
_APR_IDS = {role: _GGUF_IDS[role] for role in ("bos", "eos", "padding", "unknown", "separator")}
_OLD_GGUF_IDS = {"fim_pre": "prefix", "fim_suf": "suffix", "fim_mid": "middle"}


def gguf_vocabulary(container: Container) -> Vocabulary | None:
    """What a GGUF file embeds; None where it embeds nothing.

    Raises:
        DamagedFileError: keys of the wrong type, lists of the wrong length.
        UnsupportedError: a kind of vocabulary that is not read.
    """
    facts = Metadata(container.metadata, container.path)
    model = facts.text("tokenizer.ggml.model")
    tokens = facts.texts("tokenizer.ggml.tokens")
    if model in _NONE or (model is None and tokens is None):
        return None
    if model is None or not tokens:
        missing = "tokenizer.ggml.model" if model is None else "tokenizer.ggml.tokens"
        raise facts.damaged(missing, "is missing or empty, though the file has other tokenizer keys")
    if not all(tokens):
        tokens = [token or f"[EMPTY_{index}]" for index, token in enumerate(tokens)]
    types = facts.numbers("tokenizer.ggml.token_type", np.int32)
    if types is None:
        types = np.full(len(tokens), TokenType.NORMAL, np.int32)
    charsmap = facts.numbers("tokenizer.ggml.precompiled_charsmap", np.uint8)
    ids = {role: facts.integer(f"tokenizer.ggml.{key}_token_id") for role, key in _GGUF_IDS.items()}
    for role, key in _OLD_GGUF_IDS.items():
        ids[role] = ids[role] if ids[role] is not None else facts.integer(f"tokenizer.ggml.{key}_token_id")
    lowercase = facts.flag("tokenizer.ggml.normalizer.lowercase", True)
    vocabulary = Vocabulary(
        kind=_kind(facts, model, tokens),
        model=model,
        tokens=tokens,
        declared_pre=facts.text("tokenizer.ggml.pre"),
        scores=_scores(facts, "tokenizer.ggml.scores", len(tokens)),
        types=_fitting(facts, "tokenizer.ggml.token_type", types, len(tokens)),
        merges=facts.texts("tokenizer.ggml.merges") or (),
        remove_extra_spaces=facts.flag("tokenizer.ggml.remove_extra_whitespaces", False),
        charsmap=b"" if charsmap is None else charsmap.tobytes(),
        lowercase=lowercase,
        strip_accents=facts.flag("tokenizer.ggml.normalizer.strip_accents", lowercase),
        name=facts.text("general.name") or "",
        architecture=container.architecture or "",
    )
    if (
        vocabulary.kind in ("bpe", "whitespace")
        and not vocabulary.merges
        and vocabulary.declared_pre != "kimi-k2"
    ):
        vocabulary = replace(vocabulary, findings=(_without_merges("tokenizer.ggml.merges"),))
    return _completed(facts, vocabulary, ids, "tokenizer.ggml.", "tokenizer.ggml.pre")


def _without_merges(key: str) -> TokenizerFinding:
    return TokenizerFinding(
        kind="tokenizer.merges",
        key=key,
        declared=None,
        likely=None,
        message=f"{key} is missing; llama.cpp refuses the file, and here every character is a token by itself",
        recommendation=f"write {key}: byte pairs cannot be merged without",
    )


def apr_vocabulary(container: Container) -> Vocabulary | None:
    """What an APR file embeds; None where it embeds nothing.

    Raises:
        DamagedFileError: keys of the wrong type, lists of the wrong length.
        UnsupportedError: a kind of vocabulary that is not read.
    """
    facts = Metadata(container.metadata, container.path)
    tokens = facts.texts("tokenizer.vocabulary")
    if not tokens:
        return None
    merges = facts.texts("tokenizer.merges") or ()
    scored = "tokenizer.scores" in facts.values and not merges
    model = facts.text("tokenizer.model_type") or facts.text("tokenizer.model")
    if model is None:
        model = "llama" if scored else "gpt2"
    notes: tuple[str, ...] = ()
    types = facts.numbers("tokenizer.token_type", np.int32)
    guessed: frozenset[int] = frozenset()
    if types is None:
        types = _types_by_shape(tokens)
        guessed = frozenset(np.flatnonzero(types == TokenType.CONTROL).tolist())
        count = int((types == TokenType.CONTROL).sum())
        notes = (f"no tokenizer.token_type: {count} special tokens were recognised by their shape",)
    architecture = container.architecture or ""
    charsmap = facts.numbers("tokenizer.precompiled_charsmap", np.uint8)
    lowercase = facts.flag("tokenizer.normalizer.lowercase", True)
    vocabulary = Vocabulary(
        kind=_kind(facts, model, tokens),
        model=model,
        tokens=tokens,
        remove_extra_spaces=facts.flag("tokenizer.remove_extra_whitespaces", False),
        charsmap=b"" if charsmap is None else charsmap.tobytes(),
        lowercase=lowercase,
        strip_accents=facts.flag("tokenizer.normalizer.strip_accents", lowercase),
        declared_pre=facts.text("tokenizer.pre_type"),
        scores=_scores(facts, "tokenizer.scores", len(tokens)),
        types=_fitting(facts, "tokenizer.token_type", types, len(tokens)),
        typed_either_way=guessed,
        merges=merges,
        byte_fallback=True,
        places=_APR_PLACES,
        architecture=architecture,
        notes=notes,
    )
    if vocabulary.kind == "bpe" and not merges:
        vocabulary = replace(vocabulary, findings=(_without_merges("tokenizer.merges"),))
    ids = {role: facts.integer(f"tokenizer.{key}_token_id") for role, key in _APR_IDS.items()}
    return _completed(facts, vocabulary, ids, "tokenizer.", "tokenizer.pre_type")


def _completed(
    facts: Metadata, vocabulary: Vocabulary, ids: dict[str, int | None], prefix: str, pre_key: str
) -> Vocabulary:
    """The vocabulary with pre-tokenizer, special ids and flags, and with what is to be said of them."""
    notes, findings = list(vocabulary.notes), list(vocabulary.findings)
    size, kind = len(vocabulary.tokens), vocabulary.kind
    pre = vocabulary.declared_pre
    defaults = {} if prefix == "tokenizer." and kind == "bpe" else dict(_DEFAULT_IDS[kind])
    add_bos, add_eos, force_bos = kind in ("spm", "wordpiece"), kind == "unigram", False
    if kind in ("bpe", "hex", "whitespace"):
        pre = _pre_tokenizer(vocabulary, pre_key, notes, findings)
        chosen = PRE_TOKENIZERS[pre] if pre is not None else None
        if chosen is not None:
            add_bos, force_bos = chosen.add_bos, chosen.force_bos
            if vocabulary.model == "gemma4":
                defaults = {}
            elif chosen.default_bos is None:
                defaults.pop("bos", None)
    else:
        pre = None
    spelling: Spelling = "hex" if kind == "hex" else "bytes" if kind == "bpe" else "plain"
    if kind == "bpe" and not PRE_TOKENIZERS[pre or "default"].byte_level:
        spelling = "plain"
    special = {role: token for role, token in defaults.items() if token < size}
    for role, token in ids.items():
        if token is None:
            continue
        if 0 <= token < size:
            special[role] = token
        else:
            notes.append(f"{prefix}{role}_token_id is {token}, beyond the {size:,} tokens, and is ignored")
    if kind == "hex" and "unknown" not in special and "<unk>" in vocabulary.tokens:
        special["unknown"] = vocabulary.tokens.index("<unk>")
    repeated = size - len(set(vocabulary.tokens))
    if repeated:
        notes.append(f"{repeated:,} tokens stand twice: the first id of each is used")
    return replace(
        vocabulary,
        pre=pre,
        add_bos_by_pre=pre is not None and f"{prefix}add_bos_token" not in facts,
        spelling=spelling,
        special_ids=special,
        add_bos=facts.flag(f"{prefix}add_bos_token", add_bos) or force_bos,
        add_eos=facts.flag(f"{prefix}add_eos_token", add_eos),
        add_space_prefix=facts.flag(f"{prefix}add_space_prefix", kind == "spm"),
        lowercase=vocabulary.lowercase
        and not (kind == "whitespace" and f"{prefix}normalizer.lowercase" not in facts.values),
        notes=tuple(notes),
        findings=tuple(findings),
    )


def _pre_tokenizer(
    vocabulary: Vocabulary, key: str, notes: list[str], findings: list[TokenizerFinding]
) -> str | None:
    """The pre-tokenizer to use; what is wrong with the one declared goes to the notes and findings."""
    declared = vocabulary.declared_pre
    if vocabulary.model == "gemma4":
        return "gemma4"
    if declared in PRE_TOKENIZERS:
        return declared
    if vocabulary.kind == "hex":
        return None
    guess = likely_pre_tokenizer(
        declared, ids_of(vocabulary.tokens), vocabulary.tokens, vocabulary.architecture
    )
    name, reason = guess or ("default", "nothing in the file tells which")
    if not declared:
        if key == "tokenizer.ggml.pre":
            notes.append(
                "no tokenizer.ggml.pre: llama.cpp falls back to 'default', and so does this"
                + (f"; {reason}, so '{name}' is likely meant" if guess else "")
            )
            return "default"
        notes.append(f"no {key}: '{name}' is used, because {reason}")
        return name
    findings.append(
        TokenizerFinding(
            kind="tokenizer.pre_tokenizer",
            key=key,
            declared=declared,
            likely=name if guess else None,
            message=f"{key} is '{declared}', which llama.cpp does not know"
            + (f"; likely '{name}': {reason}" if guess else f"; {reason}"),
            recommendation=f"set {key} to '{name}'" if guess else f"set {key} to a name that llama.cpp knows",
        )
    )
    return name


def _kind(facts: Metadata, model: str, tokens: Sequence[str]) -> Kind:
    """The algorithm; a vocabulary of hex bytes is told by its tokens before anything is tried on it."""
    declared = _KINDS.get(model.lower())
    if declared in (None, "bpe") and has_hex_bytes(tokens):
        return "hex"
    if declared is None:
        known = KNOWN_ELSEWHERE.get(model.lower())
        named = f"'{model}' ({known})" if known else f"'{model}'"
        raise UnsupportedError(
            f"the vocabulary is of kind {named}, which is not read",
            file=facts.path,
            remedy=f"give the token ids with --tokens; kinds that are read: {', '.join(sorted(_KINDS))}",
        )
    return declared


def has_hex_bytes(tokens: Iterable[str]) -> bool:
    """Whether a vocabulary spells bytes as two hex digits: counted, for nothing is told by trying."""
    return len(_HEX_BYTES.intersection(tokens)) >= _ENOUGH_HEX_BYTES


def _scores(facts: Metadata, key: str, size: int) -> NDArray[np.float32]:
    scores = facts.numbers(key, np.float32)
    return np.zeros(size, np.float32) if scores is None else _fitting(facts, key, scores, size)


def _fitting(facts: Metadata, key: str, values: NDArray[Number], size: int) -> NDArray[Number]:
    if len(values) < size:
        raise DamagedFileError(
            f"has {len(values):,} entries for {size:,} tokens",
            file=facts.path,
            where=f"key '{key}'",
            remedy=REMEDY,
        )
    return values[:size]


_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_SPECIAL_SHAPE = re.compile(r"<\|.*\|>|</?[a-z_]{1,18}>", re.DOTALL)


def _types_by_shape(tokens: Sequence[str]) -> NDArray[np.int32]:
    """Token types by spelling, as APR's readers tell them: `<|…|>`, `<tag>` and `</tag>` of at most 20
    characters are special."""
    types = np.full(len(tokens), TokenType.NORMAL, np.int32)
    for index, token in enumerate(tokens):
        if not token.startswith("<") or not token.endswith(">"):
            continue
        if _BYTE_TOKEN.fullmatch(token):
            types[index] = TokenType.BYTE
        elif _SPECIAL_SHAPE.fullmatch(token) and (token.startswith("<|") or len(token) <= 20):
            types[index] = TokenType.UNKNOWN if token == "<unk>" else TokenType.CONTROL
    return types
