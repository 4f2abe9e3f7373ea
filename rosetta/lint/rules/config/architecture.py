"""C201: the file names no architecture, or one that its format does not know."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject, is_gguf_architecture

RULE = Rule(
    "C201",
    "architecture",
    "error",
    what="The file names no architecture, or one that GGUF does not define and rosetta does not run.",
    why="An exporter wrote a placeholder (auto, unknown) or Hugging Face's name where GGUF has another. Loaders then "
    "guess, by biases or by a part of a name, and take qwen3 for qwen2.",
    fix="Write general.architecture (GGUF), architecture (.apr) or model_type (config.json).",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """An architecture that is missing, or unknown to GGUF."""
    key = {"gguf": "general.architecture", "apr": "architecture", "huggingface": "model_type"}[subject.kind]
    if not subject.architecture:
        yield subject.at_file_key(key, "names no architecture")
    elif subject.gguf is not None and not is_gguf_architecture(subject.architecture):
        yield subject.at_file_key(key, f"is {subject.architecture!r:.60}, which is no architecture of GGUF")
