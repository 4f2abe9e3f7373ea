"""Hugging Face folder -> Tokenizer: `tokenizer.json`, else `vocab.json`+`merges.txt`, else `tokenizer.model`.

As transformers does it, `tokenizer.json` alone decides what is added around a prompt; for the other two
`tokenizer_config.json` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from rosetta.containers.json_text import json_object
from rosetta.tokenizer.byte_pairs import BYTE_TOKENS, merge_pairs
from rosetta.tokenizer.embedded import has_hex_bytes
from rosetta.tokenizer.encoders import Codec, encoder_of
from rosetta.tokenizer.folder_files import added_tokens, damaged_file, file_contents, json_file, named_tokens
from rosetta.tokenizer.guesses import likely_pre_tokenizer
from rosetta.tokenizer.json_steps import facts_of_steps, has_broken_charsmap
from rosetta.tokenizer.published_cuts import CHAINS, name_of
from rosetta.tokenizer.sentencepiece_model import Spaced, read_sentencepiece
from rosetta.tokenizer.special_tokens import TYPED_BY_NAME, looks_special
from rosetta.tokenizer.spelling import byte_of, token_bytes
from rosetta.tokenizer.tokenizer import Tokenizer
from rosetta.tokenizer.vocabulary import Spelling, TokenType, Vocabulary, ids_of

RENUMBERED = "the added_tokens say that"
"""How a note begins of ids that the tokenizers library gives otherwise than tokenizer.json states them."""
SHARED = "one id is that of two tokens of the vocab"
"""How a note begins of a vocabulary in which two tokens have one id."""
TWICE = "a key stands twice in one object of tokenizer.json"
"""How a note begins of the first such key."""
_LARGEST_GAP = 1 << 20  # ids between two tokens: padding, never a million

_PLACES = {
    f"tokenizer.ggml.{key}": f"{own} of tokenizer.json"
    for key, own in {
        "tokens": "the vocab", "merges": "the merges", "pre": "the pre_tokenizer", "token_type": "the added_tokens",
        "add_bos_token": "the post_processor", "add_eos_token": "the post_processor",
    }.items()
} | {
    f"tokenizer.ggml.{role}_token_id": f"{own}_token of tokenizer_config.json"
    for role, own in {
        **{role: role for role in ("bos", "eos", "cls", "mask")},
        "unknown": "unk", "separator": "sep", "padding": "pad",
    }.items()
}  # fmt: skip
_PLACES_BESIDE_JSON = _PLACES | {
    f"tokenizer.ggml.{key}": f"{own} of tokenizer_config.json"
    for key, own in {
        "pre": "tokenizer_class", "token_type": "added_tokens_decoder",
        "add_bos_token": "add_bos_token", "add_eos_token": "add_eos_token",
    }.items()
}  # fmt: skip
_PLACES_OF_PIECES = _PLACES_BESIDE_JSON | {"tokenizer.ggml.tokens": "the pieces of tokenizer.model"}
_PLACES_OF_MERGES = _PLACES_BESIDE_JSON | {
    "tokenizer.ggml.tokens": "the tokens of vocab.json",
    "tokenizer.ggml.merges": "the pairs of merges.txt",
}
_TYPED_BY_NAME = frozenset(token for tokens in TYPED_BY_NAME.values() for token in tokens)
_QWEN_CLASSES = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
_EOS_CLASSES = ("T5Tokenizer", "T5TokenizerFast")  # add EOS though no key says so
_NO_CLASS = (None, "PreTrainedTokenizerFast", "TokenizersBackend")


class LibraryCodec:
    """Text to ids and back by the `tokenizers` library.

    Args:
        backend: as the folder sets it up.
        facts: what the folder says.
    """

    def __init__(self, backend: tokenizers.Tokenizer, facts: Vocabulary) -> None:
        self._backend, self._facts = backend, facts

    def encode(self, text: str, special: bool) -> list[int]:
        """See `Tokenizer.encode`."""
        self._backend.encode_special_tokens = not special
        ids: list[int] = self._backend.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=False)
        return text

    def bytes_of(self, id: int) -> bytes:
        """The bytes that one id stands for."""
        token, kind = self._facts.tokens[id], self._facts.types[id]
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED):
            return token.encode("utf-8", "replace")
        if kind == TokenType.BYTE and (byte := byte_of(token)) is not None:
            return byte
        return token_bytes(token, self._facts.spelling)


def load_folder(path: Path, architecture: str = "") -> Tokenizer | None:
    """The tokenizer of a Hugging Face folder; None where it has none.

    Args:
        path: the folder.
        architecture: the model's, consulted where the tokenizer's own files leave its class open.

    Raises:
        DamagedFileError: a file that is none of its kind.
        UnsupportedError: a kind of tokenizer that is not read.
    """
    config = json_file(path / "tokenizer_config.json")
    if (path / "tokenizer.json").is_file():
        return _from_json(path, config)
    if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
        return _from_vocabulary_and_merges(path, config, architecture)
    if (path / "tokenizer.model").is_file():
        return _from_sentencepiece(path, config)
    return None


def _from_json(path: Path, config: Mapping[str, Any]) -> Tokenizer:
    file = path / "tokenizer.json"
    raw = file_contents(file)
    twice: list[str] = []
    parsed = json_object(file, raw, "the tokenizer", repeated=twice.append)
    if has_broken_charsmap(parsed):  # at which the library does not refuse, but panics
        raise damaged_file(file, "its precompiled_charsmap is no base64")
    backend = _guarded(file, lambda: tokenizers.Tokenizer.from_buffer(raw))
    backend.no_truncation()
    backend.no_padding()
    vocabulary = _vocabulary(path, backend, parsed, config)
    if twice:
        vocabulary = replace(vocabulary, notes=(*vocabulary.notes, f"{TWICE}: {twice[0]}"))
    return Tokenizer(vocabulary, LibraryCodec(backend, vocabulary))


def _from_vocabulary_and_merges(path: Path, config: Mapping[str, Any], architecture: str) -> Tokenizer:
    """Byte-level BPE with what the tokenizer's class would add."""
    vocab = json_file(path / "vocab.json")
    size = len(vocab)
    if not all(type(token) is int and 0 <= token < size + _LARGEST_GAP for token in vocab.values()):
        raise damaged_file(path / "vocab.json", "holds a value that is no token id")
    lines = file_contents(path / "merges.txt").decode("utf-8", "replace").split("\n")
    lines = [line.rstrip("\r") for line in lines if not line.startswith("#version")]
    if has_hex_bytes(vocab):
        return Tokenizer(_hex_vocabulary(path, config, vocab, lines))
    merges = [
        pair
        for pair in merge_pairs(lines)
        if pair[0] in vocab and pair[1] in vocab and "".join(pair) in vocab
    ]
    backend = _guarded(path / "merges.txt", lambda: tokenizers.Tokenizer(models.BPE(vocab, merges)))
    pre, notes = _class_of_pre_tokenizer(config, vocab, architecture)
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(CHAINS["qwen2"][0]), "isolated"),
                pre_tokenizers.ByteLevel(False, use_regex=False),
            ]
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(config.get("add_prefix_space") is True)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(added_tokens(path, config, vocab))
    ids = {role: backend.token_to_id(text) for role, text in named_tokens(path, config).items()}
    _frame(backend, config, ids)
    facts = _vocabulary(path, backend, {"model": {"type": "BPE", "merges": merges}}, config)
    facts = replace(facts, pre=pre, notes=(*facts.notes, *notes), places=_PLACES_OF_MERGES)
    return Tokenizer(facts, LibraryCodec(backend, facts))


