"""Hugging Face folders give transformers' and the tokenizers library's ids, by whichever file they have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from fixtures.vocabularies import CORPUS, TRICKY, hex_bytes, sentencepiece_model
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError
from rosetta.tokenizer import Tokenizer, open_tokenizer
from rosetta.tokenizer.folder_files import file_contents

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NAMED = {"bos_token": "<s>", "eos_token": "</s>"}


def trained(kind: str = "GPT2Tokenizer") -> tokenizers.Tokenizer:
    """A byte-level BPE set up as transformers' class of that name sets it up."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    if kind == "Qwen2Tokenizer":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [tokenizers.AddedToken(text, special=True, normalized=False) for text in ("<s>", "</s>")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*CORPUS, *TRICKY], trainer)
    tokenizer.add_tokens([tokenizers.AddedToken("<|user|>", special=False)])
    return tokenizer


def folder(path: Path, files: dict[str, Any]) -> Path:
    """Write files: text, bytes, or JSON."""
    for name, content in files.items():
        if isinstance(content, bytes):
            (path / name).write_bytes(content)
        else:
            (path / name).write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def split(tokenizer: tokenizers.Tokenizer, path: Path) -> dict[str, Any]:
    """The same tokenizer as vocab.json, merges.txt and added_tokens.json."""
    tokenizer.model.save(str(path))
    return {"added_tokens.json": {"<|user|>": tokenizer.token_to_id("<|user|>")}}


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "Qwen2Tokenizer"])
@pytest.mark.parametrize("special", [True, False])
def test_tokenizer_json_and_vocab_with_merges_give_the_same_ids(
    tmp_path: Path, kind: str, special: bool
) -> None:
    library = trained(kind)
    config = {"tokenizer_class": kind, **NAMED}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = open_tokenizer(
        folder(tmp_path / "one", {"tokenizer.json": library.to_str(), "tokenizer_config.json": config})
    )
    split_files = split(library, tmp_path / "two")
    two = open_tokenizer(folder(tmp_path / "two", {"tokenizer_config.json": config, **split_files}))
    assert one.pre == two.pre == {"GPT2Tokenizer": "gpt-2", "Qwen2Tokenizer": "qwen2"}[kind]
    for text in TRICKY:
        library.encode_special_tokens = not special
        expected = library.encode(text, add_special_tokens=special).ids
        assert one.encode(text, special) == expected, text
        assert two.encode(text, special) == expected, text


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    "config",
    [
        {"tokenizer_class": "GPT2Tokenizer"},
        {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True},
        {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_eos_token": True},
        {"tokenizer_class": "Qwen2Tokenizer"},
    ],
    ids=str,
)
@pytest.mark.parametrize("whole", [True, False])
def test_folders_encode_as_transformers_does(tmp_path: Path, config: dict[str, Any], whole: bool) -> None:
    from transformers import AutoTokenizer

    library = trained(config["tokenizer_class"])
    files = {"tokenizer.json": library.to_str()} if whole else split(library, tmp_path)
    folder(tmp_path, {"tokenizer_config.json": NAMED | config, **files})
    reference, ours = AutoTokenizer.from_pretrained(tmp_path), open_tokenizer(tmp_path)
    for text in TRICKY:
        assert ours.encode(text) == reference(text)["input_ids"], text
        bare = reference(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if "<|user|>" not in text:  # transformers then splits user-defined tokens too
            assert ours.encode(text, special=False) == bare, text


def test_a_post_processor_decides_for_tokenizer_json(tmp_path: Path) -> None:
    library = trained()
    start, end = library.token_to_id("<s>"), library.token_to_id("</s>")
    library.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", start), ("</s>", end)]
    )
    config = NAMED | {"add_bos_token": False}
    tokenizer = open_tokenizer(
        folder(tmp_path, {"tokenizer.json": library.to_str(), "tokenizer_config.json": config})
    )
    assert (tokenizer.add_bos, tokenizer.add_eos) == (True, True)
    assert tokenizer.encode("") == [start, end]
    assert tokenizer.encode("", special=False) == []


def test_no_class_and_no_fingerprint_is_gpt2_and_a_note(tmp_path: Path) -> None:
    library = trained()
    tokenizer = open_tokenizer(folder(tmp_path, {"tokenizer_config.json": NAMED, **split(library, tmp_path)}))
    assert tokenizer.pre == "gpt-2"
    assert "'gpt-2' is used" in tokenizer.notes[0]


def test_no_class_takes_the_models(tmp_path: Path) -> None:
    library = trained("Qwen2Tokenizer")
    files = {"config.json": {"architectures": ["Qwen2ForCausalLM"]}, **split(library, tmp_path)}
    assert open_tokenizer(folder(tmp_path, files)).pre == "qwen2"


