"""A container's settings in canonical form: GGUF keys, float32 values, each missing key by its container's rule."""

from rosetta.config.reading import read_config
from rosetta.config.rotary import rope_scaling_from_tensors
from rosetta.setting_values import Config, Value
from rosetta.settings_reader import LARGEST_BLOCK_COUNT

__all__ = ["LARGEST_BLOCK_COUNT", "Config", "Value", "read_config", "rope_scaling_from_tensors"]
