"""Canonical names of the parameters of a live transformers module.

gguf-py's tables know the names of files. A module's own differ where transformers stacks experts or renames on
loading; a table of last resort gives those by how they end.
"""

from __future__ import annotations

import re
from functools import lru_cache

import gguf

from rosetta.architectures import find_architecture
from rosetta.names import within_text_part

LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")
SUFFIXES = (".weight", ".bias", "_bias")

# how a parameter's name ends, its layer taken off -> canonical stem; the first that fits
ENDINGS: tuple[tuple[str, str], ...] = (
    ("experts.gate_up_proj", "ffn_gate_up_exps"),
    ("experts.gate_proj", "ffn_gate_exps"),
    ("experts.up_proj", "ffn_up_exps"),
    ("experts.down_proj", "ffn_down_exps"),
    ("shared_expert_gate", "ffn_gate_inp_shexp"),
    ("shared_expert.gate_proj", "ffn_gate_shexp"),
    ("shared_expert.up_proj", "ffn_up_shexp"),
    ("shared_expert.down_proj", "ffn_down_shexp"),
    ("shared_experts.gate_proj", "ffn_gate_shexp"),
    ("shared_experts.up_proj", "ffn_up_shexp"),
    ("shared_experts.down_proj", "ffn_down_shexp"),
    ("shared_mlp.gate_proj", "ffn_gate_shexp"),
    ("shared_mlp.up_proj", "ffn_up_shexp"),
    ("shared_mlp.down_proj", "ffn_down_shexp"),
    ("shared_mlp.input_linear", "ffn_up_shexp"),
    ("shared_mlp.output_linear", "ffn_down_shexp"),
    ("mlp.gate.e_score_correction", "exp_probs_b"),
    ("gate.e_score_correction", "exp_probs_b"),
    ("router.e_score_correction", "exp_probs_b"),
    ("expert", "exp_probs_b"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.text_moe.gate", "ffn_gate_inp"),
    ("mlp.gate.wg", "ffn_gate_inp"),
    ("mlp.router", "ffn_gate_inp"),
    ("mlp.router.gate", "ffn_gate_inp"),
    ("moe_statics.e_score_correction", "exp_probs_b"),
    ("fc1_latent_proj", "ffn_latent_down"),
    ("fc2_latent_proj", "ffn_latent_up"),
    ("f_a_proj", "ssm_f_a"),
    ("f_b_proj", "ssm_f_b"),
    ("router.per_expert_scale", "ffn_down_exps"),
    ("router.scale", "ffn_gate_inp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("block_sparse_moe.router.layer", "ffn_gate_inp"),
    ("block_sparse_moe.router", "ffn_gate_inp"),
    ("mixer.gate", "ffn_gate_inp"),
    ("feed_forward.router", "ffn_gate_inp"),
    ("feed_forward.gate", "ffn_gate_inp"),
    ("router.proj", "ffn_gate_inp"),
    ("router.layer", "ffn_gate_inp"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.out_proj", "attn_output"),
    ("self_attn.dense", "attn_output"),
    ("q_norm", "attn_q_norm"),
    ("k_norm", "attn_k_norm"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("in_proj_qkv", "attn_qkv"),
    ("in_proj_z", "attn_gate"),
    ("in_proj_b", "ssm_beta"),
    ("in_proj_a", "ssm_alpha"),
    ("in_proj_qkvz", "ssm_in"),
    ("in_proj_ba", "ssm_ba"),
    ("conv.conv", "shortconv.conv"),
    ("conv.in_proj", "shortconv.in_proj"),
    ("conv.out_proj", "shortconv.out_proj"),
    ("linear_attn.out_proj", "ssm_out"),
    ("mamba.in_proj", "ssm_in"),
    ("mixer.in_proj", "ssm_in"),
    ("mamba.out_proj", "ssm_out"),
    ("mixer.out_proj", "ssm_out"),
    ("conv1d", "ssm_conv1d"),
    ("feed_forward.gate_proj", "ffn_gate"),
    ("feed_forward.up_proj", "ffn_up"),
    ("feed_forward.down_proj", "ffn_down"),
    ("mixer.up_proj", "ffn_up"),
    ("mixer.down_proj", "ffn_down"),
    ("mixer.q_proj", "attn_q"),
    ("mixer.k_proj", "attn_k"),
    ("mixer.v_proj", "attn_v"),
    ("mixer.o_proj", "attn_output"),
    ("mixer.norm", "ssm_norm"),
    ("mamba.norm", "ssm_norm"),
    ("linear_attn.norm", "ssm_norm"),
    ("A_log", "ssm_a"),
    ("mixer.D", "ssm_d"),
    ("mamba.D", "ssm_d"),
    ("dt_bias", "ssm_dt"),
    ("embed_tokens", "token_embd"),
    ("lm_head", "output"),
)


def gguf_architecture(model_type: str) -> str | None:
    """GGUF's name of an architecture by transformers' `model_type`; where it is not run, the one of gguf-py that is
    spelled alike, or None."""
    run = find_architecture(model_type)
    if run is not None:
        return run.gguf
    known = {_plain(name): name for name in gguf.MODEL_ARCH_NAMES.values()}
    return known.get(_plain(model_type.removesuffix("_text")))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def canonical_weight(name: str, architecture: str | None) -> str:
    """The canonical name of a parameter; one that no table knows keeps its own, under its layer.

    Args:
        name: as `named_parameters` gives it.
        architecture: GGUF's, or None.

    >>> canonical_weight("model.layers.3.self_attn.q_proj.weight", "llama")
    'blk.3.attn_q.weight'
    """
    suffix = next((s for s in SUFFIXES if name.endswith(s) and not name.endswith("dt_bias")), "")
    stem = name.removesuffix(suffix)
    kind = ".bias" if suffix.endswith("bias") else ".weight"
    stem = within_text_part(stem)
    layer = LAYER.search("." + stem + ".")
    if layer is None:
        outer, _ = _tables(architecture)
        spellings = (stem, "model." + stem, stem.removeprefix("transformer."))
        found = next((outer[name] for name in spellings if name in outer), None) or _by_ending(stem)
        return (found or stem) + kind
    number = layer[1]
    _, inner = _tables(architecture)
    template = stem.replace(f".{number}.", ".{bid}.", 1)
    _, all_inner = _tables(None)
    found = (
        _by_ending(template)
        or _own_norms(architecture).get(template)
        or inner.get(template)
        or inner.get("model." + template)
        or all_inner.get(template)
        or all_inner.get("model." + template)
    )
    own = template.rpartition(".{bid}.")[2] or template
    return f"blk.{number}.{found or own}{kind}"


@lru_cache(maxsize=8)
def _own_norms(architecture: str | None) -> dict[str, str]:
    """Norms as an architecture's folders name them, with `{bid}` -> stem: gguf-py gives several of them one name."""
    known = find_architecture(architecture) if architecture else None
    names = known.huggingface.names if known is not None and known.huggingface is not None else {}
    return {
        own: stem.removeprefix("blk.{bid}.")
        for own, stem in names.items()
        if "{bid}" in own and stem.endswith("_norm")
    }


def _by_ending(stem: str) -> str | None:
    return next((canonical for end, canonical in ENDINGS if stem.endswith("." + end) or stem == end), None)


@lru_cache(maxsize=8)
def _tables(architecture: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """(names outside the layers -> canonical stem, names inside with `{bid}` -> stem) of one architecture or all."""
    known = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    arch = known.get(architecture or "")
    allowed = set(gguf.MODEL_TENSORS[arch]) if arch is not None else None
    outer: dict[str, str] = {}
    inner: dict[str, str] = {}
    inner_names = dict(gguf.TensorNameMap.block_mappings_cfg)
    if arch is not None:
        inner_names |= gguf.TensorNameMap.arch_block_mappings_cfg.get(arch, {})
    for names in (gguf.TensorNameMap.mappings_cfg, inner_names):
        for tensor, keys in names.items():
            if allowed is not None and tensor not in allowed:
                continue
            # Among the names of layers stand some of what all layers share.
            table = inner if "{bid}" in gguf.TENSOR_NAMES[tensor] else outer
            for key in keys:
                table.setdefault(key, gguf.TENSOR_NAMES[tensor].replace("blk.{bid}.", ""))
    return outer, inner
