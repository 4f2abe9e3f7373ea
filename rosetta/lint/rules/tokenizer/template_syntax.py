"""T310: the chat template does not parse."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.chat_template import GGUF_KEY, chat_template, syntax_error

RULE = Rule(
    "T310",
    "template-syntax",
    "error",
    what="The chat template is no Jinja that parses.",
    why="It was cut at some length, its line breaks or quotes were escaped once too often, or a file name was written "
    "in its place.",
    fix="Write the template as it stands in the model's own chat_template.jinja or tokenizer_config.json.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first thing that is no Jinja."""
    template = chat_template(subject.container)
    problem = None if template is None else syntax_error(template)
    if problem is not None:
        yield subject.at_file_key(template_key(subject), f"does not parse: {problem}")


def template_key(subject: Subject) -> str:
    """Where the template stands."""
    return GGUF_KEY if subject.gguf is not None else "chat_template"
