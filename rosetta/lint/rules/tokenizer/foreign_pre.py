"""T315: a pre-tokenizer that cuts the vocabulary's own tokens."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.own_cuts import better_pre_tokenizer

RULE = Rule(
    "T315",
    "foreign-pre",
    "warning",
    what="tokenizer.ggml.pre names a pre-tokenizer that cuts many of the vocabulary's own tokens, and another one "
    "leaves them whole.",
    why="An exporter wrote one name for all models, or the name of the architecture that it knew. llama.cpp takes it, "
    "and texts become other tokens than the model was trained with: it answers, and worse.",
    fix="Write the name that the message gives, or let rosetta convert derive it from the model's tokenizer.json.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """How many tokens are cut, and what leaves them whole."""
    vocabulary = subject.vocabulary
    if vocabulary is None or vocabulary.kind != "bpe" or vocabulary.spelling != "bytes":
        return
    if vocabulary.declared_pre is None or vocabulary.declared_pre != vocabulary.pre:
        return
    found = better_pre_tokenizer(vocabulary)
    if found is not None:
        cut, of, name = found
        said = f"is {vocabulary.pre!r}, which cuts {cut} of {of} of the vocabulary's tokens; {name!r} leaves them whole"
        yield subject.at_file_key(vocabulary.places.get("tokenizer.ggml.pre", "tokenizer.ggml.pre"), said)
