"""Sets of matrices beside which a GGUF may keep a factor (`blk.0.attn_q.scale`, as NVFP4 files have), see
`tensor_factors`. Which of them llama.cpp multiplies with differs from one architecture to the next."""

from __future__ import annotations

ATTENTION = frozenset(("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output"))
NETWORK = frozenset(("ffn_gate", "ffn_up", "ffn_down"))
EXPERTS = frozenset(f"{stem}_exps" for stem in NETWORK)
SHARED = frozenset(f"{stem}_shexp" for stem in NETWORK)
STATE = frozenset(("ssm_in", "ssm_out"))
DELTA = frozenset(("attn_gate", "ssm_out", "ssm_alpha", "ssm_beta"))
