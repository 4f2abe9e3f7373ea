"""Another number of key/value heads (`config.head_count_kv`)."""

from rosetta.diagnose.settings_hypothesis import setting_hypothesis

propose = setting_hypothesis("config.head_count_kv", "attention.head_count_kv")
