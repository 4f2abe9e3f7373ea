"""T310: the chat template does not parse."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rosetta.containers.apr.keys import TYPED_KEYS
from rosetta.containers.values import TEXT_TABLE
from rosetta.lint.gguf_keys import WHOLE_KEY_TYPES
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.chat_template import chat_template, syntax_error, template_places

RULE = Rule(
    "T310",
    "template-syntax",
    "error",
    what="The chat template is no text, or no Jinja that parses.",
    why="It was cut at some length, its line breaks or quotes were escaped once too often, or a file name was written "
    "in its place.",
    fix="Write the template as it stands in the model's own chat_template.jinja or tokenizer_config.json.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """A template that is no text, or the first thing in it that is no Jinja."""
    typed = {"apr": TYPED_KEYS, "gguf": WHOLE_KEY_TYPES}.get(subject.kind, {})  # of these C204 tells
    for file, key, value in template_places(subject.container):
        if key not in typed and not _is_template(value):
            yield _at(subject, file, key, f"is {value!r:.60}, and must be a text")
    template = chat_template(subject.container)
    problem = None if template is None else syntax_error(template)
    if problem is not None:
        yield at_template(subject, f"does not parse: {problem}")


def at_template(subject: Subject, message: str) -> Fault:
    """A fault of the template that counts, where it stands."""
    places = template_places(subject.container)
    file, key = next((file, key) for file, key, value in places if _is_template(value))
    return _at(subject, file, key, message)


def _at(subject: Subject, file: Path | None, key: str, message: str) -> Fault:
    return subject.at_file_key(key, message) if file is None else Fault(message, key=key, file=file)


def _is_template(value: Any) -> bool:
    """Whether transformers takes it for one: a text, or several of them under names."""
    if isinstance(value, list):
        return all(isinstance(entry, dict) and isinstance(entry.get("template"), str) for entry in value)
    return isinstance(value, str) or (isinstance(value, dict) and TEXT_TABLE.holds(value))
