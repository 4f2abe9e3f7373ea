"""Two configurations compared key by key, in canonical form."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from rosetta.compare.results import ConfigDiff
from rosetta.config import Config, Value
from rosetta.model import Model
from rosetta.rope_scaling import RopeScaling
from rosetta.settings_table import is_order_only

WINDOW = "attention.sliding_window"
# Containers whose usual writers leave the sliding window out, and the runtime that computes without it: GGUF files a
# mistral model as llama, and no key of an `.apr` that aprender reads holds it.
WITHOUT_WINDOW = {"gguf": ("GGUF", "llama.cpp"), "apr": (".apr", "aprender")}


def compare_config(left: Model, right: Model, tied_head_agrees: bool | None) -> list[ConfigDiff]:
    """One row for each canonical key that either side has.

    Args:
        left, right: the models.
        tied_head_agrees: what the comparison of the two heads found; a copy of the embedding is a tied head.
    """
    keys = list(dict.fromkeys([*left.config, *right.config]))
    rows = [
        _without_place(key, left, right)
        if key == WINDOW and loses_window(left, right)
        else _row(key, left.config.get(key), right.config.get(key))
        for key in keys
    ]
    rows = [_head(row, tied_head_agrees) if row.key == "tied_embeddings" else row for row in rows]
    return [_unfilled(row, left, right) if row.key == WINDOW else row for row in rows]


def loses_window(left: Model, right: Model) -> bool:
    """Whether one of two files, of two containers, has no place for the window that the other states."""
    kinds_differ = left.container.kind != right.container.kind
    return kinds_differ and any(not has_place_for_window(model) for model in (left, right))


def has_place_for_window(model: Model) -> bool:
    """Whether a file of the model's container and architecture can say a window. In GGUF that is one whose layers are
    not all alike; of the others, such as Mistral's, one that states it nevertheless."""
    own, kind = model.config.get(WINDOW), model.container.kind
    if own is None or not own.defaulted or kind not in WITHOUT_WINDOW:
        return True
    return kind == "gguf" and (model.architecture.full_attention_every > 1 or bool(own.value))


def alike(key: str, left: Model, right: Model) -> bool:
    """Whether two models mean the same by a key that both have: what `agree` says, and none is as good as a window
    that the context of its model does not fill."""
    if agree(key, left.config[key].value, right.config[key].value):
        return True
    return key == WINDOW and not _filled_window(left) and not _filled_window(right)


def _filled_window(model: Model) -> int:
    """The window; 0 where there is none, or the model's context does not fill it."""
    window, context = model[WINDOW], model.config.get("context_length")
    return 0 if context is not None and context.value and window >= context.value else int(window)


def agree(key: str, a: Any, b: Any) -> bool:
    """Whether two canonical values of a key mean the same model."""
    if isinstance(a, RopeScaling) and isinstance(b, RopeScaling):
        alike = (a.beyond, a.growth, len(a.long)) == (b.beyond, b.growth, len(b.long))
        return (
            alike
            and len(a.factors) == len(b.factors)
            and bool(
                np.allclose(a.factors + a.long, b.factors + b.long, rtol=1e-5)
                and np.isclose(a.magnitude, b.magnitude, rtol=1e-5)
            )
        )
    if key == "eos_token_id" and (isinstance(a, list) or isinstance(b, list)):  # HF may list several
        return bool(set(_as_list(a)) & set(_as_list(b)))
    return bool(_of_all_layers(a) == _of_all_layers(b))


def comes_out(key: str, value: Any, found: Config) -> bool:
    """Whether a reader has a setting as it is: also without it where it says nothing, of no layer."""
    return agree(key, found[key].value, value) if key in found else not _of_all_layers(value)


def _of_all_layers(value: Any) -> Any:
    """The one value where all layers have the same."""
    alike = isinstance(value, tuple) and value and all(of_layer == value[0] for of_layer in value)
    return value[0] if alike else value


def _without_place(key: str, left: Model, right: Model) -> ConfigDiff:
    row = _row(key, left.config.get(key), right.config.get(key))
    if row.status != "differs":
        return row
    window, unable = row.left or row.right, right if row.left else left
    container, runtime = WITHOUT_WINDOW[unable.container.kind]
    note = (
        f"{container} has no place for it, and {runtime} runs without; "
        f"prompts of more than {window} tokens differ"
    )
    return row.model_copy(update={"status": "defaulted", "note": note})


def _row(key: str, left: Value | None, right: Value | None) -> ConfigDiff:
    values = [None if side is None else plain(side.value) for side in (left, right)]
    notes = [
        f"{name}: {side.note}"
        for name, side in (("left", left), ("right", right))
        if side is not None and side.note
    ]
    if left is None or right is None:
        # A key that one container has no place for says nothing about the model.
        missing = "left" if left is None else "right"
        return ConfigDiff(
            key=key, left=values[0], right=values[1], status="defaulted", note=f"{missing}: not stated"
        )
    status: Literal["same", "differs", "defaulted"]
    same = is_order_only(key) or agree(key, left.value, right.value)
    status = "differs" if not same else ("defaulted" if left.defaulted or right.defaulted else "same")
    if is_order_only(key) and left.value != right.value:
        notes.append("each file's own order of q and k rows; brought to one order before comparing")
    return ConfigDiff(key=key, left=values[0], right=values[1], status=status, note="; ".join(notes))


def _head(row: ConfigDiff, agrees: bool | None) -> ConfigDiff:
    if row.status != "differs" or not agrees:
        return row
    note = "one side stores a copy of the embedding as its head"
    return row.model_copy(update={"status": "same", "note": note})


def _unfilled(row: ConfigDiff, left: Model, right: Model) -> ConfigDiff:
    if row.status != "differs" or not alike(WINDOW, left, right):
        return row
    return row.model_copy(update={"status": "same", "note": "no context fills the window"})


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def in_json(value: Any) -> Any:
    """See `plain`; of several values a list."""
    return [plain(each) for each in value] if isinstance(value, list | tuple) else plain(value)


def plain(value: Any) -> Any:
    """A canonical value as JSON knows it; a float32 in as few digits as name it (1e-06, not 9.99999997e-07)."""
    if isinstance(value, RopeScaling):
        return {
            name: [plain(f) for f in part] if isinstance(part, tuple) else part
            for name, part in value.stated.items()
        }
    return float(str(np.float32(value))) if isinstance(value, float) else value
