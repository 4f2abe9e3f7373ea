"""What is to be known of two models beside what is compared: what a prompt hides, what was made of their files."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.compare.adequacy import beyond_context, hidden_from
from rosetta.compare.results import Side
from rosetta.containers.huggingface.text_part import tables
from rosetta.diagnose.advice import named_pairs
from rosetta.diagnose.chat import chat_notes
from rosetta.index_entries import needless_entries
from rosetta.lint.transformers_names import may_have_more, unknown_kind
from rosetta.model import Model
from rosetta.names import BASE_LAYER, emptied_tuner, shared_prefix, wrapper_of
from rosetta.ops.rotary import STILL

SHOWN_TENSORS, SHOWN_SETTINGS = 3, 6  # of those that are not known


def model_notes(models: dict[Side, Model], tokens: int) -> list[str]:
    """Sentences, those of each file with its path.

    Args:
        models: both sides.
        tokens: how many are run.
    """
    return [
        *hidden_from(tokens, *models.values()),
        *(note for model in models.values() if (note := beyond_context(tokens, model)) is not None),
        *chat_notes(models),
        *(f"{model.container.path}: {note}" for model in models.values() for note in _of_file(model)),
    ]


def _of_file(model: Model) -> Iterator[str]:
    yield from model.container.notes
    yield from needless_entries(model.container)
    yield from _prefixes(model)
    yield from _kinds_of_layers(model)
    if model.architecture.seen:  # no more is known of it than what a run shows
        return
    if model.unread and model.architecture.runs:
        some = _first([*model.unread], SHOWN_TENSORS)
        yield f"{len(model.unread)} tensors that {model.architecture.name} does not know: {some}"
    yield from _still_pairs(model)
    if model.unheeded:
        stated = _first([f"{setting.key} {setting.value}" for setting in model.unheeded], SHOWN_SETTINGS)
        yield f"states {stated}, which {model.architecture.name} does not compute"


def _prefixes(model: Model) -> Iterator[str]:
    """What stands before names and was left out in reading them: wrapping modules', else one that all have."""
    names = [*model.container.tensors]
    wrappers = {wrapper: name for name in names if (wrapper := wrapper_of(name)) is not None}
    for wrapper, name in wrappers.items():
        yield (
            f"tensors are named with the prefix {wrapper} of a wrapping module, as {name}; no loader expects it: "
            "save the unwrapped model, or take the prefix off"
        )
    if (around := emptied_tuner(names)) == BASE_LAYER:
        name = next(name for name in names if around in name)
        yield (
            f"adapted tensors are named with {around.strip('.')} of peft, as {name}, and no adapter is beside them; no "
            "loader expects it: call unload or merge_and_unload before the model is saved"
        )
    if not wrappers and (prefix := shared_prefix(names, model.architecture, model.block_count)):
        yield (
            f"all tensors are named with the prefix {prefix}, as {names[0]}, and were read without it: take the "
            "prefix off, no loader expects it"
        )


def _kinds_of_layers(model: Model) -> Iterator[str]:
    """What a folder's list of kinds of layers says that transformers would refuse."""
    container = model.container
    if container.kind != "huggingface" or may_have_more(container.metadata):
        return
    for table, prefix in tables(container.metadata):
        listed = table.get("layer_types")
        said = unknown_kind(listed)
        if said is not None:
            yield f"{prefix}layer_types {said}: it was read as if it were not there"
        elif isinstance(listed, list) and len(listed) < model.block_count:
            yield f"{prefix}layer_types lists {len(listed)} of {model.block_count} layers, which transformers refuses"


def _still_pairs(model: Model) -> Iterator[str]:
    still = model.config.get(STILL)
    if still is not None and still.value:
        pairs = named_pairs(still.value)
        yield f"llama.cpp turns no {pairs} in a text: the file's sections leave such to a fourth position"


def _first(shown: list[str], most: int) -> str:
    return ", ".join(shown[:most]) + (" …" if len(shown) > most else "")
