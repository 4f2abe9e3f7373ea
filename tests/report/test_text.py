"""The text of a report, in its default shape and at every verbosity."""

from __future__ import annotations

import re

import pytest

from fixtures import reports
from rosetta.compare.results import (
    ConfigDiff,
    Evidence,
    FirstDivergence,
    LogitsDiff,
    NegativeLogLikelihood,
    NonFinite,
    Refuted,
    StageDetail,
    StageDiff,
    TokensDiff,
    TopToken,
    WeightsDiff,
    Worst,
)
from rosetta.report.text import coloured, render
from rosetta.report.view import View

K = "blk.0.attn_k.weight"
TRANSCRIPT = f"""\
[ROSETTA] Loading APR: model.apr (qwen2, 28 layers, F16 14, F32 7)
[ROSETTA] Loading GGUF: model.gguf (qwen2, 28 layers, F16 14, F32 7)
[ROSETTA] Prompt: "2+2="
[ROSETTA] Token IDs: [17, 10, 17, 28]

=== Embedding ===
  APR dims: [4, 256], GGUF dims: [4, 256] ✓
  max_diff=0.00e+00, mean_diff=0.00e+00 ✓

=== Layer 0 ===
  k  APR weight: [1536, 256], GGUF weight: [256, 1536]
     LAYOUT MISMATCH: APR=[in, out] GGUF=[out, in] ✗ DIVERGENCE! (cannot be computed as stored)
  DIAGNOSIS: APR {K} (model.layers.0.self_attn.k_proj.weight) needs transpose (GGML convention)
     proof: k computed with the transpose, local difference 0.00e+00 (predicted 0)
"""
BLOCKS = [ConfigDiff(key="block_count", left=28, right=28, status="same")]


def lines_between(text: str, start: str) -> list[str]:
    """The lines of a section."""
    return text.split(f"=== {start} ===\n")[1].split("\n\n")[0].splitlines()


def test_a_weight_with_swapped_dims_gives_the_transcript() -> None:
    text = render(reports.dims_swapped(config=BLOCKS))
    assert text.startswith(TRANSCRIPT)
    summary = lines_between(text, "Summary")
    assert summary[0] == "FAILED: layout mismatch at Layer 0 k"
    assert summary[-1] == (
        "Recommendation: write blk.0.attn_k.weight with dims [256, 1536], its bytes as they are"
    )


def test_a_next_token_that_only_one_side_computed_is_no_match() -> None:
    """Behind a stage that cannot be compared both sides go on from one value (design.md §6): equal proves nothing."""
    best = [TopToken(id=1, token="a", logit=2.0)]
    logits = LogitsDiff(kl=0.0, argmax_match=True, left_top=best, right_top=best)
    assert "KL=0.00e+00 ✓" in render(reports.report(logits=logits))
    assert "KL=0.00e+00 (both go on from one value behind Layer 0 k)" in render(
        reports.dims_swapped(logits=logits)
    )
    other = logits.model_copy(update={"argmax_match": False})
    assert "KL=0.00e+00 (another token)" in render(reports.dims_swapped(logits=other))


def test_what_a_message_says_after_its_first_clause_follows_the_proof() -> None:
    message = "blk.0.attn_k.weight needs transpose (GGML convention): the dims are reversed"
    text = render(reports.dims_swapped(config=BLOCKS, findings=[reports.finding(message=message)]))
    assert text.startswith(TRANSCRIPT + "     the dims are reversed\n")


def test_swapped_dims_are_a_layout_mismatch_even_undiagnosed() -> None:
    text = render(reports.dims_swapped(findings=[]))
    assert "LAYOUT MISMATCH: APR=[in, out] GGUF=[out, in] ✗ DIVERGENCE!" in text
    assert "FAILED: layout mismatch at Layer 0 k" in text
    assert "DIAGNOSIS:" not in text
    assert "Recommendation: look at Layer 0 k" in text


