"""What to do about a wrong setting: the exact file, the key as its container spells it, the value."""

from __future__ import annotations

from rosetta.config import Value
from rosetta.containers.apr.settings import APR_FACTS
from rosetta.containers.container import Container
from rosetta.containers.huggingface.settings import HUGGINGFACE_FACTS

# Keys that are no simple fact of a JSON config, as today's writers spell them.
JSON_SPELLINGS = {"rope.freq_base": "rope_theta", "rope.scaling": "rope_scaling"}
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
        return (
            f"convert the model for an architecture with {key} {wanted}: {container.label} has no key for it, and "
            f"{container.architecture} implies {said}"
        )
    spelled = own.key if own is not None and own.key is not None else spelling(container, key)
    advice = f"write {spelled} {_json(wanted, container)} into {config_file(container)}"
    if own is None:
        return advice
    if own.defaulted:
        return f"{advice}: without it, {own.note} is {said}"
    return f"{advice} instead of {_json(said, container)}"


def _json(value: str, container: Container) -> str:
    """A value as the file spells it."""
    return (
        {"True": "true", "False": "false", "none": "null"}.get(value, value)
        if container.kind != "gguf"
        else value
    )
