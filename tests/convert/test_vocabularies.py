"""Unigrams, word pieces and scored pairs of a folder in GGUF: llama.cpp's own ids are the folder's, and back again."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from fixtures import build
from fixtures.comparing import compared_files, tiny
from fixtures.llamacpp_vocabulary import LlamaCpp
from fixtures.vocabularies import CORPUS, TRICKY, sentencepiece_model
from rosetta.compare.options import Options
from rosetta.convert import Conversion, convert
from rosetta.convert.tried_vocabulary import TEXTS
from rosetta.convert.vocabulary import gguf_vocabulary_keys
from rosetta.model import open_model
from rosetta.tokenizer import open_tokenizer
from rosetta.tokenizer.comparison import compare_vocabularies
from rosetta.tokenizer.sentencepiece_model import read_sentencepiece

ROWS = 1100  # of the embedding: more than any of the vocabularies has tokens
Files = dict[str, str | bytes]
PLAIN = [text for text in (*TEXTS, *TRICKY[:-1]) if len(text) < 600]


def charsmap() -> bytes:
    """SentencePiece's own NFKC, precompiled."""
    pytest.importorskip("sentencepiece")
    return read_sentencepiece(Path("tokenizer.model"), sentencepiece_model("unigram"))[1].charsmap


def unigram(*, merged: bool, prefix: bool, bytes_too: bool = False) -> Files:
    """A unigram tokenizer.json as T5's and XLM-R's are, with SentencePiece's normaliser."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(CORPUS * 3, trainer)
    table = json.loads(trained.to_str())
    for id, piece in enumerate(table["model"]["vocab"]):
        piece[1] -= id / 977  # no two paths of one score, of which any might be taken
    if bytes_too:
        table["model"] |= {"byte_fallback": True}
        table["model"]["vocab"] += [[f"<0x{byte:02X}>", 0.0] for byte in range(256)]
    runs = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    known = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap()).decode()}
    table["normalizer"] = {"type": "Sequence", "normalizers": [known, *([runs, strip] if merged else ())]}
    scheme = "always" if prefix else "never"
    table["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": scheme,
        "split": False,
    }
    table["decoder"] = table["pre_tokenizer"]
    end = {"id": "</s>", "ids": [1], "tokens": ["</s>"]}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    table["post_processor"] = {
        "type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": {"</s>": end},
    }  # fmt: skip
    config = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return {"tokenizer.json": json.dumps(table), "tokenizer_config.json": json.dumps(config)}


def word_pieces(**normal: Any) -> Files:
    """A BERT tokenizer.json."""
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(**normal)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained.train_from_iterator(
        CORPUS * 3, trainers.WordPieceTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    trained.add_tokens([AddedToken("<|user|>", special=False, normalized=False)])
    trained.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "pad": "[PAD]", "mask": "[MASK]"}
    config = {f"{role}_token": text for role, text in names.items()}
    return {"tokenizer.json": trained.to_str(), "tokenizer_config.json": json.dumps(config)}


def pairs_by_rank(bos: bool = True) -> Files:
    """Byte pairs over text with ▁, whose ranks fall otherwise than their ids, as Gemma 4's."""
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("\n+"), "isolated")
    special = ["<bos>", "<eos>", "<unk>"]
    trained.train_from_iterator(
        CORPUS * 3, trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    table = json.loads(trained.to_str())
    model = table["model"]
    ordinary = [token for token in model["vocab"] if token not in special]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *reversed(ordinary)]
    model["vocab"] = {token: id for id, token in enumerate(dict.fromkeys(tokens))}
    table["post_processor"] = (
        None
        if not bos
        else {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<bos>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [0], "tokens": ["<bos>"]}},
        }
    )
    config = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return {"tokenizer.json": json.dumps(table), "tokenizer_config.json": json.dumps(config)}