def test_a_square_weight_keeps_its_numbers_beside_the_mismatch() -> None:
    evidence = Evidence(stage="layers.0.k", before=0.25, after=1e-8, predicted=2e-8)
    k = reports.stage(
        "layers.0.k",
        "faulty",
        0.25,
        local=reports.local(0.25, 2e-8),
        detail=StageDetail(weight_dims=[("blk.0.attn_k.weight", [64, 64], [64, 64])]),
    )
    finding = reports.finding("layout.transposed", side="right", evidence=evidence)
    text = render(reports.dims_swapped(stages=reports.stages(layers_0_k=k), findings=[finding]))
    assert lines_between(text, "Layer 0")[:6] == [
        "  k  APR weight: [64, 64], GGUF weight: [64, 64]",
        "     LAYOUT MISMATCH: APR=[out, in] GGUF=[in, out] ✗ DIVERGENCE!",
        "     max_diff=2.50e-01 (0.25 of its size), mean_diff=6.25e-02",
        "     local max_diff=2.50e-01 (predicted 2.00e-08), rel_l2=2.50e-01 (predicted 2.00e-08): "
        "1.25e+07 times its predicted noise",
        "     worst at [3, 17]: APR 0.5, GGUF 0.25",
        "  DIAGNOSIS: GGUF blk.0.attn_k.weight needs transpose (GGML convention)",
    ]
    assert "local difference 1.00e-08 (predicted 2.00e-08), without it 2.50e-01" in text


def test_layers_that_match_share_a_section_that_says_the_worst_of_each() -> None:
    worst = reports.stage("layers.1.ffn_out", "ok", 3.1e-7, local=reports.local(3.1e-7, 1e-6))
    text = render(reports.report(stages=reports.stages(layers_1_ffn_out=worst)))
    assert lines_between(text, "Layers 0-1") == [
        "  0  ✓         8 stages, every difference exactly 0",
        "  1  ✓         diff/size 3.1e-07 (1 ffn_out), local/noise 0.31 (1 ffn_out)",
    ]
    assert (
        "\nMATCHED: 19 stages within the threshold 0.001, largest difference 3.1e-07 of its size at Layer 1 ffn_out, "
        "worst against its prediction Layer 1 ffn_out (local error 0.31 of its predicted noise)\n" in text
    )


def test_the_worst_stage_is_the_one_worst_against_its_prediction_and_not_the_largest_number() -> None:
    massive = reports.stage("layers.1.residual", "drift", 112.0, scale=29255.0, rel=112 / 29255)
    massive = massive.model_copy(update={"local": reports.local(112.0, 1120.0)})
    q = reports.stage("layers.0.q", "drift", 4.1e-3, local=reports.local(4.1e-3, 5e-3))
    text = render(reports.drift(stages=reports.stages(layers_1_residual=massive, layers_0_q=q)))
    assert "largest difference 0.0041 of its size at Layer 0 q" in text
    assert "worst against its prediction Layer 0 q (local error 0.82 of its predicted noise)" in text


def test_drift_is_said_in_words_and_that_it_passes() -> None:
    text = render(reports.drift())
    assert "\n  0  ~ drift   diff/size 0.0041 (0 q), local/noise 0.45 (0 q)\n" in text
    assert "DRIFT: 2 of 19 stages over the threshold 0.001, first at Layer 0 q" in text
    assert "what rounding the weights to the declared dtypes does" in text
    assert "It passes --assert-match" in text
    assert "GGUF (right) is believed; --reference left turns it round." in text


def many_layers(status: str, ops: tuple[str, ...] = ("q", "k"), **faulty: StageDiff) -> list[StageDiff]:
    """28 layers of a few stages, all of one status, but for those given."""
    stages = [
        reports.stage(f"layers.{n}.{op}", status, 0.1, local=reports.local(0.1, 0.5))
        for n in range(28)
        for op in ops
    ]
    return [faulty.get(stage.name.replace(".", "_"), stage) for stage in stages]


