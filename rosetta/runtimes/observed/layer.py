"""The stages of one layer of a foreign run."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.runtimes.observed.altup import altup_taps
from rosetta.runtimes.observed.attention import Attention, Operand, context_of, norm_source
from rosetta.runtimes.observed.experts import expert_taps, router
from rosetta.runtimes.observed.graph import Graph, weight_layer, weight_stem
from rosetta.runtimes.observed.order import adjacent_order
from rosetta.runtimes.observed.parts import entrance, is_norm, last_consumer, normed, used_again
from rosetta.runtimes.observed.recurrence import recurrent_taps
from rosetta.runtimes.observed.stage_table import ENTERING, STAGE_OF
from rosetta.runtimes.observed.taps import Tap


class Layer:
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
        self.placed: set[int] = set()

    def taps(self) -> Iterator[Tap]:
        """All stages but those that show in the next layer."""
        for tap in self._by_place():
            self.placed.update(tap.nodes)
            yield tap
        yield from self._by_table()
        yield from self._by_what_follows()

    def _by_place(self) -> Iterator[Tap]:
        yield from self._before_attention()
        if self.attention is not None:
            yield from self._attention(self.attention)
        yield from recurrent_taps(self.graph, self.layer)
        yield from altup_taps(self.graph, self.layer, self.tokens)
        yield from self._feed_forward()

    def _tap(self, op: str, node: int, **form: object) -> Tap:
        return Tap(f"layers.{self.layer}.{op}", (node,), **form)  # type: ignore[arg-type]

    def _skip(self, op: str, why: str) -> None:
        self.skipped[f"layers.{self.layer}.{op}"] = why

    def _before_attention(self) -> Iterator[Tap]:
        first = entrance(self.graph, self.layer, False)
        if first is None:
            first = entrance(self.graph, self.layer, True)
        norm = None if first is None else normed(self.graph, first)[0]
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
            query = last_consumer(graph, self.layer, "attn_q", "attn_q_b")
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
            both = (a.scores,) if a.sink is None else (a.scores, a.sink)
            yield Tap(f"layers.{self.layer}.attn_scores", both, form="scores")
        yield self._tap("attn_context", context, factor=1 / a.value_factor)
        if gated is not None:
            yield self._tap("attn_gate", gated)
        if projection is not None:
            stems = [weight_stem(name) for name in graph[projection].weights]
            out = last_consumer(graph, self.layer, *stems)
            if out is not None:
                self.used.update(stems)
                plain = out == projection  # a bias is multiplied by nothing
                yield self._tap("attn_out", out, factor=1 / a.value_factor if plain else 1.0)

    def _width(self, node: int, heads: int) -> int:
        return self.graph[node].count // (self.tokens * heads)

    def _rotated(self, op: str, operand: Operand, width: int) -> Iterator[Tap]:
        if operand.repeated:
            for stage in (op, f"{op}_rope"):
                self._skip(stage, "keys are repeated for each query before they are rotated")
            return
        if operand.before is None:
            self._skip(op, "it is put together from more than one projection")
        else:
            yield self._tap(op, operand.before, form="heads", width=width, interleaved=operand.interleaved)
        if operand.rotated:
            form: dict[str, object] = {"form": "heads", "width": width, "interleaved": operand.interleaved}
            if operand.gathered is not None:  # as pairs went in, they are compared
                form["order"] = adjacent_order(width, operand.gathered)
            yield self._tap(f"{op}_rope", operand.used, **form)

    def _feed_forward(self) -> Iterator[Tap]:
        graph, layer = self.graph, self.layer
        first = entrance(graph, layer, True)
        if first is None:
            return
        norm, source = normed(graph, first)
        attended = self.attention is not None or entrance(graph, layer, False) is not None
        if attended and source != self.stream and graph.layers[source] == layer:
            yield from self._attended(source)
        if norm is not None and attended and source != self.stream:
            yield self._tap("ffn_norm", norm)
        elif norm is not None and attended:
            yield from self._own_norm(norm)
        yield from expert_taps(graph, layer)
        yield from self._dense()

    def _attended(self, source: int) -> Iterator[Tap]:
        """The sum of what enters the layer and what attention gives, where the network reads that, or one of the two
        is lost."""
        graph = self.graph
        added = graph.live_inputs(source) if graph[source].kind == "add" else []
        stream = None if self.stream is None else self._plain(self.stream)
        summed = stream in [self._plain(j) for j in added] or any(self._is_attended(j) for j in added)
        if not summed and not self._is_attended(source):
            self._skip("attn_residual", "the network reads another sum than that of the stream and attention")
            return
        yield self._tap("attn_residual", source)
        if is_norm(graph, source):  # the stream is lost: the norm stands for the sum
            yield self._tap("attn_post_norm", source)
        yield from self._norm_before(source, self.stream, "attn_post_norm")

    def _plain(self, i: int) -> int:
        """What a term of a sum is, but for a number that it is multiplied with."""
        graph = self.graph
        while graph[i].kind in ("view", "scale") and graph[i].inputs:
            i = graph[i].inputs[0]
        return i

    def _is_attended(self, source: int) -> bool:
        """Whether this is what attention gives and nothing else: the stream that it is added to is lost."""
        graph = self.graph
        source = self._plain(source)
        norm = norm_source(graph, source)
        return last_consumer(graph, self.layer, "attn_output") in (
            source,
            norm if norm is None else self._plain(norm),
        )

    def _own_norm(self, norm: int) -> Iterator[Tap]:
        """The network's norm where it stands beside the attention's, on the same input."""
        first = entrance(self.graph, self.layer, False)
        if first is not None and normed(self.graph, first)[0] != norm:
            yield self._tap("ffn_norm", norm)

    def _norm_before(self, residual: int, stream: int | None, op: str) -> Iterator[Tap]:
        """The norm between a block's output and its sum with the stream."""
        graph = self.graph
        if graph[residual].kind != "add":
            return
        for j in graph.live_inputs(residual):
            while graph[j].kind in ("view", "scale"):
                j = graph[j].inputs[0]
            if j != stream and is_norm(graph, j) and norm_source(graph, j) is not None:
                yield self._tap(op, j)

    def _dense(self) -> Iterator[Tap]:
        """A network without experts; where GGUF files it as a shared expert beside none, that one."""
        graph, layer = self.graph, self.layer
        if router(graph, layer):
            yield from self._beside_experts()
            return
        suffix = "" if graph.consuming(layer, "ffn_down") else "_shexp"
        names = [f"ffn_{part}{suffix}" for part in ("gate", "up", "down")]
        down = [i for i in graph.consuming(layer, names[2]) if graph[i].kind == "product"]
        if len(down) != 1:
            return
        entering = graph.bare(graph[down[0]].inputs[0])
        source = norm_source(graph, entering)
        act = source if source is not None and is_norm(graph, entering) else entering
        yield self._tap("ffn_act", act)
        width = graph[act].count // self.tokens
        gate, up, out = (last_consumer(graph, layer, name) for name in names)
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

    def _beside_experts(self) -> Iterator[Tap]:
        """A dense network beside experts, and what their router is a product of where it has a norm of its own."""
        graph, layer = self.graph, self.layer
        for op, stem in (
            ("ffn_dense_gate", "ffn_gate"),
            ("ffn_dense_up", "ffn_up"),
            ("ffn_dense", "ffn_down"),
        ):
            node = last_consumer(graph, layer, stem)
            if node is not None:
                yield self._tap(op, node)
        down = [i for i in graph.consuming(layer, "ffn_down") if graph[i].kind == "product"]
        if down:
            yield self._tap("ffn_dense_act", graph.bare(graph[down[0]].inputs[0]))
        scored = [i for i in router(graph, layer) if graph[i].kind == "product"]
        entering = graph.bare(graph[scored[0]].inputs[0]) if scored else None
        if down and entering is not None and entering not in self.placed:
            yield self._tap("ffn_router_norm", entering)

    def _by_what_follows(self) -> Iterator[Tap]:
        """Stages that no weight makes, by the weight that they are multiplied with."""
        graph, layer = self.graph, self.layer
        for stem, stage in ENTERING.items():
            products = [i for i in graph.consuming(layer, stem) if graph[i].kind == "product"]
            if len(products) != 1 or stem in self.used:
                continue
            entering = graph.bare(graph[products[0]].inputs[0])
            if graph[entering].weights:
                continue  # the stage of that weight
            yield self._tap(stage, entering)
            if stage == "ffn_residual":
                yield from self._norm_before(entering, None, "ffn_post_norm")

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
            if stem == "ssm_in" and graph.consuming(layer, "ssm_ba"):
                continue  # q, k, v and gate in one, in an order of their own
            if "act_fn" in stem:  # a number of the activation's own
                continue
            if used_again(graph, layer, stem):
                self._skip(stage, "its weight is used more than once in the layer")
                continue
            node = last_consumer(graph, layer, stem)
            if node in self.placed and stem not in STAGE_OF:
                continue
            if node is not None and any(weight_layer(name) == layer for name in graph[node].weights):
                yield self._tap(stage, node)

    def _shared_up(self) -> Iterator[Tap]:
        """The shared expert's rows, which transformers may have in one with its gate's."""
        graph, layer = self.graph, self.layer
        up = last_consumer(graph, layer, "ffn_up_shexp")
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
        "ssm_conv1d", "shortconv.conv", "ssm_norm", "attn_sub_norm", "ffn_sub_norm",
        "ffn_gate_inp_shexp", "ffn_down_shexp",
    }
)  # fmt: skip
