"""What config.json says of the rotation: its base, its scaling and how much of a head it turns, in the forms that
transformers 4 and 5 read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rosetta.compare.settings import plain
from rosetta.config import Config
from rosetta.diagnose.stated_scaling import PARAMETERS, PREFIX, as_parameters, proportional, share_of
from rosetta.errors import UnsupportedError
from rosetta.model import Model
from rosetta.rope_scaling import RopeScaling
from rosetta.setting_values import listed

ROTATION, SCALING, BASE, SHARE = "rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor"
FLAT = (BASE, SCALING, SHARE, "swa_rope_theta", "rope_local_base_freq")
"""Keys for which a class that has a table for each kind of layer has no use."""


def take_rotation(
    model: Model, wanted: Config, config: dict[str, Any], missed: Callable[[Mapping[str, Any]], int]
) -> None:
    """State base and scaling.

    Args:
        model: whose they are.
        wanted: its settings.
        config: config.json, which is written to.
        missed: how many settings a reader of such a config does not find as they are.
    """
    if "rope.freq_base" not in wanted:
        return
    scaling = wanted["rope.scaling"].value if "rope.scaling" in wanted else None
    forms: list[dict[str, Any]] = []
    if isinstance(scaling, RopeScaling):
        forms = [_long(scaling)] if scaling.long else list(_scaling_forms(model, scaling))
        if scaling.long:
            config["original_max_position_embeddings"] = scaling.beyond
    if model.architecture.huggingface.rotation_by_kind:
        for key in FLAT:
            config.pop(key, None)
        ways = [{ROTATION: _by_kind(wanted, form)} for form in forms or [{}]]
    else:
        config[BASE] = plain(listed(wanted, "rope.freq_base")[0])  # a list of them has a key of its own
        # That rule is of classes with a table for each kind of layer.
        ways = [{SCALING: form} for form in forms if form.get("rope_type") != "proportional"]
    if ways:
        config |= min(ways, key=lambda way: missed({**config, **way}))


def take_plain_table(wanted: Config, config: dict[str, Any]) -> None:
    """Say a rotation that is not scaled in the table of transformers 5 as well: some classes heed nothing else
    (Bamba's), or take a scaling of their own where there is no table (gpt-oss's)."""
    plain_one = BASE in config and config.get(SCALING) is None and "rope.freq_base_swa" not in wanted
    if plain_one:
        config[ROTATION] = plain_table(config)


def plain_table(config: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a rotation that is not scaled, with what else is known of it."""
    shared = {key: config[key] for key in (BASE, SHARE) if key in config}
    return {"rope_type": "default", **config.get(ROTATION, {}), **shared}


def _by_kind(wanted: Config, scaling: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A table for each kind of layer; those with a window are not scaled."""
    size = max(listed(wanted, "attention.key_length"))

    def table(suffix: str) -> dict[str, Any]:
        base, turned = (
            (wanted.get(key + suffix) or wanted[key]).value
            for key in ("rope.freq_base", "rope.dimension_count")
        )
        return {"rope_type": "default", BASE: plain(base), SHARE: share_of(turned, size)}

    return {"full_attention": {**table(""), **scaling}, "sliding_attention": table("_swa")}


def _long(scaling: RopeScaling) -> dict[str, Any]:
    pairs = {"short_factor": scaling.factors, "long_factor": scaling.long}
    factors = {name: [plain(f) for f in values] for name, values in pairs.items()}
    return {"rope_type": "longrope", **factors, "attention_factor": plain(scaling.magnitude)}


def _scaling_forms(model: Model, scaling: RopeScaling) -> Iterator[dict[str, Any]]:
    """Objects that may say a rope scaling; of those that say it equally well the first is taken."""
    if model.architecture.huggingface.rotation_by_kind:
        yield from proportional(scaling.factors)
    with contextlib.suppress(UnsupportedError):
        yield as_parameters(scaling, model, model.container)
    settings = model.container.settings
    rule = {name: settings[key].value for key, name in PARAMETERS.items() if key in settings}
    if rule.get("factor") is not None:
        rule = {"rope_type": "linear", **rule}
        multiplier = settings.get(PREFIX + "yarn_log_multiplier")
        scales = [] if multiplier is None else [plain(multiplier.value * times) for times in (10, 1)]
        for scale in scales:
            yield {**rule, "mscale": scale, "mscale_all_dim": scale}
        yield {**rule, "attention_factor": plain(scaling.magnitude)}
