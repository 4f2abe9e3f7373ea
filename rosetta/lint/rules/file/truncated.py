"""F101: the file ends before what it announces."""

from rosetta.lint.rule import Rule

RULE = Rule(
    "F101",
    "truncated",
    "error",
    what="The file ends before the header, the index or a tensor that it announces.",
    why="A download or a copy broke off, the disk was full, or the writer's process was killed. Programs that map the "
    "file into memory run into its end only when they reach the last layer.",
    fix="Copy or download the file again, and compare its size with the original's.",
    refusals=(
        "after the end of the file",
        "and must end by",
        r"counts [\d,]+ texts, [\d,]+ bytes follow",
        "bytes follow: the file is cut off",
        r"^ ?is empty$",
        "no safetensors header",
    ),
)