def pairs_between_spaces(*, lower: bool) -> Files:
    """Pairs of characters within words that stand between spaces, which no token holds."""
    trained = Tokenizer(models.BPE())
    if lower:
        trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["<s>", "</s>"]
    trained.train_from_iterator(
        CORPUS * 3, trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    config = {"bos_token": "<s>", "eos_token": "</s>"}
    return {"tokenizer.json": trained.to_str(), "tokenizer_config.json": json.dumps(config)}


def model_of(kind: str, **options: Any) -> Files:
    """A tokenizer.model trained by the sentencepiece library."""
    pytest.importorskip("sentencepiece")
    config = {"add_bos_token": False, "add_eos_token": False, "unk_token": "<unk>", "eos_token": "</s>"}
    return {
        "tokenizer.model": sentencepiece_model(kind, **options),
        "tokenizer_config.json": json.dumps(config),
    }


UNNORMALISED = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
KINDS: dict[str, tuple[str, Callable[[], Files]]] = {
    "unigram as T5's": ("t5", lambda: unigram(merged=True, prefix=True)),
        "unigram, no prefix": ("t5", lambda: unigram(merged=False, prefix=False)),
    "word pieces": ("bert", word_pieces),
    "cased word pieces": ("bert", lambda: word_pieces(lowercase=False)),
    "pairs of a SentencePiece model": ("llama", lambda: model_of("bpe", **UNNORMALISED)),
    "pairs by rank": ("gemma4", pairs_by_rank),
    "pairs by rank, no BOS": ("gpt2", lambda: pairs_by_rank(bos=False)),
    "pairs between spaces": ("whitespace", lambda: pairs_between_spaces(lower=False)),
    "pairs between spaces, in lower case": ("whitespace", lambda: pairs_between_spaces(lower=True)),
}  # fmt: skip


def folder_with(place: Path, files: Files) -> Path:
    """A tiny llama with this tokenizer."""
    folder = build(place, tiny("llama", vocab=ROWS), "hf:F16")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in config.items() if not key.endswith("_token_id")}
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


# What llama.cpp makes otherwise whatever a file says: SentencePiece's normaliser sees characters, the library what a
# reader takes for one; of accents the table has no Hangul; a next line is a space. What no token covers keeps its
# neighbours apart in llama.cpp, and not in the library.
UNCOVERED = tuple(set("".join(PLAIN)) - set("".join(CORPUS)) - set(string.whitespace))
OWN_WAY = {
    "unigram as T5's": ("\r\n", "\u094d"),
    "unigram, no prefix": ("\r\n", "\u094d"),
    "word pieces": ("한", "हि", "nel\x85"),
    "cased word pieces": ("nel\x85",),
    "pairs between spaces": UNCOVERED,
    "pairs between spaces, in lower case": (*UNCOVERED, "İ"),
}


def tokenizer_keys(path: Path) -> dict[str, Any]:
    """A GGUF file's tokenizer by gguf-py: the types and the value of each key."""
    fields = gguf.GGUFReader(path).fields
    return {
        key: (fields[key].types, fields[key].contents()) for key in fields if key.startswith("tokenizer.")
    }


