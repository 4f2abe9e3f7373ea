"""The ids of every kind of vocabulary and every pre-tokenizer are llama.cpp's own."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.llamacpp_vocabulary import LlamaCpp
from fixtures.vocabularies import (
    CONTROL,
    TRICKY,
    USER_DEFINED,
    Written,
    byte_level,
    plain_pairs,
    scored,
    sentencepiece_model,
    unigram,
    without,
    word_pieces,
)
from rosetta.containers import open_container
from rosetta.tokenizer import Tokenizer, load_tokenizer
from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from rosetta.tokenizer.sentencepiece_model import read_sentencepiece

pytestmark = pytest.mark.requires_llamacpp

Pair = tuple[Tokenizer, LlamaCpp]
Opened = Callable[[Written], Pair]

SMALL, SCORED = byte_level(), scored()
STRANGE_MERGES = [*(SMALL.merges or ())[::2], "zz q", "zzq zz", "nospace", "a b c", "Ġ Ġ", "Ġ Ġ", " x", "y "]
KINDS = {
    "gemma4": plain_pairs(),
    "spm": scored(),
    "spm-unprefixed": scored(add_space_prefix=False, add_bos_token=False, add_eos_token=True),
    "unigram": unigram(),
    "unigram-prefixed": unigram(add_space_prefix=True, add_eos_token=False),
    "unigram-merged-spaces": unigram(remove_extra_whitespaces=True, add_space_prefix=True),
    "wordpiece": word_pieces(),
    "wordpiece-cased": word_pieces(**{"normalizer.lowercase": False}),
    "whitespace": replace(plain_pairs("whitespace", "whitespace"), architecture="llama"),
    "no-pre": byte_level(None),
    "phi-3": replace(
        SCORED,
        name="Phi-3 mini",
        tokens=[*SCORED.tokens, "<|endoftext|>"],
        types=[*SCORED.types, CONTROL],
        scores=[*(SCORED.scores or ()), 0.0],
    ),
    "modern-bert": replace(
        SMALL, name="modern-bert", tokens=[*SMALL.tokens[:-1], "[MASK]"], types=[*SMALL.types[:-1], CONTROL]
    ),
    "merges-of-no-tokens": replace(SMALL, merges=STRANGE_MERGES),
    "missing-bytes": without(byte_level("llama-bpe"), ["é", "0", "Ã", "o", "Ġ"]),
    "roles-named": replace(
        SMALL, keys=SMALL.keys | {"fim_pre_token_id": 3, "eot_token_id": 4, "add_eos_token": True}
    ),
    "ids-beyond": replace(SMALL, keys={"bos_token_id": 1 << 20, "add_bos_token": True}),
    "byte-level-as-plain": byte_level("sarvam-moe"),
}  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Opens a vocabulary with rosetta and with llama.cpp, out of one file."""
    models: list[LlamaCpp] = []
    folder = tmp_path_factory.mktemp("vocabularies")
    template = byte_level("@").write(folder / "template.gguf").read_bytes()

    def open_both(written: Written) -> Pair:
        path = folder / f"{len(models)}.gguf"
        if written == byte_level(written.pre):  # the same file but for a name: writing it takes longest
            name = (written.pre or "").encode()
            key = b"tokenizer.ggml.pre" + struct.pack("<I", 8)
            path.write_bytes(
                template.replace(key + struct.pack("<Q", 1) + b"@", key + struct.pack("<Q", len(name)) + name)
            )
        else:
            written.write(path)
        models.append(LlamaCpp(path))
        tokenizer = load_tokenizer(open_container(path))
        assert tokenizer is not None
        return tokenizer, models[-1]

    yield open_both
    for model in models:
        model.close()


def check(pair: Pair, text: str) -> None:
    """Both give the same ids, with special tokens and without."""
    tokenizer, llamacpp = pair
    for special in (True, False):
        ids, expected = tokenizer.encode(text, special), llamacpp.encode(text, special)
        assert ids == expected, f"special={special}: {text!r}"


@pytest.mark.sample(39)
@pytest.mark.parametrize("pre", [name for name, pre in PRE_TOKENIZERS.items() if pre.byte_level])
def test_every_pre_tokenizer_cuts_as_llamacpp_does(opened: Opened, pre: str) -> None:
    pair = opened(byte_level(pre))
    assert pair[0].pre == pre
    for text in TRICKY:
        check(pair, text)


