"""F123: a folder holds a part of a model."""

from rosetta.lint.rule import Rule

RULE = Rule(
    "F123",
    "incomplete",
    "error",
    what="A folder holds a part of a model, and not its config.json or not its weights.",
    why="A download was told to take some files only, or broke off, or the weights were saved without the model's "
    "save_pretrained. Nothing can be said of the rest until all is there.",
    fix="Put the missing files beside the others: config.json, and the weights as safetensors.",
    refusals=(
        r"has no config\.json(?!, and holds weights as)",
        r"has no \S+ and no \S+(; it has [^;]*\.(gguf|apr))?$",
    ),
)
