"""The shapes of models whose comparison is timed: a row of numbers each, and the tensors that follow from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rosetta.containers.dtypes import flat_bytes
from rosetta.errors import UsageError


@dataclass(frozen=True)
class Shape:
    """A model's sizes.

    Args:
        name: what `--shape` calls it.
        architecture: `llama` or `qwen2`.
        layers, hidden, heads, kv_heads, feed_forward, vocabulary: as its config has them.
        tied: whether the head is the embedding.
        rope_theta, epsilon, context: as its config has them.
        pre: `tokenizer.ggml.pre`.
    """

    name: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    tied: bool
    rope_theta: float
    epsilon: float
    context: int
    pre: str

    @property
    def tensors(self) -> Iterator[PlannedTensor]:
        """Every tensor of the model."""
        # llama-quant.cpp: a tied embedding is quantised as the head that it also is.
        table = (self.vocabulary, self.hidden)
        yield PlannedTensor("token_embd.weight", "Q6_K" if self.tied else "Q4_K", table)
        for layer in range(self.layers):
            yield from self._layer(layer)
        yield PlannedTensor("output_norm.weight", "F32", (self.hidden,))
        if not self.tied:
            yield PlannedTensor("output.weight", "Q6_K", table)

    def _layer(self, layer: int) -> Iterator[PlannedTensor]:
        keys = self.hidden // self.heads * self.kv_heads
        fine = "Q6_K" if has_more_bits(layer, self.layers) else "Q4_K"
        prefix, biased = f"blk.{layer}.", self.architecture == "qwen2"
        yield PlannedTensor(f"{prefix}attn_norm.weight", "F32", (self.hidden,))
        for stem, dtype, rows in (("q", "Q4_K", self.hidden), ("k", "Q4_K", keys), ("v", fine, keys)):
            yield PlannedTensor(f"{prefix}attn_{stem}.weight", dtype, (rows, self.hidden))
            if biased:
                yield PlannedTensor(f"{prefix}attn_{stem}.bias", "F32", (rows,))
        yield PlannedTensor(f"{prefix}attn_output.weight", "Q4_K", (self.hidden, self.hidden))
        yield PlannedTensor(f"{prefix}ffn_norm.weight", "F32", (self.hidden,))
        for stem in ("gate", "up"):
            yield PlannedTensor(f"{prefix}ffn_{stem}.weight", "Q4_K", (self.feed_forward, self.hidden))
        yield PlannedTensor(f"{prefix}ffn_down.weight", fine, (self.hidden, self.feed_forward))

    @property
    def parameters(self) -> int:
        """Weights in all."""
        return sum(math.prod(tensor.dims) for tensor in self.tensors)

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors, without metadata."""
        return sum(flat_bytes(tensor.dtype, tensor.dims) for tensor in self.tensors)


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor to be drawn: GGUF name, dtype, row-major dims."""

    name: str
    dtype: str
    dims: tuple[int, ...]


def has_more_bits(layer: int, layers: int) -> bool:
    """Whether Q4_K_M stores a layer's values and down projection as Q6_K (llama-quant.cpp, use_more_bits)."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


_ROWS = (
    # name, architecture, layers, hidden, heads, kv, feed forward, vocabulary, tied, theta, epsilon, context, pre
    ("tiny", "qwen2", 2, 256, 4, 2, 512, 512, True, 1e6, 1e-6, 4096, "qwen2"),
    ("small", "qwen2", 8, 1024, 8, 2, 2816, 32768, True, 1e6, 1e-6, 4096, "qwen2"),
    ("qwen2.5-1.5b", "qwen2", 28, 1536, 12, 2, 8960, 151936, True, 1e6, 1e-6, 32768, "qwen2"),
    ("llama-1b", "llama", 16, 2048, 32, 8, 8192, 128256, True, 5e5, 1e-5, 8192, "llama-bpe"),
    ("llama-8b", "llama", 32, 4096, 32, 8, 14336, 128256, False, 5e5, 1e-5, 8192, "llama-bpe"),
)  # config.json of Qwen2.5, Llama 3.2 (without its rope scaling) and Llama 3; the first two are nobody's
SHAPES = {row[0]: Shape(*row) for row in _ROWS}


def shape_of(name: str) -> Shape:
    """The shape of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in SHAPES:
        raise UsageError(f"no shape '{name}'", remedy=f"there are {', '.join(SHAPES)}")
    return SHAPES[name]


@dataclass(frozen=True)
class Series:
    """What grows while everything else stays: a column of the growth tables.

    Args:
        name: what grows.
        points: (its value, the shape, tokens).
    """

    name: str
    points: tuple[tuple[int, Shape, int], ...]


def growth(base: Shape, tokens: int) -> tuple[Series, ...]:
    """Layers, prompt length and width growing from a small base."""
    layers = tuple(
        (n, replace(base, name=f"{base.name}-{n}-layers", layers=n), tokens) for n in (4, 8, 16, 32)
    )
    prompt = tuple((n, base, n) for n in (4, 32, 128, 512, 2048))
    widths = tuple((n, _wide(base, n), tokens) for n in (512, 1024, 2048))
    return Series("layers", layers), Series("tokens", prompt), Series("hidden", widths)


def _wide(base: Shape, hidden: int) -> Shape:
    """The base with another width; heads keep their size."""
    times = hidden / base.hidden
    kv = max(1, int(base.kv_heads * times))
    return replace(
        base,
        name=f"{base.name}-{hidden}-wide",
        hidden=hidden,
        heads=int(base.heads * times),
        kv_heads=kv,
        feed_forward=int(base.feed_forward * times) // 256 * 256,
    )
