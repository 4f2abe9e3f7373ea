"""A sliding window lost, invented or of another width (`config.sliding_window`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.sliding_window", "attention.sliding_window")
