"""A setting whose factor a folder's reader multiplies into weights (`config.*`): all that it multiplies is by one
number what the other side holds, or an observed run has computed.

Letters: T = tokens, R = rows of a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from rosetta.compare.settings import plain
from rosetta.diagnose.advice import shown, write_value
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.edits import OfSettings
from rosetta.setting_values import float32
from rosetta.settings_table import SETTINGS
from rosetta.weight import Weight

SEEN = 1e-4  # relative: what an observed run multiplies otherwise by less than that, it multiplies alike
SURE = 6.0  # times the standard error: what is closer may be the same number
ROUNDING = 1e-6  # relative, of a product in float32 and of one in the file's dtype that was written from it
ROWS = 256  # of a part are enough to fit one number to
LEAST_CORRELATION = 0.8  # between the two copies; see `scaled`


@dataclass(frozen=True)
class Fit:
    """A factor, and how far it may be off."""

    factor: float
    error: float

    def is_of(self, other: float, error: float = 0.0) -> bool:
        """Whether it may be this number, which is sure to within an error."""
        return abs(self.factor - other) <= (self.error + error + ROUNDING) * max(1.0, abs(other))


def propose(fault: Fault) -> Iterator[Proposal]:
    """For each setting that an accused weight is multiplied with: the number with which all of its weights fit."""
    if fault.recorded:
        yield from _of_recorded(fault)
        return
    seen: set[str] = set()
    for suspect, weight in fault.accused_weights():
        for start, stop, keys in _parts(weight):
            fit = _fitted(suspect, weight, start, stop)
            if fit is None or fit.is_of(1.0):
                continue
            for key in keys:
                if key not in seen and _all_fit(suspect, key, fit):
                    seen.add(key)
                    yield _proposal(suspect, key, fit)


def _of_recorded(fault: Fault) -> Iterator[Proposal]:
    """The numbers by which an observed run has multiplied the rows of a matrix, instead of those that the settings say:
    by another one of one setting, or of all that its rows have."""
    own, truth = fault.computed(), fault.recorded_value
    if not fault.settings_unknown or own is None or truth is None or own.shape != truth.shape:
        return
    own, truth = own.flatten(1), truth.flatten(1)  # [T, R]
    for suspect, weight in fault.accused_weights():
        parts = [*_parts(weight)]
        if len(parts) == 1:
            parts = [(0, own.shape[1], parts[0][2])]
        if len(weight.dims) < 2 or not parts or parts[-1][1] != own.shape[1]:
            continue
        fits = [(_times(own[:, start:stop], truth[:, start:stop]), keys) for start, stop, keys in parts]
        other = [(fit, keys) for fit, keys in fits if not fit.is_of(1.0, SEEN)]
        alike = {key for fit, keys in fits if fit.is_of(1.0, SEEN) for key in keys}
        for key in other[0][1] if other else ():
            first = other[0][0]
            of_all = all(key in keys and fit.is_of(first.factor, SEEN) for fit, keys in other)
            if of_all and key not in alike:
                yield _with_numbers(suspect, {key: first})
        if len(other) > 1:
            yield _with_numbers(suspect, {keys[-1]: fit for fit, keys in other})


def _times(own: Tensor, truth: Tensor) -> Fit:
    """By what one of two stages is the other, [T, R] each."""
    x, y = own.double().flatten(), truth.double().flatten()
    squares = float(x @ x)
    factor = float(x @ y) / squares if squares else 1.0
    rest = float((y - factor * x).square().mean()) ** 0.5
    return Fit(factor, SURE * rest / squares**0.5 if squares else 0.0)


def _with_numbers(suspect: Suspect, fits: Mapping[str, Fit]) -> Proposal:
    """The settings times the factors that were seen."""
    config = suspect.model.config
    right = {key: float32(_shortest(config[key].value * fit.factor, SEEN)) for key, fit in fits.items()}
    first = next(iter(fits))
    kind = SETTINGS[first].kind
    assert kind is not None
    said = ", ".join(f"{key} is {shown(config[key].value)}" for key in fits)
    numbers = ", ".join(shown(number) for number in right.values())
    return Proposal(
        kind=kind.id,
        role=suspect.role,
        repair=Repair(overrides=right),
        key=first,
        declared=plain(config[first].value),
        actual=plain(right[first]) if len(right) == 1 else None,  # else the message has them
        message=f"{said}, what was recorded was computed with {numbers}",
        recommendation=f"compute with {said}, or mend what was recorded",
    )


def _parts(weight: Weight) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """(first row, last row, settings) of what is multiplied."""
    for edit in weight.values_edits:
        if isinstance(edit, OfSettings):
            yield from edit.of_settings


def _all_fit(suspect: Suspect, key: str, fit: Fit) -> bool:
    """Whether everything that a setting multiplies is off by one factor."""
    for weight in suspect.model.weights.values():
        for start, stop, keys in _parts(weight):
            found = _fitted(suspect, weight, start, stop) if key in keys else fit
            if found is None or not found.is_of(fit.factor, fit.error):
                return False
    return True


def _fitted(suspect: Suspect, weight: Weight, start: int, stop: int) -> Fit | None:
    """The factor of least squares between some rows of two copies; None where they have little in common."""
    other = suspect.counterpart(weight)
    # A config may claim more.
    if other is None or other.dims != weight.dims or not start < stop <= weight.dims[0]:
        return None
    rows = (start, min(stop, start + ROWS))
    x, y = (each.values(*rows).double().flatten() for each in (weight, other))
    squares, dot = float(y @ y), float(x @ y)
    if not math.isfinite(dot) or not dot or abs(dot) < LEAST_CORRELATION * (squares * float(x @ x)) ** 0.5:
        return None
    factor = dot / squares
    rest = float((x - factor * y).square().mean()) ** 0.5
    return Fit(factor, SURE * rest / squares**0.5)


def _proposal(suspect: Suspect, key: str, fit: Fit) -> Proposal:
    own, row = suspect.model.config[key], SETTINGS[key]
    right = float32(_shortest(own.value / fit.factor, fit.error + ROUNDING))
    assert row.kind is not None
    return Proposal(
        kind=row.kind.id,
        role=suspect.role,
        repair=Repair(overrides={key: right}),
        key=key,
        declared=None if own.defaulted else plain(own.value),
        actual=plain(right),
        message=f"{key} is {shown(own.value)}, and all that it multiplies is {fit.factor:.6g} times what the other "
        f"side holds: {shown(right)} fits",
        recommendation=write_value(suspect.model, suspect.other, key, own, right),
    )


def _shortest(number: float, error: float) -> float:
    """The number of the fewest digits that is as close as is known."""
    rounded = (float(f"{number:.{digits}g}") for digits in range(1, 9))
    return next((short for short in rounded if abs(short - number) <= error * abs(number)), number)
