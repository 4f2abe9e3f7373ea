"""A model's tokenizer under GGUF's keys: tokens padded to the rows of the embedding, the pre-tokenizer by its cuts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rosetta.containers.container import Container
from rosetta.containers.huggingface.text_part import text_config
from rosetta.convert.tried_vocabulary import scored_pair_ways, tried, unigram_ways, word_piece_ways
from rosetta.errors import DamagedFileError, RosettaError
from rosetta.model import Model
from rosetta.tokenizer import Tokenizer, load_tokenizer
from rosetta.tokenizer.chat_template import GGUF_KEY, chat_template
from rosetta.tokenizer.check_hashes import CHECK_TEXT, PRE_BY_HASH
from rosetta.tokenizer.encoders import encoder_of
from rosetta.tokenizer.folder_files import file_contents, json_file
from rosetta.tokenizer.json_steps import spaced_pieces
from rosetta.tokenizer.pre_tokenizers import COMMON, PRE_TOKENIZERS
from rosetta.tokenizer.published_cuts import names_alike
from rosetta.tokenizer.sentencepiece_model import read_sentencepiece
from rosetta.tokenizer.special_tokens import TYPED_BY_NAME, looks_special
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

PREFIX = "tokenizer.ggml."
# Ours -> GGUF's keys of the tokens that have a role (gguf-py, Keys.Tokenizer).
ROLES = {
    "bos": "bos", "eos": "eos", "eot": "eot", "eom": "eom", "unknown": "unknown", "separator": "seperator",
    "padding": "padding", "mask": "mask", "cls": "cls", "fim_pre": "fim_pre", "fim_suf": "fim_suf",
    "fim_mid": "fim_mid", "fim_pad": "fim_pad", "fim_rep": "fim_rep", "fim_sep": "fim_sep",
}  # fmt: skip
APR_NAMES = {"tokens": "vocabulary", "pre": "pre_type", "model": "model_type"}
"""GGUF's names of a tokenizer's keys -> those of an `.apr`, where they are others (aprender, converter/write.rs)."""
OF_APRENDER = ("vocab_size", "architecture", "model_name")  # tokenizer.* keys that GGUF has none of
LLAMACPP_MODELS = ("llama", "gpt2", "bert", "t5", "gemma4", "whitespace")
CHARSMAP = "precompiled_charsmap"
OF_CONFIG = {"bos": "bos", "eos": "eos", "pad": "padding", "sep": "separator"}
# tokenizer.json's models -> GGUF's; the first is no model of llama.cpp's.
OF_JSON: dict[str, str | None] = {"WordLevel": None, "Unigram": "t5", "WordPiece": "bert"}
FRAME = {"bos": "cls", "eos": "separator"}
NO_SCORE = -10000.0  # of a row that no token has (conversion/base.py)


@dataclass
class Written:
    """A tokenizer in a file's own form.

    Args:
        keys: in full; none where the source has no tokenizer.
        notes: what is to be known, one sentence each.
        findings: what the file cannot say.
    """

    keys: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def gguf_vocabulary_keys(model: Model) -> Written:
    """The tokenizer of a model as a GGUF file states it.

    Args:
        model: from any container.
    """
    container, rows = model.container, model["vocab_size"]
    if container.kind == "gguf":
        return Written({k: v for k, v in container.metadata.items() if k.startswith("tokenizer.")})
    tokenizer = load_tokenizer(container)
    restated = _restated(container.metadata) if container.kind == "apr" else {}
    if len(restated.get(PREFIX + "tokens", ())) == rows:
        return Written(restated)
    if tokenizer is None:
        return Written({PREFIX + "model": "none"}, ["the source has no tokenizer, and so has the file"])
    written, facts = Written(), tokenizer.facts
    kind = _model_of(facts)
    if kind is None:
        said = f"its tokenizer is a {facts.model}, which is not written: the file has none"
        return Written({PREFIX + "model": "none"}, [], [said])
    tokens, types = _padded(facts, rows, TYPED_BY_NAME.get(model.architecture.name, {}))
    keys: dict[str, Any] = {PREFIX + "model": kind, PREFIX + "pre": "default"}
    if kind == "gpt2":
        pre, reason = pre_tokenizer_of(tokenizer)
        if pre is None:
            written.findings.append(reason)
        keys[PREFIX + "pre"] = pre or "default"
    if kind == "bert":  # of which llama.cpp's converter states the name, and llama.cpp does not read it
        keys[PREFIX + "pre"] = _name_by_hash(tokenizer) or "default"
    respelt = kind == "bert" and facts.continuing_prefix
    keys[PREFIX + "tokens"] = spaced_pieces(tokens, types, facts.continuing_prefix) if respelt else tokens
    if kind in ("llama", "t5"):
        keys[PREFIX + "scores"] = _scores(container, facts, types)
    keys[PREFIX + "token_type"] = np.array(types, np.int32)
    if kind == "gpt2":
        keys[PREFIX + "merges"] = _merges(facts)
    ids = _special_ids(container, facts)
    if kind == "bert":  # of which llama.cpp puts the one before a text and the other behind it
        ids |= {role: ids[other] for role, other in FRAME.items() if role not in ids and other in ids}
    for role, id in ids.items():
        if role in ROLES and 0 <= id < len(tokens):
            keys[f"{PREFIX}{ROLES[role]}_token_id"] = id
    keys[PREFIX + "add_bos_token"], keys[PREFIX + "add_eos_token"] = facts.add_bos, facts.add_eos
    if kind != "gpt2":
        keys, otherwise = tried(tokenizer, _ways(tokenizer, kind, keys), container.path)
        written.findings += [otherwise] if otherwise else []
    template = chat_template(container)
    if template:
        keys[GGUF_KEY] = template
    if len(facts.tokens) < rows:
        missing = rows - len(facts.tokens)
        written.notes.append(
            f"{missing} rows of the embedding have no token and are called [PAD{len(facts.tokens)}]…"
        )
    written.keys = {key: value for key, value in keys.items() if not (isinstance(value, list) and not value)}
    return written


def apr_key(name: str) -> str:
    """What an `.apr` calls a key of a GGUF's tokenizer."""
    return f"tokenizer.{APR_NAMES.get(name, name)}"


