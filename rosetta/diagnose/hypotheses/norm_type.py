"""RMSNorm for LayerNorm or the reverse (`config.norm_type`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.norm_type", "norm_type")
