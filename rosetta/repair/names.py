"""What a file would call a tensor that it lacks: as it calls that tensor's like in other layers, or by its style."""

from __future__ import annotations

from rosetta.architectures.parts.readings import QKV
from rosetta.errors import UnsupportedError
from rosetta.model import Model
from rosetta.names import FOREIGN_LAYER, LAYER, canonical_name
from rosetta.weight import Weight

# The names of the llama family, which `.apr` files give every architecture (aprender, tensor_expectation.rs), and
# GPT-2's, by the module that holds the layers; inside a layer, without what comes before.
STYLES: dict[str, dict[str, str]] = {
    "layers": {
        "token_embd": "embed_tokens",
        "position_embd": "position_embedding",
        "output_norm": "norm",
        "output": "lm_head",
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_qkv": "self_attn.qkv_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    },
    "h": {
        "token_embd": "wte",
        "position_embd": "wpe",
        "output_norm": "ln_f",
        "output": "lm_head",
        "attn_norm": "ln_1",
        "attn_qkv": "attn.c_attn",
        "attn_output": "attn.c_proj",
        "ffn_norm": "ln_2",
        "ffn_up": "mlp.c_fc",
        "ffn_down": "mlp.c_proj",
    },
}


def own_name(model: Model, name: str) -> tuple[str, str]:
    """What a model's file would call a tensor that it lacks.

    Args:
        model: as the file holds it.
        name: canonical name of a weight.

    Returns:
        The file's name, and the canonical name of the tensor so called: `attn_qkv` for a part of a fused one.

    Raises:
        UnsupportedError: no name of that style is known.
    """
    found = LAYER.match(name)
    layers = int(found[1]) + 1 if found else model.block_count
    for spelled, canonical in _like_siblings(model, name):
        if canonical_name(spelled, model.architecture, layers) == canonical:
            return spelled, canonical
    raise UnsupportedError(
        "is missing, and how this file would call it cannot be told",
        file=model.container.path,
        where=f"tensor {name}",
        remedy="export the model again",
    )


def _like_siblings(model: Model, name: str) -> list[tuple[str, str]]:
    found = LAYER.match(name)
    stem, _, suffix = name.rpartition(".")
    candidates = []
    if found:
        for other, weight in model.weights.items():
            place = LAYER.match(other)
            if place and place[2] == found[2]:  # the same tensor of another layer
                candidates.append(_renumbered(weight, name, int(found[1])))
    for other, weight in model.weights.items():
        if other.rpartition(".")[0] == stem:  # the bias of a weight
            spelled = f"{weight.entry.name.rpartition('.')[0]}.{suffix}"
            candidates.append((spelled, fused(name) if weight.part else name))
    return [*candidates, (_styled(model, name), name)]


def _renumbered(weight: Weight, name: str, layer: int) -> tuple[str, str]:
    own = weight.entry.name
    number = FOREIGN_LAYER.search(own)
    if number is not None:
        own = f"{own[: number.start(1)]}{layer}{own[number.end(1) :]}"
    return own, _fused_like(weight, name) if weight.part else name


def _fused_like(weight: Weight, name: str) -> str:
    """The fused tensor that would hold a weight, as one of another layer holds its like."""
    found, place = LAYER.match(name), LAYER.match(weight.fused or "")
    return fused(name) if found is None or place is None else f"blk.{found[1]}.{place[2]}"


def fused(name: str) -> str:
    """The fused tensor that holds a part: `blk.0.attn_qkv.bias` of `blk.0.attn_k.bias`."""
    for part in QKV:
        name = name.replace(f".{part}.", ".attn_qkv.")
    return name


def members(name: str) -> tuple[str, ...]:
    """The canonical weights that a stored tensor holds: three of a fused one."""
    if ".attn_qkv." not in name:
        return (name,)
    return tuple(name.replace(".attn_qkv.", f".{part}.") for part in QKV)


def parts_of(model: Model, name: str) -> tuple[str, ...]:
    """The canonical weights of a stored tensor that a model's file lacks, as it holds its like in another layer.

    Raises:
        UnsupportedError: it would hold stacked experts.
    """
    layer = LAYER.match(name)
    for weight in model.weights.values():
        place, of = LAYER.match(weight.fused or ""), LAYER.match(weight.name)
        if layer is None or place is None or of is None or place[2] != layer[2]:
            continue
        if weight.slot is not None:
            raise UnsupportedError(
                "holds stacked experts, and is missing",
                file=model.container.path,
                where=f"tensor {name}",
                remedy="export the model again",
            )
        like = [w.name for w in model.weights.values() if w.beside(weight)]
        return tuple(f"blk.{layer[1]}.{found[2]}" for other in like if (found := LAYER.match(other)))
    return members(name)


def _styled(model: Model, name: str) -> str:
    """The name in the style of the file's other names: GGUF's own, or a module path."""
    for own in model.container.tensors:
        layer = FOREIGN_LAYER.search(own)
        words = own[: layer.start(1)].split(".")[:-1] if layer else []
        if layer is None or words[-1] not in STYLES:
            continue
        style, found = STYLES[words[-1]], LAYER.match(name)
        stem, _, suffix = (found[2] if found else name).rpartition(".")
        if stem not in style:
            return name
        outer = words if found else ([] if stem == "output" else words[:-1])
        return ".".join([*outer, *([found[1]] if found else []), style[stem], suffix])
    return name
