"""Is what a model file says sound? One file a rule, no model is run, headers alone unless values are asked for. As a
function, `rosetta.lint("model.gguf")`."""

from rosetta import make_callable

make_callable(__name__)