def test_hex_bytes_in_vocab_and_merges(tmp_path: Path) -> None:
    written = hex_bytes()
    vocab = {token: index for index, token in enumerate(written.tokens)}
    tokenizer = open_tokenizer(
        folder(tmp_path, {"vocab.json": vocab, "merges.txt": "\n".join(written.merges or ())})
    )
    assert tokenizer.encode("Hi! ") == [vocab["486921"], vocab["20"]]


def test_vocabulary_merges_and_special_tokens_are_told(tmp_path: Path) -> None:
    library = trained()
    tokenizer = open_tokenizer(
        folder(tmp_path, {"tokenizer.json": library.to_str(), "tokenizer_config.json": NAMED})
    )
    assert tokenizer.size == library.get_vocab_size()
    assert all(library.token_to_id(token) == id for id, token in enumerate(tokenizer.vocabulary))
    assert len(tokenizer.facts.merges) == len(json.loads(library.to_str())["model"]["merges"])
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (
        library.token_to_id("<s>"),
        library.token_to_id("</s>"),
    )
    ids = tokenizer.encode("Größe 漢字")
    assert tokenizer.decode(ids) == "Größe 漢字"
    assert "".join(map(tokenizer.piece, tokenizer.encode("The quick"))) == "The quick"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"tokenizer.json": "{"}, "no JSON"),
        ({"tokenizer.json": "[]"}, "no JSON object"),
        ({"tokenizer.json": "{}"}, "tokenizers library"),
        ({"tokenizer.json": '{"model": {"type": "Nonesuch"}}'}, "tokenizers library"),
        ({"vocab.json": '{"a": -1}', "merges.txt": ""}, "no token id"),
        ({"vocab.json": '{"a": 1e9}', "merges.txt": ""}, "no token id"),
        ({"vocab.json": '{"a": 99999999999}', "merges.txt": ""}, "no token id"),
        ({"tokenizer.model": b""}, "no tokens"),
        ({"tokenizer.model": b"\xff" * 40}, "more than ten bytes"),
        ({"tokenizer.model": b"\x0a\x7f\x0a"}, "ends beyond"),
        ({"tokenizer.model": b"\x0f\x00"}, "wire type 7"),
        ({"tokenizer_config.json": "\x00", "tokenizer.model": b""}, "no JSON"),
    ],
    ids=str,
)
def test_damage_is_named(tmp_path: Path, files: dict[str, Any], said: str) -> None:
    with pytest.raises(DamagedFileError, match=said) as caught:
        open_tokenizer(folder(tmp_path, files))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
        {"add_dummy_prefix": False},
    ],
    ids=str,
)
def test_tokenizer_model_encodes_as_sentencepiece_does(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    data = sentencepiece_model(kind, **options)
    reference = sentencepiece.SentencePieceProcessor(model_proto=data)
    tokenizer = open_tokenizer(folder(tmp_path, {"tokenizer.model": data}))
    for text in TRICKY[
        :-1
    ]:  # the last holds special tokens, around which transformers handles spaces its own way
        assert tokenizer.encode(text, special=False) == reference.encode(text), text
    assert tokenizer.size == reference.get_piece_size()
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (reference.bos_id(), reference.eos_id())


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    "config", [{}, {"add_bos_token": True}, {"add_bos_token": True, "add_eos_token": True}], ids=str
)
def test_tokenizer_model_is_framed_as_transformers_does(tmp_path: Path, config: dict[str, Any]) -> None:
    from transformers import AutoTokenizer

    pytest.importorskip("sentencepiece")
    data = sentencepiece_model("bpe", normalization_rule_name="identity", remove_extra_whitespaces=False)
    named = {"tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", **NAMED}
    files = {
        "tokenizer.model": data,
        "config.json": {"model_type": "llama"},
        "tokenizer_config.json": named | config,
    }
    reference, ours = AutoTokenizer.from_pretrained(folder(tmp_path, files)), open_tokenizer(tmp_path)
    for text in ("", "Hello world", "a</s> b", "Größe 漢字"):
        assert ours.encode(text) == reference(text)["input_ids"], text


def test_a_sentencepiece_model_of_words_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    with pytest.raises(UnsupportedError, match="'word'"):
        open_tokenizer(folder(tmp_path, {"tokenizer.model": sentencepiece_model("word")}))


def test_a_truncated_sentencepiece_model_is_an_error_or_a_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    data = sentencepiece_model("bpe")
    for end in range(0, len(data), 997):
        try:
            tokenizer = open_tokenizer(folder(tmp_path, {"tokenizer.model": data[:end]}))
        except (DamagedFileError, UnsupportedError):
            continue
        assert isinstance(tokenizer, Tokenizer)
        assert isinstance(tokenizer.encode("Hello"), list)


def test_a_tokenizer_that_may_not_be_read_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")

    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)  # root reads whatever its mode is
    with pytest.raises(UsageError, match=r"tokenizer\.json: permission denied: let its owner"):
        file_contents(tmp_path / "tokenizer.json")
