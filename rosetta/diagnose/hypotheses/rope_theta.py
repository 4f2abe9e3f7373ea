"""Another base of the rotary frequencies (`config.rope_theta`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.rope_theta", "rope.freq_base")
