"""C225: config.json gives something a name that transformers does not know."""

from collections.abc import Iterator

from rosetta.architectures import find_architecture
from rosetta.containers.huggingface.text_part import tables
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.lint.transformers_names import (
    ACTIVATIONS,
    OF_GATES,
    OF_SHARED_CLASSES,
    may_have_more,
    unknown_kind,
)

RULE = Rule(
    "C225",
    "unknown-name",
    "warning",
    what="config.json gives its model, a kind of layer or an activation a name that transformers does not know.",
    why="The name was misspelt, or is that of another library. transformers refuses the folder; a loader that takes "
    "what it does not know for its default computes another function without a word.",
    fix="Write the name that transformers has for it; a model with code of its own names that in auto_map.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each such name."""
    config = subject.container.metadata
    if subject.folder is None or may_have_more(config):
        return
    yield from _model(subject)
    activation = subject.setting("activation")
    if isinstance(activation, str) and activation not in ACTIVATIONS | OF_GATES:
        yield subject.at_key("activation", f"is {activation!r:.60}, which is no activation of transformers")
    for table, prefix in tables(config):
        for key in ("layer_types", "mlp_layer_types"):
            listed = table.get(key)
            # What are no texts, C204 says.
            texts = isinstance(listed, list) and all(isinstance(kind, str) for kind in listed)
            if texts and (said := unknown_kind(listed)) is not None:
                yield subject.at_file_key(f"{prefix}{key}", said)


def _model(subject: Subject) -> Iterator[Fault]:
    """A model_type that nothing goes by, where the class is a known one; a class that is not known may have any."""
    config = subject.container.metadata
    model_type, classes = config.get("model_type"), config.get("architectures")
    named = classes[0] if isinstance(classes, list) and classes and isinstance(classes[0], str) else None
    if not isinstance(model_type, str) or named is None or model_type in OF_SHARED_CLASSES:
        return
    if find_architecture(model_type) is None and find_architecture(named) is not None:
        yield subject.at_file_key(
            "model_type", f"is {model_type!r:.60}, and no model of class {named} goes by it"
        )
