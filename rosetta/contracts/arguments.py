"""What the arguments of a run may be: a misspelt or mistyped one is said before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rosetta.containers.values import COUNT, FLAG, TEXT, TEXTS, Kind
from rosetta.contracts.specimen import CHANGES


def problem_in(run: Mapping[str, Any], arguments: Mapping[str, Kind]) -> str | None:
    """What is wrong with a run's arguments, in words; None where nothing is.

    Args:
        run: the run, or that of a control; null stands for what is left out.
        arguments: those that its measure takes.
    """
    given = {key: value for key, value in run.items() if key != "measure" and value is not None}
    return _problem(given, arguments, "its run")


def _problem(given: Mapping[str, Any], kinds: Mapping[str, Kind], whose: str) -> str | None:
    for name, value in given.items():
        if name not in kinds:
            return f"{whose} has no place for {name!r:.60}; there are {', '.join(kinds)}"
        if not kinds[name].holds(value):
            return f"{name} of {whose} is {value!r:.60}, and must be {kinds[name].noun}"
        if kinds[name] is OPERAND and isinstance(value, Mapping):
            problem = _problem(value, _PARTS, name) or _problem(
                value.get("change") or {}, CHANGE_KINDS, "change"
            )
            if problem is not None:
                return problem
    return None


def _is_operand(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, Mapping) and bool({"specimen", "path"} & value.keys())
    )


def _is_change(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(map(COUNT.holds, value))


OPERAND = Kind("a path, or an object with a path or a specimen", _is_operand)
TOKENS = Kind("a list of token ids", _is_tokens)
_PARTS = {
    **dict.fromkeys(("specimen", "path", "dtype", "runtime", "harm"), TEXT),
    "change": Kind("an object of changes", _is_change),
    "cut": COUNT,
}
CHANGE_KINDS = {name: kind for name, (_, kind) in CHANGES.items()}
SELECTION = {"select": TEXTS, "ignore": TEXTS, "values": FLAG}
COMPARISON = {"left": OPERAND, "right": OPERAND, "prompt": TEXT, "tokens": TOKENS}
