"""Canonical (GGUF) tensor names from whatever names a file uses, by gguf-py's own tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import gguf
from gguf.tensor_mapping import TensorNameMap

if TYPE_CHECKING:
    from rosetta.architectures import Architecture  # imports torch, which a look at names needs not

# Spellings of `.apr` writers that gguf-py's tables lack (aprender, tensor_expectation.rs).
ALIASES = {
    "model.position_embedding": "position_embd",
    "model.embed_positions": "position_embd",
}
BLOCK_ALIASES = {
    "self_attn.c_attn": "attn_qkv",
    "self_attn.qkv_proj": "attn_qkv",
    **{f"self_attn.to_{part}": f"attn_{part}" for part in ("q", "k", "v")},  # Cosmos, as diffusers names them
    **{f"self_attn.norm_{part}": f"attn_{part}_norm" for part in ("q", "k")},
    "self_attn.to_out": "attn_output",
    **{  # transformers 5, of what it does not save in its original form
        f"{module}.experts.{part}_proj": f"ffn_{stem}_exps"
        for module in ("mlp", "block_sparse_moe", "feed_forward", "mixer")
        for part, stem in (("gate_up", "gate_up"), ("gate", "gate"), ("up", "up"), ("down", "down"))
    },
    **{  # MLX (mlx-lm, models/switch_layers.py), which stacks all experts of a layer
        f"{module}.switch_mlp.{part}": f"ffn_{stem}_exps"
        for module in ("mlp", "block_sparse_moe", "feed_forward", "mixer")
        for part, stem in (
            ("gate_proj", "gate"),
            ("up_proj", "up"),
            ("down_proj", "down"),
            ("fc1", "up"),
            ("fc2", "down"),
        )
    },
    "block_sparse_moe.router": "ffn_gate_inp",
    **{
        f"mlp.{module}.{part}_proj": f"ffn_{part}_shexp"
        for module in ("shared_experts", "shared_expert", "shared_mlp")
        for part in ("gate", "up", "down")
    },
}
LAYER = re.compile(r"^blk\.(\d+)\.(.+)$")
FOREIGN_LAYER = re.compile(r"(?:^|\.)(?:blk|layers|h|blocks)\.(\d{1,5})\.")  # as any file may number it
STACKED = re.compile(r"\.\d+\.")  # the number of a head or an expert in what follows
ROPE_FACTORS = frozenset({"rope_freqs", "rope_factors_short", "rope_factors_long"})
# Modules of what also sees, hears or speaks, within which lies the part that reads: transformers' of today and before,
# and those of code that lies beside published weights (Qwen's Omni, MiniCPM-V, DeepSeek-VL).
_TEXT_PART = re.compile(r"\b(?:language_model|text_model|thinker|llm|language)\.")
_DOUBLED = re.compile(r"^(?:model\.){2,}")  # is left where a whole model lies within another one's `model`
# What transformers 5 makes of `layers` where it renames layers of the part that sees, and the text's with them.
_RENAMED = re.compile(r"^(?:model\.)?(?:encoder\.layers|blocks)\.(?=\d)")
EXPERT = re.compile(r"\.experts\.(\d{1,5})\.")
COMPUTED = ".rotary_emb.inv_freq"  # a buffer of old checkpoints, of what the settings say
OWN_BIAS = "_bias"  # of a parameter that is no module: experts.down_proj_bias, e_score_correction_bias
# Modules that wrap another and leave their name in the checkpoint: torch.compile, FSDP, DataParallel, PEFT.
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
BASE_LAYER = ".base_layer."  # peft, the module that a tuner's layer stands around
IN_FLOAT32 = "_fp32_params."  # a module of what a model keeps so (Nemotron's Transcribe)
OUTER_WRAPPERS = ("base_model.model.", "module.")
PREFIXES = ("", "model.", "transformer.")  # some exporters strip the outermost module's name


def without_numbers(name: str) -> str:
    """What a weight is called in each layer, of all heads or experts; the name of one outside the layers as it is."""
    found = LAYER.match(name)
    return STACKED.sub(".", found[2]) if found else name


def canonical_name(name: str, architecture: Architecture, block_count: int) -> str | None:
    """The GGUF name of a tensor, or None for one that the architecture does not know."""
    wrapped = wrapper_of(name)
    if wrapped is not None:
        return canonical_name(name.replace(wrapped, "", 1), architecture, block_count)
    name = name.replace(IN_FLOAT32, "", 1)
    if name.endswith(COMPUTED):
        return None
    table, known = _tables(architecture, block_count)
    stem, dot, suffix = name.rpartition(".")
    if suffix not in ("weight", "bias"):
        stem, dot, suffix = name, "", ""  # a parameter of a module itself: A_log
        own = within_text_part(name)
        if name.endswith(OWN_BIAS) and not any(prefix + own in table for prefix in PREFIXES):
            stem, dot, suffix = name.removesuffix(OWN_BIAS), ".", "bias"
    if stem in known:
        return name
    expert = EXPERT.search(stem)
    if expert is not None:  # one of those that GGUF stacks in one tensor
        number, stem = expert[1], EXPERT.sub(".experts.", stem)
    inner = within_text_part(stem)
    spellings = (*(prefix + inner for prefix in PREFIXES), stem.removeprefix("transformer."))
    renamed = () if inner == stem else _otherwise_named(inner)
    for spelled in (*spellings, *renamed):
        found = table.get(spelled)
        if found is not None:
            return found + dot + suffix if expert is None else f"{found}.{number}.{suffix or 'weight'}"
    return None


def within_text_part(name: str) -> str:
    """A tensor's name without the modules around the part that reads, where there are any.

    >>> within_text_part("model.language_model.layers.0.input_layernorm.weight")
    'model.layers.0.input_layernorm.weight'
    """
    inner = _TEXT_PART.sub("", name)
    return name if inner == name else _DOUBLED.sub("model.", inner)


def _otherwise_named(inner: str) -> tuple[str, ...]:
    """What else a name of the part that reads may be spelled like: its layers by their usual name, a model of mixers by
    its own (`backbone`), a head that lies beside the model without it."""
    own = inner.removeprefix("model.")
    return _RENAMED.sub("model.layers.", inner), f"backbone.{own}", own


def wrapper_of(name: str) -> str | None:
    """The name of a wrapping module in a tensor's name, with its dot; None where there is none."""
    found = next((wrapper for wrapper in WRAPPERS if wrapper in name), None)
    return found or next((wrapper for wrapper in OUTER_WRAPPERS if name.startswith(wrapper)), None)


