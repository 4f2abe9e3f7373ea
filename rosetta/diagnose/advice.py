"""What to do about a wrong setting: the exact file, the key as its container spells it, the value."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from rosetta.compare.settings import plain
from rosetta.config import Value
from rosetta.containers.apr.settings import APR_FACTS
from rosetta.containers.container import Container
from rosetta.containers.huggingface.settings import HUGGINGFACE_FACTS
from rosetta.containers.huggingface.text_part import text_part, without_rotation
from rosetta.diagnose.own_form import in_own_form, lost_of_table, one_key_of_scaling, stated_by
from rosetta.diagnose.places import has_place, key_that_says
from rosetta.diagnose.stated_scaling import BESIDE_SCALING, as_gguf, as_parameters
from rosetta.errors import UnsupportedError
from rosetta.model import FACTORS, Model
from rosetta.rope_scaling import RopeScaling

# Keys that are no simple fact of a JSON config, as today's writers spell them.
JSON_SPELLINGS = {
    "rope.freq_base": "rope_theta",
    "rope.scaling": "rope_scaling",
    "attention.sliding_window": "sliding_window",
}
NO_KEY = {"gguf": frozenset({"norm_type", "rope.type"})}
"""Settings that a container has no place for: its architecture implies them."""


def config_file(container: Container) -> str:
    """The file that states a container's settings, as a person is told of it."""
    if container.kind == "huggingface":
        return f"{container.path}/config.json"
    return f"the {container.label} file {container.path}"


def spelling(container: Container, key: str) -> str:
    """A canonical key as a container spells it, whether or not its file has it."""
    if container.kind == "gguf":
        return f"{container.architecture}.{key}"
    facts = APR_FACTS if container.kind == "apr" else HUGGINGFACE_FACTS
    first = next((fact.spellings[0] for fact in facts if fact.key == key), None)
    return first or JSON_SPELLINGS.get(key, key)


def write_setting(container: Container, key: str, own: Value | None, wanted: str, said: str) -> str:
    """Advice to state another value of a setting.

    Args:
        container: of the side that is wrong.
        key: canonical.
        own: the side's value; None, or a default, where its file does not state it.
        wanted: the right value, in words.
        said: the wrong one.
    """
    if key in NO_KEY.get(container.kind, ()):
        if own is not None and own.key in container.metadata:  # by another key, which implies it
            return f"take {own.key} out of {config_file(container)}: with it, {key} is {said}"
        return (
            f"convert the model for an architecture with {key} {wanted}: {container.label} has no key for it, and "
            f"{container.architecture} implies {said}"
        )
    spelled = own.key if own is not None and own.key is not None else spelling(container, key)
    advice = f"write {spelled} {_json(wanted, container)} into {config_file(container)}"
    if own is None:
        return advice
    if own.defaulted:
        return f"{advice}: without it, {key} is {said} ({own.note})"
    return f"{advice} instead of {_json(said, container)}"


def write_value(model: Model, other: Model, key: str, own: Value | None, right: Any) -> str:
    """Advice to state another value of a setting, in the keys and the form of the file at hand; or that one of the two
    files has no place for it.

    Args:
        model: of the side that is wrong.
        other: of the side that is believed.
        key: canonical.
        own: the side's value; None, or a default, where its file does not state it.
        right: the right value.
    """
    if key == "architecture":
        return _write_architecture(model, other)
    said = "none" if own is None else shown(own.value)
    if not has_place(model, key, right, other):
        one = (
            one_key_of_scaling(model, key, right, other.container) if "rope.scaling" in model.config else None
        )
        if one is not None:
            return _write_one(one, config_file(model.container))
        stated = _as_stated(other, key)
        return f"nothing can be written: {_without_place(model, key, stated)}; run {other.container.path}"
    through = key_that_says(model, key, right, other)
    if through is not None:
        return write_value(model, other, through, model.config.get(through), other.config[through].value)
    form = in_own_form(model, key, own, right)
    if key == "rope.scaling":
        advice = _write_scaling(model, other.container, right)
    elif form is not None:
        advice = _write_form(model, key, own, *form)
    else:
        advice = write_setting(model.container, key, own, shown(right), said)
    nameless = form is None and _is_nameless(model.container, key, own)
    if own is None or has_place(other, key, own.value, model):
        if nameless and key in other.config:  # else neither file states what the repair found
            return f"nothing can be written: {_without_place(model, key, _as_stated(other, key))}"
        return advice
    lost = lost_of_table(model, key, right) if isinstance(own.value, RopeScaling) else None
    stated = _as_stated(model, key) if lost is None else f"{lost} {_listed(stated_by(model.container, lost))}"
    if form is not None and form[1] is not None:
        stated = f"{form[0]} {_json(_listed(form[1]), model.container)}"
    either = "" if nameless else f", or {advice}"
    return f"{_without_place(other, key, stated)}; run {model.container.path}{either}"