def test_many_layers_that_drift_take_a_few_lines() -> None:
    text = render(reports.drift(stages=many_layers("drift")))
    lines = lines_between(text, "Layers 0-27")
    assert [line.split()[0] for line in lines] == ["0-3", "4-7", "8-11", "12-15", "16-19", "20-23", "24-27"]
    assert all(line.split()[1:3] == ["~", "drift"] for line in lines)


def test_what_a_fault_carries_is_folded_and_a_later_cause_is_not() -> None:
    k = {
        f"layers_{n}_k": reports.stage(f"layers.{n}.k", "faulty", 1.0, local=reports.local(1.0, 0.1))
        for n in (3, 9)
    }
    found = [
        reports.finding("value.scaled", layer=n, message=f"blk.{n}.attn_k.weight is {n} times too large",
                        evidence=Evidence(stage=f"layers.{n}.k", before=1.0, after=0.0, ratio_before=10.0))
        for n in (3, 9)
    ]  # fmt: skip
    first = FirstDivergence(name="layers.3.k", layer=3, op="k", token=0, index=[0, 0])
    report = reports.report(
        verdict="divergent", stages=many_layers("carried", **k), findings=found, first_divergence=first
    )
    headings = re.findall(r"=== (Layers? .*) ===", render(report))
    assert headings == ["Layers 0-2", "Layer 3", "Layers 4-8", "Layer 9", "Layers 10-27"]


def test_stages_after_a_fault_share_a_line() -> None:
    changed = {
        "layers_0_q": reports.stage("layers.0.q", "faulty", 1.0, local=reports.local(1.0, 1e-6)),
        "layers_0_attn_out": reports.stage("layers.0.attn_out", "carried", 0.5),
    }
    first = FirstDivergence(name="layers.0.q", layer=0, op="q", token=0, index=[0, 0])
    text = render(
        reports.report(verdict="divergent", stages=reports.stages(**changed), first_divergence=first)
    )
    assert "  q  max_diff=1.00e+00 (1 of its size), mean_diff=2.50e-01 ✗ DIVERGENCE!\n" in text
    assert "  7 other stages: → carried diff/size 0.5 (attn_out)\n" in text
    assert "FAILED: divergence at Layer 0 q" in text


def test_a_divergence_never_stands_over_two_figures_below_their_prediction() -> None:
    local = reports.local(0.01, 0.02).model_copy(update={"worst_ratio": 1.8})
    by_element = reports.stage("layers.0.q", "faulty", 0.01, local=local)
    block = StageDetail(differing=[("blk.0.attn_q.weight", 12.5)])
    by_block = reports.stage("layers.0.q", "faulty", 0.01, local=reports.local(0.01, 0.02), detail=block)
    first = FirstDivergence(name="layers.0.q", layer=0, op="q", token=0, index=[0, 0])
    for q, said in (
        (by_element, "     local error of an element 1.8 times its predicted noise"),
        (by_block, "     blk.0.attn_q.weight: a block differs by 12.5 times what its dtypes explain"),
    ):
        report = reports.report(
            verdict="divergent", stages=reports.stages(layers_0_q=q), first_divergence=first
        )
        lines = lines_between(render(report), "Layer 0")
        assert lines[1] == said
        assert not [line for line in lines if "(predicted" in line]


def test_a_fault_within_the_threshold_is_no_divergence() -> None:
    q = reports.stage("layers.0.q", "faulty", 1e-5, local=reports.local(1e-5, 1e-7))
    text = render(reports.report(stages=reports.stages(layers_0_q=q)))
    assert "✗ FAULT (beyond the predicted noise, within the threshold)" in text
    assert "DIVERGENCE" not in text
    assert "1 stage beyond the predicted noise, though within the threshold" in text


