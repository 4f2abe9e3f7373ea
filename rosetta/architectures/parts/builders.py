"""What architectures are composed of: attention, feed-forward networks, and how a layer puts them together.

A block is given the name of the stage that it reads, and lists its stages; the last one is its result. Sizes are
config keys, or products of several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from rosetta.graph import TOKENS, Stage
from rosetta.ops.attention import Context, Scores
from rosetta.ops.chain import chain
from rosetta.ops.experts import ExpertLinear, ExpertSum, Router
from rosetta.ops.latent import LatentKeys
from rosetta.ops.linear import Linear
from rosetta.ops.lookup import Embedding
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op, Settings, Size, Sum
from rosetta.ops.pointwise import Activation, Add, Clamp, Gate, Scale
from rosetta.ops.rotary import STILL, Rotary

if TYPE_CHECKING:
    from rosetta.settings_reader import SettingsReader

Block = Callable[[str], list[Stage]]
"""Name of the stage that is read -> the block's stages."""

HIDDEN = "embedding_length"
HEADS, KV_HEADS = "attention.head_count", "attention.head_count_kv"
KEY, VALUE = "attention.key_length", "attention.value_length"
FEED_FORWARD = "feed_forward_length"
Q_RANK, KV_RANK = "attention.q_lora_rank", "attention.kv_lora_rank"
KV_A = "attention.kv_a_length"  # the latent and the shared part of the keys


def scores_of(c: Settings, **options: Any) -> Scores:
    """The scores, with a window in the layers for which the settings say so.

    Args:
        c: settings of the layer.
        options: fields of `Scores`.
    """
    pattern = "attention.sliding_window_pattern"
    return Scores(pattern=pattern if pattern in c else None, **options)


def rotary_of(c: Settings, order: int) -> Rotary:
    """The rotation of heads, without the pairs that the settings leave unturned.

    Args:
        c: settings of the layer.
        order: of the pairs within a head.
    """
    return Rotary(order, still=STILL if STILL in c else None)


def slides(c: Settings) -> bool:
    """Whether the layer sees a window of tokens only."""
    return bool(c.get("attention.sliding_window_pattern", c["attention.sliding_window"]))


def base_of_windows(read: SettingsReader) -> None:
    """The base by which layers with a window are turned: the others', where a GGUF has no key for it."""
    key, others = "rope.freq_base_swa", read.config["rope.freq_base"].value
    if read.container.kind == "gguf":
        read.take(key, "number", others, note="that of the other layers")
    else:
        read.fixed(key, others, "that of the other layers")


def base_of(c: Settings) -> str:
    """The config key of the base by which a layer is turned."""
    return "rope.freq_base_swa" if slides(c) else "rope.freq_base"


def windowed_rope(c: Settings, order: int) -> Rotary:
    """The rotation: in layers with a window, of a base of its own and never scaled."""
    return Rotary(order, base="rope.freq_base_swa", scaling=None) if slides(c) else Rotary(order)


def head_norms(epsilon: str, kind: Literal["rms", "layer"]) -> Callable[[str], Op]:
    """Norms of the heads of q and of k, each head with weights of its own, where the file has them.

    Args:
        epsilon: config key.
        kind: of the norms.
    """

    def norm(stem: str) -> Op:
        heads = HEADS if stem == "attn_q_norm" else KV_HEADS
        return Norm(stem, epsilon, width=(heads, KEY), kind=kind, optional=True, bias=False)

    return norm


