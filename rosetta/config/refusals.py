"""What a file may state of its forward pass and rosetta computes of no architecture: refused by name."""

from __future__ import annotations

from rosetta.errors import UnsupportedError
from rosetta.setting_values import Value
from rosetta.settings_reader import NOT_RUN, SettingsReader


def refuse_what_is_not_run(read: SettingsReader) -> None:
    """Refuse what a file states of its forward pass, and rosetta does not compute.

    Raises:
        UnsupportedError: which key states it.
    """
    _refuse_layer_scales(read)
    _refuse_experts(read)
    _refuse_sight_ahead(read)
    _refuse_sizes_of_windows(read)
    _refuse_scaling_of_windows(read)


def _refuse_experts(read: SettingsReader) -> None:
    """llama.cpp gives experts to some architectures that no published model has with experts."""
    stated = read.container.settings.get("expert_count")
    if read.container.kind != "gguf" or stated is None or "expert_count" in read.config or not stated.value:
        return
    if not read.architecture.llamacpp.computes_by("expert_count"):
        return
    raise UnsupportedError(
        f"{stated.key} is {str(stated.value)[:60]}, and rosetta runs {read.architecture.name} without experts",
        file=read.container.path,
        remedy="ask for it, with the model's name",
    )


def _refuse_sight_ahead(read: SettingsReader) -> None:
    """llama.cpp has tokens see those behind them too, of any architecture, where a file says so (embedding models)."""
    stated = read.raw("attention.causal")
    if read.container.kind == "gguf" and stated is not None and not stated.value:
        raise UnsupportedError(
            f"{stated.key} is false: tokens see those behind them, and rosetta runs models that do not",
            file=read.container.path,
            remedy=NOT_RUN,
        )


def _refuse_sizes_of_windows(read: SettingsReader) -> None:
    """llama.cpp reads sizes of heads in layers with a window of any architecture; few models have others there."""
    if read.container.kind != "gguf" or not read.config.get("attention.sliding_window", Value(0)).value:
        return
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        own, others = f"{key}_swa", read.config.get(key)
        if own not in read.container.settings:  # not asked for: whoever writes a file states what is
            continue
        stated = read.container.settings[own]
        if others is None or read.heeds(own) or not read.architecture.llamacpp.computes_by(own):
            continue
        if stated.value != others.value:
            raise UnsupportedError(
                f"{stated.key} is {str(stated.value)[:60]}, and rosetta runs {read.architecture.name} with "
                f"{others.value} in all layers",
                file=read.container.path,
                remedy=NOT_RUN,
            )


def _refuse_scaling_of_windows(read: SettingsReader) -> None:
    """Rope scaling that llama.cpp has in layers with a window otherwise than is run here: no model is published so."""
    if read.container.kind != "gguf" or not read.config.get("attention.sliding_window", Value(0)).value:
        return
    rule, factor, grown = (
        read.container.settings.get(f"rope.scaling.{key}") for key in ("type", "factor", "attn_factor")
    )
    unscaled = rule is not None and rule.value == "none"
    stated = {"": None, "stretched": factor if unscaled else None, "grown": grown}[
        read.architecture.llamacpp.windows
    ]
    if stated is not None and stated.value not in (0, 1):
        raise UnsupportedError(
            f"{stated.key} is {stated.value:g}, which llama.cpp computes with otherwise in layers with a window, "
            f"and rosetta runs {read.architecture.gguf} without it",
            file=read.container.path,
            remedy=NOT_RUN,
        )


def _refuse_layer_scales(read: SettingsReader) -> None:
    setting = read.raw("attention.scale_by_inverse_layer")
    if setting is not None and setting.value:
        raise UnsupportedError(
            f"{setting.key} is set: an attention scale for each layer is not supported",
            file=read.container.path,
            remedy=NOT_RUN,
        )
