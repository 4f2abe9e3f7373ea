"""A tiny llama with seeded weights in any container, clean or with one thing changed: what contracts are run on.

A contract names it instead of a file: `{specimen: gguf, dtype: F16, change: {scale: {blk.0.attn_q.weight: 2.0}}}`.
Letters: H = hidden size, D = size of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from rosetta.containers.apr.writer import write_apr
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.containers.gguf.writer import write_gguf
from rosetta.containers.huggingface.writer import CONFIG, WEIGHTS, Part, WeightFile, pack_folder, packed_json
from rosetta.containers.spool import TensorSource
from rosetta.containers.values import COUNT, NUMBER, TABLE, TEXT, TEXT_TABLE, TEXTS, Kind
from rosetta.errors import UsageError
from rosetta.tokenizer.byte_alphabet import spelt

Values = NDArray[np.float32]
LAYERS, HIDDEN, WIDTH, HEADS, KV_HEADS = 2, 64, 128, 4, 2
SIZE = HIDDEN // HEADS
SPECIAL = ("<|endoftext|>", "<|im_end|>")
# The last would take a letter from the first two, were the ranks turned round.
MERGES = ("t h", "th e", "i n", "in g", "h e")
VOCABULARY = 256 + len(MERGES) + len(SPECIAL)
_NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_KEYS = {
    # GGUF's key: .apr's, config.json's
    "block_count": ("num_layers", "num_hidden_layers"),
    "context_length": ("max_position_embeddings",) * 2,
    "embedding_length": ("hidden_size",) * 2,
    "feed_forward_length": ("intermediate_size",) * 2,
    "attention.head_count": ("num_heads", "num_attention_heads"),
    "attention.head_count_kv": ("num_kv_heads", "num_key_value_heads"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",) * 2,
    "rope.freq_base": ("rope_theta",) * 2,
    "vocab_size": ("vocab_size",) * 2,
}


@dataclass
class Specimen:
    """What is about to be written: settings under GGUF keys, weights under GGUF names in GGUF's row order.

    Args:
        labels: dtypes that tensors are said to be of instead of their own.
        turned: tensors whose dims are said the other way round.
    """

    settings: dict[str, Any]
    weights: dict[str, Values]
    tokens: list[str]
    labels: dict[str, str] = field(default_factory=dict)
    turned: set[str] = field(default_factory=set)


def write_specimen(
    folder: Path, container: str, dtype: str = "F16", change: Mapping[str, Any] | None = None
) -> Path:
    """Write it.

    Args:
        folder: where.
        container: `gguf`, `apr` or `huggingface`.
        dtype: of its matrices.
        change: what to change first, by the names of `CHANGES`.

    Raises:
        UsageError: a container or a change of no such name.
    """
    specimen = _specimen()
    for name, argument in (change or {}).items():
        if name not in CHANGES:
            raise UsageError(f"no change is called {name!r}", remedy=f"there are {', '.join(CHANGES)}")
        CHANGES[name][0](specimen, argument)
    if container not in _WRITERS:
        raise UsageError(
            f"no specimen is of container {container!r}", remedy=f"there are {', '.join(_WRITERS)}"
        )
    return _WRITERS[container](specimen, folder, dtype)


def _specimen() -> Specimen:
    rng = np.random.default_rng(20)
    tokens = [*(spelt(bytes([byte])) for byte in range(256)), *(m.replace(" ", "") for m in MERGES), *SPECIAL]

    def draw(*dims: int) -> Values:
        return (rng.standard_normal(dims) * 0.08).astype(np.float32)

    def near_one() -> Values:
        return (1 + 0.1 * rng.standard_normal(HIDDEN)).astype(np.float32)

    weights = {"token_embd.weight": draw(len(tokens), HIDDEN), "output_norm.weight": near_one()}
    weights["output.weight"] = draw(len(tokens), HIDDEN)
    for n in range(LAYERS):
        weights |= {f"blk.{n}.{stem}.weight": near_one() for stem in ("attn_norm", "ffn_norm")}
        rows = {"attn_q": HIDDEN, "attn_k": KV_HEADS * SIZE, "attn_v": KV_HEADS * SIZE, "attn_output": HIDDEN}
        weights |= {f"blk.{n}.{stem}.weight": draw(count, HIDDEN) for stem, count in rows.items()}
        weights |= {f"blk.{n}.{stem}.weight": draw(WIDTH, HIDDEN) for stem in ("ffn_gate", "ffn_up")}
        weights[f"blk.{n}.ffn_down.weight"] = draw(HIDDEN, WIDTH)
    settings = {
        "block_count": LAYERS, "context_length": 256, "embedding_length": HIDDEN, "feed_forward_length": WIDTH,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "vocab_size": len(tokens),
        "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0, "tied_embeddings": False,
    }  # fmt: skip
    return Specimen(settings, weights, tokens)


# --- changes --------------------------------------------------------------------------------------------------


def _scale(specimen: Specimen, factors: Mapping[str, float]) -> None:
    for name, factor in factors.items():
        specimen.weights[name] = specimen.weights[name] * np.float32(factor)


def _set(specimen: Specimen, values: Mapping[str, Any]) -> None:
    specimen.settings.update(values)


def _remove(specimen: Specimen, keys: list[str]) -> None:
    for key in keys:
        del specimen.settings[key]


def _transpose(specimen: Specimen, name: str) -> None:
    specimen.weights[name] = np.ascontiguousarray(specimen.weights[name].T)


def _turn_dims(specimen: Specimen, name: str) -> None:
    if name not in specimen.weights:
        raise KeyError(name)
    specimen.turned.add(name)


def _label(specimen: Specimen, labels: Mapping[str, str]) -> None:
    for name in labels.keys() - specimen.weights.keys():
        raise KeyError(name)
    specimen.labels.update(labels)


def _rope_order(specimen: Specimen, name: str) -> None:
    specimen.weights[name] = _split_half(specimen.weights[name])


def _tie(specimen: Specimen, _: Any) -> None:
    del specimen.weights["output.weight"]
    specimen.settings["tied_embeddings"] = True


def _exchange_tokens(specimen: Specimen, ids: list[int]) -> None:
    first, second = ids
    tokens = specimen.tokens
    tokens[first], tokens[second] = tokens[second], tokens[first]


def _repeat_token(specimen: Specimen, ids: list[int]) -> None:
    first, second = ids
    specimen.tokens[second] = specimen.tokens[first]


def _spoil(specimen: Specimen, name: str) -> None:
    specimen.weights[name] = specimen.weights[name].copy()
    specimen.weights[name].flat[3] = np.nan


def _is_factors(value: Any) -> bool:
    return isinstance(value, dict) and all(map(NUMBER.holds, value.values()))


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(COUNT.holds(id) and id < VOCABULARY for id in value)
    )


_FACTORS = Kind("an object of tensors and their factors", _is_factors)
_PAIR = Kind(f"a list of two ids below {VOCABULARY}", _is_pair)
_TRUE = Kind("true", lambda value: value is True)
CHANGES: Mapping[str, tuple[Callable[[Specimen, Any], None], Kind]] = {
    "scale": (_scale, _FACTORS),
    "set": (_set, TABLE),
    "remove": (_remove, TEXTS),
    "transpose": (_transpose, TEXT),
    "turn_dims": (_turn_dims, TEXT),
    "label": (_label, TEXT_TABLE),
    "rope_order": (_rope_order, TEXT),
    "tie": (_tie, _TRUE),
    "exchange_tokens": (_exchange_tokens, _PAIR),
    "repeat_token": (_repeat_token, _PAIR),
    "spoil": (_spoil, TEXT),
}
"""What may be changed, by name, and what it is told: weights multiplied, settings set or removed, a matrix or its dims
turned, a dtype's label, the order of rotary rows, the head tied, two tokens exchanged, one repeated, a NaN put in."""


