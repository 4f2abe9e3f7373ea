"""Draws a model, two containers, their dtypes, the side that will be faulty, and what is run."""

from __future__ import annotations

from typing import Any

from numpy.random import Generator

from fixtures import Llama3Scaling
from fixtures.architectures import ARCHITECTURES
from fixtures.tokenizer import TEXT, vocabulary
from rosetta.bench.case import Subject, spec_of
from rosetta.compare.results import Side

CONTAINERS = ("apr", "apr", "apr-gguf", "gguf", "gguf", "gguf", "hf", "hf-before-5", "hf-sharded")
FLOATS = ("F32", "F16", "BF16")
DTYPES = {
    "apr": (*FLOATS, "F16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "Q4_K_M", "APR_Q4", "APR_Q8"),
    "gguf": (
        *FLOATS, "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M", "IQ4_NL", "Q3_K", "Q2_K",
        "IQ4_XS",
    ),
    "hf": FLOATS,
}  # fmt: skip
SUPERBLOCKS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M", "IQ4_XS")
TEMPLATE_TOKENS = 2  # `<s>` and `</s>`, which no prompt here holds


def draw_subject(rng: Generator) -> Subject:
    """A pair of operands that hold one model, and a prompt."""
    architecture = _one(rng, ARCHITECTURES)
    first, second = _operands(rng)
    coarse = any(operand.partition(":")[2] in SUPERBLOCKS for operand in (first, second))
    spec = spec_of(architecture, _sizes(rng, architecture, coarse))
    side: Side = "left" if rng.random() < 0.7 else "right"
    length = 1 if rng.random() < 0.06 else int(rng.integers(2, 20))
    ids = tuple(int(i) for i in rng.integers(TEMPLATE_TOKENS, len(vocabulary().tokens), length))
    return Subject(spec, first, second, side, ids)


def draw_prompt(rng: Generator) -> str:
    """Some words of the text that the tokenizer was trained on, so that its merges are in use."""
    words = TEXT.split()
    start = int(rng.integers(0, len(words) - 8))
    return " ".join(words[start : start + int(rng.integers(2, 8))])


def _operands(rng: Generator) -> tuple[str, str]:
    first, second = _one(rng, CONTAINERS), _one(rng, CONTAINERS)
    choices = [DTYPES[container.partition("-")[0]] for container in (first, second)]
    dtype = _one(rng, choices[0])
    alike = dtype in choices[1] and rng.random() < 0.4
    return f"{first}:{dtype}", f"{second}:{dtype if alike else _one(rng, choices[1])}"


def _sizes(rng: Generator, architecture: str, coarse: bool) -> dict[str, Any]:
    """Fields of a spec; `coarse`: superblocks of 256 weights must divide its rows."""
    head_dim = _one(rng, (32, 64))
    heads = 256 // head_dim if coarse else _one(rng, (2, 4))
    hidden = heads * head_dim
    sizes: dict[str, Any] = {
        "layers": _one(rng, (2, 2, 3)),
        "hidden": hidden,
        "heads": heads,
        "head_dim": head_dim,
        "kv_heads": _one(rng, [n for n in (1, 2, 4, 8) if heads % n == 0]),
        "ffn": _one(rng, (512, 768)) if coarse else _one(rng, (192, 256, 320)),
        "vocab": _one(rng, (384, 384, 416)),
        "tied": bool(rng.random() < 0.5),
        "epsilon": _one(rng, (1e-6, 1e-5)),
        "theta": _one(rng, (1e4, 5e5, 1e6)),
        "embedding_std": _one(rng, (0.02, 0.1, 0.5)),
        "seed": int(rng.integers(1 << 31)),
    }
    if architecture == "gpt2":
        sizes["kv_heads"] = heads
    if architecture == "qwen3" and not coarse:
        sizes["heads"] = 2 * heads  # heads × head size need not be the hidden size
    if architecture == "llama" and rng.random() < 0.4:
        sizes["rope_scaling"] = Llama3Scaling()
    return sizes


def _one(rng: Generator, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]
