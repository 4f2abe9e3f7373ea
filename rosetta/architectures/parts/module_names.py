"""What a Hugging Face folder calls the modules of an architecture, and a tensor that it lacks."""

from __future__ import annotations

import re

from rosetta.architectures.parts.architecture import Architecture
from rosetta.names import LAYER

LAYERS = "model.layers.{bid}."
# What transformers' llama calls its modules, and every architecture that does not say otherwise.
USUAL = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    LAYERS + "input_layernorm": "blk.{bid}.attn_norm",
    LAYERS + "self_attn.q_proj": "blk.{bid}.attn_q",
    LAYERS + "self_attn.k_proj": "blk.{bid}.attn_k",
    LAYERS + "self_attn.v_proj": "blk.{bid}.attn_v",
    LAYERS + "self_attn.o_proj": "blk.{bid}.attn_output",
    LAYERS + "self_attn.q_norm": "blk.{bid}.attn_q_norm",
    LAYERS + "self_attn.k_norm": "blk.{bid}.attn_k_norm",
    LAYERS + "post_attention_layernorm": "blk.{bid}.ffn_norm",
    LAYERS + "mlp.gate_proj": "blk.{bid}.ffn_gate",
    LAYERS + "mlp.up_proj": "blk.{bid}.ffn_up",
    LAYERS + "mlp.down_proj": "blk.{bid}.ffn_down",
    LAYERS + "mlp.gate": "blk.{bid}.ffn_gate_inp",
    LAYERS + "mlp.experts.{eid}.gate_proj": "blk.{bid}.ffn_gate_exps.{eid}",
    LAYERS + "mlp.experts.{eid}.up_proj": "blk.{bid}.ffn_up_exps.{eid}",
    LAYERS + "mlp.experts.{eid}.down_proj": "blk.{bid}.ffn_down_exps.{eid}",
}
FUSED, PART = "blk.{bid}.attn_qkv", re.compile(r"attn_[qkv]$")
_EXPERT = re.compile(r"_exps\.(\d+)\b")


def modules_of(architecture: Architecture) -> dict[str, str]:
    """Canonical stems of an architecture's modules by their names in a folder, those that it says itself first; {bid}
    stands for a layer's number, {eid} for an expert's."""
    own = architecture.huggingface.names
    return {**own, **{name: canonical for name, canonical in USUAL.items() if name not in own}}


def folder_name(architecture: Architecture, canonical: str) -> str | None:
    """What a folder calls a weight; None where that is not known.

    Args:
        architecture: of the model.
        canonical: the weight's name.
    """
    found, expert = LAYER.match(canonical), _EXPERT.search(canonical)
    general = _EXPERT.sub("_exps.{eid}", f"blk.{{bid}}.{found[2]}" if found else canonical)
    numbers = {"bid": found[1] if found else "", "eid": expert[1] if expert else ""}
    for name, whole in architecture.huggingface.parameters.items():
        if whole == general:
            return name.format(**numbers)
    stem, _, suffix = general.rpartition(".")
    if FUSED in architecture.huggingface.names.values():
        stem = PART.sub("attn_qkv", stem)
    for name, whole in modules_of(architecture).items():
        if whole == stem:
            named = re.sub(r"^model\.", architecture.huggingface.text_names, name)
            return f"{named.format(**numbers)}.{suffix}"
    return None
