"""Another scale of the attention's products (`config.attention_scale`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.attention_scale", "attention.scale")
