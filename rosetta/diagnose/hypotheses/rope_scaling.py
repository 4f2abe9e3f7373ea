"""Rope scaling lost, invented or of other factors (`config.rope_scaling`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.rope_scaling", "rope.scaling")
