"""Writes the files that are timed: one model of random quantised blocks as `.apr` and as GGUF, a tensor at a time.

Nothing is trained and nothing is quantised: the blocks' bytes are drawn, and their scales make the weights' deviation
that of a fresh model. A file of gigabytes takes seconds, and memory for its largest tensor.
"""

from __future__ import annotations

import math
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.bench.speed_shapes import PlannedTensor, Shape
from rosetta.containers.apr.writer import write_apr
from rosetta.containers.container import TensorInput
from rosetta.containers.gguf.writer import write_gguf
from rosetta.errors import UsageError
from rosetta.tokenizer.byte_alphabet import spelt

HF_STEMS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LONGEST = 24  # characters of a drawn token
NORMAL, CONTROL = 1, 3  # gguf-py, TokenType
FAULT_SCALE = 2.0  # exact in half precision, so that nothing but the scale differs
SEED = 0
Q4_K_M, MOSTLY_BF16 = 15, 32  # llama.h, LLAMA_FTYPE_MOSTLY_Q4_K_M and _BF16
DRAWN_BLOCKS = 1 << 14  # of 256 weights, at a time

# Deviation of a weight whose block has random bytes and a scale of 1. Q4_K: scale × quant − minimum × 7.5, scale
# and minimum uniform in 0 … 63, quant in 0 … 15; Q6_K: scale uniform in −128 … 127 times quant in −32 … 31.
Q4_K_DEVIATION, Q4_K_CENTRE = 258.3, 7.5
Q6_K_DEVIATION = 1365.7


@dataclass(frozen=True)
class Pair:
    """Two files of one model."""

    apr: Path
    gguf: Path


def write_pair(shape: Shape, folder: Path) -> Pair:
    """Write the model as `.apr` and as GGUF.

    Args:
        shape: of the model.
        folder: where.

    Raises:
        UsageError: the disk has no room.
    """
    refuse_without_room(shape, folder, files=3)
    pair = Pair(folder / f"{shape.name}.apr", folder / f"{shape.name}.gguf")
    pieces, merges = vocabulary(shape.vocabulary)
    write_gguf(pair.gguf, _gguf_metadata(shape, pieces, merges), _inputs(shape))
    write_apr(pair.apr, _apr_metadata(shape, pieces, merges), _inputs(shape, huggingface=True))
    return pair


def write_faulty(shape: Shape, folder: Path, layer: int) -> Path:
    """Write the `.apr` again with the scales of one layer's keys doubled.

    Args:
        shape: of the model.
        folder: where.
        layer: the broken one.

    Raises:
        UsageError: the disk has no room.
    """
    refuse_without_room(shape, folder, files=2)
    path = folder / f"{shape.name}-fault-{layer}.apr"
    metadata = _apr_metadata(shape, *vocabulary(shape.vocabulary))
    write_apr(path, metadata, _inputs(shape, huggingface=True, doubled=fault_tensor(layer)))
    return path


def write_unquantised(shape: Shape, folder: Path) -> Path:
    """Write a BF16 model as GGUF whose quantisation the pair might be: its weights lie within their steps.

    Args:
        shape: of the model.
        folder: where.

    Raises:
        UsageError: the disk has no room.
    """
    refuse_without_room(shape, folder, files=2 * math.ceil(2 * shape.parameters / shape.data_bytes))
    path = folder / f"{shape.name}-bf16.gguf"
    metadata = _gguf_metadata(shape, *vocabulary(shape.vocabulary))
    inputs = (
        tensor
        if tensor.dtype == "F32"
        else TensorInput(tensor.name, "BF16", tensor.dims, unquantised(tensor))
        for tensor in _inputs(shape)
    )
    write_gguf(path, metadata | {"general.file_type": MOSTLY_BF16}, inputs)
    return path


def unquantised(tensor: TensorInput) -> NDArray[np.uint8]:
    """BF16 bytes of weights that rounding might have made of a quantised tensor: each is off by a number drawn evenly
    from its step."""
    rng = torch.Generator().manual_seed(SEED)
    size = blocks.block_format(tensor.dtype).type_size
    parts = []
    for raw in torch.split(torch.from_numpy(tensor.data.reshape(-1, size)), DRAWN_BLOCKS):
        dims = (len(raw), blocks.block_format(tensor.dtype).block_size)
        values, sigma = (read(tensor.dtype, raw.flatten(), dims) for read in (blocks.decode, blocks.sigma))
        values += (torch.rand(dims, generator=rng) - 0.5) * math.sqrt(12) * sigma
        parts.append(values.bfloat16().view(torch.uint8).flatten().numpy())
    return np.concatenate(parts)


def fault_tensor(layer: int) -> str:
    """The tensor that `write_faulty` breaks, under its canonical name."""
    return f"blk.{layer}.attn_k.weight"


def refuse_without_room(shape: Shape, folder: Path, files: int) -> None:
    """Raise where the disk has no room for so many files of this shape; a file being written takes twice its size."""
    needed = files * (shape.data_bytes + 64 * shape.vocabulary)  # 64 bytes a token: its text and its merge
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"{needed / 2**30:.1f} GiB are needed for the files of {shape.name}, {free / 2**30:.1f} are free",
            file=folder,
            remedy="choose another place with --folder, or a smaller --shape",
        )


