"""Keys for which llama.cpp refuses a GGUF, or transformers a folder, that can be computed all the same."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from rosetta.architectures.parts.expert_settings import EACH_HEADS_OWN
from rosetta.architectures.parts.gguf_counts import Counts, refused_counts
from rosetta.compare.other_forms import DERIVED
from rosetta.compare.results import Finding, Side
from rosetta.compare.settings import plain
from rosetta.containers.huggingface.text_part import tables
from rosetta.diagnose.advice import config_file, shown
from rosetta.lint.gguf_keys import ALWAYS, EITHER, REQUIRED, spelled
from rosetta.model import Model
from rosetta.setting_values import listed
from rosetta.settings_table import SETTINGS

# Keys that llama.cpp asks for -> the setting that they say in another form.
SAID_OTHERWISE = {
    "expert_shared_count": "expert_shared_feed_forward_length",
    "interleave_moe_layer_step": "expert_layers",
    "leading_dense_block_count": "expert_layers",
    **{
        f"attention.{part}_length{of}": f"attention.{part}_length"
        for part in ("key", "value")
        for of in ("_mla", "_swa")
    },
}
CONTEXT, POSITIONS = "context_length", "position_embd.weight"
LAYER_KINDS = "attention.sliding_window_pattern"
LOADERS = {"gguf": "llama.cpp", "huggingface": "transformers"}
# Keys of counts that are no settings of ours -> the setting whose kind of finding they are.
COUNTED = {
    "nextn_predict_layers": "block_count",
    "interleave_moe_layer_step": "expert_layers",
    "expert_shared_count": "expert_shared_feed_forward_length",
}

# Counts that were right all along where another one is put right.
FOLLOWS = {"expert_used_count": "expert_count"}


def refused_findings(side: Side, model: Model, known: Set[str]) -> Iterator[Finding]:
    """Latent findings about missing keys and about counts that do not go with each other.

    Args:
        side: which file it is.
        model: what it holds.
        known: keys that other findings name.
    """
    if model.architecture.runs:
        yield from _positions(side, model, known)
        yield from _heads_of_latent(side, model, known)
        yield from _windows_of_none(side, model, known)
    if model.container.kind != "gguf" or not model.architecture.runs:
        return
    yield from _missing(side, model, known)
    container = model.container
    stated = {key: setting.value for key, setting in container.settings.items()}
    for refused in refused_counts(model.architecture, Counts(stated, container.tensors)):
        row = SETTINGS[COUNTED.get(refused.key, refused.key)]
        if row.kind is None or refused.key in known or FOLLOWS.get(refused.key) in known:
            continue
        own = spelled(container.architecture or "", refused.key)
        right = _right(model, refused.key)
        found = model.config.get(refused.key)
        if right is None and refused.value is not None and found is not None and found.key is None:
            right = plain(found.value)  # what is computed with, whatever the file states
        said = "is missing" if refused.value is None else f"is {refused.value}"
        advice = f"take {own} out of {config_file(container)}"
        if not refused.take_out:
            advice = f"write {own} {_in_words(right)} into {config_file(container)}"
        yield _finding(
            side,
            row.kind.id,
            refused.key,
            own,
            f"{refused.key} {said} {refused.why}: llama.cpp refuses the file",
            advice,
            declared=refused.value,
            actual=right,
        )


def _positions(side: Side, model: Model, known: Set[str]) -> Iterator[Finding]:
    """Another count of positions than there are rows of the table: loaders ask for as many."""
    table, stated = model.weights.get(POSITIONS), model.config.get(CONTEXT)
    loader, row = LOADERS.get(model.container.kind), SETTINGS[CONTEXT].kind
    if table is None or stated is None or loader is None or row is None or CONTEXT in known:
        return
    rows, counted = table.dims[0], stated.value
    if counted != rows:
        own = stated.key or CONTEXT
        yield _finding(
            side,
            row.id,
            CONTEXT,
            own,
            f"{CONTEXT} is {counted} for a table of {rows} positions: {loader} refuses the file",
            f"write {own} {rows} into {config_file(model.container)}",
            declared=counted if stated.key else None,
            actual=rows,
        )


def _heads_of_latent(side: Side, model: Model, known: Set[str]) -> Iterator[Finding]:
    """Fewer key/value heads than heads that each have their own out of a latent: transformers repeats them for
    nothing, and then has too many."""
    key = "attention.head_count_kv"
    stated, found, row = model.container.settings.get(key), model.config.get(key), SETTINGS[key].kind
    if found is None or stated is None or row is None or key in known or found.note != EACH_HEADS_OWN:
        return
    heads = max(listed(model.config, "attention.head_count"))
    of_folder = model.container.kind == "huggingface" and model.architecture.huggingface.in_transformers
    if of_folder and stated.value != heads:
        yield _finding(
            side,
            row.id,
            key,
            stated.key,
            f"{key} is {shown(stated.value)}, and each of {heads} heads has keys and values of its own out of a "
            "latent: transformers refuses the folder",
            f"write {stated.key} {heads} into {config_file(model.container)}",
            declared=stated.value,
            actual=heads,
        )


def _windows_of_none(side: Side, model: Model, known: Set[str]) -> Iterator[Finding]:
    """A list of layers of which some have a window, in a folder that states none: transformers asks how large it is."""
    key, container = "attention.sliding_window", model.container
    found, row = model.config.get(key), SETTINGS[key].kind
    if container.kind != "huggingface" or not model.architecture.huggingface.in_transformers:
        return
    if found is None or found.value or row is None or key in known or LAYER_KINDS in known:
        return
    for table in tables(container.metadata):
        kinds = table.config.get("layer_types")
        if isinstance(kinds, list) and "sliding_attention" in kinds:
            own = f"{table.prefix}layer_types"
            yield _finding(
                side,
                row.id,
                key,
                own,
                f"{key} is not stated, and {own} gives some layers a window: transformers refuses the folder",
                f"write {own} with full_attention alone into {config_file(container)}, or the size of the window under "
                f"{table.prefix}sliding_window",
                declared=None,
                actual=0,
            )


def _missing(side: Side, model: Model, known: Set[str]) -> Iterator[Finding]:
    """Keys that the file lacks: what was taken in their place is no more than likely."""
    container, name_of = model.container, model.container.architecture or ""
    asked: list[tuple[str, ...]] = [(key,) for key in (*ALWAYS, *REQUIRED.get(model.architecture.gguf, ()))]
    asked += EITHER.get(model.architecture.gguf, ())
    for keys in asked:
        names = [SAID_OTHERWISE.get(key, key) for key in keys]
        key, name = next(
            ((k, n) for k, n in zip(keys, names, strict=True) if n in model.config), (keys[0], names[0])
        )
        row, found, own = SETTINGS.get(name), model.config.get(name), spelled(name_of, key)
        if row is None or row.kind is None or {*keys, *names} & known:
            continue
        if any(spelled(name_of, one) in container.metadata for one in keys):
            continue
        form = DERIVED.get(key)
        value = None if found is None else plain(found.value) if form is None else form(model.config)
        taken = "" if value is None else f"; {shown(value)} was taken"
        yield _finding(
            side,
            row.kind.id,
            name,
            own,
            f"{key} is missing: llama.cpp refuses the file{taken}",
            f"write {own} {_in_words(value)} into {config_file(container)}",
            declared=None,
            actual=value,
        )


def _in_words(value: Any) -> str:
    return "as the model has it" if value is None else shown(value)


def _right(model: Model, key: str) -> Any:
    """What a count would have to be, as far as the file's other keys and tensors say; None where they do not."""
    form = DERIVED.get(key)
    return None if form is None else form(model.config)


def _finding(
    side: Side, kind: str, key: str, own: str, message: str, advice: str, declared: Any, actual: Any
) -> Finding:
    """A latent finding of one file, which names its own key."""
    return Finding(
        kind=kind,
        side=side,
        key=key,
        left_name=own if side == "left" else None,
        right_name=own if side == "right" else None,
        declared=declared,
        actual=actual,
        message=message,
        recommendation=advice,
        status="suspected",
        latent=True,
    )
