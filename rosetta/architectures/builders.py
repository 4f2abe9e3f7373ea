"""What architectures are composed of: attention, feed-forward networks, and how a layer puts them together.

A block is given the name of the stage that it reads, and lists its stages; the last one is its result. Sizes are
config keys, or products of several.
"""

from __future__ import annotations

from collections.abc import Callable

from rosetta.graph import TOKENS, Stage
from rosetta.ops.attention import Context, Scores
from rosetta.ops.linear import Linear
from rosetta.ops.lookup import Embedding
from rosetta.ops.op import Op, chain
from rosetta.ops.pointwise import Activation, Add
from rosetta.ops.rotary import Rotary

Block = Callable[[str], list[Stage]]
"""Name of the stage that is read -> the block's stages."""

HIDDEN = "embedding_length"
HEADS, KV_HEADS = "attention.head_count", "attention.head_count_kv"
KEY, VALUE = "attention.key_length", "attention.value_length"
FEED_FORWARD = "feed_forward_length"


def attention(*, norm: Op, rope: Rotary | None, head_norm: Callable[[str], Op] | None = None) -> Block:
    """Attention of queries, keys and values projected by matrices of their own.

    Args:
        norm: of the input.
        rope: turns queries and keys; None: nothing does.
        head_norm: stem of a norm's name -> the norm over each head of queries or keys; None: there is none.
    """

    def block(x: str) -> list[Stage]:
        turned = [] if rope is None else [Stage(f"{part}_rope", rope, (part,)) for part in ("q", "k")]
        queries, keys = ("q", "k") if rope is None else ("q_rope", "k_rope")
        return [
            Stage("attn_norm", norm, (x,)),
            *(
                Stage(
                    part,
                    chain(
                        Linear(f"attn_{part}", rows=(heads, length), columns=HIDDEN, heads=heads),
                        None if head_norm is None or part == "v" else head_norm(f"attn_{part}_norm"),
                    ),
                    ("attn_norm",),
                )
                for part, heads, length in (("q", HEADS, KEY), ("k", KV_HEADS, KEY), ("v", KV_HEADS, VALUE))
            ),
            *turned,
            Stage("attn_scores", Scores(), (queries, keys)),
            Stage("attn_context", Context(), ("attn_scores", "v")),
            Stage("attn_out", Linear("attn_output", rows=HIDDEN, columns=(HEADS, VALUE)), ("attn_context",)),
        ]

    return block


def feed_forward(*, norm: Op, gated: bool = True) -> Block:
    """act(gate(x)) · up(x), or act(up(x)), and the projection back."""

    def block(x: str) -> list[Stage]:
        up = [
            Stage(f"ffn_{part}", Linear(f"ffn_{part}", rows=FEED_FORWARD, columns=HIDDEN), ("ffn_norm",))
            for part in (("gate", "up") if gated else ("up",))
        ]
        return [
            Stage("ffn_norm", norm, (x,)),
            *up,
            Stage("ffn_act", Activation(), tuple(stage.name for stage in up)),
            Stage("ffn_out", Linear("ffn_down", rows=HIDDEN, columns=FEED_FORWARD), ("ffn_act",)),
        ]

    return block


def sequential(x: str, mixer: Block, network: Block) -> list[Stage]:
    """A layer of two blocks one after the other, each added to what it reads."""
    first, second = mixer(x), network("attn_residual")
    return [
        *first,
        Stage("attn_residual", Add(), (x, first[-1].name)),
        *second,
        Stage("residual", Add(), ("attn_residual", second[-1].name)),
    ]


def embedding(*, positions: bool = False) -> list[Stage]:
    """The rows of the tokens, and of their positions where the model learned some."""
    return [Stage("embedding", Embedding(positions="position_embd" if positions else None), (TOKENS,))]


def head(x: str, *, norm: Op) -> list[Stage]:
    """The final norm, and the logits."""
    return [
        Stage("final_norm", norm, (x,)),
        Stage("logits", Linear("output", rows="vocab_size", columns=HIDDEN), ("final_norm",)),
    ]


def output_of(layer: int) -> str:
    """The stage that the layer behind `layer` reads: its residual, or the embedding."""
    return "embedding" if layer < 0 else f"layers.{layer}.residual"
