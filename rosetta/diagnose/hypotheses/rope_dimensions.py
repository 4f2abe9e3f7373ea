"""Another number of rotated dimensions (`config.rope_dimensions`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.rope_dimensions", "rope.dimension_count")
