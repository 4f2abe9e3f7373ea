"""The tensors that a GGUF file of an architecture has: gguf-py's table of them, less what a fused one replaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import gguf

from rosetta.architectures import Architecture
from rosetta.convert.placing import Candidate
from rosetta.model import FACTORS, Model
from rosetta.names import LAYER
from rosetta.weight import Weight

# What llama.cpp keeps in float32 whatever the file's type (conversion/base.py, prepare_tensors).
ALWAYS_FLOAT32 = frozenset(
    {
        "ffn_gate_inp", "ffn_gate_inp_shexp", "position_embd", "ssm_conv1d", "shortconv.conv", "altup_correct_coef",
        "altup_predict_coef", "ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v", "indexer.proj",
        "indexer.q_proj", "indexer.k_proj",
    }
)  # fmt: skip
# Tensors that keep the form in which the source has them where an architecture's table has both: llama.cpp's graphs
# read either. Of an architecture without a table they are parted, which every graph reads.
EITHER_WAY = ("attn_qkv.weight", "attn_qkv.bias", "ffn_gate_up_exps.weight")


def gguf_candidates(model: Model, weights: Mapping[str, Weight]) -> Iterator[Candidate]:
    """Tensors that a GGUF file may keep the weights in, those that are preferred first.

    Args:
        model: whose weights they are.
        weights: those to be written, by canonical name.
    """
    known = _stems(model.architecture.gguf)
    layers: dict[str, dict[str, None]] = {}
    for name in weights:
        found = LAYER.match(name)
        prefix = f"blk.{found[1]}." if found else ""
        layers.setdefault(prefix, {})[found[2] if found else name] = None
    for prefix, names in layers.items():
        held = {(weights[prefix + name].fused or "").removesuffix(".weight") for name in names}
        kept = [name for name in EITHER_WAY if prefix + name.removesuffix(".weight") in held]
        whole = dict.fromkeys(_whole(name) for name in names)
        first = list(model.architecture.llamacpp.bare) if prefix else []
        first += [name for name in kept if known is not None and _stem(name) in known]
        plain = [name for name in whole if known is None or _stem(name) in known or prefix + name in FACTORS]
        rest = sorted(known or ())
        other = [
            f"{stem}.{suffix}"
            for stem in rest
            for suffix in ("weight", "bias")
            if f"{stem}.{suffix}" not in whole
        ]
        last = [name for name in whole if name not in plain]
        for name in dict.fromkeys([*first, *plain, *other, *last]):
            yield Candidate(prefix + name, prefix + name)


def has_tensor(architecture: Architecture, stem: str) -> bool:
    """Whether GGUF files of an architecture may have a tensor of that stem: any where gguf-py has no table of it."""
    known = _stems(architecture.gguf)
    return known is None or stem in known


def always_float32(name: str, dims: tuple[int, ...]) -> bool:
    """Whether llama.cpp wants a tensor in float32, whatever the others are in."""
    found = LAYER.match(name)
    inner = found[2] if found else name
    flat = len(dims) < 2 or inner.endswith("_norm.weight") or not inner.endswith(".weight")
    return flat or _stem(inner) in ALWAYS_FLOAT32


def _whole(name: str) -> str:
    """The stacked tensor of an expert's matrix: `ffn_up_exps.weight` of `ffn_up_exps.3.weight`."""
    stem, _, suffix = name.rpartition(".")
    outer, _, number = stem.rpartition(".")
    return f"{outer}.{suffix}" if number.isdecimal() and outer else name


def _stem(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return stem if suffix in ("weight", "bias", "scale") and stem else name


def _stems(architecture: str) -> frozenset[str] | None:
    """The stems of the architecture's tensors, without the layer; None where gguf-py has no table of it."""
    found = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}.get(architecture)
    if found is None:
        return None
    return frozenset(
        gguf.TENSOR_NAMES[tensor].removeprefix("blk.{bid}.") for tensor in gguf.MODEL_TENSORS[found]
    )
