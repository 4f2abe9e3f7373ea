"""What a file's own key would have to say for a setting to be right, in that key's form: found by reading it so."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from rosetta.compare.other_forms import forms_of, ways_to_say
from rosetta.compare.settings import agree, in_json
from rosetta.config import Value
from rosetta.containers.apr.settings import apr_settings
from rosetta.containers.container import Container
from rosetta.containers.huggingface.settings import huggingface_settings
from rosetta.diagnose.places import Stating
from rosetta.errors import RosettaError
from rosetta.model import Model, build_model
from rosetta.rope_scaling import RopeScaling


def in_own_form(model: Model, key: str, own: Value, right: Any) -> tuple[Any, Any] | None:
    """What the file states under the key that a setting was read from, and what it would have to state; None where
    that is the setting as it is, or where nothing under that key alone gives the right one.

    Args:
        model: of the file.
        key: canonical.
        own: the setting as the file has it.
        right: as it is to be.
    """
    stated = stated_by(model.container, own.key)
    if stated is None or own.key is None or isinstance(right, RopeScaling):
        return None
    path, forms = _path(model.container, own.key), forms_of(model.architecture)
    name = path[-1].rpartition(".")[2]
    if name not in forms and in_json(stated) == in_json(own.value):
        return None
    try:
        wanted = model.repaired({key: right}).config  # what is worked out from it comes along
    except RosettaError:
        return None
    for said in ways_to_say(name, stated, wanted, right, own.value, forms):
        if said != stated and _reads_as(model, path, said, key, right):
            return stated, said
    return None


def stated_by(container: Container, own: str | None) -> Any:
    """What a file states under a key of its own; None where that is nothing, or a table."""
    found: Any = container.metadata if own is not None else None
    for name in _path(container, own or ""):
        found = found.get(name) if isinstance(found, Mapping) else None
    found = found.tolist() if hasattr(found, "tolist") else found
    return None if isinstance(found, Mapping) else found


def _path(container: Container, own: str) -> tuple[str, ...]:
    """The place of a key: dots descend, where the whole key is not there."""
    return (own,) if own in container.metadata else tuple(own.split("."))


def _reads_as(model: Model, path: tuple[str, ...], said: Any, key: str, right: Any) -> bool:
    """Whether a file that says this at that place is read as having the setting."""
    try:
        config = build_model(_saying(model.container, path, said)).config
    except RosettaError:
        return False
    return key in config and agree(key, config[key].value, right)


def _saying(container: Container, path: tuple[str, ...], said: Any) -> Stating:
    """The file with something else at a place."""
    metadata = copy.deepcopy(dict(container.metadata))
    table = metadata
    for name in path[:-1]:
        table = table[name]
    table[path[-1]] = said
    made = Stating(container, {})
    made.metadata = metadata
    if container.kind == "gguf":
        key = path[-1].removeprefix(f"{container.architecture}.")
        made.settings = {**container.settings, key: type(container.settings[key])(said, path[-1])}
    elif container.kind == "apr":
        made.settings = apr_settings(container.path, metadata, lambda note: None)
    else:
        made.settings = huggingface_settings(container.path, metadata)
    return made
