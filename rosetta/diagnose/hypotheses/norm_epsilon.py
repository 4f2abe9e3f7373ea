"""Another epsilon in the normalisation (`config.norm_epsilon`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