def attention(
    *,
    norm: Op | None,
    rope: Op | None,
    after_rope: Callable[[str], Op | None] | None = None,
    head_norm: Callable[[str], Op] | None = None,
    clamp: str | None = None,
    scores: Scores | None = None,
    queries: Op | None = None,
    keys: Op | None = None,
    values: Op | None = None,
    reuse: int | None = None,
    gate: Gate | None = None,
    gate_rows: Size = (HEADS, VALUE),
    out: Op | None = None,
    post_norm: Op | None = None,
) -> Block:
    """Attention of queries, keys and values projected by matrices of their own.

    Args:
        norm: of the input; None: it is read as it is.
        rope: turns queries and keys; None: nothing does.
        after_rope: `q` or `k` -> what is done to it then; None: nothing is, to that one or to either.
        head_norm: stem of a norm's name -> the norm over each head of queries or keys; None: there is none.
        clamp: config key of between what queries, keys and values are held; None: they are not.
        scores: None: those of one window, or none, in all layers.
        queries, keys, values: None: the product with `attn_q` …, cut into heads, normed by `head_norm`.
        reuse: number of another layer, whose keys and values are seen; None: the layer has its own.
        gate: of the context; its other input is the product with `attn_gate`.
        gate_rows: how many that gives: one for each value, or for each head.
        out: None: the product with `attn_output`.
        post_norm: of the result.
    """

    given = {"q": queries, "k": keys, "v": values}

    def projected(part: str, heads: str, length: str) -> Op:
        own = given[part]
        if own is not None:
            return own
        product = Linear(f"attn_{part}", rows=(heads, length), columns=HIDDEN, heads=heads)
        held = None if clamp is None else Clamp(clamp)
        return chain(
            product, held, None if head_norm is None or part == "v" else head_norm(f"attn_{part}_norm")
        )

    def turn(part: str, rope: Op) -> Op:
        return chain(rope, None if after_rope is None else after_rope(part))

    def block(x: str) -> list[Stage]:
        source = x if norm is None else "attn_norm"
        own, keys = "qk" if reuse is None else "q", "k" if rope is None else "k_rope"
        other = "" if reuse is None else f"layers.{reuse}."
        stages = [] if norm is None else [Stage("attn_norm", norm, (x,))]
        stages.append(Stage("q", projected("q", HEADS, KEY), (source,)))
        if reuse is None:
            stages.append(Stage("k", projected("k", KV_HEADS, KEY), (source,)))
            stages.append(Stage("v", projected("v", KV_HEADS, VALUE), (source,)))
        stages += [] if rope is None else [Stage(f"{part}_rope", turn(part, rope), (part,)) for part in own]
        seen = ("q" if rope is None else "q_rope", other + keys)
        stages += [
            Stage("attn_scores", scores or Scores(), seen),
            Stage("attn_context", Context(), ("attn_scores", other + "v")),
        ]
        if gate is not None:
            opened = Linear("attn_gate", rows=gate_rows, columns=HIDDEN)
            stages += [Stage("attn_gate_in", opened, (source,))]
            stages += [Stage("attn_gate", gate, ("attn_context", "attn_gate_in"))]
        projection = out or Linear("attn_output", rows=HIDDEN, columns=(HEADS, VALUE))
        stages.append(Stage("attn_out", projection, (stages[-1].name,)))
        if post_norm is not None:
            stages.append(Stage("attn_post_norm", post_norm, ("attn_out",)))
        return stages

    return block


def latent_attention(
    *,
    norm: Op,
    rope: Op | None,
    latent_norm: Callable[[str], Op],
    scores: Scores | None = None,
    low_rank_queries: bool = True,
    after_rope: Op | None = None,
) -> Block:
    """Attention whose keys and values come out of one short vector a token, and queries out of another.

    Args:
        norm: of the input.
        rope: turns the last dimensions of each head; None: nothing does.
        latent_norm: stem of a norm's name (`attn_q_a_norm`, `attn_kv_a_norm`) -> the norm of a latent.
        scores: None: those of no window.
        low_rank_queries: whether queries come out of a latent; else out of the input.
        after_rope: what is done to the turned queries; None: nothing is.
    """

    def block(x: str) -> list[Stage]:
        stages = [Stage("attn_norm", norm, (x,))]
        queries, source = Linear("attn_q", rows=(HEADS, KEY), columns=HIDDEN, heads=HEADS), "attn_norm"
        if low_rank_queries:
            stages += [
                Stage("attn_q_a", Linear("attn_q_a", rows=Q_RANK, columns=HIDDEN), (source,)),
                Stage("q_a", latent_norm("attn_q_a_norm"), ("attn_q_a",)),
            ]
            queries, source = Linear("attn_q_b", rows=(HEADS, KEY), columns=Q_RANK, heads=HEADS), "q_a"
        latent = Linear("attn_kv_a_mqa", rows=KV_A, columns=HIDDEN)
        values = Linear("attn_v_b", rows=(HEADS, VALUE), columns=KV_RANK, heads=HEADS, bias=False)
        stages += [
            Stage("q", queries, (source,)),
            Stage("attn_kv_a_mqa", latent, ("attn_norm",)),
            Stage("kv_a", latent_norm("attn_kv_a_norm"), ("attn_kv_a_mqa",)),
            Stage("k", LatentKeys(), ("kv_a", "attn_kv_a_mqa")),
            Stage("v", values, ("kv_a",)),
        ]
        seen = ("q", "k")
        if rope is not None:
            stages += [Stage("q_rope", chain(rope, after_rope), ("q",)), Stage("k_rope", rope, ("k",))]
            seen = ("q_rope", "k_rope")
        return [
            *stages,
            Stage("attn_scores", scores or Scores(window=None), seen),
            Stage("attn_context", Context(), ("attn_scores", "v")),
            Stage("attn_out", Linear("attn_output", rows=HIDDEN, columns=(HEADS, VALUE)), ("attn_context",)),
        ]

    return block