def _hex_vocabulary(
    path: Path, config: Mapping[str, Any], vocab: Mapping[str, int], merges: list[str]
) -> Vocabulary:
    """A vocabulary whose bytes are spelt as two hex digits each, with which the library cannot encode."""
    tokens = [""] * (max(vocab.values()) + 1)
    for token, id in vocab.items():
        tokens[id] = token
    named = {role: vocab[text] for role, text in named_tokens(path, config).items() if text in vocab}
    if "unknown" not in named and "<unk>" in vocab:
        named["unknown"] = vocab["<unk>"]
    types = np.full(len(tokens), TokenType.NORMAL, np.int32)
    for role, id in named.items():
        types[id] = TokenType.UNKNOWN if role == "unknown" else TokenType.CONTROL
    return Vocabulary(
        kind="hex",
        model="BPE",
        tokens=tokens,
        spelling="hex",
        types=types,
        merges=merges,
        special_ids=named,
        places=_PLACES_OF_MERGES,
    )


def _from_sentencepiece(path: Path, config: Mapping[str, Any]) -> Tokenizer:
    file = path / "tokenizer.model"
    facts, spacing = read_sentencepiece(file, file_contents(file))
    vocab = ids_of(facts.tokens)
    tokens, types = list(facts.tokens), facts.types.tolist()
    for token in added_tokens(path, config, vocab):
        kind = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
        id = vocab.get(token.content)
        if id is None:
            tokens.append(token.content)
            types.append(kind)
        elif types[id] == TokenType.NORMAL:
            types[id] = kind
    ids = ids_of(tokens)
    named = {role: ids[text] for role, text in named_tokens(path, config).items() if text in ids}
    scores = np.zeros(len(tokens), np.float32)
    scores[: len(facts.scores)] = facts.scores
    prefix = config.get("add_prefix_space")
    facts = replace(
        facts,
        tokens=tokens,
        types=np.array(types, np.int32),
        typed_either_way=_typed_either_way(tokens, np.array(types, np.int32), _without_flags(path, config)),
        scores=scores,
        special_ids={**facts.special_ids, **named},
        add_bos=config.get("add_bos_token") is True,
        add_eos=config.get("add_eos_token", config.get("tokenizer_class") in _EOS_CLASSES) is True,
        space_after_special=config.get("legacy") is True,
    )
    spacing = replace(spacing, prefix=spacing.prefix if prefix is None else prefix is True)
    codec = Codec(facts, Spaced(encoder_of(facts), spacing))
    facts = replace(
        facts,
        add_space_prefix=spacing.prefix,
        remove_extra_spaces=spacing.merge_spaces,
        charsmap=spacing.charsmap,
        places=_PLACES_OF_PIECES,
    )
    return Tokenizer(facts, codec)


