"""F112: a shard is not there, or does not go by its name."""

from rosetta.lint.rule import Rule

RULE = Rule(
    "F112",
    "shard-missing",
    "error",
    what="A shard that the others or the index speak of is not there, or has been renamed.",
    why="One of several downloads failed, or files were moved one by one.",
    fix="Get the missing shard, under the name that it was written with, into the same folder.",
    refusals=(
        r"^ ?shard \S+ is missing",
        r"is missing, which \S+ names",
        r"is shard \S+ of \d+, and its name",
        r"has no \S+ and no \S+; it has .*\.safetensors",
        r"has a \S+ that is (no file|a link)",
    ),
)
