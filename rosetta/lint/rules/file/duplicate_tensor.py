"""F115: two tensors go by one name."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import StoredTensor, Subject

RULE = Rule(
    "F115",
    "duplicate-tensor",
    "error",
    what="Two tensors go by one name, or by two names of one weight.",
    why="A model was exported twice into one file, or under Hugging Face's and GGUF's names at once. Which of them a "
    "loader takes is chance.",
    fix="Write each tensor once.",
    refusals=(
        r"^tensor .* is there twice$",
        "is in the index twice",
        "is in the header twice",
        "is in another shard too",
        r"is in \S+ too$",
    ),
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Two names of one weight: a GGUF one and a foreign one of the same layer."""
    seen: dict[tuple[str, int | None], StoredTensor] = {}
    for tensor in subject.tensors:
        if tensor.stem is None or ".experts." in tensor.name:
            continue
        other = seen.setdefault((tensor.stem, tensor.layer), tensor)
        own = {one.name.startswith(("blk.", "token_embd", "output")) for one in (tensor, other)}
        if other is not tensor and len(own) == 2:
            yield subject.at_tensor(tensor, f"is the same weight as {other.name!r}")
