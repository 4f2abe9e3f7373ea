"""What a comparison's cost is held against, each a process of its own.

`python -m rosetta.bench.speed_yardsticks read FILE…` reads files; `… forward|llama.cpp|transformers MODEL.gguf IDS`
computes the logits of a prompt, with our transformer alone or with a peer.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

CHUNK = 1 << 22  # bytes
# transformers turns every weight into float32, and holds some of them twice while it loads (measured: 1.5).
TRANSFORMERS_BYTES_A_WEIGHT = 6
PACKAGES = {
    "llama.cpp": ("llama_cpp",),
    "transformers": ("transformers", "accelerate"),
}  # the latter reads GGUF


def why_not(peer: str, parameters: int) -> str | None:
    """Why a peer cannot be run here, or None.

    Args:
        peer: `llama.cpp` or `transformers`.
        parameters: weights of the model.
    """
    missing = [package for package in PACKAGES[peer] if importlib.util.find_spec(package) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    needed = parameters * TRANSFORMERS_BYTES_A_WEIGHT
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if peer == "transformers" and needed > memory:
        return f"takes about {needed / 2**30:.0f} GiB, this machine has {memory / 2**30:.0f}"
    return None


def read(paths: Sequence[str]) -> None:
    """Read files from end to end."""
    buffer = bytearray(CHUNK)
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def forward(path: str, tokens: Sequence[int]) -> None:
    """Logits of every position by the transformer that comparisons run on, and nothing beside."""
    from rosetta.model import open_model
    from rosetta.transformer import Transformer
    from rosetta.workers import one_thread_each

    with one_thread_each():
        Transformer(open_model(path))(tokens)


def llamacpp(path: str, tokens: Sequence[int]) -> None:
    """Logits of every position."""
    import llama_cpp

    size = max(len(tokens), 16)
    model = llama_cpp.Llama(
        model_path=path, logits_all=True, n_ctx=size, n_batch=size, n_threads=os.cpu_count(), verbose=False
    )
    model.eval(list(tokens))
    assert model.scores[len(tokens) - 1].any(), "no logits"
    model.close()


def transformers(path: str, tokens: Sequence[int]) -> None:
    """Hidden states of every layer, and the logits."""
    import torch
    from transformers import AutoModelForCausalLM

    file = Path(path)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    with torch.no_grad():
        found = model(torch.tensor([list(tokens)]), output_hidden_states=True)
    assert len(found.hidden_states) == model.config.num_hidden_layers + 1, "hidden states are missing"


def main(what: str, *arguments: str) -> None:
    """Run one of them."""
    if what == "read":
        return read(arguments)
    path, tokens = arguments
    run = {"forward": forward, "llama.cpp": llamacpp, "transformers": transformers}[what]
    run(path, [int(token) for token in tokens.split(",")])


if __name__ == "__main__":
    main(*sys.argv[1:])
