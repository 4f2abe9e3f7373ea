"""F103: the file is none that rosetta reads."""

from rosetta.lint.rule import Rule

RULE = Rule(
    "F103",
    "unsupported",
    "error",
    what="The file is of a format, a version or an encoding that rosetta does not read, so that nothing was checked.",
    why="It is a pickle, an older version, an encrypted or compressed file, weights packed by a quantisation scheme of "
    "their own, or no model at all.",
    fix="Do what the message says; --ignore F103 leaves such files out.",
)
