"""A file under another architecture's name (`config.architecture`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.architecture", "architecture")
