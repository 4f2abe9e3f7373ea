"""T317: a file named after Phi-3 whose vocabulary is another's: llama.cpp refuses it."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.name_of_phi3 import lacking_of_phi3

RULE = Rule(
    "T317",
    "name-of-phi3",
    "error",
    what="general.name has 'phi-3' or 'phi3' in it, and the vocabulary lacks '</s>', '<unk>', '<s>' or "
    "'<|endoftext|>'.",
    why="llama.cpp takes by the name how Phi-3's special tokens are read, and looks for these four. A file without one "
    "it refuses with 'error loading model vocabulary: unordered_map::at'. A converter takes the name of the folder.",
    fix="Give the model another name, as by the converter's --model-name.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The tokens that are looked for and not there."""
    if subject.gguf is None or subject.vocabulary is None:
        return
    name = subject.gguf.metadata.get("general.name")
    lacking = lacking_of_phi3(name, set(subject.vocabulary.tokens))
    if lacking:
        listed = ", ".join(map(repr, lacking))
        yield subject.at_file_key(
            "general.name",
            f"is {name!r:.60}, and llama.cpp looks in the vocabulary of such a file for {listed}, which is not there",
        )
