"""What a file's own key would have to say for a setting to be right, in that key's form: found by reading it so."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from rosetta.compare.other_forms import forms_of, ways_to_say
from rosetta.compare.settings import agree, in_json, plain
from rosetta.config import Config, Value
from rosetta.containers.apr.settings import APR_FACTS, apr_settings
from rosetta.containers.container import Container, Setting
from rosetta.containers.huggingface.settings import HUGGINGFACE_FACTS, huggingface_settings
from rosetta.containers.huggingface.text_part import text_part, without_rotation
from rosetta.diagnose.stated_scaling import gguf_words
from rosetta.diagnose.stating import Stating
from rosetta.errors import RosettaError
from rosetta.lint.gguf_keys import is_key
from rosetta.model import Model, build_model
from rosetta.rope_scaling import RopeScaling

GROWTH = "rope.scaling.attn_factor"
IN_TABLES: Mapping[str, tuple[str, ...]] = {
    "rope.freq_base": ("rope_parameters.rope_theta", "rope_theta"),
    "rope.dimension_sections": ("rope_parameters.mrope_section",),
    "rope.dimension_count": ("rope_parameters.partial_rotary_factor", "partial_rotary_factor"),
    "attention.scale": ("query_pre_attn_scalar",),
    "attention.sliding_window": ("sliding_window",),
    "attention.sliding_window_pattern": ("layer_types",),
    "attention.recurrent_layers": ("layer_types",),
}
"""Keys of a folder, and of an `.apr`, that say a setting in another form or place than its usual ones."""


def in_own_form(model: Model, key: str, own: Value | None, right: Any) -> tuple[str, Any, Any] | None:
    """The key by which a file would say a setting, what it states there (None: nothing), and what it would have to
    state; None where it states the setting as it is, or where no key alone gives the right one.

    Args:
        model: of the file.
        key: canonical.
        own: the setting as the file has it.
        right: as it is to be.
    """
    if isinstance(right, RopeScaling) or not model.architecture.runs:
        return None
    forms, before = forms_of(model.architecture), None if own is None else own.value
    stated = None if own is None else stated_by(model.container, own.key)
    if own is not None and own.key is not None and stated is not None:
        name = own.key.rpartition(".")[2]
        if name not in forms and in_json(stated) == in_json(own.value) and not isinstance(right, tuple):
            return None
    try:
        wanted = model.repaired({key: right}).config  # what is worked out from it comes along
    except RosettaError:
        return None
    ways = list(dict.fromkeys(would_say(model, key, own)))
    if isinstance(right, tuple) and isinstance(stated, int | float):  # one for all, where the layers differ
        form = forms.get(ways[0].rpartition(".")[2])
        if form is None or in_json(form(wanted)) == stated:
            ways = [*ways[1:], ways[0]]
    found = None
    for spelled in ways:
        stated, path = stated_by(model.container, spelled), path_of(model.container, spelled)
        for said in ways_to_say(path[-1].rpartition(".")[2], stated, wanted, right, before, forms):
            config = None if said == stated else _read(model, path, said)
            if config is None or key not in config or not agree(key, config[key].value, right):
                continue
            if all(name in config and agree(name, config[name].value, v.value) for name, v in wanted.items()):
                return spelled, stated, said
            found = found or (spelled, stated, said)  # another setting changes with it
    return found


def would_say(model: Model, key: str, own: Value | None) -> Iterator[str]:
    """Keys by which a file states a setting, or would: the one that it was read from, the one that its class has of
    its own, those that are usual, those that a reader looked for.

    Args:
        model: of the file.
        key: canonical.
        own: the setting as the file has it.
    """
    container = model.container
    if own is not None and own.key is not None and stated_by(container, own.key) is not None:
        yield own.key
    if container.kind == "gguf":
        itself, prefix = f"{container.architecture}.{key}", f"{container.architecture}."
        # What a folder would say it by is asked for as well, by the same word, and is no key of this file.
        asked = () if own is None else own.asked
        named = (name for name in asked if prefix + name not in asked)
        # Nor does it have keys of ours that its readers do not know.
        yield from (name for name in named if is_key(name.removeprefix(prefix)))
        if itself in container.metadata and (own is None or own.key is None):
            yield itself
        return
    facts = APR_FACTS if container.kind == "apr" else HUGGINGFACE_FACTS
    usual = next((fact.spellings for fact in facts if fact.key == key), ())
    class_own = model.architecture.huggingface.spellings.get(key)
    of_class = model.architecture.huggingface.keys if container.kind == "huggingface" else ()
    names = [] if class_own is None or container.kind != "huggingface" else [class_own]
    names += [name for name in of_class if stated_by(container, name) is None]
    names += [*IN_TABLES.get(key, ()), *usual, *(() if own is None else own.asked), *of_class]
    part = text_part(container.metadata)
    for name in dict.fromkeys(names):
        nested = part is not None and (name in part.config or name not in container.metadata)
        spelled = f"{part.prefix}{name}" if part is not None and nested else name
        path = path_of(container, spelled)
        if has_parent(container.metadata, path) or _is_of_lost_table(container, path):
            yield spelled


def _is_of_lost_table(container: Container, path: tuple[str, ...]) -> bool:
    """Whether a key would stand in the table of the rotation, which the file has not."""
    in_table = len(path) > 1 and path[-2] == "rope_parameters" and has_parent(container.metadata, path[:-1])
    return in_table and container.kind == "huggingface" and without_rotation(container.metadata)


def stated_by(container: Container, own: str | None) -> Any:
    """What a file states under a key of its own; None where that is nothing, or a table."""
    found: Any = container.metadata if own is not None else None
    for name in path_of(container, own or ""):
        found = found.get(name) if isinstance(found, Mapping) else None
    found = found.tolist() if hasattr(found, "tolist") else found
    return None if isinstance(found, Mapping) else found


def path_of(container: Container, own: str) -> tuple[str, ...]:
    """The place of a key: dots descend, where the whole key is not there. GGUF has no tables."""
    whole = container.kind == "gguf" or own in container.metadata
    return (own,) if whole else tuple(own.split("."))


def one_key_of_scaling(model: Model, key: str, right: Any, other: Container) -> tuple[str, Any, Any] | None:
    """The one key of a GGUF file's rope scaling that makes a setting another, what it states (None: nothing), and what
    it would have to state (None: it is to be taken out); None where no key alone does.

    Args:
        model: of the file.
        key: canonical: the scaling, or what is worked out from its keys.
        right: the setting as it is to be.
        other: the file that has it right, whose words come first.
    """
    container, found = model.container, None
    held = {name: said.value for name, said in container.settings.items() if name.startswith("rope.scal")}
    for name, said in dict.fromkeys(_ways_to_scale(model, key, right, other, held)):
        if said == held.get(name):
            continue
        spelled = f"{container.architecture}.{name}"
        left = {own: value for own, value in container.settings.items() if own != name}
        made = Stating(container, {})
        made.settings = left if said is None else {**left, name: Setting(said, spelled)}
        try:
            config = build_model(made).config
        except RosettaError:
            continue
        if not agree(key, config[key].value, right):
            continue
        way = spelled, held.get(name), said
        if all(own == key or agree(own, config[own].value, model.config[own].value) for own in config):
            return way
        found = found or way  # another setting changes with it
    return found


def lost_of_table(model: Model, key: str, value: Any) -> str | None:
    """The key in a folder's table of the rotation without which a setting would be another; None where no one is.

    Args:
        model: of the folder.
        key: canonical, of what the table says.
        value: the other one.
    """
    stated = model.config[key].key
    path = path_of(model.container, stated or "")
    table: Any = model.container.metadata
    for name in path:
        table = table.get(name) if isinstance(table, Mapping) else None
    if stated is None or model.container.kind != "huggingface" or not isinstance(table, Mapping):
        return None
    for name in table:
        config = _read(model, path, {other: said for other, said in table.items() if other != name})
        if config is not None and key in config and agree(key, config[key].value, value):
            return f"{stated}.{name}"
    return None


def _ways_to_scale(
    model: Model, key: str, right: Any, other: Container, held: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """A key each, and what it might state: taken out; as the other file says it; by how much values grow."""
    yield from ((name, None) for name in held)
    own = model.config["rope.scaling"].value
    scaling = right if key == "rope.scaling" else own
    if scaling is not None:
        yield from (way for words in gguf_words(scaling, other) for way in words.items())
    if key == "rope.scaling":
        ratio = plain((1.0 if right is None else right.magnitude) / (1.0 if own is None else own.magnitude))
        yield GROWTH, plain(held[GROWTH] * ratio) if GROWTH in held else ratio


def has_parent(metadata: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Whether the tables are there that a key would stand in."""
    table: Any = metadata
    for name in path[:-1]:
        table = table.get(name) if isinstance(table, Mapping) else None
    return isinstance(table, Mapping)


def _read(model: Model, path: tuple[str, ...], said: Any) -> Config | None:
    """The settings of the file if it says this at that place; None where it then cannot be read."""
    try:
        return build_model(_saying(model.container, path, said)).config
    except RosettaError:
        return None


def _saying(container: Container, path: tuple[str, ...], said: Any) -> Stating:
    """The file with something else at a place."""
    metadata = copy.deepcopy(dict(container.metadata))
    table = metadata
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = said
    made = Stating(container, {})
    made.metadata = metadata
    if container.kind == "gguf":
        key = path[-1].removeprefix(f"{container.architecture}.")
        made.settings = {**container.settings, key: Setting(said, path[-1])}
    elif container.kind == "apr":
        made.settings = apr_settings(container.path, metadata, lambda note: None)
    else:
        made.settings = huggingface_settings(container.path, metadata)
    return made
