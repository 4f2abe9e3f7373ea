"""What the values of norms and embeddings are in models, and what lies outside of it."""

from __future__ import annotations

import re

# Outside these a weight is suspicious: a shifted, mislabelled or zeroed tensor nearly always is. SmolLM2-135M has an
# embedding of std 0.14, norms of rms 0.04 to 1.8 with single weights down to 1e-5 and 61 of them; the bounds lie a
# factor of 20 and more outside. Norms of other families are larger by design (Gemma 2: some tens), and an embedding
# may have its scale multiplied in (Falcon-H1 in GGUF: 0.8).
EMBEDDING_STD = (0.005, 5.0)
NORM_RMS = (0.002, 100.0)
# GGUF's names, and those of Hugging Face's llama and GPT-2 families.
EMBEDDING = re.compile(r"(^|[._])(token_embd|position_embd|embed_tokens|embed_positions|wte|wpe)(\.weight)?$")
NORM = re.compile(r"(norm|\bln_\w+)\.weight$")


def suspicious(name: str, std: float, rms: float) -> str | None:
    """Why a tensor's values are suspicious; None where they are not.

    Args:
        name: canonical, or the file's own.
        std, rms: of its finite values.
    """
    low, high = EMBEDDING_STD
    if EMBEDDING.search(name) and not low <= std <= high:
        return f"an embedding's std is {low} to {high}, this is {std:.4g}"
    low, high = NORM_RMS
    if NORM.search(name) and not low <= rms <= high:
        return f"a norm's rms is {low} to {high:g}, this is {rms:.4g}"
    return None
