"""The sliding window, and which layers have one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rosetta.containers.container import Setting
from rosetta.setting_values import PerLayer, Value
from rosetta.settings_reader import SettingsReader, loader_of


def read_window(read: SettingsReader, published: Mapping[str, Any]) -> None:
    """The window, 0 where there is none."""
    setting = read.raw("attention.sliding_window")
    if read.container.kind == "huggingface" and "attention.sliding_window" not in read.overrides:
        setting = _heeded_window(read, published, setting)
    window, key = (setting.value, setting.key or None) if setting else (0, None)
    if not isinstance(window, int) or isinstance(window, bool) or window <= 0:
        window = 0
    by_layer = read.architecture.full_attention_every > 1  # the pattern may be that of more than the window
    layers = _sliding_layers(read, published) if window or by_layer else []
    if not any(layers):
        window = 0
    if by_layer or not all(layers):
        stated = read.raw("attention.sliding_window_pattern")
        read.config["attention.sliding_window_pattern"] = Value(
            PerLayer(layers), stated.key if stated else None, "the layers that slide"
        )
    note = "" if key else (f"default of {loader_of(read.container.kind)}" if window else "none declared")
    read.config["attention.sliding_window"] = Value(window, key, note)


def _heeded_window(
    read: SettingsReader, published: Mapping[str, Any], stated: Setting | None
) -> Setting | None:
    """The window that transformers runs: none in some architectures, in others behind a switch."""
    if "attention.sliding_window" not in published or read.says_null("sliding_window"):
        return None
    switch = read.spelled("use_sliding_window")
    if "use_sliding_window" in published and not (
        switch.value if switch else published["use_sliding_window"]
    ):
        return None
    return stated or Setting(published["attention.sliding_window"], "")


def _sliding_layers(read: SettingsReader, published: Mapping[str, Any]) -> list[bool]:
    """Which layers the window is for."""
    layers, pattern = read.config["block_count"].value, read.raw("attention.sliding_window_pattern")
    first = published.get("max_window_layers", 0)
    if "max_window_layers" in published:
        stated = read.spelled("max_window_layers")
        first = stated.value if stated is not None and isinstance(stated.value, int) else first
    elif read.container.kind == "huggingface" and read.architecture.full_attention_every <= 1:
        pattern = None  # transformers reads it where it reads max_window_layers
    number = read.spelled("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers")
    if pattern is not None and isinstance(pattern.value, list | tuple):
        stated_layers = [bool(slides) for slides in pattern.value][:layers]
        return stated_layers + stated_layers[-1:] * (int(layers) - len(stated_layers))
    if pattern is not None and isinstance(pattern.value, bool):  # a repair's: one for all layers
        return [pattern.value] * int(layers)
    every = read.architecture.full_attention_every
    if pattern is None and every > 1:  # an older config says it as a number
        pattern = number
    if pattern is not None and type(pattern.value) is int:
        every = pattern.value
    if every > 1:  # llama.cpp, llama_hparams::set_swa_pattern: the last of every so many sees all
        return [layer % every < every - 1 for layer in range(layers)]
    if "max_window_layers" not in published:
        return [True] * int(layers)
    return [read.architecture.huggingface.windows(layer, first) for layer in range(layers)]
