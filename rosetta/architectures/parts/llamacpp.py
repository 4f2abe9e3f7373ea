"""What llama.cpp does of an architecture that it does not do of every one: its loader, its graph and its converter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rosetta.architectures.parts import factors
from rosetta.architectures.parts.gguf_counts import Counts, Refused
from rosetta.architectures.parts.llamacpp_keys import OF_SOME

__all__ = ["LlamaCpp"]


@dataclass(frozen=True)
class LlamaCpp:
    """An architecture in GGUF files and in llama.cpp, as data. Source: llama.cpp, src/models/*.cpp.

    Args:
        reads: keys that it asks for of this architecture, of those that it does not ask for of every one
            (`llamacpp_keys.py`).
        unread: keys that it asks for too, and does not compute by.
        keys: keys that its loader asks for, and neither the forward pass nor a folder's config says -> what they say,
            of the canonical settings.
        sight: keys that it reads for the part that sees, and that say nothing to a text -> what they say, of a folder's
            whole config.json (None: nothing).
        vectors: stems of vectors that each layer has in a GGUF in place of a setting that has no key there -> that
            setting's canonical key, and what they hold, of the canonical settings.
        placeholders: stems of tensors that it asks for in each layer, also in those that do not compute by them ->
            their dims, of a layer's settings: zeros are written where a model has none.
        bare: stems of a layer's tensors that it asks for without a suffix.
        padded: stems of a layer's matrices that it asks for with a dim of one between rows and columns.
        factors: stems of matrices that it multiplies with the factor that a file keeps beside them; that of any other
            it loads and leaves alone.
        idle: tensors, without the layer, that it loads of such a file and does not compute by.
        instead: tensors, without the layer, that it reads where a file has them -> the one that it leaves alone then.
        windows: what it does in layers with a window to a rotation that a file scales: divides its frequencies by the
            factor whatever the type is (`stretched`, `rope_freq_scale_train_swa = rope_freq_scale_train`), or
            multiplies what is turned by the factor of attention and no more (`grown`); empty: the same as in the other
            layers, or nothing.
        keeps_heads: whether its cache keeps the keys and values of all heads where these are made of a latent.
        drops_one_expert: whether it counts a single expert as none.
        scales_queries: whether its graph multiplies queries, and not scores, by the scale of attention.
        tiles_heads: whether a GGUF has the value heads of linear attention that share a key apart, one a key
            (conversion/qwen.py).
        refuses: counts that do not go with each other in its eyes, beside those of every architecture
            (`gguf_counts.py`).
    """

    reads: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    keys: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict, hash=False)
    sight: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict, hash=False)
    vectors: Mapping[str, tuple[str, Callable[[Any], list[float]]]] = field(default_factory=dict, hash=False)
    placeholders: Mapping[str, Callable[[Any], tuple[int, ...]]] = field(default_factory=dict, hash=False)
    bare: tuple[str, ...] = ()
    padded: tuple[str, ...] = ()
    factors: frozenset[str] = factors.ATTENTION
    idle: frozenset[str] = frozenset()
    instead: Mapping[str, str] = field(default_factory=dict, hash=False)
    windows: Literal["", "stretched", "grown"] = ""
    keeps_heads: bool = False
    drops_one_expert: bool = False
    scales_queries: bool = False
    tiles_heads: bool = False
    refuses: Callable[[Counts], Iterable[Refused]] = lambda counts: ()

    def computes_by(self, key: str) -> bool:
        """Whether it reads a key of such a file, and computes by it; the key without the architecture."""
        return key not in self.unread and (key in self.reads or key not in OF_SOME)