# --- containers -----------------------------------------------------------------------------------------------


def _gguf(specimen: Specimen, folder: Path, dtype: str) -> Path:
    own = {"vocab_size", "tied_embeddings"}
    tokens = specimen.tokens
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        **{f"llama.{key}": value for key, value in specimen.settings.items() if key not in own},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in tokens],
        "tokenizer.ggml.merges": list(MERGES),
        **{
            f"tokenizer.ggml.{role}_token_id": tokens.index(SPECIAL[n])
            for n, role in enumerate(("bos", "eos"))
        },
    }
    path = folder / "specimen.gguf"
    write_gguf(path, metadata, [_input(specimen, name, name, dtype) for name in specimen.weights])
    return path


def _apr(specimen: Specimen, folder: Path, dtype: str) -> Path:
    metadata: dict[str, Any] = {
        "architecture": "llama",
        "rope_type": 2,
        **{_KEYS[key][0]: value for key, value in specimen.settings.items() if key in _KEYS},
        "tie_word_embeddings": specimen.settings["tied_embeddings"],
        "tokenizer.vocabulary": specimen.tokens,
        "tokenizer.merges": list(MERGES),
        "tokenizer.pre_type": "gpt-2",
        **{
            f"tokenizer.{role}_token_id": specimen.tokens.index(SPECIAL[n])
            for n, role in enumerate(("bos", "eos"))
        },
    }
    path = folder / "specimen.apr"
    write_apr(
        path,
        metadata,
        [_input(specimen, name, _foreign(name), dtype) for name in specimen.weights],
        codes="all",
    )
    return path