def test_the_dtypes_explain_no_fault_within_the_threshold() -> None:
    k = reports.stage("layers.1.k", "faulty", 1e-5, local=reports.local(1e-5, 1e-7))
    drifting = reports.drift()
    stages = [k if stage.name == "layers.1.k" else stage for stage in drifting.stages]
    text = render(drifting.model_copy(update={"stages": stages}))
    assert "the declared dtypes explain all but 1 stage within the threshold\n" in text
    assert "1 stage beyond the predicted noise, though within the threshold" in text
    assert "the declared dtypes explain it\n" in render(drifting)


def test_tokens_that_differ_come_first() -> None:
    tokens = TokensDiff(left=[1, 2, 3], right=[1, 9, 3], match=False, first_mismatch=1)
    first = FirstDivergence(name="tokens", layer=None, op="tokens", token=1, index=None)
    finding = reports.finding(
        "tokenizer.pre_tokenizer",
        layer=None,
        tensor=None,
        key="tokenizer.ggml.pre",
        left_name=None,
        message="tokenizer.ggml.pre is llama, which llama.cpp does not know",
        evidence=Evidence(stage="tokens", metric="ids", before=1.0, after=0.0),
    )
    text = render(
        reports.report(verdict="divergent", tokens=tokens, first_divergence=first, findings=[finding])
    )
    assert "[ROSETTA] Token IDs: APR [1, 2, 3]\n[ROSETTA] Token IDs: GGUF [1, 9, 3]\n" in text
    assert "Token IDs differ from position 1 on ✗ DIVERGENCE!" in text
    assert "DIAGNOSIS: APR tokenizer.ggml.pre is llama, which llama.cpp does not know" in text
    assert "with the repair: the token IDs agree" in text
    assert "FAILED: the token IDs differ at position 1" in text


def test_findings_that_differ_only_in_the_layer_are_one() -> None:
    found = [
        reports.finding(
            layer=n, evidence=Evidence(stage=f"layers.{n}.k", before=None, after=n * 1e-9, predicted=1e-8)
        )
        for n in range(28)
    ]
    text = render(reports.dims_swapped(findings=found))
    assert text.count("DIAGNOSIS: APR") == 1
    assert "APR blk.{0..27}.attn_k.weight (model.layers.{0..27}.self_attn.k_proj.weight) needs trans" in text
    assert "in each of 28 layers, local difference 2.70e-08" in text  # the worst of them
    assert text.count("Recommendation:") == 1
    assert "blk.{0..27}.attn_k.weight  layout.dims_swapped  Layer {0..27} k" in text


def test_a_later_layer_refers_to_where_its_cause_is_said() -> None:
    k = reports.stage(
        "layers.1.k",
        "faulty",
        0.5,
        detail=StageDetail(weight_dims=[("blk.1.attn_k.weight", [64, 64], [64, 64])]),
    )
    report = reports.dims_swapped(findings=[reports.finding(layer=n) for n in range(2)])
    changed = [k if stage.name == k.name else stage for stage in report.stages]
    report = report.model_copy(update={"stages": changed})
    assert lines_between(render(report), "Layer 1") == ["  ✗ faulty in k; diff/size 0.5 (k)"]
    lines = lines_between(render(report, View(1)), "Layer 1")
    assert "  k  APR weight: [64, 64], GGUF weight: [64, 64]" in lines
    assert "     LAYOUT MISMATCH: APR=[in, out] GGUF=[out, in] ✗ DIVERGENCE!" in lines
    assert "  DIAGNOSIS: as at Layer 0 k" in lines


def test_a_missing_weight_is_called_that() -> None:
    text = render(reports.dims_swapped(findings=[reports.finding("value.missing")]), View(-1))
    assert text == "FAILED: missing weight at Layer 0 k\n"


def test_findings_that_differ_in_more_are_not_folded() -> None:
    found = [reports.finding(layer=0), reports.finding(layer=1, kind="layout.transposed")]
    assert render(reports.dims_swapped(findings=found)).count("Recommendation:") == 2


