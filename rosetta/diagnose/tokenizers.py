"""Why two sides make other tokens of a text: each difference of their vocabularies, proven by encoding again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from rosetta.compare.pairing import other_side
from rosetta.compare.prompt import Tokenized
from rosetta.compare.results import Evidence, Finding, Side
from rosetta.diagnose.tokenizer_advice import tokenizer_remedy
from rosetta.errors import RosettaError
from rosetta.model import Model
from rosetta.tokenizer import (
    Tokenizer,
    TokenizerFinding,
    TokenType,
    Vocabulary,
    VocabularyDifference,
    compare_vocabularies,
)
from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS

# What a difference is called in a GGUF file, and the facts that its repair exchanges.
KEYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "size": ("tokenizer.ggml.tokens", ("tokens", "types", "scores")),
    "tokens": ("tokenizer.ggml.tokens", ("tokens", "scores")),
    "merges": ("tokenizer.ggml.merges", ("merges",)),
    "pre": ("tokenizer.ggml.pre", ("pre",)),
    "types": ("tokenizer.ggml.token_type", ("types",)),
    "bos_token_id": ("tokenizer.ggml.bos_token_id", ("special_ids",)),
    "eos_token_id": ("tokenizer.ggml.eos_token_id", ("special_ids",)),
    "add_bos": ("tokenizer.ggml.add_bos_token", ("add_bos",)),
    "add_eos": ("tokenizer.ggml.add_eos_token", ("add_eos",)),
}


def key_of(difference: VocabularyDifference) -> tuple[str, tuple[str, ...]]:
    """What a difference is called in a GGUF file, and the facts that its repair exchanges; any role has an id."""
    return KEYS.get(difference.key) or (f"tokenizer.ggml.{difference.key}", ("special_ids",))


CANONICAL = {"tokenizer.pre_type": "tokenizer.ggml.pre", "tokenizer.merges": "tokenizer.ggml.merges"}
# Texts that pre-tokenizers cut differently: contractions, digits, spaces, line breaks, scripts, marks,
# the indentation of code.
PROBES = (
    "I'll we'VE 1234567 3.14  x\n\n y\t z",
    "Grüße, 世界! かな ٣٤ नमस्ते é́ 🙂🙂",
    "  (a+b)*c != d;;  // ok?!\r\n",
    "def f(n):\n    return n if n < 2 else f(n - 1)\n\nfor i in range(32):\n    x = x + f(x)\n",
)
METRIC = "mismatched_ids"


def tokenizer_findings(models: dict[Side, Model], tokenized: Tokenized, reference: Side) -> list[Finding]:
    """What is wrong with either tokenizer, and what the subject's has otherwise than the reference's.

    Args:
        models: both sides.
        tokenized: their tokens and tokenizers.
        reference: the side that is believed.
    """
    prompt = tokenized.prompt
    subject = other_side(reference)
    own, believed = tokenized.tokenizers[subject], tokenized.tokenizers[reference]
    findings = [
        _declared(side, tokenizer, found, other, tokenized)
        for side, tokenizer, other in ((subject, own, believed), (reference, believed, own))
        if tokenizer is not None
        for found in tokenizer.findings
    ]
    if own is None or believed is None:
        return findings
    search = _Search(own, believed)
    differences = compare_vocabularies(own.facts, believed.facts)
    # A wrong name says more than a difference of names; of everything else the difference says more.
    named = {finding.kind for finding in findings} & {"tokenizer.pre_tokenizer"}
    differences = [difference for difference in differences if difference.kind not in named]
    if any(one.key == "pre" for one in differences) and begins_by_pre(own.facts, believed.facts):
        differences = [difference for difference in differences if difference.key != "add_bos"]
    compared = {difference.kind for difference in differences}
    findings = [finding for finding in findings if finding.kind not in compared]
    causes = search.causes(differences, prompt) if prompt is not None and not tokenized.diff.match else ()
    for difference in differences:
        shows = difference in causes
        if not shows and difference.key == "size" and _only_control_tokens(own.facts, believed.facts):
            continue  # converters append control tokens that no text spells
        findings.append(_difference(subject, models[subject], difference, search, prompt if shows else None))
    if not tokenized.diff.match and not findings:
        findings.append(_cut_otherwise(subject, tokenized))
    return findings


def _cut_otherwise(side: Side, tokenized: Tokenized) -> Finding:
    """Equal vocabularies, and other ids all the same: what is left is the normalizer, or where a space is put."""
    at = tokenized.diff.first_mismatch or 0
    ids = {"left": tokenized.diff.left, "right": tokenized.diff.right}
    pieces = {}
    for which, tokenizer in tokenized.tokenizers.items():
        own, known = ids[which], tokenizer.facts.tokens if tokenizer is not None else ()
        pieces[which] = repr(known[own[at]]) if at < len(own) and own[at] < len(known) else "nothing"
    spaces = sum(piece.lstrip("'").startswith(("▁", "Ġ", " ")) for piece in pieces.values()) == 1
    why = "a space is put before a text, or behind a special token, on one side only" if spaces else ""
    said = f"the vocabularies agree, the left cuts {pieces['left']} and the right {pieces['right']} at position {at}"
    return Finding(
        kind="tokenizer.pre_tokenizer",
        side=side,
        key="tokenizer.pre_type",
        message=f"tokenizer.pre_type: {said}: {why or 'the normalizer or the pre-tokenizer cuts the text otherwise'}",
        recommendation="compare the normalizer and the pre-tokenizer of both sides: add_space_prefix, legacy, "
        "prepend_scheme",
        status="suspected",
    )


def begins_by_pre(own: Vocabulary, believed: Vocabulary) -> bool:
    """Whether a text begins as the reference's does once the file names the same pre-tokenizer, and says no more."""
    right = PRE_TOKENIZERS.get(believed.pre or "")
    return own.add_bos_by_pre and right is not None and right.add_bos == believed.add_bos


