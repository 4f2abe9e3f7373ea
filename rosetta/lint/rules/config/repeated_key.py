"""C219: one setting is stated under several keys."""

from collections.abc import Iterator

from rosetta.containers.apr.keys import ALIASES
from rosetta.containers.huggingface.writer import CONFIG, INDEX
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.folder_files import repeated_keys
from rosetta.tokenizer.huggingface import TWICE

RULE = Rule(
    "C219",
    "repeated-key",
    "error",
    what="A key stands twice in one object, or an .apr states one setting under several keys.",
    why="A file was edited by hand or put together as text, or a writer added the spelling of another loader. "
    "Of a key that stands twice most readers take the last, some the first; aprender's strict reader takes two "
    "spellings for one field and refuses the file, as llama.cpp refuses a GGUF with a key twice.",
    fix="Write each key once; in an .apr the canonical spelling (hidden_size, num_layers, …) alone.",
    refusals=("has the key '.*' twice",),
)


# The small files of a folder; what is found in tokenizer.json is a note of its reader's.
_FILES = (
    *(CONFIG, INDEX, "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "chat_template.json"),
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each setting with several keys, and each key that stands twice."""
    if subject.folder is not None:
        yield from _in_folder(subject)
    if subject.apr is None:
        return
    for canonical, aliases in ALIASES.items():
        spelled = [key for key in (canonical, *aliases) if key in subject.container.metadata]
        if len(spelled) > 1:
            yield Fault(f"states again what {spelled[0]} states", key=spelled[1])
    for note in subject.container.notes:
        if note.startswith("the metadata has the key ") and note.endswith(" twice"):
            yield Fault("stands in the metadata twice", key=note.split("'")[1])


def _in_folder(subject: Subject) -> Iterator[Fault]:
    """The keys that stand twice in its files of JSON, of the tokenizer's the first."""
    for name in _FILES:
        for key in dict.fromkeys(repeated_keys(subject.path / name)):
            yield Fault("stands twice in one object", key=key, file=subject.path / name)
    for note in () if subject.vocabulary is None else subject.vocabulary.notes:
        if note.startswith(TWICE):
            key = note.removeprefix(f"{TWICE}: ")
            yield Fault("stands twice in one object", key=key, file=subject.path / "tokenizer.json")
