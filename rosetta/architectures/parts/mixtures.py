"""Layers with experts: what most such architectures have in common, and the little that sets them apart."""

from __future__ import annotations

from typing import Any

from rosetta.architectures.parts.architecture import Architecture
from rosetta.architectures.parts.builders import (
    HEADS,
    HIDDEN,
    KEY,
    KV_HEADS,
    Block,
    attention,
    experts,
    feed_forward,
    output_of,
    rotary_of,
    scores_of,
    sequential,
)
from rosetta.graph import Stage
from rosetta.ops.chain import chain
from rosetta.ops.experts import Router
from rosetta.ops.linear import Linear
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op, Settings, Size
from rosetta.ops.pointwise import Heads

SHARED = "expert_shared_feed_forward_length"
WIDTH = "expert_feed_forward_length"


def router_of(c: Settings, **options: Any) -> Router:
    """The router of a layer, with as much as its settings speak of.

    Args:
        c: settings of the layer.
        options: fields of `Router`.
    """
    grouped = "expert_group_count" in c
    stated: dict[str, Any] = {
        "gating": "expert_gating_func",
        "normalised": "expert_weights_norm",
        "scale": "expert_weights_scale" if "expert_weights_scale" in c else None,
        "selection_bias": "exp_probs_b",
        "groups": "expert_group_count" if grouped else None,
        "groups_used": "expert_group_used_count" if grouped else None,
    }
    return Router(**(stated | options))


def network(
    a: Architecture,
    c: Settings,
    *,
    norm: Op | None,
    router: Router | None = None,
    dense: Size = "feed_forward_length",
    act: Op | None = None,
    post_norm: Op | None = None,
    **options: Any,
) -> Block:
    """Experts, or a dense network in a layer that has none.

    Args:
        a, c: the architecture, and settings of the layer.
        norm, act, post_norm: see `builders.experts`.
        router: None: `router_of`.
        dense: width of the dense network.
        options: of `builders.experts`, which a dense network has no use for.
    """
    if not (c.get("expert_layers", True) and c.get("expert_count")):
        return feed_forward(norm=norm, gated=a.gated, width=dense, act=act, post_norm=post_norm)
    given = {
        "width": WIDTH if WIDTH in c else "feed_forward_length",
        "shared": SHARED if c.get(SHARED) else None,
    }
    return experts(
        norm=norm, router=router or router_of(c), act=act, post_norm=post_norm, **(given | options)
    )


def normed_whole(a: Architecture, part: str, *after: Op | None) -> Op:
    """Queries or keys that are normed before they are cut into heads.

    Args:
        a: the architecture.
        part: `q` or `k`.
        after: what is done to them behind the norm.
    """
    heads = HEADS if part == "q" else KV_HEADS
    return chain(
        Linear(f"attn_{part}", rows=(heads, KEY), columns=HIDDEN),
        Norm(f"attn_{part}_norm", a.epsilon_key, width=((heads, KEY),), kind="rms", bias=False),
        *after,
        Heads(heads, KEY),
    )


def mixture_layer(
    a: Architecture,
    c: Settings,
    n: int,
    *,
    ffn_norm: str = "ffn_norm",
    scale: str | None = None,
    mixer: dict[str, Any] | None = None,
    **options: Any,
) -> list[Stage]:
    """A layer of attention, then experts or a dense network.

    Args:
        a, c, n: the architecture, settings of the layer, its number.
        ffn_norm: stem of the network's norm.
        scale: see `builders.sequential`.
        mixer: options of `builders.attention`, beyond what the architecture says.
        options: of `network`.
    """
    given: dict[str, Any] = {
        "norm": a.norm_of("attn_norm"),
        "rope": None if a.rope is None else rotary_of(c, a.rope),
        "head_norm": a.head_norm if a.qk_norm else None,
        "scores": scores_of(c),
    }
    return sequential(
        output_of(n - 1),
        attention(**(given | (mixer or {}))),
        network(a, c, norm=a.norm_of(ffn_norm), **options),
        scale,
    )