def _is_nameless(container: Container, key: str, own: Value | None) -> bool:
    """Whether config.json has no key for a setting: its class takes a number of its own, and reads none."""
    stated = own is not None and own.key is not None
    return container.kind == "huggingface" and not stated and spelling(container, key) == key and "." in key


def _write_architecture(model: Model, other: Model) -> str:
    """Advice to call a model what the other side calls it, in each container's own keys."""
    container, right, own = model.container, other.architecture, model.architecture
    file = config_file(container)
    if container.kind == "gguf":
        return (
            f"write general.architecture {right.gguf} into {file} instead of {own.gguf}, and its keys of {own.gguf} as "
            f"those of {right.gguf}"
        )
    if container.kind == "apr":
        return f"write architecture {right.name} into {file} instead of {own.name}"
    keys = [f"model_type {json.dumps(right.huggingface.model_type or right.name)}"]
    keys += [f"architectures {json.dumps([name])}" for name in right.classes[:1]]
    return f"write {' and '.join(keys)} into {file}"


def _write_form(model: Model, key: str, own: Value | None, spelled: str, stated: Any, wanted: Any) -> str:
    """Advice to state something under one of a file's keys, in that key's form.

    Args:
        model: of the file.
        key: of the setting, canonical.
        own: the setting as the file has it.
        spelled: the file's key.
        stated: what it says; None: it is not there.
        wanted: what it is to say.
    """
    container = model.container
    advice = f"write {spelled} {_json(_listed(wanted), container)} into {config_file(container)}"
    if stated is not None:
        return f"{advice} instead of {_json(_listed(stated), container)}"
    if own is None:
        return advice
    why = f" ({own.note})" if own.note else ""
    return f"{advice}: without it, {key} is {_json(shown(own.value), container)}{why}"


def _as_stated(model: Model, key: str) -> str:
    """What a file says of a setting, by its own key."""
    found = model.config[key]
    stated = stated_by(model.container, found.key)
    said = shown(found.value) if stated is None else _listed(stated)
    return f"{found.key or key} {_json(said, model.container)}"


def _without_place(model: Model, key: str, stated: str) -> str:
    """That a file cannot say what the other one states, and what it is run with instead."""
    found, container = model.config[key], model.container
    why = f" ({found.note})" if found.note else ""
    return (
        f"{container.label} has no place for {stated}: a file of {container.architecture} is run with {key} "
        f"{shown(found.value)}{why}, whatever the model has"
    )


def _write_scaling(model: Model, other: Container, right: RopeScaling | None) -> str:
    """Rope scaling is compared as divisors, which nobody writes: a GGUF file has keys or a tensor for it, the others
    an object."""
    container = model.container
    file = config_file(container)
    try:
        if container.kind == "gguf":
            held = _scaling_held(container)
            one = one_key_of_scaling(model, "rope.scaling", right, other) if held else None
            if one is not None:
                return _write_one(one, file)
            if right is None:
                return f"take {', '.join(held)} out of {file}"
            stated = as_gguf(right, model, other)
            keys = ", ".join(f"{spelling(container, name)} {value}" for name, value in stated.keys.items())
            if not stated.factors:
                return f"write {keys} into {file}"
            low, high = min(stated.factors), max(stated.factors)
            return (
                f"write the tensor rope_freqs.weight into {file}: {len(stated.factors)} divisors of the rotary "
                f"frequencies, {low:.6g} to {high:.6g}, F32, as the model's rope parameters give them"
            )
        part = text_part(container.metadata)
        table, prefix = (container.metadata, "") if part is None else part
        modern = "rope_parameters" in table or without_rotation(container.metadata)
        own = "rope_parameters" if modern else "rope_scaling"
        name, before = prefix + own, table.get(own)
        if isinstance(before, Mapping) and isinstance(before.get("full_attention"), Mapping):
            name, before = f"{name}.full_attention", before["full_attention"]
        if right is None:
            out = f'write rope_type "default" into {name} of' if modern else f"take {name} out of"
            return f"{out} {file}"
        grown = model.config["rope.scaling"].value
        if isinstance(grown, RopeScaling) and grown.growth and replace(grown, beyond=right.beyond) == right:
            context = model.config["context_length"]
            return write_setting(
                container, "context_length", context, shown(right.beyond), shown(grown.beyond)
            )
        return _write_table(name, before, as_parameters(right, model, other), file)
    except UnsupportedError as error:
        return error.remedy or f"state the original model's rope scaling in {file}"


