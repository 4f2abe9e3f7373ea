"""What kind each layer is, as config.json lists it, and as a GGUF does."""

from __future__ import annotations

from rosetta.architectures.parts.recurrent import RECURRENT
from rosetta.setting_values import Config, listed

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
    return [name if on else "full_attention" for on in listed(c, RECURRENT)]


def network_kinds(c: Config) -> list[str]:
    """Which layers have experts: `mlp_layer_types`."""
    return ["sparse" if on else "dense" for on in listed(c, "expert_layers")]


def _sliding(c: Config) -> list[bool] | None:
    """Which layers have a window; None where none has."""
    windowed = "attention.sliding_window" in c and c["attention.sliding_window"].value and PATTERN in c
    kinds = [bool(on) for on in listed(c, PATTERN)] if windowed else []
    return kinds if any(kinds) else None


# As llama.cpp's converter lists them; without, llama.cpp takes the layers to be in the published model's order.
SLIDING_LISTED = {PATTERN: _sliding}
RECURRENT_LISTED = {RECURRENT: lambda c: [bool(on) for on in listed(c, RECURRENT)]}
