"""The tokenizer of a GGUF or `.apr` file as the files of a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rosetta.containers.huggingface.writer import Part, packed_json
from rosetta.model import Model
from rosetta.tokenizer import load_tokenizer
from rosetta.tokenizer.chat_template import chat_template
from rosetta.tokenizer.huggingface import expression_of
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

# Roles of tokens by tokenizer_config.json's keys.
NAMED = {
    "bos": "bos",
    "eos": "eos",
    "unknown": "unk",
    "separator": "sep",
    "padding": "pad",
    "mask": "mask",
    "cls": "cls",
}
DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2")
WHOLE_WORDS = ("llama-bpe", "tekken")  # names whose words that are tokens stay whole


@dataclass
class TokenizerFiles:
    """The files, and what is to be said of them.

    Args:
        files: by name.
        notes: what is to be known, one sentence each.
        findings: what the folder cannot say.
    """

    files: dict[str, Part] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def tokenizer_files(model: Model) -> TokenizerFiles:
    """tokenizer.json, tokenizer_config.json and the chat template of a model.

    Args:
        model: from a GGUF or `.apr` file.
    """
    made, tokenizer = TokenizerFiles(), load_tokenizer(model.container)
    if tokenizer is None:
        made.notes.append("the source has no tokenizer, and so has the folder")
        return made
    facts = tokenizer.facts
    steps = _steps(facts)
    if steps is None:
        said = f"its tokenizer ({facts.model}, pre-tokenizer {facts.pre}) has no form as tokenizer.json that is known"
        made.findings.append(f"{said}: the folder has none")
        return made
    config: dict[str, Any] = {
        f"{NAMED[role]}_token": facts.tokens[id] for role, id in facts.special_ids.items() if role in NAMED
    }
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["clean_up_tokenization_spaces"] = False
    template = chat_template(model.container)
    if template:
        config["chat_template"] = template
    made.files["tokenizer.json"] = packed_json(_tokenizer_json(facts, steps))
    made.files["tokenizer_config.json"] = packed_json(config)
    return made


def _steps(facts: Vocabulary) -> dict[str, Any] | None:
    """Normaliser, pre-tokenizer and decoder; None where they are not known."""
    if facts.kind == "spm":
        prefix = [{"type": "Prepend", "prepend": "▁"}] if facts.add_space_prefix else []
        spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if facts.add_space_prefix else []
        back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
        decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]
        return {
            "normalizer": {"type": "Sequence", "normalizers": [*prefix, spaces]},
            "pre_tokenizer": None,
            "decoder": {"type": "Sequence", "decoders": decoders},
        }
    if facts.kind != "bpe" or facts.spelling != "bytes" or facts.pre is None:
        return None
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    expression = expression_of(facts.pre)
    if facts.pre in DIGITS_APART:
        digits = {"type": "Digits", "individual_digits": True}
        cut: dict[str, Any] = {"type": "Sequence", "pretokenizers": [digits, {**level, "use_regex": True}]}
    elif expression is not None:
        split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        cut = {"type": "Sequence", "pretokenizers": [split, {**level, "use_regex": False}]}
    elif facts.pre in ("gpt-2", "mpt", "olmo", "phi-2", "jais", "trillion", "gigachat", "roberta-bpe"):
        cut = {**level, "use_regex": True}
    else:
        return None
    return {"normalizer": None, "pre_tokenizer": cut, "decoder": {**level, "use_regex": True}}


def _tokenizer_json(facts: Vocabulary, steps: dict[str, Any]) -> dict[str, Any]:
    kept = [id for id, kind in enumerate(facts.types) if kind != TokenType.UNUSED]
    special = (TokenType.CONTROL, TokenType.UNKNOWN)
    added = [
        {
            "id": id, "content": facts.tokens[id], "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": bool(facts.types[id] in special),
        }
        for id in kept
        if facts.types[id] in (*special, TokenType.USER_DEFINED)
    ]  # fmt: skip
    unknown = facts.special_ids.get("unknown")
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": facts.tokens[unknown] if facts.kind == "spm" and unknown is not None else None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": facts.kind == "spm",
        "byte_fallback": facts.kind == "spm",
        "ignore_merges": facts.pre in WHOLE_WORDS,
        "vocab": {facts.tokens[id]: id for id in kept},
        "merges": [pair.split(" ", 1) for pair in facts.merges] if facts.merges else _merges_of_scores(facts),
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        **steps,
        "post_processor": _frame(facts),
        "model": model,
    }


def _frame(facts: Vocabulary) -> dict[str, Any] | None:
    """What is put around a prompt."""
    before = [facts.special_ids["bos"]] if facts.add_bos and "bos" in facts.special_ids else []
    after = [facts.special_ids["eos"]] if facts.add_eos and "eos" in facts.special_ids else []
    if not before and not after:
        return None
    single = [
        *({"SpecialToken": {"id": facts.tokens[id], "type_id": 0}} for id in before),
        {"Sequence": {"id": "A", "type_id": 0}},
        *({"SpecialToken": {"id": facts.tokens[id], "type_id": 0}} for id in after),
    ]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    special = {facts.tokens[id]: {"id": facts.tokens[id], "ids": [id], "tokens": [facts.tokens[id]]}
               for id in (*before, *after)}  # fmt: skip
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _merges_of_scores(facts: Vocabulary) -> list[list[str]]:
    """Pairs in the order of what they make, best score first: as SentencePiece's own converters find them."""
    ids = {token: id for id, token in enumerate(facts.tokens)}
    pairs: list[tuple[float, int, int, list[str]]] = []
    for id, token in enumerate(facts.tokens):
        if facts.types[id] not in (TokenType.NORMAL, TokenType.USER_DEFINED):
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                pairs.append((-float(facts.scores[id]), ids[left], ids[right], [left, right]))
    pairs.sort(key=lambda pair: pair[:3])
    return [pair for *_, pair in pairs]
