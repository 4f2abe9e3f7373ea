"""Which stage reads a tensor first, and in what order stages come: facts of the forward pass, not of the program."""

from __future__ import annotations

STAGE_OF = {
    "token_embd": "embedding",
    "position_embd": "embedding",
    "attn_norm": "attn_norm",
    "attn_qkv": "q",
    "attn_q": "q",
    "attn_q_norm": "q",
    "attn_k": "k",
    "attn_k_norm": "k",
    "attn_v": "v",
    "rope_freqs": "layers.0.q_rope",
    "attn_output": "attn_out",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "ffn_gate",
    "ffn_up": "ffn_up",
    "ffn_down": "ffn_out",
    "output_norm": "final_norm",
    "output": "logits",
}
"""Stem of a tensor's canonical name -> the stage."""

ORDER = (
    "attn_norm", "q", "k", "v", "q_rope", "k_rope", "attn_scores", "attn_context", "attn_out", "attn_residual",
    "ffn_norm", "ffn_gate", "ffn_up", "ffn_act", "ffn_out", "residual",
)  # fmt: skip


def stage_of(tensor: str) -> str:
    """The first stage that reads a tensor.

    >>> stage_of("blk.3.ffn_down.weight")
    'layers.3.ffn_out'
    """
    *block, stem, _ = tensor.split(".")
    stage = STAGE_OF[stem]
    return f"layers.{block[1]}.{stage}" if block else stage


def place(stage: str) -> tuple[int, int]:
    """A key that sorts stages as they are computed.

    >>> sorted(["logits", "layers.1.q", "layers.0.residual", "tokens", "embedding"], key=place)[1:3]
    ['embedding', 'layers.0.residual']
    """
    outside = {"tokens": (-2, 0), "embedding": (-1, 0), "final_norm": (1 << 30, 0), "logits": (1 << 30, 1)}
    if stage in outside:
        return outside[stage]
    _, layer, op = stage.split(".")
    return int(layer), ORDER.index(op)