def _restated(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a GGUF that an `.apr` with a sound tokenizer states under its own names; none where it names no model
    of llama.cpp's, as one that aprender imported."""
    if apr_key("token_type") not in metadata or metadata.get(apr_key("model")) not in LLAMACPP_MODELS:
        return {}
    names = {own: name for name, own in APR_NAMES.items()}
    keys: dict[str, Any] = {}
    for key, value in metadata.items():
        own = key.removeprefix("tokenizer.")
        if own != key and own not in OF_APRENDER and _fits_a_key(value):
            held = np.asarray(value).astype(np.uint8).tobytes() if own == CHARSMAP else value
            keys[PREFIX + names.get(own, own)] = held
    if metadata.get("chat_template"):
        keys[GGUF_KEY] = metadata["chat_template"]
    return keys


def _fits_a_key(value: Any) -> bool:
    """Whether GGUF has a type for a value: one, or a list of one kind."""
    kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
    return len(kinds) == 1 and kinds <= {str, bool, int, float}


def _model_of(facts: Vocabulary) -> str | None:
    """GGUF's name of the algorithm; None where llama.cpp has none."""
    if facts.kind == "huggingface" and facts.model in OF_JSON:
        return OF_JSON[facts.model]
    if facts.kind == "huggingface":
        return "llama" if facts.spelling == "plain" else "gpt2"
    return {"spm": "llama", "unigram": "t5", "wordpiece": "bert"}.get(facts.kind, "gpt2")


def _ways(tokenizer: Tokenizer, kind: str, keys: dict[str, Any]) -> Iterator[dict[str, Any]]:
    facts = tokenizer.facts
    if kind == "t5":
        return unigram_ways(facts, keys)
    if kind == "bert":
        return word_piece_ways(facts, keys)
    return scored_pair_ways(facts, keys, _writes_space_before(tokenizer))


def pre_tokenizer_of(tokenizer: Tokenizer) -> tuple[str | None, str]:
    """llama.cpp's name of the pre-tokenizer that a byte-level tokenizer cuts by, and how it was told.

    By the hash of what llama.cpp's check text becomes, then by the expressions of its tokenizer.json, then by trying
    which of llama.cpp's ways gives the same ids; None where none does.
    """
    facts = tokenizer.facts
    if facts.declared_pre in PRE_TOKENIZERS:
        return facts.declared_pre, "the source names it"
    name = _name_by_hash(tokenizer)
    if name in PRE_TOKENIZERS:
        return name, "its check text has a known hash"
    bare = tokenizer.encode(CHECK_TEXT, special=False)
    tried: dict[Any, bool] = {}

    def alike(name: str) -> bool:
        way = PRE_TOKENIZERS[name]
        if way.byte_level and way not in tried:
            as_gguf = replace(facts, kind="bpe", spelling="bytes", pre=name, merges=_merges(facts))
            tried[way] = encoder_of(as_gguf).ids(CHECK_TEXT, True) == bare
        return tried.get(way, False)

    if facts.pre in PRE_TOKENIZERS:
        # Names of the same cuts differ in whether a word that is a token stays whole.
        same = sorted(
            names_alike(facts.pre),
            key=lambda name: (PRE_TOKENIZERS[name].ignore_merges != facts.ignore_merges, name != facts.pre),
        )
        return next(filter(alike, same), same[0]), "it cuts by a known expression"
    for name in filter(alike, dict.fromkeys([*COMMON, *PRE_TOKENIZERS])):
        return name, "it cuts the check text alike"
    return (
        None,
        "its pre-tokenizer is none that llama.cpp has: the file says 'default', which may cut otherwise",
    )


def _name_by_hash(tokenizer: Tokenizer) -> str | None:
    """llama.cpp's name of the vocabulary that makes just these ids of its check text."""
    ids = tokenizer.encode(CHECK_TEXT)
    return PRE_BY_HASH.get(hashlib.sha256(str(ids).encode()).hexdigest())


def _merges(facts: Vocabulary) -> list[str]:
    return list(facts.merges)


def _padded(facts: Vocabulary, rows: int, by_name: Mapping[str, TokenType]) -> tuple[list[str], list[int]]:
    """Tokens and their types, as many as the embedding has rows, each another: what no token has is padding.

    Args:
        facts: of the tokenizer.
        rows: of the embedding.
        by_name: tokens that llama.cpp's converter types otherwise than their flags say.

    Raises:
        DamagedFileError: there are more tokens than rows.
    """
    if len(facts.tokens) > rows:
        over = [id for id in range(rows, len(facts.tokens)) if facts.types[id] != TokenType.UNUSED]
        if over:
            raise DamagedFileError(
                f"the tokenizer has {len(facts.tokens):,} tokens, the embedding {rows:,} rows",
                remedy="save the model with an embedding of as many rows as there are tokens",
            )
    tokens: list[str] = []
    types: list[int] = []
    seen: set[str] = set()
    for id in range(rows):
        token = facts.tokens[id] if id < len(facts.tokens) else ""
        kind = int(facts.types[id]) if id < len(facts.types) else int(TokenType.UNUSED)
        if not token or token in seen:
            token, kind = f"[PAD{id}]", int(TokenType.UNUSED)
        elif kind == TokenType.USER_DEFINED:
            if looks_special(token):
                kind = int(TokenType.CONTROL)
            else:
                token = token.replace("▁", " ")
        seen.add(token)
        tokens.append(token)
        types.append(int(by_name.get(token, kind)))
    return tokens, types


def _scores(
    container: Container, facts: Vocabulary, types: list[int]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Scores by which pairs are merged or a path is chosen: the source's, those of the SentencePiece model beside its
    tokenizer.json, else as the ids fall, best first."""
    count = len(types)
    scores = -np.arange(count, dtype=np.float32)
    stated = facts if len(facts.scores) and bool(np.any(facts.scores)) else _model_beside(container)
    if stated is not None:
        scores[: len(stated.scores)] = stated.scores[:count]
    scores[np.array(types) == TokenType.UNUSED] = NO_SCORE
    return scores


def _model_beside(container: Container) -> Vocabulary | None:
    """The SentencePiece model of a folder that has a tokenizer.json, too."""
    file = container.path / "tokenizer.model"
    if container.kind != "huggingface" or not file.is_file():
        return None
    try:
        return read_sentencepiece(file, file_contents(file))[0]
    except RosettaError:  # a file of another kind goes by the same name (Mistral's tekken)
        return None


def _special_ids(container: Container, facts: Vocabulary) -> dict[str, int]:
    """The tokenizer's own, then what config.json says."""
    found = dict(facts.special_ids)
    if container.kind == "huggingface":
        config = json_file(container.path / "config.json")
        for key, role in OF_CONFIG.items():
            for table in (config, text_config(config)):
                value = table.get(f"{key}_token_id")
                if role not in found and type(value) is int:
                    found[role] = value
    return found


def _writes_space_before(tokenizer: Tokenizer) -> bool:
    """Whether a text is read as if a space stood before it."""
    if tokenizer.facts.kind == "spm":
        return tokenizer.facts.add_space_prefix
    ids = tokenizer.encode("a", special=False)
    return bool(ids) and tokenizer.facts.tokens[ids[0]].startswith("▁")