class _Search:
    """Encodes texts as the subject does, as the reference does, and as the subject would with repairs."""

    def __init__(self, own: Tokenizer, believed: Tokenizer) -> None:
        self.own, self.believed = own, believed

    def causes(
        self, differences: Sequence[VocabularyDifference], text: str
    ) -> Sequence[VocabularyDifference]:
        """The fewest differences whose repair makes the ids of a text agree; empty where none do."""
        for count in range(1, len(differences) + 1):
            for chosen in combinations(differences, count):
                if self.mismatches(text, chosen) == 0:
                    return chosen
        return ()

    def mismatches(
        self, text: str, repaired: Sequence[VocabularyDifference] = (), special: bool = True
    ) -> int | None:
        """How many ids differ once the given differences are repaired; None where that cannot be tried.

        Args:
            text: what is encoded.
            repaired: the differences.
            special: whether special tokens are found in the text, as in a prompt; without, it is plain text.
        """
        fields = {name for difference in repaired for name in key_of(difference)[1]}
        if "pre" in fields and begins_by_pre(self.own.facts, self.believed.facts):
            fields.add("add_bos")
        try:
            if not fields:
                return differing_ids(self.own.encode(text, special), self.believed.encode(text, special))
            if self.own.facts.kind != "huggingface":
                mended = Tokenizer(_with(self.own.facts, self.believed.facts, fields))
                return differing_ids(mended.encode(text, special), self.believed.encode(text, special))
            if self.believed.facts.kind == "huggingface":
                return None
            # A folder's own tokenizer is one piece: plant the difference in the reference instead.
            planted = Tokenizer(_with(self.believed.facts, self.own.facts, fields))
            return differing_ids(self.own.encode(text, special), planted.encode(text, special))
        except RosettaError:
            return None

    def probe(self, difference: VocabularyDifference) -> tuple[str, bool] | None:
        """A text whose ids the difference changes and its repair mends, and whether as a prompt; None where none was
        found. Which tokens are hidden shows in plain text only."""
        return next(
            (
                (text, special)
                for special in ((True, False) if difference.key == "types" else (True,))
                for text in self._probes(difference)
                if self.mismatches(text, special=special) and self._mends(difference, text, special)
            ),
            None,
        )

    def _mends(self, difference: VocabularyDifference, text: str, special: bool) -> bool:
        """Whether ids are equal once a difference is repaired. A folder's tokens cannot be mended by themselves, and
        those of the other side in their place are the believed ones; which are hidden has to be shown."""
        left = self.mismatches(text, [difference], special)
        return left == 0 or (left is None and difference.key != "types")

    def _probes(self, difference: VocabularyDifference) -> Iterator[str]:
        for _, left, right in difference.examples:
            for token in (left, right):
                if token:
                    yield _spelled(token.replace(" ", "") if difference.key == "merges" else token)
        yield from PROBES


