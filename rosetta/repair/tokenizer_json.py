"""The tokenizer of a Hugging Face folder: tokens and merges of its tokenizer.json put right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rosetta.containers.huggingface.writer import Part, packed_json
from rosetta.repair.changes import Change, said
from rosetta.repair.vocabulary import PREFIX

NAME = "tokenizer.json"
TEMPLATE, TEMPLATE_FILES = "chat_template.jinja", ("chat_template.json", "tokenizer_config.json")
# A folder keeps the same in these for older loaders; a wrong copy would live on in them.
OLD_VOCABULARY, OLD_MERGES = "vocab.json", "merges.txt"


def repair_tokenizer(parts: dict[str, Part], vocabulary: Mapping[str, Any]) -> tuple[list[Change], list[str]]:
    """Put tokens and merges into a folder's byte-pair tokenizer.

    Args:
        parts: the files of the folder to be written; those of the tokenizer are exchanged.
        vocabulary: what is to be put in place of its own, by GGUF key.

    Returns:
        What changed, and the keys that a folder states in another form, which is left alone.
    """
    held = parts.get(NAME)
    table = json.loads(held.read_bytes()) if isinstance(held, Path) else {}
    model = table.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        return [], list(vocabulary)
    changes, unsaid = [], []
    for key, value in vocabulary.items():
        name = key.removeprefix(PREFIX)
        if name == "tokens":
            changes.append(_tokens(table, model, value))
        elif name == "merges":
            changes.append(_merges(model, value))
        else:
            unsaid.append(key)
    if changes:
        parts[NAME] = packed_json(table)
        if OLD_VOCABULARY in parts:
            parts[OLD_VOCABULARY] = json.dumps(model["vocab"], ensure_ascii=False).encode()
        if OLD_MERGES in parts and isinstance(model.get("merges"), list):
            lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
            parts[OLD_MERGES] = "\n".join(["#version: 0.2", *lines, ""]).encode()
    return changes, unsaid


def _tokens(table: dict[str, Any], model: dict[str, Any], tokens: Sequence[str]) -> Change:
    """Each id that the folder knows gets the other file's token."""
    before, wrong = model["vocab"], 0
    after = {}
    for token, place in before.items():
        right = tokens[place] if isinstance(place, int) and 0 <= place < len(tokens) else token
        wrong += right != token
        after[right] = place
    model["vocab"] = after
    for added in table.get("added_tokens") or []:
        place = added.get("id")
        if isinstance(place, int) and 0 <= place < len(tokens):
            wrong += added.get("content") != tokens[place]
            added["content"] = tokens[place]
    return Change(f"{NAME} model.vocab", f"{len(before)} tokens", f"{wrong} of them others")


def _merges(model: dict[str, Any], merges: Sequence[str]) -> Change:
    before = model.get("merges") or []
    as_text = bool(before) and isinstance(before[0], str)
    model["merges"] = list(merges) if as_text else [merge.split(" ", 1) for merge in merges]
    return Change(f"{NAME} model.merges", said(before), said(model["merges"]))


def put_template(parts: dict[str, Part], template: str) -> Change:
    """Put a chat template where the folder has its own: a file of its own, or a key of a JSON file."""
    if TEMPLATE in parts:
        parts[TEMPLATE] = template.encode()
        return Change(TEMPLATE, "its own", "the other file's")
    for name in TEMPLATE_FILES:
        held = parts.get(name)
        table = json.loads(held.read_bytes()) if isinstance(held, Path) else {}
        stated = table.get("chat_template")
        if stated is None and name != TEMPLATE_FILES[-1]:
            continue
        if isinstance(stated, list):  # several under names
            for entry in stated:
                entry["template"] = template if entry.get("name") == "default" else entry.get("template")
        else:
            table["chat_template"] = template
        parts[name] = packed_json(table)
        return Change(f"{name} chat_template", said(stated), said(table["chat_template"]))
    raise AssertionError("the last file takes it")
