"""The tokenizer of a GGUF or `.apr` file as the files of a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rosetta.containers.huggingface.writer import Part, packed_json
from rosetta.convert import unigram_json, word_piece_json
from rosetta.model import Model
from rosetta.tokenizer import load_tokenizer
from rosetta.tokenizer.chat_template import chat_template
from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from rosetta.tokenizer.published_cuts import BETWEEN_SPACES, GPT2, PUNCTUATION, PUNCTUATION_FIRST, chain_of
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
OTHER_MODELS = {"unigram": unigram_json, "wordpiece": word_piece_json}


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
    steps = folder_steps(facts)
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
    made.files["tokenizer.json"] = packed_json(tokenizer_json(facts, steps))
    made.files["tokenizer_config.json"] = packed_json(config)
    return made


def folder_steps(facts: Vocabulary) -> dict[str, Any] | None:
    """Normaliser, pre-tokenizer and decoder; None where they are not known."""
    if facts.kind in OTHER_MODELS:
        steps: dict[str, Any] = OTHER_MODELS[facts.kind].steps(facts)
        return steps
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
    if facts.kind == "whitespace":
        lower = {"type": "Lowercase"} if facts.lowercase else None
        return {"normalizer": lower, "pre_tokenizer": BETWEEN_SPACES, "decoder": None}
    if facts.pre is not None and PRE_TOKENIZERS[facts.pre].escape_spaces:
        lines = {"type": "Split", "pattern": {"Regex": "\n+"}, "behavior": "Isolated", "invert": False}
        spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
        decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
        return {
            "normalizer": spaces,
            "pre_tokenizer": lines,
            "decoder": {"type": "Sequence", "decoders": decoders},
        }
    if facts.kind != "bpe" or facts.spelling != "bytes" or facts.pre is None:
        return None
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    cut = _cut(facts.pre, level)
    return (
        None
        if cut is None
        else {"normalizer": None, "pre_tokenizer": cut, "decoder": {**level, "use_regex": True}}
    )


def _cut(pre: str, level: dict[str, Any]) -> dict[str, Any] | None:
    """The published steps of what GGUF gives this name; `level` is the one that spells bytes."""
    if pre in PUNCTUATION_FIRST:
        return {"type": "Sequence", "pretokenizers": list(PUNCTUATION_FIRST[pre])}
    chain = chain_of(pre)
    if chain is None:
        return None
    last = {**level, "use_regex": chain[-1] == GPT2}
    steps = [_step(expression) for expression in (chain[:-1] if last["use_regex"] else chain)]
    return {"type": "Sequence", "pretokenizers": [*steps, last]} if steps else last


def _step(expression: str) -> dict[str, Any]:
    if expression == r"\p{N}":
        return {"type": "Digits", "individual_digits": True}
    if expression == PUNCTUATION:
        return {"type": "Punctuation", "behavior": "Isolated"}
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def tokenizer_json(facts: Vocabulary, steps: dict[str, Any]) -> dict[str, Any]:
    other = OTHER_MODELS.get(facts.kind)
    types = facts.types.tolist()  # NumPy's own numbers are slow to compare one by one
    kept = [id for id, kind in enumerate(types) if kind != TokenType.UNUSED]
    special = (TokenType.CONTROL, TokenType.UNKNOWN)
    added = [
        {
            "id": id, "content": facts.tokens[id], "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": types[id] in special,
        }
        for id in kept
        if types[id] in (*special, TokenType.USER_DEFINED)
    ]  # fmt: skip
    unknown = facts.special_ids.get("unknown")
    model = (
        other.model(facts, kept)
        if other is not None
        else {
            "type": "BPE",
            "dropout": None,
            "unk_token": facts.tokens[unknown] if facts.spelling == "plain" and unknown is not None else None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": facts.spelling == "plain",
            "byte_fallback": facts.spelling == "plain",
            "ignore_merges": facts.pre is not None and PRE_TOKENIZERS[facts.pre].ignore_merges,
            "vocab": {facts.tokens[id]: id for id in kept},
            "merges": [pair.split(" ", 1) for pair in facts.merges]
            if facts.merges
            else _merges_of_scores(facts),
        }
    )
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
    words = facts.kind == "wordpiece"  # which llama.cpp frames whatever the file says
    last = "separator" if words else "eos"
    before = [facts.special_ids["bos"]] if (facts.add_bos or words) and "bos" in facts.special_ids else []
    after = [facts.special_ids[last]] if (facts.add_eos or words) and last in facts.special_ids else []
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
    types = facts.types.tolist()
    pairs: list[tuple[float, int, int, list[str]]] = []
    for id, token in enumerate(facts.tokens):
        if types[id] not in (TokenType.NORMAL, TokenType.USER_DEFINED):
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                pairs.append((-float(facts.scores[id]), ids[left], ids[right], [left, right]))
    pairs.sort(key=lambda pair: pair[:3])
    return [pair for *_, pair in pairs]