def feed_forward(
    *,
    norm: Op | None,
    gated: bool = True,
    width: Size = FEED_FORWARD,
    act: Op | None = None,
    post_norm: Op | None = None,
) -> Block:
    """act(gate(x)) · up(x), or act(up(x)), and the projection back.

    Args:
        norm: of the input; None: it is read as it is.
        gated: whether there is a gate.
        width: of the network.
        act: None: the activation that the config names.
        post_norm: of the result.
    """

    def block(x: str) -> list[Stage]:
        source = x if norm is None else "ffn_norm"
        up = [
            Stage(f"ffn_{part}", Linear(f"ffn_{part}", rows=width, columns=HIDDEN), (source,))
            for part in (("gate", "up") if gated else ("up",))
        ]
        return [
            *([] if norm is None else [Stage("ffn_norm", norm, (x,))]),
            *up,
            Stage("ffn_act", act or Activation(), tuple(stage.name for stage in up)),
            Stage("ffn_out", Linear("ffn_down", rows=HIDDEN, columns=width), ("ffn_act",)),
            *([] if post_norm is None else [Stage("ffn_post_norm", post_norm, ("ffn_out",))]),
        ]

    return block


def experts(
    *,
    norm: Op | None,
    router: Router,
    width: Size = "expert_feed_forward_length",
    gated: bool = True,
    act: Op | None = None,
    shared: Size | None = None,
    shared_gate: bool = False,
    shared_act: Op | None = None,
    out_scale: str | None = None,
    weigh_inputs: bool = False,
    post_norm: Op | None = None,
) -> Block:
    """A mixture of experts, of which the router chooses some for each token.

    Args:
        norm: of the input; None: it is read as it is.
        router: how it chooses, and weighs what is chosen.
        width: of each expert.
        gated, act: as of a feed-forward network.
        shared: width of an expert that serves all tokens; None: there is none.
        shared_gate: whether that one is weighed by a sigmoid of its own.
        shared_act: its activation; None: that of the others.
        out_scale: config key of a factor of the sum of both; None: there is none.
        weigh_inputs: whether the router's weights go into the experts' inputs, and not onto their results.
        post_norm: of the result.
    """

    def block(x: str) -> list[Stage]:
        source, parts = x if norm is None else "ffn_norm", ("gate", "up") if gated else ("up",)
        stages = [] if norm is None else [Stage("ffn_norm", norm, (x,))]
        stages.append(Stage("ffn_router", router, (source,)))
        for part in parts:
            product = ExpertLinear(
                f"ffn_{part}_exps", router, rows=width, columns=HIDDEN, weighed=weigh_inputs
            )
            stages.append(Stage(f"ffn_{part}", product, (source, "ffn_router")))
        stages.append(Stage("ffn_act", act or Activation(), tuple(f"ffn_{part}" for part in parts)))
        summed: tuple[str, ...] = ("ffn_act", "ffn_router")
        if shared is not None:
            stages += shared_expert(source, shared, gated, shared_act or act, shared_gate)
            summed = (*summed, "ffn_shared")
        total = ExpertSum("ffn_down_exps", router, rows=HIDDEN, columns=width, weighed=not weigh_inputs)
        stages.append(Stage("ffn_out", chain(total, None if out_scale is None else Scale(out_scale)), summed))
        if post_norm is not None:
            stages.append(Stage("ffn_post_norm", post_norm, ("ffn_out",)))
        return stages

    return block


