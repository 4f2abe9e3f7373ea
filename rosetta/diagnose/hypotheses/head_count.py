"""Another number of heads (`config.head_count`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.head_count", "attention.head_count")
