"""C219: one setting is stated under several keys."""

from collections.abc import Iterator

from rosetta.containers.apr.keys import ALIASES
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C219",
    "repeated-key",
    "error",
    what="An .apr states one setting under several keys, or a key twice.",
    why="A writer added the spelling of another loader beside its own. aprender's strict reader takes the two for one "
    "field and refuses the file.",
    fix="Write the canonical spelling (hidden_size, num_layers, …) alone.",
    refusals=("has the key '.*' twice",),
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each setting with several keys, and each key that stands twice."""
    if subject.apr is None:
        return
    for canonical, aliases in ALIASES.items():
        spelled = [key for key in (canonical, *aliases) if key in subject.container.metadata]
        if len(spelled) > 1:
            yield Fault(f"states again what {spelled[0]} states", key=spelled[1])
    for note in subject.container.notes:
        if note.startswith("the metadata has the key ") and note.endswith(" twice"):
            yield Fault("stands in the metadata twice", key=note.split("'")[1])
