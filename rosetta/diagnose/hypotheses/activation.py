"""Another activation in the feed-forward network (`config.activation`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.activation", "activation")
