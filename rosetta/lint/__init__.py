"""Is what a model file says sound? One file a rule, no model is run, headers alone unless values are asked for."""