@pytest.mark.parametrize("pre", [name for name, pre in PRE_TOKENIZERS.items() if pre.escape_spaces])
def test_pre_tokenizers_without_a_byte_alphabet_cut_as_llamacpp_does(opened: Opened, pre: str) -> None:
    pair = opened(plain_pairs("gpt2", pre))
    for text in TRICKY:
        check(pair, text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_encodes_as_llamacpp_does(opened: Opened, kind: str) -> None:
    pair = opened(KINDS[kind])
    for text in TRICKY:
        check(pair, text)


@pytest.mark.parametrize(
    "kind", ["gemma4", "spm", "unigram", "wordpiece", "missing-bytes", "merges-of-no-tokens"]
)
def test_any_text_encodes_as_llamacpp_does(opened: Opened, kind: str) -> None:
    pair = opened(KINDS[kind])

    @settings(max_examples=60)
    @given(st.lists(st.one_of(st.sampled_from(TRICKY[5:]), st.text(max_size=8)), max_size=4))
    def holds(parts: list[str]) -> None:
        check(pair, "".join(parts))

    holds()


@pytest.mark.parametrize(
    "pre", ["llama-bpe", "qwen2", "gpt-2", "deepseek-llm", "kimi-k2", "superbpe", "afmoe", "jais-2"]
)
def test_any_text_is_cut_as_llamacpp_cuts_it(opened: Opened, pre: str) -> None:
    pair = opened(byte_level(pre))

    @settings(max_examples=60)
    @given(st.lists(st.one_of(st.sampled_from(TRICKY[5:]), st.text(max_size=8)), max_size=4))
    def holds(parts: list[str]) -> None:
        check(pair, "".join(parts))

    holds()


@pytest.mark.parametrize("merge_spaces", [True, False])
def test_a_charsmap_normalises_as_llamacpp_does(opened: Opened, merge_spaces: bool) -> None:
    pytest.importorskip("sentencepiece")
    facts, spacing = read_sentencepiece(Path("tokenizer.model"), sentencepiece_model("unigram"))
    keys = {"precompiled_charsmap": spacing.charsmap, "remove_extra_whitespaces": merge_spaces}
    keys |= {f"{role}_token_id": id for role, id in facts.special_ids.items()} | {"add_space_prefix": True}
    assert len(spacing.charsmap) > 1000
    tokens, types, scores = (
        [*facts.tokens, "ﬀlig"],
        [*facts.types.tolist(), USER_DEFINED],
        [*facts.scores.tolist(), 0.0],
    )
    pair = opened(Written("t5", tokens, types, scores=scores, keys=keys, architecture="t5"))
    for text in (*TRICKY, "ﬀ ﬀl ﬀlig ﬁ ①② ｶﾞ Å ㎏ …", "ﬀli ﬀ"):
        check(pair, text)


@pytest.mark.parametrize("kind", [*KINDS, "llama-bpe", "tekken", "chameleon", "glm4"])
def test_bos_and_eos_are_llamacpps(opened: Opened, kind: str) -> None:
    import llama_cpp

    tokenizer, llamacpp = opened(KINDS.get(kind) or replace(byte_level(kind), keys={}))
    vocab = llamacpp.vocab
    assert tokenizer.bos_token_id == _id(llama_cpp.llama_vocab_bos(vocab))
    assert tokenizer.eos_token_id == _id(llama_cpp.llama_vocab_eos(vocab))
    assert tokenizer.add_bos == llama_cpp.llama_vocab_get_add_bos(vocab)
    assert tokenizer.add_eos == llama_cpp.llama_vocab_get_add_eos(vocab)


def test_llamacpp_knows_no_other_pre_tokenizer(opened: Opened, tmp_path: Path) -> None:
    """The names that people write and llama.cpp refuses are refused as pre-tokenizers here too."""
    for name in ("llama", "gpt2", "qwen3", "default2"):
        assert name not in PRE_TOKENIZERS
        with pytest.raises(AssertionError, match="refuses"):
            LlamaCpp(byte_level(name).write(tmp_path / "model.gguf"))


def _id(token: int) -> int | None:
    return None if token < 0 else token