def shared_expert(source: str, width: Size, gated: bool, act: Op | None, own_gate: bool) -> list[Stage]:
    """An expert that serves all tokens: a feed-forward network beside the others."""
    parts = ("gate", "up") if gated else ("up",)
    stages = [
        Stage(f"ffn_{part}_shexp", Linear(f"ffn_{part}_shexp", rows=width, columns=HIDDEN), (source,))
        for part in parts
    ]
    stages.append(Stage("ffn_act_shexp", act or Activation(), tuple(stage.name for stage in stages)))
    down = Linear("ffn_down_shexp", rows=HIDDEN, columns=width)
    if not own_gate:
        return [*stages, Stage("ffn_shared", down, ("ffn_act_shexp",))]
    opened = Linear("ffn_gate_inp_shexp", rows=1, columns=HIDDEN)
    return [
        *stages,
        Stage("ffn_down_shexp", down, ("ffn_act_shexp",)),
        Stage("ffn_gate_inp_shexp", opened, (source,)),
        Stage("ffn_shared", Gate(), ("ffn_down_shexp", "ffn_gate_inp_shexp")),
    ]


def sequential(
    x: str, mixer: Block, network: Block, scale: str | None = None, of_norms: bool = False
) -> list[Stage]:
    """A layer of two blocks one after the other, each added to what it reads.

    Args:
        x: what the layer reads.
        mixer: attention, or what stands in its place.
        network: feed-forward.
        scale: config key of the factor of what is added.
        of_norms: whether each is added to its first stage, the norm of what it reads.
    """
    first, second = mixer(x), network("attn_residual")
    base, middle = (first[0].name, second[0].name) if of_norms else (x, "attn_residual")
    return [
        *first,
        Stage("attn_residual", Add(scale), (base, first[-1].name)),
        *second,
        Stage("residual", Add(scale), (middle, second[-1].name)),
    ]


def parallel(x: str, mixer: Block, network: Block) -> list[Stage]:
    """A layer of two blocks side by side, both added to what they read. Where both share a norm, the network has none
    of its own and reads `attn_norm`."""
    first = mixer(x)
    own_norm = network(x)
    second = own_norm if own_norm[0].name == "ffn_norm" else network("attn_norm")
    return [*first, *second, Stage("residual", Add(), (x, first[-1].name, second[-1].name))]


def single(x: str, mixer: Block) -> list[Stage]:
    """A layer of one block."""
    stages = mixer(x)
    return [*stages, Stage("residual", Add(), (x, stages[-1].name))]


def embedding(*after: Op | None, positions: bool = False, beyond: int = 0) -> list[Stage]:
    """The rows of the tokens, and of their positions where the model learned some.

    Args:
        after: what is done to them before the first layer: a factor, a norm.
        positions: whether there is a table of positions.
        beyond: rows that there are of tokens beyond the vocabulary.
    """
    rows: Size = Sum(("vocab_size", beyond)) if beyond else "vocab_size"
    looked_up = Embedding(positions="position_embd" if positions else None, rows=rows)
    return [Stage("embedding", chain(looked_up, *after), (TOKENS,))]


def head(x: str, *after: Op | None, norm: Op) -> list[Stage]:
    """The final norm, and the logits.

    Args:
        x: what the last layer gives.
        after: what is done to the logits: a factor, a softcap.
        norm: the final one.
    """
    product = Linear("output", rows="vocab_size", columns=HIDDEN)
    return [Stage("final_norm", norm, (x,)), Stage("logits", chain(product, *after), ("final_norm",))]


def output_of(layer: int) -> str:
    """The stage that the layer behind `layer` reads: its residual, or the embedding."""
    return "embedding" if layer < 0 else f"layers.{layer}.residual"