def test_a_suspicion_is_not_called_proven() -> None:
    finding = reports.finding(
        "unexplained", status="suspected", message="blk.0.attn_k.weight: nothing explains it"
    )
    text = render(reports.dims_swapped(findings=[finding]))
    assert "k_proj.weight): nothing explains it (suspected, not proven)" in text


def test_latent_findings_are_said_and_do_not_fail() -> None:
    finding = reports.finding(
        "config.norm_epsilon", layer=None, tensor=None, key="epsilon", latent=True, evidence=None
    )
    text = render(reports.report(findings=[finding]))
    assert "MATCHED" in text
    assert "; 1 latent finding\n" in text
    assert "LATENT: 1 finding" in text
    assert "--fail-on latent fails on it" in text
    assert render(reports.report(findings=[finding]), View(-1)).endswith("; 1 latent finding\n")


def test_a_proven_fault_that_does_not_show_is_named_in_the_first_line() -> None:
    found = [reports.finding("value.scaled", tensor=f"blk.{n}.attn_k.weight", latent=True) for n in (0, 1)]
    line = render(reports.report(findings=found), View(-1))
    assert line.startswith("MATCHED")
    assert (
        "proven, without a divergence on this prompt: wrong values in blk.0.attn_k.weight and 1 more" in line
    )
    suspected = [finding.model_copy(update={"status": "suspected"}) for finding in found]
    assert "proven" not in render(reports.report(findings=suspected), View(-1))


def test_advice_for_several_tensors_is_one_sentence_with_all_names() -> None:
    names = [f"blk.{n}.{stem}.weight" for n in (0, 1) for stem in ("attn_k", "attn_v")]
    found = [
        reports.finding(tensor=name, layer=int(name[4]), left_name=None, right_name=None, message=f"{name} differs",
                        recommendation=f"export {name} again")
        for name in names
    ]  # fmt: skip
    text = render(reports.dims_swapped(findings=found))
    assert text.count("Recommendation:") == 1
    assert "Recommendation: export blk.{0,1}.attn_k.weight, blk.{0,1}.attn_v.weight again\n" in text


def test_latent_findings_and_their_advice_come_last_and_dimmed() -> None:
    latent = reports.finding(
        "config.norm_epsilon", layer=None, tensor=None, key="epsilon", latent=True, recommendation="write 1e-5",
        evidence=Evidence(stage="layers.0.k", before=0.1, after=0.0),
    )  # fmt: skip
    text = render(reports.dims_swapped(findings=[latent, reports.finding()]))
    assert text.index("Recommendation: write blk.0") < text.index("LATENT:") < text.index("write 1e-5")
    assert "config.norm_epsilon" not in text[: text.index("LATENT:")]
    (dim,) = [span for span in coloured(text).spans if span.style == "dim" and span.end == len(text)]
    assert dim.start == text.index("LATENT:")


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (13.0, 12.5, "both sides agree and both may be wrong"),
        (13.0, 2.0, "APR may be wrong"),
        (2.0, float("nan"), "GGUF may be wrong"),
    ],
)
def test_a_prompt_that_costs_more_than_guessing_is_a_warning(left: float, right: float, said: str) -> None:
    logits = LogitsDiff(nll=NegativeLogLikelihood(left=left, right=right, uniform=11.93))
    (warning,) = (line for line in render(reports.report(logits=logits)).splitlines() if "WARNING" in line)
    assert said in warning
    assert "11.93" in warning


def test_a_prompt_that_costs_less_than_guessing_is_none() -> None:
    assert "WARNING" not in render(reports.report())


def test_an_inconclusive_report_is_never_a_pass() -> None:
    text = render(reports.report(verdict="inconclusive", reason="no stage could be compared", stages=[]))
    assert "INCONCLUSIVE: no stage could be compared" in text
    assert "never a pass" in text
    assert "Recommendation:" in text