def vocabulary(size: int) -> tuple[list[str], list[str]]:
    """Tokens of a byte-level BPE and the merges that make them, drawn at random.

    Returns:
        (tokens, merges): the bytes, then one token a merge, then the special ones.
    """
    rng = np.random.default_rng(SEED)
    alphabet = [spelt(bytes((byte,))) for byte in range(256)]
    tokens, merges = list(alphabet), list[str]()
    known = set(tokens)
    wanted = size - len(SPECIAL)
    while len(tokens) < wanted:
        for start, end in zip(rng.random(size).tolist(), rng.integers(0, 256, size).tolist(), strict=True):
            left, right = tokens[int(start * len(tokens))], alphabet[end]
            if left + right not in known and len(left) < LONGEST and len(tokens) < wanted:
                tokens.append(left + right)
                known.add(left + right)
                merges.append(f"{left} {right}")
    return [*tokens, *SPECIAL], merges


def _inputs(shape: Shape, huggingface: bool = False, doubled: str | None = None) -> Iterator[TensorInput]:
    for tensor in shape.tensors:
        name = huggingface_name(tensor.name) if huggingface else tensor.name
        times = FAULT_SCALE if tensor.name == doubled else 1.0
        yield TensorInput(name, tensor.dtype, tensor.dims, drawn(tensor, times / math.sqrt(shape.hidden)))


def drawn(tensor: PlannedTensor, deviation: float) -> NDArray[np.uint8]:
    """A tensor's bytes, the same whenever its name is the same.

    Args:
        tensor: what to draw.
        deviation: standard deviation of a matrix's weights; norms lie around 1, biases around 0.
    """
    rng = np.random.default_rng((SEED, zlib.crc32(tensor.name.encode())))
    count = math.prod(tensor.dims)
    if tensor.dtype == "F32":
        centre = 1.0 if "norm" in tensor.name else 0.0
        return (centre + 0.1 * rng.standard_normal(count, dtype=np.float32)).view(np.uint8)
    if tensor.dtype == "Q4_K":  # ggml-common.h, block_q4_K: d, dmin, scales[12], qs[128]
        blocks = rng.integers(0, 256, (count // 256, 144), dtype=np.uint8)
        scale = deviation / Q4_K_DEVIATION
        blocks[:, 0:4] = np.array([scale, Q4_K_CENTRE * scale], np.float16).view(np.uint8)
        return blocks
    assert tensor.dtype == "Q6_K", tensor.dtype  # ggml-common.h, block_q6_K: ql[128], qh[64], scales[16], d
    blocks = rng.integers(0, 256, (count // 256, 210), dtype=np.uint8)
    blocks[:, 208:210] = np.array([deviation / Q6_K_DEVIATION], np.float16).view(np.uint8)
    return blocks


def huggingface_name(name: str) -> str:
    """The name that a Hugging Face folder gives a tensor.

    >>> huggingface_name("blk.3.attn_q.bias")
    'model.layers.3.self_attn.q_proj.bias'
    """
    *block, stem, suffix = name.split(".")
    return f"{f'model.layers.{block[1]}.' if block else ''}{HF_STEMS[stem]}.{suffix}"


def _gguf_metadata(shape: Shape, tokens: list[str], merges: list[str]) -> dict[str, Any]:
    own = {
        "block_count": shape.layers,
        "context_length": shape.context,
        "embedding_length": shape.hidden,
        "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.layer_norm_rms_epsilon": shape.epsilon,
        "rope.freq_base": shape.rope_theta,
        "rope.dimension_count": shape.hidden // shape.heads,
    }
    return {
        "general.architecture": shape.architecture,
        "general.name": shape.name,
        "general.file_type": Q4_K_M,
        **{f"{shape.architecture}.{key}": value for key, value in own.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": shape.pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": _types(tokens),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": tokens.index(SPECIAL[0]),
        "tokenizer.ggml.add_bos_token": False,
    }


def _apr_metadata(shape: Shape, tokens: list[str], merges: list[str]) -> dict[str, Any]:
    return {
        "architecture": shape.architecture,
        "name": shape.name,
        "num_layers": shape.layers,
        "max_position_embeddings": shape.context,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_heads": shape.heads,
        "num_kv_heads": shape.kv_heads,
        "vocab_size": shape.vocabulary,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_theta,
        "rope_type": 0 if shape.architecture == "llama" else 2,  # rows lie as in the GGUF file
        "tied_embeddings": shape.tied,
        "original_format": "gguf",
        "tokenizer.model": "gpt2",
        "tokenizer.pre_type": shape.pre,
        "tokenizer.vocabulary": tokens,
        "tokenizer.merges": merges,
        "tokenizer.token_type": _types(tokens),
        "tokenizer.eos_token_id": tokens.index(SPECIAL[0]),
        "tokenizer.add_bos_token": False,
    }


def _types(tokens: list[str]) -> list[int]:
    return [NORMAL] * (len(tokens) - len(SPECIAL)) + [CONTROL] * len(SPECIAL)
