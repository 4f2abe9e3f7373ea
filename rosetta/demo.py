"""A small pair of files to try rosetta on: a whole llama of random weights, and a copy with one fault planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.containers import open_container
from rosetta.containers.container import TensorInput
from rosetta.containers.gguf.writer import write_gguf
from rosetta.errors import RosettaError, UsageError
from rosetta.tokenizer.byte_alphabet import spelt

LAYERS, WIDTH, HEADS, KV_HEADS, FEED_FORWARD = 4, 64, 4, 2, 160
SEED = 1
NAME, MODEL = "rosetta demo", "model.gguf"
MERGES = ("Ġ t", "h e", "Ġt he", "i n", "r e")

Weights = dict[str, NDArray[np.float32]]
Settings = dict[str, Any]


@dataclass(frozen=True)
class DemoFault:
    """A mistake that converters make.

    Args:
        says: what was done wrong, in a clause.
        kind: the finding that it should be.
        plant: changes weights and settings in place.
    """

    says: str
    kind: str
    plant: Callable[[Weights, Settings], None]


def _transposed(weights: Weights, _: Settings) -> None:
    weights["blk.1.attn_k.weight"] = weights["blk.1.attn_k.weight"].T.copy()


def _scaled(weights: Weights, _: Settings) -> None:
    weights["blk.2.ffn_down.weight"] = weights["blk.2.ffn_down.weight"] * np.float32(0.5)


def _swapped(weights: Weights, _: Settings) -> None:
    gate, up = "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"
    weights[gate], weights[up] = weights[up], weights[gate]


def _epsilon(_: Weights, settings: Settings) -> None:
    settings["llama.attention.layer_norm_rms_epsilon"] = 1e-2


def _theta(_: Weights, settings: Settings) -> None:
    settings["llama.rope.freq_base"] = 500000.0


FAULTS: Mapping[str, DemoFault] = {
    "transposed": DemoFault("the keys of layer 1 are stored transposed", "layout.transposed", _transposed),
    "scaled": DemoFault("a matrix of layer 2 is halved", "value.scaled", _scaled),
    "swapped": DemoFault("gate and up of layer 1 are exchanged", "value.swapped", _swapped),
    "epsilon": DemoFault("the epsilon of every norm is another", "config.norm_epsilon", _epsilon),
    "theta": DemoFault("the base of the rotary angles is another", "config.rope_theta", _theta),
}


def write_demo(folder: Path, fault: str = "transposed") -> tuple[Path, Path]:
    """Write a pair of files.

    Args:
        folder: where to; it is made where there is none.
        fault: what is wrong with the second, a name of `FAULTS`.

    Returns:
        The whole file and the broken one.

    Raises:
        UsageError: there is no such fault, or the folder cannot be made or holds something else.
    """
    if fault not in FAULTS:
        raise UsageError(f"there is no demo of {fault!r:.40}", remedy=f"there are {', '.join(FAULTS)}")
    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder / MODEL):
        raise UsageError("is not empty, and no demo", file=folder, remedy="name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError("the folder cannot be made", file=folder, remedy="name another one") from error
    whole, broken = folder / MODEL, folder / "broken.gguf"
    weights, settings = _weights(), _settings()
    write_gguf(whole, settings, _encoded(weights))
    FAULTS[fault].plant(weights, settings)
    write_gguf(broken, settings, _encoded(weights))
    return whole, broken


def _is_ours(path: Path) -> bool:
    """Whether a demo wrote a file, so that another may replace it."""
    try:
        return open_container(path).metadata.get("general.name") == NAME
    except RosettaError:
        return False


def _settings() -> Settings:
    """Keys of GGUF, with a tokenizer that has a token for every byte and a few merges."""
    alphabet = [spelt(bytes([byte])) for byte in range(256)]
    tokens = [*alphabet, *(merge.replace(" ", "") for merge in MERGES), "<|end|>"]
    return {
        "general.architecture": "llama",
        "general.name": NAME,
        "llama.block_count": LAYERS,
        "llama.context_length": 512,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": FEED_FORWARD,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 1)
        + [3],  # llama.cpp, llama_token_type: normal, control
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
        "tokenizer.ggml.add_bos_token": False,
    }


def _weights() -> Weights:
    """Random weights whose outputs are about as large as their inputs; norms close to 1."""
    random = np.random.default_rng(SEED)
    vocabulary, kv = len(_settings()["tokenizer.ggml.tokens"]), WIDTH // HEADS * KV_HEADS

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return random.standard_normal((rows, columns), np.float32) / np.float32(columns**0.5)

    def norm() -> NDArray[np.float32]:
        return np.float32(1) + np.float32(0.1) * random.standard_normal(WIDTH, np.float32)

    weights = {"token_embd.weight": matrix(vocabulary, WIDTH) * np.float32(4)}
    for n in range(LAYERS):
        shapes = {
            "attn_q": (WIDTH, WIDTH), "attn_k": (kv, WIDTH), "attn_v": (kv, WIDTH), "attn_output": (WIDTH, WIDTH),
            "ffn_gate": (FEED_FORWARD, WIDTH), "ffn_up": (FEED_FORWARD, WIDTH), "ffn_down": (WIDTH, FEED_FORWARD),
        }  # fmt: skip
        weights |= {f"blk.{n}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        weights |= {f"blk.{n}.{name}.weight": norm() for name in ("attn_norm", "ffn_norm")}
    return weights | {"output_norm.weight": norm(), "output.weight": matrix(vocabulary, WIDTH)}


def _encoded(weights: Weights) -> Iterator[TensorInput]:
    """Matrices in F16, norms in F32, as converters write them."""
    for name, values in weights.items():
        dtype, kind = ("F16", np.float16) if values.ndim == 2 else ("F32", np.float32)
        yield TensorInput(
            name, dtype, values.shape, np.ascontiguousarray(values, kind).reshape(-1).view(np.uint8)
        )