def _vocabulary(
    path: Path, backend: tokenizers.Tokenizer, parsed: Mapping[str, Any], config: Mapping[str, Any]
) -> Vocabulary:
    """The facts of a tokenizer that the library holds."""
    vocab = backend.get_vocab(with_added_tokens=True)
    size = max(vocab.values(), default=-1) + 1
    if size > len(vocab) + _LARGEST_GAP:
        raise damaged_file(path, f"gives {len(vocab):,} tokens ids up to {size - 1:,}")
    tokens, types = [""] * size, np.full(size, TokenType.UNUSED, np.int32)
    for token, id in vocab.items():
        tokens[id] = token
    types[list(vocab.values())] = TokenType.NORMAL
    model = parsed.get("model")
    model = model if isinstance(model, dict) else {}
    if model.get("byte_fallback") is True:
        types[[vocab[token] for token in BYTE_TOKENS if token in vocab]] = TokenType.BYTE
    unknown = model.get("unk_id") if model.get("type") == "Unigram" else None
    if type(unknown) is int and 0 <= unknown < size:
        types[unknown] = TokenType.UNKNOWN
    for id, added in backend.get_added_tokens_decoder().items():
        types[id] = TokenType.CONTROL if added.special else TokenType.USER_DEFINED
    named = {role: vocab[text] for role, text in named_tokens(path, config).items() if text in vocab}
    before, after = _frame_of(backend)
    closing = ("eos", "separator") if model.get("type") == "WordPiece" else ("eos",)
    if before and "bos" not in named:
        named["bos"] = before[0]
    if type(unknown) is int and 0 <= unknown < size:
        named.setdefault("unknown", unknown)
    merges = model.get("merges") or ()
    spelling: Spelling = (
        "bytes" if "ByteLevel" in repr(backend.decoder) + repr(backend.pre_tokenizer) else "plain"
    )
    unnamed = set(tokens).difference(named_tokens(path, config).values()) if spelling == "plain" else set()
    return Vocabulary(
        kind="huggingface",
        model=str(model.get("type", "BPE")),
        tokens=tokens,
        spelling=spelling,
        pre=name_of(parsed.get("pre_tokenizer")),
        ignore_merges=model.get("ignore_merges") is True,
        types=types,
        typed_either_way=_typed_either_way(tokens, types, unnamed | _without_flags(path, config)),
        merges=[
            " ".join(map(str, merge)) if isinstance(merge, list | tuple) else str(merge) for merge in merges
        ],
        special_ids=named,
        add_bos=bool(before) and before[0] == named.get("bos"),
        add_eos=bool(after) and after[-1] in map(named.get, closing),
        places=_PLACES,
        notes=(*_renumbered(parsed.get("added_tokens"), vocab), *_shared(vocab)),
        **facts_of_steps(parsed, size),
    )