def _write_table(name: str, held: Any, wanted: Mapping[str, Any], file: str) -> str:
    """Advice to state a table: the one key of it that differs, where the file has the others.

    Args:
        name: of the table.
        held: what the file states; None: nothing.
        wanted: what it is to state, without what stands beside it.
        file: that it stands in.
    """
    beside = {key for key in BESIDE_SCALING if key not in wanted}
    before = {} if held is None else {key: said for key, said in held.items() if key not in beside}
    differing = [key for key, said in wanted.items() if before.get(key) != said]
    if len(differing) != 1 or not before or before.keys() - wanted.keys():
        return f"write {name} {json.dumps(wanted)} into {file}"
    (key,) = differing
    instead = f" instead of {json.dumps(before[key])}" if key in before else ""
    return f"write {name}.{key} {json.dumps(wanted[key])} into {file}{instead}"


def _write_one(one: tuple[str, Any, Any], file: str) -> str:
    """Advice to state something else under one key: its name, what it states, what it is to."""
    spelled, stated, said = one
    if said is None:
        return f"take {spelled} out of {file}"
    before = "" if stated is None else f" instead of {shown(stated)}"
    return f"write {spelled} {shown(said)} into {file}{before}"


def _scaling_held(container: Container) -> list[str]:
    """The keys and tensors of a GGUF file that say a rope scaling."""
    keys = [said.key for key, said in container.settings.items() if key.startswith("rope.scal")]
    return [*keys, *(name for name in FACTORS if name in container.tensors)]


def named_pairs(pairs: Collection[int]) -> str:
    """Rotary pairs by their numbers: rotary pairs 61, 62."""
    return f"rotary pair{'s' * (len(pairs) > 1)} {', '.join(map(str, sorted(pairs)))}"


def shown(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, RopeScaling):
        factors = (
            f"factors {min(value.factors):.6g} to {max(value.factors):.6g}" if value.factors else "no factors"
        )
        longer = f", others beyond {value.beyond} tokens" if value.beyond else ""
        return factors + longer + (f", magnitude {value.magnitude:.6g}" if value.magnitude != 1 else "")
    if value is None:
        return "none"
    return f"{plain(value):.8g}" if isinstance(value, float) else str(value)


def shown_apart(value: Any, other: Any) -> tuple[str, str]:
    """Two settings in words, by what tells them apart."""
    said, wanted = shown(value), shown(other)
    if said == wanted and isinstance(value, RopeScaling) and isinstance(other, RopeScaling):
        # As relative gaps and no ratios: a file's factors may be nought.
        gaps = [
            abs(one - another) / max(abs(one), abs(another), sys.float_info.min)
            for one, another in zip(value.factors, other.factors, strict=False)
        ]
        where = max(range(len(gaps)), key=gaps.__getitem__)
        one, another = value.factors[where], other.factors[where]
        return f"{said} (pair {where}: {one:.6g})", f"{wanted} (pair {where}: {another:.6g})"
    return said, wanted


def _listed(value: Any) -> str:
    """A value under a file's own key, in words."""
    return json.dumps(value) if isinstance(value, list | bool) else shown(value)


def _json(value: str, container: Container) -> str:
    """A value as the file spells it."""
    return (
        {"True": "true", "False": "false", "none": "null"}.get(value, value)
        if container.kind != "gguf"
        else value
    )