def test_two_sides_of_one_container_are_told_apart() -> None:
    text = render(reports.report(left=reports.side("gguf"), right=reports.side("gguf", runtime="llamacpp")))
    assert "[ROSETTA] Loading LEFT GGUF: model.gguf (qwen2, F16 14, F32 7)\n" in text
    assert "[ROSETTA] Loading RIGHT GGUF: model.gguf (qwen2, F16 14, F32 7) by llamacpp\n" in text


def test_a_folder_is_called_hf() -> None:
    assert "Loading HF: model.hf" in render(reports.report(left=reports.side("huggingface")))


@pytest.mark.parametrize("state", [reports.report, reports.drift, reports.dims_swapped])
def test_quiet_is_the_verdict_line_of_the_text(state: object) -> None:
    report = state()  # type: ignore[operator]
    (line,) = render(report, View(-1)).splitlines()
    assert line in render(report).splitlines()
    assert re.match(r"MATCHED|DRIFT:|FAILED:", line)


def test_verbose_shows_every_stage_with_dims_numbers_and_ends() -> None:
    detail = StageDetail(left_ends=([0.1, 0.2], [0.3]), right_ends=([0.1, 0.25], [0.3]))
    q = reports.stage("layers.0.q", "ok", 1e-7, detail=detail, local=reports.local(1e-7, 2e-7))
    text = render(reports.report(stages=reports.stages(layers_0_q=q)), View(1))
    for op in reports.LAYER_OPS:
        assert len(re.findall(rf"^  {op} +\[4, 256\] ", text, re.MULTILINE)) == 2
    lines = lines_between(text, "Layer 0")
    row = next(i for i, line in enumerate(lines) if line.startswith("  q "))
    assert lines[row].split() == ["q", "[4,", "256]", "1.00e-07", "2.50e-08", "1e-07", "0.50", "✓"]
    assert lines[row + 1] == "     APR 0.1, 0.2 … 0.3 | GGUF 0.1, 0.25 … 0.3"
    starts = {re.search(r"\S+e-\d+|identical", line).start() for line in lines[1:] if " [4, 256] " in line}  # type: ignore[union-attr]
    assert len(starts) == 1, "columns are aligned"
    assert "Time: load 0.10 s" in text


def test_verbose_gives_an_identical_stage_one_line() -> None:
    lines = render(reports.report(), View(1)).split("=== Layer 0 ===")[1].split("\n\n")[0].splitlines()
    assert len(lines) == 2 + len(reports.LAYER_OPS), "the end of the heading, the columns, the stages"


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        (View(1, layers=((1, 1),)), {"layers.1.q", "layers.1.k"}),
        (View(1, stage="k"), {f"layers.{n}.k" for n in range(28)}),
        (View(1, layers=((0, 1),), stage="layers.*.q"), {"layers.0.q", "layers.1.q"}),
    ],
)
def test_verbose_shows_the_stages_that_were_chosen(view: View, shown: set[str]) -> None:
    text = render(reports.drift(stages=many_layers("drift")), view)
    found = set()
    for section in text.split("\n=== Layer ")[1:]:
        number, _, rest = section.partition(" ")
        found |= {f"layers.{number}.{op}" for op in re.findall(r"^  (q|k) +\[", rest, re.MULTILINE)}
    assert found == shown


def test_nothing_that_was_chosen_is_said() -> None:
    assert "No stage is what --layers and --stage ask for" in render(
        reports.report(), View(1, layers=((9, 9),))
    )


