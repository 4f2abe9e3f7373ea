"""C209: the numbers of experts contradict the tensors, or each other."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.names import EXPERT

STACKED, ROUTER = "ffn_down_exps", "ffn_gate_inp"

RULE = Rule(
    "C209",
    "experts",
    "error",
    what="The number of experts is not that of the tensors, or more are used than there are.",
    why="num_experts_per_tok or num_experts was left out or copied from another size of the model; llama.cpp stops at "
    "an expert_used_count of 0 or above expert_count.",
    fix="Write expert_count and expert_used_count as the model's config has them.",
    contradiction=True,
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Counts that cannot be, and stacked matrices of another number."""
    count, used = subject.count("expert_count"), subject.setting("expert_used_count")
    most = max(used, default=0) if isinstance(used, list) else used
    if count and subject.gguf is not None and most is None:
        yield Fault(
            f"is missing, and there are {count} experts", key=f"{subject.architecture}.expert_used_count"
        )
    elif count and most == 0:
        yield subject.at_key("expert_used_count", f"is 0, and there are {count} experts")
    elif count and isinstance(most, int) and most > count:
        yield subject.at_key("expert_used_count", f"is {most}, and there are {count} experts")
    yield from _of_tensors(subject, count)


def _of_another_part(subject: Subject, numbers: set[int], count: int) -> bool:
    """Whether experts beyond the count are those of a part that sees, which ERNIE 4.5 VL numbers on from the text's:
    the text's routers choose among as many as the config says."""
    routers = list(subject.by_stem(f"{ROUTER}.weight"))
    return numbers > set(range(count)) and bool(routers) and all(count in router.dims for router in routers)


def _of_tensors(subject: Subject, count: int | None) -> Iterator[Fault]:
    """The first matrix of experts of another number, or that there are some, or none."""
    stacked = next((t for t in subject.by_stem(f"{STACKED}.weight") if len(t.dims) == 3), None)
    numbers = {int(found[1]) for tensor in subject.tensors if (found := EXPERT.search(tensor.name))}
    if stacked is not None and not count and subject.gguf is not None:
        said = f"is missing, and {stacked.name!r} holds {stacked.dims[0]} experts"
        yield Fault(said, key=f"{subject.architecture}.expert_count")
    for tensor in subject.by_stem(f"{STACKED}.weight"):
        if count and len(tensor.dims) == 3 and tensor.dims[0] != count:
            yield subject.at_tensor(tensor, f"holds {tensor.dims[0]} experts, and the config says {count}")
            return
    if count and numbers and numbers != set(range(count)) and not _of_another_part(subject, numbers, count):
        last = next(t for t in subject.tensors if (f := EXPERT.search(t.name)) and int(f[1]) == max(numbers))
        yield subject.at_tensor(
            last, f"is of {len(numbers)} experts, numbered up to {max(numbers)}, and the config says {count}"
        )
    elif (
        count
        and count > 1
        and subject.gguf is not None
        and subject.tensors  # a file of a vocabulary alone has none, and the settings all the same
        and not any("_exps" in tensor.name for tensor in subject.tensors)
    ):
        yield subject.at_key("expert_count", f"is {count}, and no tensor is of experts")
