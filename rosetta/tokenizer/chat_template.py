"""The chat template that a container embeds, and what it makes of a conversation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rosetta.containers.container import Container
from rosetta.errors import RosettaError
from rosetta.tokenizer.folder_files import file_contents, json_file
from rosetta.tokenizer.tokenizer import Tokenizer

Conversation = Sequence[Mapping[str, str]]
CONVERSATIONS: tuple[Conversation, ...] = (
    ({"role": "user", "content": "2+2="},),
    (
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Blue."},
        {"role": "user", "content": " And another? "},
    ),
    (
        {"role": "user", "content": "First line\nsecond <b>line</b>"},
        {"role": "assistant", "content": "It has two lines.\n"},
    ),
)
"""One question; a system message and several turns, with spaces at the edges; one that ends with the answer."""
GGUF_KEY = "tokenizer.chat_template"
LONGEST = 1 << 20  # characters of a template that are read
TODAY = datetime(2026, 1, 1)  # templates print the date: the same one for both sides


def chat_template(container: Container) -> str | None:
    """The default chat template; None where there is none.

    Raises:
        DamagedFileError: a folder's file that should state it is no JSON object.
    """
    for _, _, value in template_places(container):
        if isinstance(value, list):  # several under names
            value = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        if isinstance(value, dict):
            value = value.get("default")
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, str) and value:
            return value[:LONGEST]
    return None


def template_places(container: Container) -> Iterator[tuple[Path | None, str, Any]]:
    """Each place where a chat template is stated, that which counts before the others: the file of a folder, the key,
    and what stands there, whatever it is; bytes where a file of its own is no text.

    Raises:
        DamagedFileError: a folder's file that should state it is no JSON object.
    """
    if container.kind != "huggingface":
        for key in (GGUF_KEY, "chat_template"):
            if container.metadata.get(key) is not None:
                yield None, key, container.metadata[key]
        return
    # Of transformers 4.43 and later; the others do not count beside it.
    own = container.path / "chat_template.jinja"
    if own.is_file():
        contents = file_contents(own)
        try:
            yield own, "chat_template", contents.decode()
        except UnicodeDecodeError:
            yield own, "chat_template", contents
        return
    for name in ("chat_template.json", "tokenizer_config.json"):
        value = json_file(container.path / name).get("chat_template")
        if value is not None:
            yield container.path / name, "chat_template", value


def syntax_error(template: str) -> str | None:
    """Why a template is no Jinja that parses, with its line; None where it is."""
    from jinja2 import Environment, TemplateSyntaxError, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class Generation(Extension):
        """transformers' block around what the model is trained to say."""

        tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    try:
        Environment(extensions=["jinja2.ext.loopcontrols", Generation]).parse(template)
    except TemplateSyntaxError as error:
        return f"{error.message} (line {error.lineno})"
    return None


def rendered(template: str, conversation: Conversation, named: Mapping[str, str]) -> str:
    """What a template makes of a conversation, or why it makes nothing of it.

    Args:
        template: Jinja, as transformers renders it: blocks trimmed, in a sandbox.
        conversation: messages.
        named: `bos_token`, `eos_token` and their text.
    """
    from jinja2 import Environment, TemplateError  # needs a moment, and only a comparison of templates has it
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refused(message: str) -> None:
        raise TemplateError(message)

    environment: Environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    now: Callable[[str], str] = TODAY.strftime
    environment.globals.update(raise_exception=refused, strftime_now=now)
    last_is_answer = bool(conversation) and conversation[-1]["role"] == "assistant"
    try:
        return environment.from_string(template).render(
            messages=[dict(message) for message in conversation],
            add_generation_prompt=not last_is_answer,
            tools=None,
            documents=None,
            **named,
        )
    except Exception as error:  # a template is a program of somebody else
        return f"(cannot be rendered: {type(error).__name__}: {error})"


def named_tokens(tokenizer: Tokenizer | None) -> dict[str, str]:
    """The special tokens that templates write by name."""
    if tokenizer is None:
        return {}
    ids = {f"{role}_token": tokenizer.facts.special_ids.get(role) for role in ("bos", "eos")}
    return {
        name: tokenizer.vocabulary[id] for name, id in ids.items() if id is not None and id < tokenizer.size
    }


def _to_json(value: Any, indent: int | None = None) -> str:
    """transformers' filter: no HTML escapes."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def generation_settings(container: Container) -> dict[str, Any]:
    """How a model is sampled by default, as its container says it: names of Hugging Face's generation_config.json."""
    if container.kind == "huggingface":
        try:
            stated = json_file(container.path / "generation_config.json")
        except RosettaError:
            return {}
        return {name: stated[name] for name in SAMPLING.values() if stated.get(name) is not None}
    found = {name: container.metadata.get(key) for key, name in SAMPLING.items()}
    return {name: value for name, value in found.items() if value is not None}


# GGUF's keys (gguf-py, Keys.General, SAMPLING_*) -> generation_config.json.
SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