def _typed_either_way(tokens: Sequence[str], types: NDArray[np.int32], doubted: set[str]) -> frozenset[int]:
    """Ids that llama.cpp's converter types otherwise than the folder flags them, or may.

    It takes what looks like a control token for one (`does_token_look_special`), and types a few by name.

    Args:
        tokens, types: `[V]`.
        doubted: tokens that are special, and that one of its ways of reading a folder takes for user-defined.
    """
    added = np.flatnonzero(np.isin(types, (TokenType.CONTROL, TokenType.USER_DEFINED))).tolist()
    return frozenset(
        id
        for id in added
        if tokens[id] in _TYPED_BY_NAME
        or (tokens[id] in doubted if types[id] == TokenType.CONTROL else looks_special(tokens[id]))
    )


def _without_flags(path: Path, config: Mapping[str, Any]) -> set[str]:
    """Tokens that added_tokens.json lists, and nothing says whether they are special: llama.cpp's converter takes them
    for user-defined, transformers asks whether they have a role (conversion/base.py, `_create_vocab_sentencepiece`)."""
    declared = config.get("added_tokens_decoder")
    flagged = declared.values() if isinstance(declared, dict) else ()
    return set(json_file(path / "added_tokens.json")) - {
        entry.get("content") for entry in flagged if isinstance(entry, dict)
    }


def _renumbered(added: object, vocab: Mapping[str, int]) -> tuple[str, ...]:
    """A note of the first added token that the library gives another id than the file states."""
    for token in added if isinstance(added, list) else ():
        stated = token.get("id") if isinstance(token, dict) else None
        given = (
            vocab.get(token["content"]) if stated is not None and token.get("content") in vocab else stated
        )
        if given != stated:
            return (f"{RENUMBERED} {token['content']!r:.40} is {stated}, and it gets {given}",)
    return ()


def _shared(vocab: Mapping[str, int]) -> tuple[str, ...]:
    """A note of the first id that two tokens have; nothing else of them can be decoded but one."""
    if len(set(vocab.values())) == len(vocab):
        return ()
    held: dict[int, str] = {}
    for token, id in vocab.items():
        if held.setdefault(id, token) != token:
            first, second = sorted((held[id], token))
            return (f"{SHARED}: {id} of {first!r:.40} and {second!r:.40}",)
    return ()


def _frame_of(backend: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that are put before and after a prompt."""
    bare = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return framed[:start], framed[start + len(bare) :]
    return [], []


def _frame(backend: tokenizers.Tokenizer, config: Mapping[str, Any], ids: Mapping[str, int | None]) -> None:
    """Let the library put BOS and EOS around a prompt where the configuration says so."""
    asked = {
        role: config.get(f"add_{role}_token") is True and ids.get(role) is not None for role in ("bos", "eos")
    }
    single = [*(["bos"] if asked["bos"] else []), "$A", *(["eos"] if asked["eos"] else [])]
    special = [(role, ids[role]) for role in ("bos", "eos") if asked[role]]
    if special:
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)


def _class_of_pre_tokenizer(
    config: Mapping[str, Any], vocab: Mapping[str, int], architecture: str
) -> tuple[str, tuple[str, ...]]:
    """`qwen2` or `gpt-2`, by the tokenizer's class, and what is to be said of the choice."""
    name = config.get("tokenizer_class")
    if name not in _NO_CLASS:
        return ("qwen2" if name in _QWEN_CLASSES else "gpt-2"), ()
    guess = likely_pre_tokenizer(None, vocab, list(vocab), "" if name else architecture)
    pre = "qwen2" if guess is not None and guess[0] == "qwen2" else "gpt-2"
    reason = guess[1] if pre == "qwen2" and guess is not None else "nothing says otherwise"
    return pre, (f"no tokenizer.json and no tokenizer_class that tells: '{pre}' is used, because {reason}",)


def _guarded(file: Path, build: Callable[[], tokenizers.Tokenizer]) -> tokenizers.Tokenizer:
    """What the library builds; it refuses by exceptions of no particular type, and by panics."""
    try:
        return build()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise damaged_file(file, f"is refused by the tokenizers library ({error})") from None
