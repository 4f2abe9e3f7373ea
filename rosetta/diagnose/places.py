"""Settings that a GGUF file has no place for, whatever it says: found by stating them and reading the file again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rosetta.compare.settings import WINDOW, agree, has_place_for_window, plain
from rosetta.containers.container import Setting
from rosetta.diagnose.own_form import in_own_form, one_key_of_scaling
from rosetta.diagnose.stated_scaling import as_gguf
from rosetta.diagnose.stating import Stating
from rosetta.errors import RosettaError, UnsupportedError
from rosetta.lint.gguf_keys import is_key
from rosetta.model import Model, build_model
from rosetta.rope_scaling import RopeScaling
from rosetta.settings_table import SETTINGS, Shows

BY_OTHER_KEYS = frozenset(
    {
        "expert_layers",
        "expert_shared_feed_forward_length",
        "attention.recurrent_layers",
        "attention.gate_per_head",
        "attention.key_length",
        "attention.value_length",
    }
)
"""What GGUF says in keys that are none of ours: dense layers, shared experts, no key/value heads, heads of layers with
a window; or in the dims of a tensor."""


def has_place(model: Model, key: str, value: Any, other: Model) -> bool:
    """Whether a file of the model's container and architecture can say a setting.

    llama.cpp reads attention.scale of the Granite family alone (src/models/granite*.cpp), whose classes have a key of
    their own for it.

    Args:
        model: of the file.
        key: canonical.
        value: what is to be said.
        other: the model that has it: the setting may follow from its others.
    """
    row, own = SETTINGS.get(key), model.config.get(key)
    if model.container.kind != "gguf" or row is None or own is None:
        return True
    if isinstance(value, RopeScaling) and not own.defaulted:  # which may be read otherwise than it is meant
        return _scaling_has_place(model, value, other) or (
            one_key_of_scaling(model, key, value, other.container) is not None
        )
    if not own.defaulted and not isinstance(value, tuple):  # of the layers, where a key may say one for all
        return True
    if row.shows is Shows.IN_DIMS or key in BY_OTHER_KEYS or not model.architecture.runs:
        return True
    if key == "attention.scale":
        return key in model.architecture.huggingface.spellings
    if key in model.architecture.llamacpp.unread:
        return False
    if key == WINDOW and not has_place_for_window(model):
        return False
    if isinstance(value, RopeScaling):
        return _scaling_has_place(model, value, other)
    alone = {key: value} if is_key(key) else {}
    theirs = _differing(model, other)
    if any(_is_read(model, key, value, stated) for stated in (alone, {**theirs, **alone})):
        return True
    return in_own_form(model, key, own, value) is not None


def key_that_says(model: Model, key: str, value: Any, other: Model) -> str | None:
    """The other setting by whose key a GGUF file says one that has no key of its own; None where it has one, where the
    file states it all the same, and where no other setting alone gives it.

    Args:
        model: of the file.
        key: canonical.
        value: what is to be said.
        other: the model that has it.
    """
    container = model.container
    if container.kind != "gguf" or is_key(key) or f"{container.architecture}.{key}" in container.metadata:
        return None
    return next(
        (
            name
            for name, said in _differing(model, other).items()
            if _is_read(model, key, value, {name: said})
        ),
        None,
    )


def _differing(model: Model, other: Model) -> dict[str, Any]:
    """The other model's settings that GGUF has keys for and that this one has otherwise."""
    return {
        name: found.value
        for name, found in other.config.items()
        if is_key(name) and not _same(model, name, found.value)
    }


def _same(model: Model, key: str, value: Any) -> bool:
    return key not in model.config or value is None or agree(key, model.config[key].value, value)


def _scaling_has_place(model: Model, value: RopeScaling, other: Model) -> bool:
    if value.growth:  # dynamic NTK, which is none of llama.cpp's rules (llama_rope_scaling_type)
        return False
    own = model.config["rope.scaling"].value
    if value.long and isinstance(own, RopeScaling) and own.long:  # two tensors, of which it has both
        return True
    try:
        as_gguf(value, model, other.container)
    except UnsupportedError:
        return False
    return True


def _is_read(model: Model, key: str, value: Any, stated: Mapping[str, Any]) -> bool:
    """Whether the file, with these keys in it, is read as having the value."""
    prefix = f"{model.container.architecture}."
    settings = {
        name: Setting(_as_list(said), prefix + name)
        for name, said in stated.items()
        if not isinstance(said, RopeScaling)
    }
    overrides = {name: said for name, said in model.overrides.items() if name not in settings}
    try:
        config = build_model(Stating(model.container, settings), overrides).config
    except RosettaError:
        return False
    return key in config and agree(key, config[key].value, value)


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else plain(value)
