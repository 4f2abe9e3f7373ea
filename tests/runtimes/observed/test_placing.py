"""Which node of a foreign graph is which stage, on graphs of a few nodes: what cannot be told is no stage."""

from __future__ import annotations

from rosetta.runtimes.observed.graph import Graph, Kind, Node
from rosetta.runtimes.observed.placing import Placement, place

TOKENS, WIDTH = 3, 8


class Drawn:
    """A graph in the making: each call is a node, by its number."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def __call__(self, kind: Kind, *inputs: int, weight: str = "") -> int:
        weights = (weight,) if weight else ()
        self.nodes.append(Node(kind, inputs, weights, (TOKENS, WIDTH), len(self.nodes), ""))
        return len(self.nodes) - 1

    def normed(self, x: int, weight: str) -> int:
        return self("mul", self("norm", x), weight=weight)

    def attended(self, x: int, n: int) -> int:
        """Attention without rotation over what is normed."""
        normed = self.normed(x, f"blk.{n}.attn_norm.weight")
        q, k, v = (self("product", normed, weight=f"blk.{n}.attn_{part}.weight") for part in "qkv")
        context = self("product", self("softmax", self("product", q, k)), v)
        return self("product", context, weight=f"blk.{n}.attn_output.weight")

    def network(self, x: int, n: int) -> int:
        normed = self.normed(x, f"blk.{n}.ffn_norm.weight")
        up = self("product", normed, weight=f"blk.{n}.ffn_up.weight")
        return self("product", self("act", up), weight=f"blk.{n}.ffn_down.weight")

    def embedded(self) -> int:
        return self("scale", self("rows", weight="token_embd.weight"))

    def placed(self, x: int) -> Placement:
        output = self("product", self.normed(x, "output_norm.weight"), weight="output.weight")
        return place(Graph(self.nodes, output), TOKENS)


def nodes(placement: Placement) -> dict[str, int]:
    return {tap.stage: tap.nodes[0] for tap in placement.taps}


def test_sums_of_a_stream_are_its_stages() -> None:
    draw = Drawn()
    embedded = draw.embedded()
    attended = draw("add", draw.attended(embedded, 0), embedded)
    left = draw("add", draw.network(attended, 0), attended)
    found = nodes(draw.placed(left))
    assert found["embedding"] == embedded
    assert found["layers.0.attn_residual"] == attended
    assert found["layers.0.residual"] == left


def test_of_several_streams_none_is_taken_for_the_residual() -> None:
    draw = Drawn()
    stream = embedded = draw.embedded()
    norms = []
    for n in range(2):
        active = draw("add", draw("product", stream, weight=f"blk.{n}.mix.weight"), stream)
        short_cut = draw("product", active, weight=f"blk.{n}.short_cut.weight")
        norms.append(len(draw.nodes) + 1)  # the norm, and its weight
        attended = draw("add", draw.attended(active, n), active)
        attended = draw("add", attended, short_cut)
        stream = draw("add", draw.network(attended, n), stream)
    placement = draw.placed(stream)
    found = nodes(placement)
    assert found["embedding"] == embedded
    assert [found[f"layers.{n}.attn_norm"] for n in range(2)] == norms
    for n in range(2):
        assert f"layers.{n}.residual" not in found
        assert f"layers.{n}.attn_residual" not in found
        assert "streams" in placement.skipped[f"layers.{n}.residual"]
        assert "another sum" in placement.skipped[f"layers.{n}.attn_residual"]


def test_a_weight_that_is_used_twice_in_a_layer_makes_no_stage() -> None:
    draw = Drawn()
    x = draw.embedded()
    once = draw("product", x, weight="blk.0.once.weight")
    first = draw("product", once, weight="blk.0.twice.weight")
    second = draw("product", draw("act", first), weight="blk.0.twice.weight")
    attended = draw("add", draw.attended(x, 0), x)
    placement = draw.placed(draw("add", draw.network(attended, 0), second))
    found = nodes(placement)
    assert found["layers.0.once"] == once
    assert "layers.0.twice" not in found
    assert "more than once" in placement.skipped["layers.0.twice"]


def test_what_another_weight_makes_is_not_the_residual_though_the_next_one_is_multiplied_with_it() -> None:
    for factors in ("", "blk.0.own_scale.weight"):
        draw = Drawn()
        x = draw.embedded()
        attended = draw("add", draw.attended(x, 0), x)
        left = draw("add", draw.network(attended, 0), attended)
        entering = draw("mul", left, weight=factors) if factors else left
        gated = draw("product", entering, weight="blk.0.inp_gate.weight")
        found = nodes(draw.placed(draw("add", left, gated)))
        assert found.get("layers.0.ffn_residual") == (None if factors else left)


def test_a_layer_that_is_run_twice_has_no_stages_and_the_one_behind_it_has() -> None:
    draw = Drawn()
    stream = draw.embedded()
    for n in (0, 0, 1, 2):
        stream = draw("add", draw.attended(stream, n), stream)
        stream = draw("add", draw.network(stream, n), stream)
    placement = draw.placed(stream)
    found = nodes(placement)
    assert not [stage for stage in found if stage.startswith("layers.0.")]
    assert {"layers.1.attn_norm", "layers.1.q", "layers.1.residual", "layers.2.residual"} <= set(found)
    for stage in ("embedding", "layers.0.residual"):
        assert stage not in found
        assert "more than once" in placement.skipped[stage]


def test_a_norm_behind_a_part_stands_for_the_sum_that_is_lost() -> None:
    """Without the sum the network reads attention's own norm, which is no norm of the network's then, nor the next
    layer's."""
    draw = Drawn()
    embedded = draw.embedded()
    attended = draw.normed(draw.attended(embedded, 0), "blk.0.post_attention_norm.weight")
    up = draw("product", attended, weight="blk.0.ffn_up.weight")
    out = draw("product", draw("act", up), weight="blk.0.ffn_down.weight")
    left = draw.normed(out, "blk.0.post_ffw_norm.weight")
    q, k, v = (draw("product", left, weight=f"blk.1.attn_{part}.weight") for part in "qkv")
    context = draw("product", draw("softmax", draw("product", q, k)), v)
    last = draw("add", draw("product", context, weight="blk.1.attn_output.weight"), left)
    found = nodes(draw.placed(last))
    assert found["layers.0.attn_residual"] == found["layers.0.attn_post_norm"] == attended
    assert found["layers.0.residual"] == left
    assert not {"layers.0.ffn_norm", "layers.1.attn_norm"} & set(found)


