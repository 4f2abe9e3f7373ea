"""C220: a matrix declares its dims the other way round."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import StoredTensor, Subject

RULE = Rule(
    "C220",
    "dims-turned",
    "error",
    what="A matrix of a GGUF or .apr file declares its dims as [in, out] where the config asks for [out, in].",
    why="GGUF lists dims innermost first and everybody else outermost first, and one of the two orders was written "
    "into the other's header; or the weights themselves were transposed on export.",
    fix="Write the dims, and the values, as [out, in]; rosetta FILE SOURCE tells which of the two is turned.",
    contradiction=True,
)
# axis of the hidden size in each matrix that has one, and the key of the other axis
_MATRICES = {
    "token_embd.weight": (1, "vocab_size"),
    "output.weight": (1, "vocab_size"),
    "ffn_gate.weight": (1, "feed_forward_length"),
    "ffn_up.weight": (1, "feed_forward_length"),
    "ffn_down.weight": (0, "feed_forward_length"),
    "attn_q.weight": (1, None),
    "attn_k.weight": (1, None),
    "attn_v.weight": (1, None),
    "attn_output.weight": (0, None),
}


def faults(subject: Subject) -> Iterator[Fault]:
    """Each matrix whose hidden size stands on the other axis only."""
    hidden = subject.count("embedding_length")
    if (
        subject.folder is not None
        or not hidden
        or (subject.apr is not None and subject.apr.transposed_linears)
    ):
        return
    for tensor in subject.tensors:
        axis, key = _MATRICES.get(tensor.stem or "", (None, None))
        if axis is not None and _is_turned(subject, tensor, axis, key, hidden):
            yield subject.at_tensor(
                tensor, f"has dims {list(tensor.dims)}, and the config says {list(tensor.dims[::-1])}"
            )


def _is_turned(subject: Subject, tensor: StoredTensor, axis: int, key: str | None, hidden: int) -> bool:
    dims = tensor.dims
    if len(dims) != 2 or dims[axis] == hidden or dims[1 - axis] != hidden:
        return False
    return key is None or subject.count(key, tensor.layer) == dims[axis]
