"""C204: a key's value is of another type than its readers ask for."""

from collections.abc import Iterator

from rosetta.containers.apr.keys import TYPED_KEYS
from rosetta.containers.gguf.reader import GgufContainer
from rosetta.containers.huggingface.text_part import tables
from rosetta.containers.values import TEXT, TEXTS
from rosetta.lint.gguf_keys import ARRAY, KEY_TYPES, TYPE_NAMES, WHOLE_KEY_TYPES
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.config.context import NAMES
from rosetta.lint.subject import Subject

RULE = Rule(
    "C204",
    "wrong-type",
    "error",
    what="A key holds a value of another type than its readers ask for.",
    why="A writer chose the type by the value at hand (1000000 as a whole number where rope.freq_base is a float32) or "
    "wrote everything as text. llama.cpp compares types before it reads, and refuses the file.",
    fix="Write the key with the type that gguf-py's writer gives it.",
    refusals=(
        r"^key .*, and must be ",
        rf"^key '(?!{NAMES}').*anything counts to",
        r"^key .*(is no text but|is no whole|is no list|is no number|must hold)",
    ),
)


_WORDS = {"model_type": TEXT, "architectures": TEXTS, "layer_types": TEXTS, "mlp_layer_types": TEXTS}
_NEVER_NULL = ("model_type", "total_size", "param_count")  # aprender, v2/header_impl.rs: no Option there


def faults(subject: Subject) -> Iterator[Fault]:
    """Each key of another type."""
    if subject.apr is not None:
        yield from _apr(subject)
    if subject.gguf is not None:
        yield from _gguf(subject, subject.gguf)
    if subject.folder is not None:
        yield from _folder(subject)


def _gguf(subject: Subject, container: GgufContainer) -> Iterator[Fault]:
    """Each key of another type, and each flag that is neither 0 nor 1."""
    for name, (_, kind) in subject.key_places.items():
        wanted = WHOLE_KEY_TYPES.get(name, KEY_TYPES.get(name.removeprefix(f"{subject.architecture}.")))
        if wanted is None or kind == wanted or (kind == ARRAY and name not in WHOLE_KEY_TYPES):
            continue
        if kind < len(TYPE_NAMES):
            yield subject.at_file_key(
                name, f"is of type {TYPE_NAMES[kind]}, llama.cpp asks for {TYPE_NAMES[wanted]}"
            )
    for name, start, flags in container.flag_bytes():
        odd = next((n for n, flag in enumerate(flags) if flag > 1), None)
        if odd is not None:
            message = f"holds the byte {flags[odd]} as a bool, which is 0 or 1"
            yield Fault(message, key=name, byte=start + odd)


def _folder(subject: Subject) -> Iterator[Fault]:
    """What config.json must say in words: a reader takes anything else for nothing said."""
    for table, prefix in tables(subject.container.metadata):
        for name, kind in _WORDS.items():
            value = table.get(name)
            if value is not None and not kind.holds(value):
                yield subject.at_file_key(f"{prefix}{name}", f"is {value!r:.60}, and must be {kind.noun}")


def _apr(subject: Subject) -> Iterator[Fault]:
    """What aprender's strict reader has a typed field for: one wrong value costs it the whole file."""
    for name, value in subject.container.metadata.items():
        kind = TYPED_KEYS.get(name)
        if kind is None or (value is None and name not in _NEVER_NULL):  # what is unset is null or absent
            continue
        if not kind.holds(value):
            yield subject.at_file_key(name, f"is {value!r:.60}, and aprender asks for {kind.noun}")
