"""F102: the file contradicts its own format in a way that keeps it from being opened."""

from rosetta.lint.rule import Rule

RULE = Rule(
    "F102",
    "damaged",
    "error",
    what="The file contradicts its own format, so that no reader can open it.",
    why="Bytes were changed on the way, or a writer got a length, a count or an offset wrong.",
    fix="Copy the file again; where that does not help, convert the model again and report the writer.",
)
