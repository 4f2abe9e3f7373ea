"""F113: the shards are not those of one model."""

from rosetta.lint.rule import Rule

RULE = Rule(
    "F113",
    "shards-mixed",
    "error",
    what="The shards are not those of one model: their numbers, their tensors or the index contradict each other.",
    why="Shards of two downloads, revisions or ways of splitting lie in one folder.",
    fix="Empty the folder, and download or split the model again.",
    refusals=(
        r"says it is shard \S+ of \S+",
        r"its shards hold \d+ tensors, \d+ were written",
        "does not begin as a GGUF file does",
        r"is not in \S+, where the index has it",
        "is no file of the folder",
        "has no weight_map",
    ),
)
