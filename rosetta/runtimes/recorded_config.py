"""The settings of a recorded run: what the trace says, held to be sane, and what the dims of its stages tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rosetta.config import Config, Value
from rosetta.errors import DamagedFileError
from rosetta.model import Model
from rosetta.ops.rotary import SECTIONS, STILL
from rosetta.rope_scaling import RopeScaling
from rosetta.setting_values import PerLayer
from rosetta.settings_reader import LARGEST_BLOCK_COUNT, LARGEST_NUMBER, largest_count

LAYER_STAGE = re.compile(r"layers\.(\d{1,4})\.")
OF_THE_MODEL = ("block_count", "context_length", "embedding_length", "vocab_size")  # no layer has its own


def recorded_config(
    path: Path, told: Any, dims: Mapping[str, tuple[int, ...]], like: Model
) -> dict[str, Value]:
    """The settings of the run; where neither the trace nor its stages tell one, the other model's.

    Args:
        path: the trace, for messages.
        told: settings as `rosetta trace` writes them; anything else than a table counts as none.
        dims: of the recorded stages, by name.
        like: the model that it is compared with.

    Raises:
        DamagedFileError: a setting is not of its kind.
    """
    unknown = {key: Value(value.value, None, "not recorded") for key, value in like.config.items()}
    if not isinstance(told, dict) or not told:
        return {**unknown, **_sizes(dims, like)}
    return {
        **unknown,
        **{key: Value(_sane(path, key, value, like.config), key) for key, value in told.items()},
    }


def _sizes(stages: Mapping[str, tuple[int, ...]], like: Model) -> dict[str, Value]:
    """The settings that the dims of recorded stages tell, by key; of layers that show none, the other model's."""
    layers = [int(found[1]) + 1 for name in stages if (found := LAYER_STAGE.match(name))]
    sizes: dict[str, dict[int, int]] = {}
    for node in like.graph:
        last = stages.get(node.name, ())[1:]  # [T, …]
        if len(last) != len(node.op.shape):  # heads recorded side by side tell no number of heads
            continue
        for key, dim in zip(node.op.shape, last, strict=True):
            if isinstance(key, str):
                sizes.setdefault(key, {})[node.layer or 0] = dim
    known = {key: Value(_of_layers(like, key, seen), key) for key, seen in sizes.items()}
    count = min(LARGEST_BLOCK_COUNT, max([like.block_count, *layers]))
    return {**known, "block_count": Value(count, "block_count")}


def _of_layers(like: Model, key: str, seen: Mapping[int, int]) -> Any:
    """A size that some layers showed."""
    own = like.config[key].value if key in like.config else None
    if not isinstance(own, PerLayer):
        return next(iter(seen.values()))
    return PerLayer(seen.get(layer, own.of(layer)) for layer in range(len(own)))


def _sane(path: Path, key: str, value: Any, like: Config) -> Any:
    """A recorded setting as the config holds it, of the kind that the other model's has, or one a layer."""
    other = like[key].value if key in like else None
    if key == "rope.scaling":
        return _scaling(path, value)
    if key in (SECTIONS, STILL) and isinstance(value, list):  # of pairs, not of layers
        return tuple(_of_kind(path, key, one, 0) for one in value)
    first = next(iter(other), None) if isinstance(other, PerLayer) else other
    if not isinstance(value, list) or isinstance(other, list):
        return _of_kind(path, key, value, value if key not in like else first)
    if key in OF_THE_MODEL:
        raise _damaged(path, key, value, "one value for all layers")
    if len(value) > LARGEST_BLOCK_COUNT:
        raise _damaged(path, key, value, f"one of at most {LARGEST_BLOCK_COUNT} layers")
    return PerLayer(_of_kind(path, key, one, one if first is None else first) for one in value)


def _of_kind(path: Path, key: str, value: Any, other: Any) -> Any:
    """One value, of the kind that another is."""
    if isinstance(other, bool) or other is None or isinstance(other, str | list):
        kind, sane = "of its kind", type(value) is type(other) or key.endswith("_token_id")
    elif isinstance(other, int):
        largest = largest_count(key)
        kind, sane = f"a count up to {largest}", type(value) is int and 0 <= value <= largest
    else:
        kind, sane = "a finite number", _is_number(value)
        value = float(np.float32(value)) if sane else value
    if not sane:
        raise _damaged(path, key, value, kind)
    return value


def _scaling(path: Path, value: Any) -> RopeScaling | None:
    if value is None:
        return None
    table = value if isinstance(value, dict) else {}
    factors, long = table.get("factors"), table.get("long", [])
    magnitude, beyond, growth = table.get("magnitude", 1.0), table.get("beyond", 0), table.get("growth", 0.0)
    if not isinstance(factors, list) or not isinstance(long, list) or type(beyond) is not int:
        raise _damaged(path, "rope.scaling", value, "a table of factors")
    if not all(map(_is_number, [*factors, *long, magnitude, beyond, growth])):
        raise _damaged(path, "rope.scaling", value, "a table of factors")
    short, longer = (tuple(float(np.float32(factor)) for factor in stated) for stated in (factors, long))
    return RopeScaling(short, float(magnitude), beyond, longer, float(growth))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER


def _damaged(path: Path, key: str, value: Any, kind: str) -> DamagedFileError:
    shown = repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "a number of many digits"
    return DamagedFileError(
        f"the facts of the run say that {key} is {shown[:80]}, which is not {kind}",
        file=path,
        remedy="record it again",
    )