def written(source: Path, target: Path) -> Conversion:
    return convert(str(source), target, Options(diagnose=False), verify=False)


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("kind", KINDS)
def test_llamacpp_gives_a_folders_own_ids_and_so_does_the_folder_made_of_the_file(
    tmp_path: Path, kind: str
) -> None:
    pytest.importorskip("llama_cpp")
    model, files = KINDS[kind]
    source = folder_with(tmp_path / "hf", files())
    done = written(source, tmp_path / "out.gguf")
    assert [said for said in done.done.lost if "한국어" not in said] == []
    keys = gguf.GGUFReader(tmp_path / "out.gguf").fields
    assert keys["tokenizer.ggml.model"].contents() == model
    assert len(keys["tokenizer.ggml.tokens"].contents()) == ROWS
    written(tmp_path / "out.gguf", tmp_path / "back")
    written(tmp_path / "out.gguf", tmp_path / "out.apr")
    own, llamacpp = open_tokenizer(source), LlamaCpp(tmp_path / "out.gguf")
    others = [
        open_tokenizer(tmp_path / name)
        for name in ("out.gguf", "back", "out.apr")
        if (tmp_path / name).exists()
    ]
    for text in PLAIN:
        if any(part in text for part in OWN_WAY.get(kind, ())):
            continue
        ids = own.encode(text, special=False)
        assert llamacpp.encode(text, special=False) == ids, text
        assert [other.encode(text, special=False) for other in others] == [ids] * len(others), text
    for text in ("", "Hello world", TEXTS[3]):
        assert llamacpp.encode(text, special=True) == own.encode(text), text
        assert [other.encode(text) for other in others] == [own.encode(text)] * len(others), text
    llamacpp.close()
    first = tokenizer_keys(tmp_path / "out.gguf")
    written(tmp_path / "out.apr", tmp_path / "again.gguf")
    assert tokenizer_keys(tmp_path / "again.gguf") == first
    written(tmp_path / "back", tmp_path / "over.gguf")
    over = tokenizer_keys(tmp_path / "over.gguf")
    # A tokenizer.json has an order of pairs in place of scores, and no type of the unknown token.
    of_scores = {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"} if model == "llama" else set()
    assert {key: value for key, value in over.items() if value != first.get(key)}.keys() <= of_scores
    assert over.keys() == first.keys()
    report = compared_files(tmp_path / "out.gguf", source, tokens=None, prompt="Hello world")
    assert (report.verdict, [f.kind for f in report.findings]) == ("match", [])


@pytest.mark.parametrize("flag", [True, False])
def test_word_pieces_are_framed_whatever_a_gguf_says_of_it(tmp_path: Path, flag: bool) -> None:
    """As llama.cpp does: no flag is a difference from the folder, whose template frames a prompt."""
    source = folder_with(tmp_path / "hf", word_pieces())
    written(source, tmp_path / "out.gguf")
    folder, file = open_tokenizer(source), open_tokenizer(tmp_path / "out.gguf")
    assert folder is not None
    assert file is not None
    facts = replace(file.facts, add_bos=flag, add_eos=flag)
    assert compare_vocabularies(facts, folder.facts) == []
    bare = replace(folder.facts, add_bos=False, add_eos=False)
    assert [found.key for found in compare_vocabularies(facts, bare)] == ["add_bos", "add_eos"]


@pytest.mark.requires_llamacpp
@pytest.mark.requires_transformers
@pytest.mark.parametrize("token", ["<pad>", "</s>", "<unk>"])
def test_a_control_token_that_a_text_spells_is_a_piece_of_a_folders_unigram_and_no_token_in_llamacpp(
    tmp_path: Path, token: str
) -> None:
    """Each container is read as its own runtime reads it, where control tokens are not to be matched."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("llama_cpp")
    source = folder_with(tmp_path / "hf", unigram(merged=False, prefix=False))
    written(source, tmp_path / "out.gguf")
    llamacpp = LlamaCpp(tmp_path / "out.gguf")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json"))
    text = f"a{token}b"
    of_folder, of_file = (
        theirs.encode(text, split_special_tokens=True, add_special_tokens=False),
        llamacpp.encode(text, special=False),
    )
    llamacpp.close()
    assert of_folder != of_file
    assert open_tokenizer(source).encode(text, special=False) == of_folder
    assert open_tokenizer(tmp_path / "out.gguf").encode(text, special=False) == of_file


def test_bytes_that_a_unigram_falls_back_to_are_said_to_be_lost(tmp_path: Path) -> None:
    source = folder_with(tmp_path / "hf", unigram(merged=False, prefix=True, bytes_too=True))
    (said,) = written(source, tmp_path / "out.gguf").done.lost
    assert "unknown token" in said


def test_scores_are_those_of_the_sentencepiece_model_beside_a_tokenizer_json(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    data = sentencepiece_model("bpe", **UNNORMALISED)
    facts, _ = read_sentencepiece(Path("tokenizer.model"), data)
    source = folder_with(tmp_path / "hf", model_of("bpe", **UNNORMALISED))
    written(source, tmp_path / "out.gguf")
    written(tmp_path / "out.gguf", tmp_path / "back")
    (tmp_path / "back" / "tokenizer.model").write_bytes(data)
    written(tmp_path / "back", tmp_path / "again.gguf")
    scores = gguf.GGUFReader(tmp_path / "again.gguf").fields["tokenizer.ggml.scores"].contents()
    assert scores[: len(facts.scores)] == facts.scores.tolist()


@pytest.mark.parametrize(("architecture", "kind"), [("llama", 4), ("laguna", 3)])
def test_types_that_llamacpps_converter_gives_by_name_are_written(
    tmp_path: Path, architecture: str, kind: int
) -> None:
    """conversion/laguna.py: what ends a turn is hidden, though the folder calls it no special token."""
    files = word_pieces()
    table = json.loads(str(files["tokenizer.json"]))
    next(token for token in table["added_tokens"] if token["content"] == "<|user|>")["content"] = (
        "</assistant>"
    )
    folder = folder_with(tmp_path, {**files, "tokenizer.json": json.dumps(table)})
    model = open_model(folder)
    named = replace(model, architecture=replace(model.architecture, name=architecture))
    keys = gguf_vocabulary_keys(named).keys
    at = keys["tokenizer.ggml.tokens"].index("</assistant>")
    assert keys["tokenizer.ggml.token_type"][at] == kind
