"""What kind each layer is, as config.json lists it."""

from __future__ import annotations

from rosetta.settings_reader import Config, listed

PATTERN = "attention.sliding_window_pattern"


def window_kinds(c: Config) -> list[str]:
    """Which layers have a window: `layer_types`."""
    return ["sliding_attention" if on else "full_attention" for on in listed(c, PATTERN)]


def recurrent_kinds(c: Config, name: str = "linear_attention") -> list[str]:
    """Which layers are recurrent: `layer_types`.

    Args:
        c: the settings.
        name: of a recurrent layer.
    """
    return [name if on else "full_attention" for on in listed(c, "attention.recurrent_layers")]


def network_kinds(c: Config) -> list[str]:
    """Which layers have experts: `mlp_layer_types`."""
    return ["sparse" if on else "dense" for on in listed(c, "expert_layers")]
