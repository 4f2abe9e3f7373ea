"""What a repair of a tokenizer takes from the other file, under GGUF's keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rosetta.compare.results import Finding
from rosetta.diagnose.tokenizers import KEYS
from rosetta.model import Model
from rosetta.tokenizer import Vocabulary, load_tokenizer
from rosetta.tokenizer.chat_template import GGUF_KEY, chat_template
from rosetta.tokenizer.comparison import mended_types

PREFIX = "tokenizer.ggml."
# What a GGUF key holds of the facts of a tokenizer; None where the facts have nothing to put there.
VALUES: dict[str, Callable[[Vocabulary], Any]] = {
    PREFIX + "tokens": lambda facts: list(facts.tokens),
    PREFIX + "scores": lambda facts: facts.scores if len(facts.scores) else None,
    PREFIX + "token_type": lambda facts: facts.types if len(facts.types) else None,
    PREFIX + "merges": lambda facts: list(facts.merges) or None,
    PREFIX + "pre": lambda facts: facts.declared_pre or facts.pre,
    PREFIX + "bos_token_id": lambda facts: facts.special_ids.get("bos"),
    PREFIX + "eos_token_id": lambda facts: facts.special_ids.get("eos"),
    PREFIX + "add_bos_token": lambda facts: facts.add_bos,
    PREFIX + "add_eos_token": lambda facts: facts.add_eos,
}
FIELDS = {"tokens": PREFIX + "tokens", "scores": PREFIX + "scores", "types": PREFIX + "token_type"}


def own_key(key: str) -> str:
    """An `.apr` file's spelling of a GGUF key."""
    if not key.startswith(PREFIX):
        return key
    name = key.removeprefix(PREFIX)
    return "tokenizer." + {"tokens": "vocabulary", "pre": "pre_type"}.get(name, name)


def repaired_vocabulary(findings: Iterable[Finding], base: Model, other: Model) -> dict[str, Any]:
    """The tokenizer's values that confirmed findings put in place of the file's own, by GGUF key.

    Args:
        findings: confirmed causes on one side.
        base: that side.
        other: the side whose tokenizer is believed.
    """
    accused = {finding.key: finding for finding in findings if finding.kind.startswith("tokenizer.")}
    tokenizer = load_tokenizer(other.container) if accused else None
    own = load_tokenizer(base.container) if FIELDS["types"] in accused else None
    stated = base.container.metadata
    values: dict[str, Any] = {}
    if GGUF_KEY in accused:
        values[GGUF_KEY] = chat_template(other.container)
    for key, finding in accused.items():
        if key is None or tokenizer is None or key not in VALUES:
            continue
        # Tokens come with their scores and types, where the file has those at all.
        names = {name for held, names in KEYS.values() if held == key for name in names}
        beside = {FIELDS[name] for name in names & FIELDS.keys()}
        for fact in sorted({key, *(fact for fact in beside if fact in stated or own_key(fact) in stated)}):
            value = VALUES[fact](tokenizer.facts)
            if value is not None:
                values[fact] = value
        if key == FIELDS["types"] and own is not None:
            values[key] = mended_types(own.facts, tokenizer.facts)
        if key == PREFIX + "pre" and isinstance(finding.actual, str):
            values[key] = finding.actual
    return values