def canonical_names(
    names: Iterable[str], architecture: Architecture, block_count: int
) -> dict[str, str | None]:
    """File name -> canonical name (None: unknown), for all of a container's tensors.

    Where nearly all names are unknown because some module of any name wraps the model, they are known without its name.
    """
    given = [*names]
    prefix, around = shared_prefix(given, architecture, block_count), emptied_tuner(given)
    return {
        name: canonical_name(name.removeprefix(prefix).replace(around, ".", 1), architecture, block_count)
        for name in given
    }


def emptied_tuner(names: Iterable[str]) -> str:
    """`.base_layer.`, which peft leaves in the names of adapted weights, where nothing of an adapter is beside them; a
    dot, which stands for nothing, elsewhere.

    >>> emptied_tuner(["layers.0.q_proj.base_layer.weight", "layers.0.k_proj.weight"])
    '.base_layer.'
    >>> emptied_tuner(["layers.0.q_proj.base_layer.weight", "layers.0.q_proj.lora_A.default.weight"])
    '.'
    """
    given = [*names]
    modules = {name.partition(BASE_LAYER)[0] for name in given if BASE_LAYER in name}
    beside = (name for name in given if BASE_LAYER not in name)
    adapted = any(name[: dot.start()] in modules for name in beside for dot in re.finditer(r"\.", name))
    return BASE_LAYER if modules and not adapted else "."


def shared_prefix(names: Iterable[str], architecture: Architecture, block_count: int) -> str:
    """What all names begin with, with its dot, where hardly any is known with it and most are without: a trainer's
    `policy.`, a second `model.`; empty where there is nothing of the kind."""
    given = [*names]

    def known(prefix: str) -> int:
        return sum(
            canonical_name(n.removeprefix(prefix), architecture, block_count) is not None for n in given
        )

    first, last = (min(given), max(given)) if len(given) > 1 else ("", "")  # what these share, all do
    alike = next(
        (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    prefixes = [first[: place + 1] for place in range(alike) if first[place] == "."]
    if not prefixes or 2 * known("") > len(given):
        return ""
    best = max(prefixes, key=known)
    return best if 2 * known(best) > len(given) else ""


@lru_cache(maxsize=8)
def _tables(own: Architecture, block_count: int) -> tuple[dict[str, str], frozenset[str]]:
    """(foreign stem -> GGUF stem, all GGUF stems). Llama's table fills what the architecture's own lacks,
    because `.apr` files give every architecture llama's Hugging Face names."""
    by_name = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    table = {} if own.gguf in by_name and own.runs else _of_any_architecture(block_count)
    for architecture in ("llama", own.gguf):
        if architecture not in by_name:
            continue
        mapping = gguf.get_tensor_name_map(by_name[architecture], block_count).mapping
        table |= {foreign: canonical for foreign, (_, canonical) in mapping.items()}
    table |= ALIASES
    for layer in range(block_count):
        table |= {
            f"model.layers.{layer}.{alias}": f"blk.{layer}.{name}" for alias, name in BLOCK_ALIASES.items()
        }
        for name, found in {**own.huggingface.names, **own.huggingface.parameters}.items():
            plain = name.replace("{eid}.", ""), found.replace(".{eid}", "")
            table[plain[0].format(bid=layer)] = plain[1].format(bid=layer)
    return table, frozenset(table.values()) | ROPE_FACTORS


def _of_any_architecture(block_count: int) -> dict[str, str]:
    """What names mean in any architecture, for one that gguf-py has no table of yet: of the first that has it."""
    table: dict[str, str] = {}
    for tensor, foreign in TensorNameMap.block_mappings_cfg.items():
        canonical = gguf.TENSOR_NAMES[tensor]
        for layer in range(block_count):
            own = canonical.format(bid=layer)
            table.setdefault(own, own)
            for name in foreign:
                table.setdefault(name.format(bid=layer), own)
    return table