def _huggingface(specimen: Specimen, folder: Path, dtype: str) -> Path:
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "head_dim": SIZE,
        "tie_word_embeddings": specimen.settings["tied_embeddings"],
        **{_KEYS[key][1]: value for key, value in specimen.settings.items() if key in _KEYS},
    }
    vocab = {token: id for id, token in enumerate(specimen.tokens) if token not in SPECIAL}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": specimen.tokens.index(token), "content": token, "special": True, **flags}
            for token in SPECIAL
        ],
        "pre_tokenizer": level,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": [merge.split() for merge in MERGES]},
    }
    named = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1]}
    inputs = [_input(specimen, name, _foreign(name), dtype) for name in specimen.weights]
    sources = [
        TensorSource(TensorEntry(t.name, t.dtype, t.dims, t.data.nbytes), partial(_chunks, t.data))
        for t in inputs
    ]
    parts: dict[str, Part] = {
        CONFIG: packed_json(config),
        WEIGHTS: WeightFile(sources),
        "tokenizer.json": packed_json(tokenizer),
        "tokenizer_config.json": packed_json(named),
    }
    path = folder / "specimen-hf"
    pack_folder(path, parts)
    return path


_WRITERS = {"gguf": _gguf, "apr": _apr, "huggingface": _huggingface}


def _chunks(data: NDArray[np.uint8]) -> list[bytes]:
    return [data.tobytes()]


def _foreign(name: str) -> str:
    """Hugging Face's name of a tensor."""
    *layer, stem, suffix = name.split(".")
    prefix = f"model.layers.{layer[1]}." if layer else ""
    return f"{prefix}{_NAMES[stem]}.{suffix}"


def _input(specimen: Specimen, name: str, own: str, dtype: str) -> TensorInput:
    """A tensor as it is to be written; under a foreign name its rotary rows lie in split halves."""
    values = specimen.weights[name]
    if own != name and name.split(".")[-2] in ("attn_q", "attn_k"):
        values = _split_half(values)
    kept = "F32" if values.ndim == 1 else dtype
    data = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kept])
    dims = values.shape[::-1] if name in specimen.turned else values.shape
    raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return TensorInput(own, specimen.labels.get(name, kept), dims, raw)


def _split_half(rows: Values) -> Values:
    """Rows of q or k in GGUF's order (pairs beside each other) in split halves: `[heads · D, H]`."""
    columns = rows.shape[1]
    turned = rows.reshape(-1, SIZE // 2, 2, columns).swapaxes(1, 2)
    return np.ascontiguousarray(turned.reshape(rows.shape))
