"""C227: q, k and v are apart where llama.cpp asks for one tensor of all three."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C227",
    "split-qkv",
    "error",
    what="A GGUF of an architecture whose q, k and v llama.cpp reads from one tensor, attn_qkv, has them in three.",
    why="A converter split them as it does for Llama, or a tool wrote each weight by itself. Of most architectures "
    "llama.cpp takes either; of these it refuses the file: missing tensor 'blk.0.attn_qkv.weight'.",
    fix="Concatenate the rows of q, k and v of each layer in that order, weights and biases, as attn_qkv.",
)
FUSED = frozenset(
    ["bloom", "dbrx", "falcon", "gpt2", "gptneox", "jais", "mpt", "openelm", "qwen", "starcoder"]
)
"""Architectures that ask for attn_qkv and for nothing in its place (llama.cpp, src/models/*.cpp)."""


def faults(subject: Subject) -> Iterator[Fault]:
    """The first q that stands alone, and of how many layers."""
    if subject.gguf is None or subject.architecture not in FUSED:
        return
    alone = [*subject.by_stem("attn_q.weight")]
    if alone and not any(subject.by_stem("attn_qkv.weight")):
        more = f"; so it is in {len(alone)} layers" if len(alone) > 1 else ""
        said = f"is apart from k and v, and llama.cpp loads {subject.architecture} with attn_qkv alone{more}"
        yield subject.at_tensor(alone[0], said)
