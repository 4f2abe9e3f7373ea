"""F107: bytes between or behind the tensors that nothing reads."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.file.dtype_bytes import dtypes_filling
from rosetta.lint.subject import StoredTensor, Subject

RULE = Rule(
    "F107",
    "unused-bytes",
    "warning",
    what="The file holds bytes that belong to no tensor and are no padding.",
    why="A tensor was renamed away or shrunk in place, two files were glued together, or dims or dtype of a tensor say "
    "less than was written: then its data is read wrongly. llama.cpp refuses a GGUF file with a gap.",
    fix="Write the file again, and look at the tensor in front of the gap: its dims and dtype should fill it.",
    refusals=(r"the tensors end at byte [\d,]+, the file at",),
)
APR_FOOTER = 4  # bytes: the checksum of the whole file


def faults(subject: Subject) -> Iterator[Fault]:
    """Gaps wider than padding, and what follows the last tensor."""
    if subject.container.kind == "huggingface":  # its reader allows none
        return
    alignment = 64 if subject.gguf is None else subject.gguf.header.alignment
    by_file: dict[object, list[StoredTensor]] = {}
    for tensor in subject.tensors:
        if tensor.entry.nbytes:
            by_file.setdefault(tensor.file, []).append(tensor)
    for tensors in by_file.values():
        tensors.sort(key=lambda tensor: tensor.start)
        end = tensors[-1].file.stat().st_size - (APR_FOOTER if subject.apr is not None else 0)
        for tensor, following in zip(tensors, [*(t.start for t in tensors[1:]), end], strict=True):
            gap = following - tensor.start - tensor.entry.nbytes
            if gap >= alignment and not dtypes_filling(tensor, tensor.entry.room or 0):  # else F119 says it
                yield subject.at_tensor(
                    tensor,
                    f"takes {tensor.entry.nbytes:,} bytes, and {gap:,} more follow before the next one begins"
                    if following != end
                    else f"is the last one, and {gap:,} bytes follow it that nothing reads",
                )
