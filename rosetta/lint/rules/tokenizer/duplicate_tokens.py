"""T302: two ids have one token."""

from collections import Counter
from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.huggingface import SHARED

RULE = Rule(
    "T302",
    "duplicate-tokens",
    "error",
    what="Two ids have the same token, or two tokens the same id: the vocabulary is not one to one.",
    why="Padding was written as one and the same text over and over, or an added token repeats one of the vocabulary. "
    "llama.cpp stops at such a list, or encodes with the last id where others take the first.",
    fix="Give each id a text of its own; llama.cpp's converter pads with [PAD151646], [PAD151647], …",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first token that stands twice, and how many do; the first id that two tokens have."""
    for note in () if subject.vocabulary is None else subject.vocabulary.notes:
        if note.startswith(SHARED):
            yield Fault(
                f"gives {note.removeprefix(SHARED + ': ')}", key="vocab", file=subject.path / "tokenizer.json"
            )
    if subject.vocabulary is None or len(subject.token_set) == len(subject.vocabulary.tokens):
        return
    tokens = [token for token in subject.vocabulary.tokens if token]
    if len(set(tokens)) == len(tokens):
        return
    repeated = [token for token, count in Counter(tokens).items() if count > 1]
    first = subject.vocabulary.tokens.index(repeated[0])
    again = subject.vocabulary.tokens.index(repeated[0], first + 1)
    more = f"; {len(tokens) - len(set(tokens)):,} ids repeat a token" if len(repeated) > 1 else ""
    yield at_tokens(subject, f"ids {first} and {again} are both {repeated[0]!r:.60}{more}")


def at_tokens(subject: Subject, message: str) -> Fault:
    """A fault of the tokens, where the container keeps them."""
    keys = {"gguf": "tokenizer.ggml.tokens", "apr": "tokenizer.vocabulary", "huggingface": "vocab"}
    file = subject.path / "tokenizer.json"
    if subject.folder is not None and file.is_file():
        return Fault(message, key=keys[subject.kind], file=file)
    return subject.at_file_key(keys[subject.kind], message)
