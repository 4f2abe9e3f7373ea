"""What two files say beside the forward pass: chat templates, special ids of the config, generation settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rosetta.compare.pairing import other_side
from rosetta.compare.prompt import first_difference
from rosetta.compare.results import Evidence, Finding, Side
from rosetta.compare.settings import agree, plain
from rosetta.diagnose.advice import config_file, spelling
from rosetta.errors import RosettaError
from rosetta.model import Model
from rosetta.tokenizer import Tokenizer
from rosetta.tokenizer.chat_template import (
    CONVERSATIONS,
    GGUF_KEY,
    chat_template,
    generation_settings,
    named_tokens,
    rendered,
)

SPECIAL_IDS = ("bos_token_id", "eos_token_id")
AROUND = (12, 24)  # characters before and after the place where two texts part


def chat_findings(
    models: Mapping[Side, Model],
    tokenizers: Mapping[Side, Tokenizer | None],
    reference: Side,
    found: list[Finding],
) -> Iterator[Finding]:
    """Latent findings about what a forward pass over a plain text does not show.

    Args:
        models, tokenizers: of both sides.
        reference: the side that is believed.
        found: what is known already.
    """
    subject = other_side(reference)
    if any(model.container.kind == "trace" for model in models.values()):
        return
    own, believed = models[subject], models[reference]
    yield from _templates(subject, own, believed, tokenizers[subject], tokenizers[reference])
    known = {finding.key for finding in found}
    for key in SPECIAL_IDS:
        if key not in own.config or key not in believed.config or f"tokenizer.ggml.{key}" in known:
            continue
        mine, theirs = own.config[key], believed.config[key]
        if agree(key, mine.value, theirs.value) or mine.defaulted or theirs.defaulted:
            continue
        spelled = mine.key or spelling(own.container, key)
        yield Finding(
            kind="tokenizer.bos" if key == "bos_token_id" else "tokenizer.special_tokens",
            side=subject,
            key=key,
            declared=plain(mine.value),
            actual=plain(theirs.value),
            message=f"{key} is {mine.value}, the reference has {theirs.value}: generation begins or ends elsewhere",
            recommendation=f"write {spelled} {theirs.value} into {config_file(own.container)} instead of {mine.value}",
            status="suspected",
            latent=True,
        )


def _templates(
    side: Side, own: Model, believed: Model, mine: Tokenizer | None, theirs: Tokenizer | None
) -> Iterator[Finding]:
    """Two templates that write some conversation otherwise, each with the special tokens of its own side."""
    texts = [_template(model) for model in (own, believed)]
    if texts[0] is None or texts[1] is None or texts[0] == texts[1]:
        return
    pairs = [
        (rendered(texts[0], talk, named_tokens(mine)), rendered(texts[1], talk, named_tokens(theirs)))
        for talk in CONVERSATIONS
    ]
    unlike = [(number, a, b) for number, (a, b) in enumerate(pairs, 1) if a != b]
    if not unlike:
        return
    number, a, b = unlike[0]
    after = sum(
        rendered(texts[1], talk, named_tokens(mine)) != b
        for talk, (_, b) in zip(CONVERSATIONS, pairs, strict=True)
    )
    where = "chat_template" if own.container.kind != "gguf" else GGUF_KEY
    file = (
        own.container.path / "tokenizer_config.json"
        if own.container.kind == "huggingface"
        else own.container.path
    )
    yield Finding(
        kind="tokenizer.chat_template",
        side=side,
        key=GGUF_KEY,
        message=f"{GGUF_KEY} writes {len(unlike)} of {len(pairs)} conversations otherwise: number {number} "
        f"{parted(a, b)}",
        recommendation=f"write {where} into {file} as {believed.container.path} has it",
        status="confirmed" if after < len(unlike) else "suspected",
        latent=True,
        evidence=Evidence(
            stage="tokens", metric="mismatched_conversations", before=len(unlike), after=after, predicted=0
        ),
    )


def parted(a: str, b: str) -> str:
    """Where two texts part, in words.

    >>> parted("<user>hi", "<user> hi")
    "from character 6 on '<user>hi' for '<user> hi'"
    """
    at, (before, after) = first_difference(a, b) or 0, AROUND
    shown = (repr(text[max(0, at - before) : at + after]) for text in (a, b))
    return f"from character {at} on {' for '.join(shown)}"


def _template(model: Model) -> str | None:
    try:
        return chat_template(model.container)
    except RosettaError:
        return None


def chat_notes(models: Mapping[Side, Model]) -> Iterator[str]:
    """What one side lacks, and generation settings that differ: no fault of a conversion, and good to know."""
    sides = [model for model in models.values() if model.container.kind != "trace"]
    if len(sides) < 2:
        return
    texts = [_template(model) for model in sides]
    if (texts[0] is None) != (texts[1] is None):
        yield f"{sides[texts[0] is not None].container.path}: no chat template, where the other side has one"
    stated = [generation_settings(model.container) for model in sides]
    if stated[0] != stated[1]:
        said = "; ".join(
            f"{model.container.label} {_listed(values)}" for model, values in zip(sides, stated, strict=True)
        )
        yield f"generation settings differ: {said}"


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {plain(value)}" for name, value in settings.items()) or "none"