def test_very_verbose_adds_the_worst_positions_and_the_top_logits() -> None:
    worst = Worst(index=[1, 2], left=0.5, right=0.75)
    detail = StageDetail(worst=[(worst, [0.1, 0.5, 0.2], [0.1, 0.75, 0.2])])
    report = reports.report(
        stages=reports.stages(layers_0_q=reports.stage("layers.0.q", "ok", 0.25, detail=detail))
    )
    text = render(report, View(2))
    assert "     at [1, 2]: APR 0.5, GGUF 0.75\n" in text
    assert "around it APR [0.1, 0.5, 0.2], GGUF [0.1, 0.75, 0.2]" in text
    assert "by token:" in text
    assert "APR top 5: 19 '4' 7.5000, 20 '5' 6.0000" in text
    assert "around it" not in render(report, View(1))
    assert "top 5" not in render(report, View(1))


def test_what_was_refuted_is_shown_when_asked_for() -> None:
    tried = Refuted(
        kind="layout.transposed", tensor="blk.0.attn_q.weight", stage="layers.0.q", before=0.1, after=0.4
    )
    report = reports.dims_swapped(refuted=[tried])
    assert "tried, and did not help" not in render(report)
    row = next(
        line for line in render(report, View(1)).splitlines() if line.startswith("  layout.transposed")
    )
    assert row.split() == [
        "layout.transposed",
        "blk.0.attn_q.weight",
        "Layer",
        "0",
        "q",
        "1.00e-01",
        "4.00e-01",
    ]


def test_a_config_that_differs_is_shown_and_the_rest_when_asked_for() -> None:
    differs = ConfigDiff(key="rope.freq_base", left=10000.0, right=1e6, status="differs", note="a note")
    report = reports.report(config=[*BLOCKS, differs])
    row = next(line for line in render(report).splitlines() if line.startswith("  rope.freq_base"))
    assert row.split() == ["rope.freq_base", "10000.0", "1000000.0", "differs", "a", "note"]
    assert "  block_count" not in render(report)
    assert "  block_count" in render(report, View(1))


def test_missing_weights_are_named_once_for_all_layers() -> None:
    missing = [f"blk.{n}.attn_q.bias" for n in range(3)]
    text = render(
        reports.report(
            weights=WeightsDiff(compared=18, missing_left=missing, missing_right=["output.weight"])
        )
    )
    assert "  Missing in APR: blk.{0..2}.attn_q.bias\n" in text
    assert "  Missing in GGUF: output.weight\n" in text


def test_values_that_are_not_finite_are_counted_and_are_the_worst() -> None:
    q = reports.stage("layers.0.q", "faulty", float("nan"), nonfinite=NonFinite(left=3, right=0))
    text = render(reports.report(verdict="divergent", stages=reports.stages(layers_0_q=q)))
    assert "NaN or Inf: APR 3, GGUF 0" in text


def test_skipped_stages_share_a_line() -> None:
    skipped = {f"layers_0_{op}": reports.stage(f"layers.0.{op}", "skipped", None) for op in ("q", "k")}
    assert (
        lines_between(render(reports.report(stages=reports.stages(**skipped))), "Layers 0-1")[-1]
        == "  skipped: q, k"
    )


def test_control_characters_of_a_file_never_reach_the_terminal() -> None:
    hostile = "blk.0.\x1b[2Jattn\n=== Summary ===\nMATCHED"
    text = render(
        reports.dims_swapped(findings=[reports.finding(tensor=hostile)], prompt="a\x07b\r"), View(1)
    )
    assert not [c for c in text if c != "\n" and not c.isprintable()]
    assert text.count("\n=== Summary ===\n") == 1


def test_colours_change_no_character() -> None:
    for state in (reports.report(), reports.drift(), reports.dims_swapped()):
        text = render(state, View(2))
        assert coloured(text).plain == text
        assert coloured(text).spans


def test_two_architectures_are_said_before_what_follows_from_them() -> None:
    report = reports.dims_swapped(right=reports.side("gguf", architecture="llama"))
    assert render(report, View(-1)) == (
        "FAILED: qwen2 and llama are different architectures: layout mismatch at Layer 0 k\n"
    )
