"""The stages of a foreign run: which node of its graph is which, found by the weights consumed and the place among them.

What cannot be told is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rosetta.runtimes.attention_nodes import Attention, Operand, attentions, context_of, norm_source
from rosetta.runtimes.expert_nodes import expert_taps, router
from rosetta.runtimes.graph import Graph, weight_layer, weight_stem
from rosetta.runtimes.recurrent_nodes import recurrent_taps
from rosetta.runtimes.stage_table import DECOMPRESSION, FEED_FORWARD, STAGE_OF, stage_rank
from rosetta.runtimes.taps import Tap


@dataclass(frozen=True)
class Placement:
    """The stages of a run.

    Args:
        taps: in the order of layers and stages.
        skipped: stage -> why it is not among them.
    """

    taps: tuple[Tap, ...]
    skipped: dict[str, str]


def place(graph: Graph, probed_tokens: int) -> Placement:
    """The stages that a graph holds.

    Args:
        graph: of a run.
        probed_tokens: how many tokens it had.
    """
    by_layer = {attention.layer: attention for attention in attentions(graph)}
    taps: dict[str, Tap] = {}
    skipped: dict[str, str] = {}
    streams = [_stream(graph, layer) for layer in range(graph.block_count)]
    for layer in range(graph.block_count):
        placer = _Layer(graph, layer, streams[layer], by_layer.get(layer), probed_tokens, skipped)
        for tap in placer.taps():
            taps.setdefault(tap.stage, tap)
    final = _final_norm(graph)
    streams.append(norm_source(graph, final) if final is not None else None)
    for layer, stream in enumerate(streams):
        stage = f"layers.{layer - 1}.residual" if layer else "embedding"
        if stream is None:
            skipped[stage] = "no norm or projection of one input follows it"
        else:
            taps[stage] = Tap(stage, (stream,))
    for layer in range(graph.block_count):
        source = layer_output(graph, streams[layer + 1], layer)
        if source is not None:
            for tap in _sums(graph, layer, source, streams[layer], taps):
                taps.setdefault(tap.stage, tap)
    if final is not None:
        taps["final_norm"] = Tap("final_norm", (final,))
    taps["logits"] = Tap("logits", (graph.output,))
    return Placement(tuple(sorted(taps.values(), key=_place_of)), skipped)


def _final_norm(graph: Graph) -> int | None:
    """What the output head is a product of."""
    heads = [i for i, node in enumerate(graph.nodes) if node.kind == "product" and node.weights and node.inputs]
    heads = [i for i in heads if graph.depends(graph.output, i) and weight_layer(graph[i].weights[0]) is None]
    return graph.bare(graph[heads[-1]].inputs[0]) if heads else None


def _place_of(tap: Tap) -> tuple[float, float]:
    if tap.stage == "embedding":
        return (-1, 0)
    if not tap.stage.startswith("layers."):
        return (1e9, ("final_norm", "logits").index(tap.stage))
    _, layer, op = tap.stage.split(".", 2)
    return (int(layer), stage_rank(op))


def _last(graph: Graph, layer: int | None, *stems: str) -> int | None:
    """The last node of a chain that consumes a weight, its bias, its scale."""
    found = graph.consuming(layer, *stems)
    if not found:
        return None
    first = found[0]
    return max(i for i in found if graph.depends(i, first))


def _entrance(graph: Graph, layer: int, feed_forward: bool) -> int | None:
    """The first product of a layer's attention (or recurrence), or of its feed-forward network: of the dense one
    where it stands beside experts, whose inputs may be normed otherwise.
    """
    stems = [s for s in graph.stems(layer) if (s in FEED_FORWARD) == feed_forward and s not in DECOMPRESSION]
    dense = [stem for stem in stems if stem in ("ffn_gate", "ffn_up")]
    found = [
        i
        for stem in dense or stems
        for i in graph.consuming(layer, stem)
        if graph[i].kind == "product" and graph[i].inputs
    ]
    return min(found, default=None)


def _normed(graph: Graph, product: int) -> tuple[int | None, int]:
    """(the norm before a projection or None, what the norm, or else the projection, is computed from)."""
    entering = graph.bare(graph[product].inputs[0])
    source = norm_source(graph, entering)
    return (entering, source) if source is not None else (None, entering)


def _stream(graph: Graph, layer: int) -> int | None:
    """What enters a layer: the residual stream."""
    first = _entrance(graph, layer, False)
    if first is None:
        first = _entrance(graph, layer, True)
    return None if first is None else _normed(graph, first)[1]


def layer_output(graph: Graph, stream: int | None, layer: int) -> int | None:
    """The last sum of a layer, before what scales it."""
    while stream is not None and graph[stream].kind in ("mul", "scale", "view"):
        live = graph.live_inputs(stream)
        stream = live[0] if len(live) == 1 else None
    if stream is None or graph[stream].kind != "add" or graph.layers[stream] != layer:
        return None
    return stream


def _sums(
    graph: Graph, layer: int, output: int, stream: int | None, taps: dict[str, Tap]
) -> Iterator[Tap]:
    """What a layer's last sum adds: the network's output, after its norm where it has one."""
    prefix = f"layers.{layer}."
    attended = taps.get(prefix + "attn_residual")
    if attended is None and (stream is None or _entrance(graph, layer, False) is not None):
        return
    known = attended.nodes[0] if attended is not None else stream
    others = [j for j in graph.live_inputs(output) if graph.bare(j) != known]
    if len(others) != 1:
        return
    added = others[0]
    while graph[added].kind in ("view", "scale"):
        added = graph[added].inputs[0]
    source = norm_source(graph, added)
    if source is not None and _is_norm(graph, added):
        yield Tap(prefix + "ffn_post_norm", (added,))
        added = source
    yield Tap(prefix + "ffn_out", (added,))


def _is_norm(graph: Graph, i: int) -> bool:
    return any("norm" in weight_stem(name) for name in graph[i].weights) or graph[i].kind == "norm"


class _Layer:
    """Finds the stages of one layer."""

    def __init__(
        self,
        graph: Graph,
        layer: int,
        stream: int | None,
        attention: Attention | None,
        tokens: int,
        skipped: dict[str, str],
    ) -> None:
        self.graph, self.layer, self.stream = graph, layer, stream
        self.attention, self.tokens, self.skipped = attention, tokens, skipped
        self.used: set[str] = set()

    def taps(self) -> Iterator[Tap]:
        yield from self._before_attention()
        if self.attention is not None:
            yield from self._attention(self.attention)
        yield from recurrent_taps(self.graph, self.layer)
        yield from self._feed_forward()
        yield from self._by_table()

    def _tap(self, op: str, node: int, **form: object) -> Tap:
        return Tap(f"layers.{self.layer}.{op}", (node,), **form)  # type: ignore[arg-type]

    def _skip(self, op: str, why: str) -> None:
        self.skipped[f"layers.{self.layer}.{op}"] = why

    def _before_attention(self) -> Iterator[Tap]:
        first = _entrance(self.graph, self.layer, False)
        if first is None:
            first = _entrance(self.graph, self.layer, True)
        norm = None if first is None else _normed(self.graph, first)[0]
        if norm is not None:
            yield self._tap("attn_norm", norm)

    def _attention(self, a: Attention) -> Iterator[Tap]:
        graph = self.graph
        absorbed = bool(graph.consuming(self.layer, "attn_k_b"))
        heads = max(1, a.heads)
        context, gated, projection = context_of(graph, a)
        if absorbed:
            for op in ("q_rope", "k_rope", "k", "v"):
                self._skip(op, "keys and values are absorbed: heads live in the latent space")
            query = _last(graph, self.layer, "attn_q", "attn_q_b")
            if query is not None:
                yield self._tap("q", query, form="heads", width=self._width(query, heads))
        else:
            width = self._width(a.q.used, heads)
            for op, operand in (("q", a.q), ("k", a.k)):
                yield from self._rotated(op, operand, width)
            yield self._tap("v", a.v.used, form="heads", width=self._width(context, heads))
        if a.scores is None:
            self._skip("attn_scores", "attention is one operation (flash attention)")
        else:
            yield self._tap("attn_scores", a.scores, form="scores")
        yield self._tap("attn_context", context)
        if gated is not None:
            yield self._tap("attn_gate", gated)
        if projection is not None:
            stems = [weight_stem(name) for name in graph[projection].weights]
            out = _last(graph, self.layer, *stems)
            if out is not None:
                self.used.update(stems)
                yield self._tap("attn_out", out)

    def _width(self, node: int, heads: int) -> int:
        return self.graph[node].count // (self.tokens * heads)

    def _rotated(self, op: str, operand: Operand, width: int) -> Iterator[Tap]:
        if operand.before is None:
            self._skip(op, "it is put together from more than one projection")
        else:
            yield self._tap(op, operand.before, form="heads", width=width, interleaved=operand.interleaved)
        if operand.rotated:
            yield self._tap(
                f"{op}_rope", operand.used, form="heads", width=width, interleaved=operand.interleaved
            )

    def _feed_forward(self) -> Iterator[Tap]:
        graph, layer = self.graph, self.layer
        first = _entrance(graph, layer, True)
        if first is None:
            return
        norm, source = _normed(graph, first)
        attended = self.attention is not None or _entrance(graph, layer, False) is not None
        if attended and source != self.stream and graph.layers[source] == layer:
            yield self._tap("attn_residual", source)
            yield from self._attention_post_norm(source)
        if norm is not None and attended and source != self.stream:
            yield self._tap("ffn_norm", norm)
        elif norm is not None and attended:
            yield from self._own_norm(norm)
        yield from expert_taps(graph, layer)
        yield from self._dense()

    def _own_norm(self, norm: int) -> Iterator[Tap]:
        """The network's norm where it stands beside the attention's, on the same input."""
        first = _entrance(self.graph, self.layer, False)
        if first is not None and _normed(self.graph, first)[0] != norm:
            yield self._tap("ffn_norm", norm)

    def _attention_post_norm(self, residual: int) -> Iterator[Tap]:
        """The norm between the attention's output and the sum with the stream."""
        graph = self.graph
        if graph[residual].kind != "add":
            return
        for j in graph.live_inputs(residual):
            while graph[j].kind in ("view", "scale"):
                j = graph[j].inputs[0]
            if j != self.stream and _is_norm(graph, j) and norm_source(graph, j) is not None:
                yield self._tap("attn_post_norm", j)

    def _dense(self) -> Iterator[Tap]:
        """A network without experts; where GGUF files it as a shared expert beside none, that one."""
        graph, layer = self.graph, self.layer
        beside = _last(graph, layer, "ffn_down") if router(graph, layer) else None
        if beside is not None:
            yield self._tap("ffn_dense", beside)
        if router(graph, layer):
            return
        suffix = "" if graph.consuming(layer, "ffn_down") else "_shexp"
        names = [f"ffn_{part}{suffix}" for part in ("gate", "up", "down")]
        down = [i for i in graph.consuming(layer, names[2]) if graph[i].kind == "product"]
        if len(down) != 1:
            return
        entering = graph.bare(graph[down[0]].inputs[0])
        source = norm_source(graph, entering)
        act = source if source is not None and _is_norm(graph, entering) else entering
        yield self._tap("ffn_act", act)
        width = graph[act].count // self.tokens
        gate, up, out = (_last(graph, layer, name) for name in names)
        if up is not None and gate is None and graph[up].count == 2 * width * self.tokens:
            yield self._tap("ffn_gate", up, columns=slice(0, width))
            yield self._tap("ffn_up", up, columns=slice(width, 2 * width))
        else:
            for op, node in (("ffn_gate", gate), ("ffn_up", up)):
                if node is not None:
                    yield self._tap(op, node)
        if out is not None:
            yield self._tap("ffn_out", out)
        self.used.update(names)

    def _by_table(self) -> Iterator[Tap]:
        """Every other weight: the stage of the table, or one of the tensor's own name."""
        graph, layer = self.graph, self.layer
        experts = bool(router(graph, layer))
        for stem in graph.stems(layer):
            stage = STAGE_OF.get(stem, stem)
            dense_beside = experts and stem in ("ffn_gate", "ffn_up", "ffn_down")
            if stem in self.used or stem in _OF_OTHERS or dense_beside or stem.endswith("_exps"):
                continue
            if stem == "ffn_up_shexp" and experts:
                yield from self._shared_up()
                continue
            if "act_fn" in stem:  # a number of the activation's own
                continue
            node = _last(graph, layer, stem)
            if node is not None and any(weight_layer(name) == layer for name in graph[node].weights):
                yield self._tap(stage, node)


    def _shared_up(self) -> Iterator[Tap]:
        """The shared expert's rows, which transformers may have in one with its gate's."""
        graph, layer = self.graph, self.layer
        up = _last(graph, layer, "ffn_up_shexp")
        down = [i for i in graph.consuming(layer, "ffn_down_shexp") if graph[i].kind == "product"]
        if up is None or not down:
            return
        width = graph[graph.bare(graph[down[0]].inputs[0])].count // self.tokens
        if graph[up].count == 2 * width * self.tokens and not graph.consuming(layer, "ffn_gate_shexp"):
            yield self._tap("ffn_gate_shexp", up, columns=slice(0, width))
            yield self._tap("ffn_up_shexp", up, columns=slice(width, 2 * width))
        else:
            yield self._tap("ffn_up_shexp", up)


# stems whose consumer is part of a stage that is found by its place
_OF_OTHERS = frozenset(
    {
        "attn_norm", "attn_norm_2", "ffn_norm", "post_attention_norm", "post_ffw_norm", "layer_output_norm",
        "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_q_b", "attn_kv_b", "attn_k_b", "attn_v_b", "attn_q_norm",
        "attn_k_norm", "attn_sinks", "ffn_gate_inp", "exp_probs_b", "rope_freqs", "ssm_a", "ssm_d", "ssm_dt",
        "ssm_conv1d", "shortconv.conv", "ssm_norm", "attn_gate", "attn_sub_norm", "ffn_sub_norm",
        "ffn_gate_inp_shexp", "ffn_down_shexp",
    }
)  # fmt: skip
