"""T311: the chat template writes tokens that do not exist."""

import re
from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.tokenizer.template_syntax import at_template
from rosetta.lint.subject import Subject
from rosetta.tokenizer.chat_template import chat_template
from rosetta.tokenizer.special_tokens import END_OF_GENERATION

RULE = Rule(
    "T311",
    "template-tokens",
    "warning",
    what="The chat template writes a special token that the vocabulary does not have.",
    why="The template of another model was taken, or the tokens were never added: turns are then marked by a text of "
    "several ordinary tokens.",
    fix="Take the model's own template, or add its tokens.",
)
# Only what is written like `<|im_start|>`, or ends a turn of a published model, is surely meant as one token: <think>
# may be a plain text.
_MARK = re.compile(
    "|".join([r"<\|[A-Za-z][\w-]*\|>", r"<｜[A-Za-z][\w▁-]*｜>", *map(re.escape, END_OF_GENERATION)])
)


def faults(subject: Subject) -> Iterator[Fault]:
    """All such tokens, in the order of the template."""
    template, vocabulary = chat_template(subject.container), subject.vocabulary
    if template is None or vocabulary is None:
        return
    missing = [mark for mark in dict.fromkeys(_MARK.findall(template)) if mark not in subject.token_set]
    if missing:
        some = ", ".join(missing[:4]) + (" …" if len(missing) > 4 else "")
        yield at_template(subject, f"writes {some}, and no token is spelled so")