def test_embeddings_of_each_layers_own_are_stages() -> None:
    draw = Drawn()
    embedded = draw.embedded()
    rows = draw("scale", draw("rows", weight="per_layer_token_embd.weight"))
    projected = draw("scale", draw("product", embedded, weight="per_layer_model_proj.weight"))
    normed = draw.normed(projected, "per_layer_proj_norm.weight")
    summed = draw("scale", draw("add", draw("view", normed), rows))
    attended = draw("add", draw.attended(embedded, 0), embedded)
    gated = draw("mul", draw("act", draw("product", attended, weight="blk.0.inp_gate.weight")), summed)
    left = draw("add", draw("product", gated, weight="blk.0.proj.weight"), attended)
    found = nodes(draw.placed(left))
    stages = ("per_layer_token_embd", "per_layer_model_proj", "per_layer_embedding")
    assert [found[stage] for stage in stages] == [rows, normed, summed]


def test_streams_of_which_a_layer_changes_one_are_stages() -> None:
    draw = Drawn()
    streams = draw("join", draw.embedded())

    def coefficients(x: int, part: str) -> int:
        routed = draw("act", draw("product", x, weight="blk.0.altup_router.weight"))
        return draw("product", routed, weight=f"blk.0.altup_{part}_coef.weight")

    predicted = draw("add", draw("product", streams, coefficients(streams, "predict")), streams)
    active = draw("slice", predicted)
    post = draw.normed(draw.attended(active, 0), "blk.0.post_attention_norm.weight")
    attended = draw("add", active, post)
    laurel = draw("scale", draw("add", attended, draw("product", active, weight="blk.0.laurel_l.weight")))
    left = draw("add", laurel, draw.normed(draw.network(laurel, 0), "blk.0.post_ffw_norm.weight"))
    correction = draw("mul", draw("add", left, active), draw("scale", coefficients(left, "correct")))
    corrected = draw("add", correction, predicted)
    found = nodes(draw.placed(draw("slice", corrected)))
    assert (found["altup_proj"], found["layers.0.altup_predicted"]) == (streams, predicted)
    assert (found["layers.0.attn_post_norm"], found["layers.0.attn_residual"]) == (post, attended)
    assert (found["layers.0.attn_laurel"], found["layers.0.ffn_residual"]) == (laurel, left)
    assert found["layers.0.altup_corrected"] == corrected
