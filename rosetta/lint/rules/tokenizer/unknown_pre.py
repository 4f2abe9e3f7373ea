"""T304: a pre-tokenizer that llama.cpp does not know, or none."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "T304",
    "unknown-pre",
    "error",
    what="tokenizer.ggml.pre is missing, or names a pre-tokenizer that llama.cpp does not know.",
    why="An exporter wrote the architecture's name, the tokenizer's class or one name for all. llama.cpp refuses an "
    "unknown name, and cuts texts in the way of none of these models where there is none.",
    fix="Write the name that the message takes for likely: it is told by the vocabulary's own tokens.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """A name that is missing or unknown, with the likely one."""
    vocabulary = subject.vocabulary
    if vocabulary is None:
        return
    for finding in vocabulary.findings:
        if finding.kind == "tokenizer.pre_tokenizer":
            likely = f"; likely {finding.likely!r}" if finding.likely else ""
            yield subject.at_file_key(
                finding.key, f"is {finding.declared!r:.60}, which llama.cpp does not know{likely}"
            )
    nameless = vocabulary.kind == "bpe" and vocabulary.model != "gemma4" and not vocabulary.declared_pre
    if subject.gguf is not None and nameless:
        said = next((note for note in vocabulary.notes if note.startswith("no tokenizer.ggml.pre")), "")
        _, _, guess = said.partition("; ")
        yield Fault(f"is missing{f'; {guess}' if guess else ''}", key="tokenizer.ggml.pre")
