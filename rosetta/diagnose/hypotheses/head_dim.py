"""Another size of a head (`config.head_dim`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.head_dim", "attention.key_length", "attention.value_length")
