"""What can be asked of llama.cpp; the defaults are the path that can be compared."""

from __future__ import annotations

from collections.abc import Mapping

from rosetta.errors import UsageError

DEFAULTS: Mapping[str, str] = {
    "flash_attn": "off", "kv": "f32", "repack": "off", "gpu_layers": "0", "threads": "1", "fusion": "off",
}  # fmt: skip
GGML_TYPES: Mapping[str, int] = {
    "f32": 0,
    "f16": 1,
    "bf16": 30,
    "q8_0": 8,
    "q4_0": 2,
}  # ggml.h, enum ggml_type
STEPS = ("q8_0", "q4_0")  # of these that are no floats
CHOICES: Mapping[str, tuple[str, ...]] = {
    "flash_attn": ("off", "on"), "kv": tuple(GGML_TYPES), "repack": ("off", "on"), "fusion": ("off", "on"),
}  # fmt: skip


def checked(options: Mapping[str, object]) -> dict[str, str]:
    """Options as text, all of them; the defaults where nothing is said.

    Raises:
        UsageError: there is no such option, or it has no such value.
    """
    found = dict(DEFAULTS)
    for name, value in options.items():
        text = str(value)
        if name not in DEFAULTS:
            raise UsageError(
                f"llama.cpp has no runtime option '{name}'", remedy=f"give one of {', '.join(DEFAULTS)}"
            )
        allowed = CHOICES.get(name)
        if allowed is not None and text not in allowed:
            raise UsageError(
                f"the runtime option {name} is '{text}'", remedy=f"give one of {', '.join(allowed)}"
            )
        if allowed is None and not text.lstrip("-").isdigit():
            raise UsageError(f"the runtime option {name} is '{text}'", remedy="give a whole number")
        found[name] = text
    if found["kv"] in STEPS and found["flash_attn"] == "off":
        raise UsageError(
            f"llama.cpp keeps values in {found['kv']} under flash attention alone",
            remedy="give --runtime-option flash_attn=on as well",
        )
    return found