def _only_control_tokens(a: Vocabulary, b: Vocabulary) -> bool:
    """Whether all that the longer of two vocabularies has more is control tokens and padding."""
    longer, shorter = (a, b) if len(a.tokens) > len(b.tokens) else (b, a)
    extra = longer.types[len(shorter.tokens) :]
    return all(kind in (TokenType.CONTROL, TokenType.UNUSED) for kind in extra)


def _spelled(token: str) -> str:
    """A token as text, as far as spaces and line breaks go."""
    return token.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n")


def differing_ids(a: Sequence[int], b: Sequence[int]) -> int:
    """Positions at which two sequences differ, the longer one's tail included."""
    return sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))


def _with(facts: Vocabulary, other: Vocabulary, fields: set[str]) -> Vocabulary:
    changes: dict[str, Any] = {name: getattr(other, name) for name in fields}
    if len(changes.get("types", facts.types)) != len(changes.get("tokens", facts.tokens)):
        changes |= {"tokens": other.tokens, "types": other.types, "scores": other.scores}
    return replace(facts, **changes)


def _difference(
    side: Side, model: Model, difference: VocabularyDifference, search: _Search, prompt: str | None
) -> Finding:
    """The finding for a difference: shown by the prompt that was run, or latent and shown by a probe."""
    key, _ = key_of(difference)
    shown = (prompt, True) if prompt is not None else search.probe(difference)
    left_is_own = side == "left"
    own, right = (difference.left, difference.right) if left_is_own else (difference.right, difference.left)
    examples = ", ".join(_example(example, left_is_own) for example in difference.examples[:3])
    declared, actual = (examples or own, None) if difference.examples else (own, right)
    would = ""
    if prompt is None and shown is not None:
        would = f"; this prompt does not show it, {shown[0]!r} would" + ("" if shown[1] else " as plain text")
    return Finding(
        kind=difference.kind,
        side=side,
        key=key,
        declared=declared,
        actual=actual,
        message=f"{key} is not the reference's: {_worded(difference, own, right, examples)}{would}",
        recommendation=tokenizer_remedy(
            model.container, search.own.facts, search.believed.facts, difference, key
        ),
        status="confirmed" if shown is not None else "suspected",
        latent=prompt is None,
        evidence=None if shown is None else _evidence(search, difference, *shown),
    )


def _worded(difference: VocabularyDifference, own: Any, right: Any, examples: str) -> str:
    if difference.key == "types":  # whose message has both pieces, each with its type
        return difference.message
    return f"{difference.message}: {examples}" if examples else f"{own} here, {right} there"


def _evidence(search: _Search, difference: VocabularyDifference, text: str, special: bool) -> Evidence:
    before = search.mismatches(text, special=special)
    after = search.mismatches(text, [difference], special)
    return Evidence(stage="tokens", metric=METRIC, before=before, after=after, predicted=0)


def _example(example: tuple[int, str | None, str | None], left_is_own: bool) -> str:
    place, left, right = example
    own, other = (left, right) if left_is_own else (right, left)
    said = ["none" if piece is None else repr(piece) for piece in (own, other)]
    return f"{place} {said[0]} for {said[1]}"


def _declared(
    side: Side,
    tokenizer: Tokenizer,
    found: TokenizerFinding,
    other: Tokenizer | None,
    tokenized: Tokenized,
) -> Finding:
    """A finding that the file's own description gives, proven where the likely right name makes the ids agree."""
    evidence, text = None, tokenized.prompt if not tokenized.diff.match else None
    if found.likely is not None and other is not None and tokenizer.facts.kind != "huggingface":
        for probe in (text,) if text is not None else PROBES:
            try:
                wanted = other.encode(probe)
                before = differing_ids(tokenizer.encode(probe), wanted)
                mended = Tokenizer(replace(tokenizer.facts, pre=found.likely, findings=())).encode(probe)
            except RosettaError:
                continue
            after = differing_ids(mended, wanted)
            if before and not after:
                evidence = Evidence(stage="tokens", metric=METRIC, before=before, after=0, predicted=0)
                break
    return Finding(
        kind=found.kind,
        side=side,
        key=found.key if found.key.startswith("tokenizer.ggml.") else CANONICAL[found.key],
        declared=found.declared,
        actual=found.likely,
        message=f"{found.key}: {found.message}",
        recommendation=found.recommendation,
        status="confirmed" if evidence is not None else "suspected",
        latent=tokenized.diff.match,
        evidence=evidence,
    )
