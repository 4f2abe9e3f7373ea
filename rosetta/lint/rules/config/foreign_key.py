"""C203: a key of another architecture."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import GGUF_ARCHITECTURES, Subject, is_gguf_architecture

RULE = Rule(
    "C203",
    "foreign-key",
    "warning",
    what="A key carries the name of another architecture than the file is of.",
    why="general.architecture was changed and the keys were not, or keys were copied from another model's file. No "
    "loader reads them: what they say is lost.",
    fix="Write the key under the file's own architecture, or remove it.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first key of each foreign architecture, and how many there are."""
    if subject.gguf is None or not is_gguf_architecture(str(subject.architecture)):
        return
    found: dict[str, list[str]] = {}
    for key in subject.container.metadata:
        prefix, dot, _ = key.partition(".")
        if dot and prefix != subject.architecture and prefix in GGUF_ARCHITECTURES:
            found.setdefault(prefix, []).append(key)
    for prefix, keys in found.items():
        more = f", as are {len(keys) - 1:,} more" if len(keys) > 1 else ""
        yield subject.at_file_key(
            keys[0], f"is a key of {prefix}, and the file is of {subject.architecture}{more}"
        )
