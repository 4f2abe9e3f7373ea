"""Against a recorded run, whose weights nobody has: clean pairs pass, and causes are proven from stages alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures import build, faults
from fixtures.architectures import build_tiny
from fixtures.causes import Cause, assert_causes, assert_clean, assert_proven
from fixtures.comparing import compared_files, faulty, tiny
from fixtures.contents import FileContents
from fixtures.recording import Stages, recorded
from rosetta.diagnose import engine
from rosetta.report.text import render

SPECS = {
    name: tiny(name, ffn=128, tied=name == "qwen3") for name in ("llama", "mistral", "qwen2", "qwen3", "gpt2")
}
CONFIG = ("config",)
PARTS = ("weight", "bias")


def against_a_run(
    folder: Path, name: str, run: str, operand: str, fault: Any = (), traced: str = "right", **trace: Any
) -> Any:
    """The report of an operand with a fault, held to a run of a clean one."""
    model = build(folder, SPECS[name], run, stem="run")
    trace_file = recorded(folder / "run.safetensors", model, **trace)
    operands = [build(folder, SPECS[name], operand, fault, stem="broken"), f"trace:{trace_file}"]
    return compared_files(*operands[:: 1 if traced == "right" else -1], tokens=None)


@pytest.mark.sample(20)
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    ("run", "operand"), [("gguf:F32", "apr:F16"), ("hf:F16", "gguf:Q8_0"), ("gguf:Q4_0", "hf:F32")]
)
@pytest.mark.parametrize("traced", ["left", "right"])
def test_clean_pair_is_clean(tmp_path: Path, name: str, run: str, operand: str, traced: str) -> None:
    report = against_a_run(tmp_path, name, run, operand, traced=traced)
    assert_clean(report)
    assert report.compared.stages == len(report.stages) - 1, "all but `tokens` have numbers"
    assert report.reference == traced, "what was recorded is what the model is held to"


@pytest.mark.parametrize("name", SPECS)
def test_same_file_is_a_match_though_nothing_is_computed_once_for_both(tmp_path: Path, name: str) -> None:
    report = against_a_run(tmp_path, name, "gguf:F16", "gguf:F16", without=CONFIG)
    assert_clean(report)
    assert report.verdict == "match"


@pytest.mark.parametrize("run", ["gguf:F16", "hf:BF16"])
def test_large_weight_among_small_ones_is_rounded_as_coarsely_as_it_is_large(
    tmp_path: Path, run: str
) -> None:
    def outlier(file: FileContents) -> FileContents:
        values = file.values("token_embd.weight")
        values[:, 5] *= 41
        return file.with_values("token_embd.weight", values)

    spec = tiny("qwen2", tied=False)
    trace = recorded(tmp_path / "run.safetensors", build(tmp_path, spec, run, outlier, stem="run"))
    own = build(tmp_path, spec, "apr:F32", outlier, stem="own")
    assert_clean(compared_files(own, f"trace:{trace}", tokens=None))


@pytest.mark.parametrize("asked", [{}, {"prompt": "auto"}, {"prompt": "something else"}])
@pytest.mark.parametrize("traced", [0, 1])
def test_prompt_of_the_report_is_the_recorded_one_whatever_was_asked_for(
    tmp_path: Path, asked: dict[str, str], traced: int
) -> None:
    model = build(tmp_path, SPECS["llama"], "gguf:F16", stem="run")
    run = recorded(tmp_path / "run.safetensors", model, prompt="3 * 4")
    operands = [f"trace:{run}", model]
    report = compared_files(*operands[:: 1 if traced == 0 else -1], tokens=None, **asked)
    assert report.prompt == "3 * 4"
    assert '[ROSETTA] Prompt: "3 * 4"\n' in render(report)
    assert report.tokens.match


def test_run_recorded_of_token_ids_has_no_prompt(tmp_path: Path) -> None:
    report = against_a_run(tmp_path, "llama", "gguf:F16", "gguf:F16")
    assert report.prompt is None
    assert "[ROSETTA] Prompt: (token IDs)\n" in render(report)


WEIGHTS = [
    # architecture, recorded, broken operand, fault, stage, cause
    ("llama", "gguf:F16", "apr:F16", faults.transposed("blk.0.attn_q.weight"), "layers.0.q",
     Cause("layout.transposed", "blk.0.attn_q.weight")),
    ("qwen2", "hf:F16", "gguf:F16", faults.transposed("blk.0.attn_k.weight"), "layers.0.k",
     Cause("layout.transposed", "blk.0.attn_k.weight")),
    ("mistral", "gguf:F16", "hf:F16", faults.scaled("blk.1.ffn_up.weight", -2.0), "layers.1.ffn_up",
     Cause("value.scaled", "blk.1.ffn_up.weight", actual=-2.0)),
    ("llama", "gguf:F16", "gguf:Q8_0", faults.scaled("blk.1.attn_norm.weight", 2.0), "layers.1.attn_norm",
     Cause("value.scaled", "blk.1.attn_norm.weight", actual=2.0)),
    ("llama", "hf:F16", "apr:F16", faults.offset("blk.1.ffn_norm.weight", 1.0), "layers.1.ffn_norm",
     Cause("value.offset", "blk.1.ffn_norm.weight", actual=1.0)),
    ("gpt2", "hf:F16", "apr:F16", faults.offset("output_norm.weight", -1.0), "final_norm",
     Cause("value.offset", "output_norm.weight", actual=-1.0)),
    ("llama", "gguf:F16", "hf:F16", faults.f16_as_bf16("blk.1.attn_v.weight"), "layers.1.v",
     Cause("dtype.mislabeled", "blk.1.attn_v.weight", declared="BF16", actual="F16")),
    ("qwen3", "gguf:F16", "apr:F16", faults.bf16_as_f16("blk.0.ffn_down.weight"), "layers.0.ffn_out",
     Cause("dtype.mislabeled", "blk.0.ffn_down.weight", declared="F16", actual="BF16")),
    ("llama", "hf:F16", "gguf:Q4_0", faults.nibbles_reordered("blk.0.ffn_gate.weight"), "layers.0.ffn_gate",
     Cause("dtype.block_order", "blk.0.ffn_gate.weight")),
    ("llama", "gguf:F16", "gguf:F16", faults.rope_order_changed("blk.1.attn_q.weight"), "layers.1.q",
     Cause("layout.rope_order", "blk.1.attn_q.weight")),
    ("llama", "gguf:F16", "apr:F16", faults.rope_type(0), "layers.0.q",
     Cause("config.rope_type", "rope.type", declared=0, actual=2)),
    ("gpt2", "hf:F16", "gguf:F16", faults.fused_order("blk.0.attn_qkv.weight", "kqv"), "layers.0.q",
     Cause("layout.fused_order", "blk.0.attn_qkv.weight")),
    ("gpt2", "hf:F16", "gguf:F16", [faults.fused_order(f"blk.0.attn_qkv.{part}", "vkq") for part in PARTS],
     "layers.0.q", Cause("layout.fused_order", "blk.0.attn_qkv.weight")),
    ("llama", "hf:F16", "gguf:Q4_0", faults.zeroed("blk.0.ffn_up.weight"), "layers.0.ffn_up",
     Cause("value.zeroed", "blk.0.ffn_up.weight", status="suspected")),
    ("llama", "hf:F16", "gguf:F16", faults.swapped("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"),
     "layers.0.ffn_gate", Cause("value.swapped", "blk.0.ffn_gate.weight", partner="blk.0.ffn_up.weight")),
    ("qwen2", "hf:F16", "gguf:Q8_0", faults.dropped("blk.0.attn_q.bias"), "layers.0.q",
     Cause("value.missing", "blk.0.attn_q.bias")),
    ("qwen2", "hf:F16", "apr:F16", faults.zeroed("blk.1.attn_v.bias"), "layers.1.v",
     Cause("value.zeroed", "blk.1.attn_v.bias")),
    ("gpt2", "hf:F16", "gguf:F16", faults.shuffled("blk.0.ffn_up.bias", 0, 128, 3), "layers.0.ffn_up",
     Cause("value.corrupted", "blk.0.ffn_up.bias")),
]  # fmt: skip
EPSILON = "attention.layer_norm_rms_epsilon"
SETTINGS = [
    ("llama", "gguf:F16", "apr:F16", faults.norm_epsilon(1e-3), "layers.0.attn_norm",
     Cause("config.norm_epsilon", EPSILON, declared=1e-3, actual=1e-5)),
    ("qwen3", "apr:F16", "hf:F16", faults.norm_epsilon(1e-4), "layers.0.attn_norm",
     Cause("config.norm_epsilon", EPSILON, declared=1e-4, actual=1e-6)),
    ("llama", "hf:F16", "gguf:Q8_0", faults.rope_theta(5e5), "layers.0.q_rope",
     Cause("config.rope_theta", "rope.freq_base", declared=5e5, actual=1e4)),
    ("qwen2", "gguf:F16", "apr:F16", faults.rope_theta(1e4), "layers.0.q_rope",
     Cause("config.rope_theta", "rope.freq_base", declared=1e4, actual=1e6)),
    ("llama", "gguf:F16", "apr:F16", faults.attention_scale(0.2), "layers.0.attn_scores",
     Cause("config.attention_scale", "attention.scale", declared=0.2, actual=0.25)),
    ("llama", "gguf:F16", "apr:F16", faults.sliding_window(4), "layers.0.attn_scores",
     Cause("config.sliding_window", "attention.sliding_window", declared=4, actual=0)),
    ("llama", "gguf:F16", "hf:F16", faults.activation("gelu"), "layers.0.ffn_act",
     Cause("config.activation", "activation", declared="gelu", actual="silu")),
    ("gpt2", "gguf:F16", "hf:F16", faults.activation("gelu"), "layers.0.ffn_act",
     Cause("config.activation", "activation", declared="gelu", actual="gelu_tanh")),
    ("qwen2", "hf:F16", "gguf:F16", faults.head_count(8), "layers.0.q",
     Cause("config.head_count", "attention.head_count", declared=8, actual=4)),
    ("llama", "hf:F16", "apr:F16", faults.head_count_kv(1), "layers.0.k",
     Cause("config.head_count_kv", "attention.head_count_kv", declared=1, actual=2)),
    ("llama", "hf:F16", "gguf:F16", faults.layer_count(1), "layers.1.attn_norm",
     Cause("config.layer_count", "block_count", declared=1, actual=2)),
]  # fmt: skip


@pytest.mark.sample(18)
@pytest.mark.parametrize("without", [(), CONFIG], ids=["config recorded", "config unknown"])
@pytest.mark.parametrize("case", WEIGHTS + SETTINGS, ids=lambda case: f"{case[0]} {case[2]} {case[5].kind}")
def test_cause_is_proven_from_activations_alone(tmp_path: Path, case: Any, without: Any) -> None:
    """Where the trace does not tell its settings, they are fitted to its stages."""
    name, run, operand, fault, stage, cause = case
    report = against_a_run(tmp_path, name, run, operand, fault, without=without)
    assert_proven(report, stage, cause)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_run_with_layer_norms_is_told_though_it_names_no_settings(tmp_path: Path, name: str) -> None:
    report = against_a_run(
        tmp_path, name, "gguf:F16", "gguf:F16", without=CONFIG, overrides={"norm_type": "layer"}
    )
    assert report.first_divergence.name == "layers.0.attn_norm"
    assert ("config.norm_type", "layer", "confirmed") in [
        (f.kind, f.actual, f.status) for f in report.findings
    ]


def test_window_of_the_run_is_read_off_its_scores(tmp_path: Path) -> None:
    report = against_a_run(
        tmp_path, "llama", "apr:F16", "apr:F16", without=CONFIG, overrides={"attention.sliding_window": 5}
    )
    cause = Cause("config.sliding_window", "attention.sliding_window", actual=5)
    assert_proven(report, "layers.0.attn_scores", cause)


def test_fault_is_laid_to_the_model_where_the_trace_is_on_the_left(tmp_path: Path) -> None:
    fault = faults.transposed("blk.0.attn_q.weight")
    report = against_a_run(tmp_path, "llama", "hf:F16", "gguf:F16", fault, traced="left")
    assert_proven(report, "layers.0.q", Cause("layout.transposed", "blk.0.attn_q.weight", "right"))


def test_three_faults_are_peeled_one_after_another(tmp_path: Path) -> None:
    fault = [
        faults.norm_epsilon(1e-3),
        faults.transposed("blk.0.attn_k.weight"),
        faults.scaled("blk.1.ffn_down.weight", 2.0),
    ]
    assert_proven(
        against_a_run(tmp_path, "llama", "hf:F16", "gguf:F16", fault),
        "layers.0.attn_norm",
        Cause("config.norm_epsilon", EPSILON, actual=1e-5),
        Cause("layout.transposed", "blk.0.attn_k.weight"),
        Cause("value.scaled", "blk.1.ffn_down.weight", actual=2.0),
    )


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.dropped("blk.0.attn_output.weight"), "value.missing"),
        (faults.zeroed("blk.0.attn_output.weight"), "value.zeroed"),
        (faults.nonfinite("blk.0.attn_output.weight"), "value.nonfinite"),
        (faults.shuffled("blk.0.attn_output.weight", 3, 9, seed=1), "unexplained"),
    ],
)
def test_what_no_run_can_give_back_is_suspected_and_located(tmp_path: Path, fault: Any, kind: str) -> None:
    """A recording has no weights to take: what is lost cannot be proven, and it still fails."""
    report = against_a_run(tmp_path, "llama", "hf:F16", "gguf:F16", fault)
    assert_proven(report, "layers.0.attn_out", Cause(kind, "blk.0.attn_output.weight", status="suspected"))


def test_layer_that_a_file_lacks_is_one_suspicion(tmp_path: Path) -> None:
    report = against_a_run(tmp_path, "llama", "hf:F16", "gguf:F16", faults.layer_dropped(1))
    cause = Cause("config.layer_count", "block_count", status="suspected")
    assert_proven(report, "layers.1.attn_norm", cause)


def without_stages(*ops: str) -> Any:
    def edit(stages: Stages) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, x) for name, x in stages if name.rpartition(".")[2] not in ops)

    return edit


def test_stages_that_were_not_recorded_are_skipped_and_the_run_goes_on(tmp_path: Path) -> None:
    gone = ("q", "attn_scores", "attn_residual", "ffn_act")
    report = against_a_run(tmp_path, "llama", "hf:F16", "gguf:F16", edit=without_stages(*gone))
    assert_clean(report)
    assert {stage.op for stage in report.stages if stage.status == "skipped"} == set(gone)
    assert all(stage.max_diff is None for stage in report.stages if stage.op in gone)


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", ["qwen3next", "laguna", "deepseek2-v3"])
def test_routing_that_was_not_recorded_is_computed_in_its_place(tmp_path: Path, name: str) -> None:
    """With what experts compute from it: those that are not chosen stay out, however well their weight is known."""
    folder = build_tiny(tmp_path / name, name)
    trace = recorded(tmp_path / "run.safetensors", folder, edit=without_stages("ffn_router", "ffn_norm"))
    report = compared_files(folder, f"trace:{trace}", tokens=None)
    assert_clean(report)
    assert report.verdict == "match"


def test_fault_behind_unrecorded_stages_is_found_at_the_next_one(tmp_path: Path) -> None:
    fault = faults.f16_as_bf16("blk.1.attn_v.weight")
    report = against_a_run(
        tmp_path, "llama", "gguf:F16", "hf:F16", fault, edit=without_stages("v", "attn_context")
    )
    assert faulty(report) == ["layers.1.attn_out"]
    cause = Cause("dtype.mislabeled", "blk.1.attn_v.weight", declared="BF16", actual="F16")
    assert_proven(report, "layers.1.attn_out", cause)


@pytest.mark.parametrize(
    ("overrides", "gone", "stage", "cause"),
    [
        ({EPSILON: 1e-3}, ("attn_norm", "ffn_norm"), "layers.0.q",
         Cause("config.norm_epsilon", EPSILON, actual=1e-3)),
        ({"rope.freq_base": 5e5}, ("q_rope", "k_rope"), "layers.0.attn_scores",
         Cause("config.rope_theta", "rope.freq_base", actual=5e5)),
        ({"activation": "gelu"}, ("ffn_act", "ffn_out"), "layers.0.residual",
         Cause("config.activation", "activation", actual="gelu")),
        ({"norm_type": "layer"}, ("attn_norm", "q", "k", "v"), "layers.0.q_rope",
         Cause("config.norm_type", "norm_type", actual="layer")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("without", [(), CONFIG], ids=["config recorded", "config unknown"])
def test_cause_in_a_stage_that_was_not_recorded_is_found_behind_it(
    tmp_path: Path, overrides: dict[str, Any], gone: tuple[str, ...], stage: str, cause: Cause, without: Any
) -> None:
    edit = without_stages(*gone)
    report = against_a_run(
        tmp_path, "llama", "gguf:F32", "gguf:F32", without=without, overrides=overrides, edit=edit
    )
    assert_proven(report, stage, cause)


@pytest.mark.requires_transformers
def test_layers_that_were_not_recorded_have_the_sizes_of_the_file(tmp_path: Path) -> None:
    """A run that states no settings, of layers with other heads each, some of which it shows."""
    folder = build_tiny(tmp_path / "laguna", "laguna")

    def edit(stages: Stages) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, x) for name, x in stages if name.startswith(("layers.0.", "layers.4.")))

    trace = recorded(tmp_path / "run.safetensors", folder, without=CONFIG, edit=edit)
    assert_clean(compared_files(folder, f"trace:{trace}", tokens=None))


@pytest.mark.parametrize("gone", [("v",), ("v", "attn_context")])
@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        (faults.dropped("blk.1.attn_v.weight"), "value.missing", "suspected"),
        (faults.transposed("blk.1.attn_v.weight"), "layout.transposed", "confirmed"),
    ],
)
def test_what_a_file_cannot_compute_is_its_fault_though_it_was_not_recorded(
    tmp_path: Path, gone: tuple[str, ...], fault: Any, kind: str, status: Any
) -> None:
    report = against_a_run(tmp_path, "llama", "hf:F16", "gguf:F16", fault, edit=without_stages(*gone))
    assert report.first_divergence.name == "layers.1.v"
    assert report.verdict == "divergent"
    [found] = report.findings
    assert (found.kind, found.tensor, found.side, found.status) == (
        kind,
        "blk.1.attn_v.weight",
        "left",
        status,
    )


def moved(op: str, amount: torch.Tensor) -> Any:
    def edit(stages: Stages) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, x + amount[:, None] if name == op else x) for name, x in stages)

    return edit


def test_logits_are_compared_up_to_a_constant_for_each_token(tmp_path: Path) -> None:
    constants = torch.linspace(-40, 25, 12)
    report = against_a_run(tmp_path, "llama", "gguf:F16", "gguf:F16", edit=moved("logits", constants))
    assert_clean(report)
    assert sum("up to a constant" in note for note in report.notes) == 1


def test_no_other_stage_is_compared_up_to_a_constant(tmp_path: Path) -> None:
    constants = torch.full((12,), 0.5)
    report = against_a_run(
        tmp_path, "llama", "gguf:F16", "gguf:F16", edit=moved("layers.1.ffn_norm", constants)
    )
    assert report.verdict == "divergent"
    assert faulty(report)[0] == "layers.1.ffn_norm"


def test_two_tokens_logits_exchanged_are_no_constant(tmp_path: Path) -> None:
    def edit(stages: Stages) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, x.roll(1, -1) if name == "logits" else x) for name, x in stages)

    report = against_a_run(tmp_path, "llama", "gguf:F16", "gguf:F16", edit=edit)
    assert report.verdict == "divergent"
    assert faulty(report) == ["logits"]
    assert_causes(report, Cause("unexplained", "output.weight", status="suspected"))


def test_what_nothing_explains_in_four_layers_is_not_searched_in_the_next_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(tmp_path, tiny("llama", layers=6), "gguf:F32")

    def otherwise(stages: Stages) -> Stages:
        noise = torch.Generator().manual_seed(0)
        for name, value in stages:
            yield (
                name,
                value * torch.rand(value.shape, generator=noise) if name.endswith("ffn_act") else value,
            )

    searched: list[str] = []
    search = engine.Search.run
    monkeypatch.setattr(
        engine.Search, "run", lambda self: (searched.append(self.fault.stage), search(self))[1]
    )
    trace = recorded(tmp_path / "run.safetensors", model, edit=otherwise)
    report = compared_files(model, f"trace:{trace}", tokens=None)
    acts = [f"layers.{n}.ffn_act" for n in range(6)]
    assert [stage for stage in faulty(report) if stage in acts] == acts
    assert [stage for stage in searched if stage in acts] == acts[:4]
    assert [finding.evidence.stage for finding in report.findings if finding.evidence.stage in acts] == acts


def other_values(part: float) -> Any:
    """Every matrix with other values, but for a part of the file's own."""

    def changed(file: FileContents) -> FileContents:
        draw = torch.Generator().manual_seed(11)
        for name in file.tensors:
            own = torch.from_numpy(file.values(name)).float()
            if own.ndim > 1:
                noise = torch.randn(own.shape, generator=draw) * own.std()
                file = file.with_values(name, (part * own + (1 - part**2) ** 0.5 * noise).numpy())
        return file

    return changed


@pytest.mark.parametrize(
    ("part", "words"), [(0.0, "have nothing in common"), (0.98, "another revision, a fine-tune")]
)
def test_a_recording_of_other_weights_is_one_sentence(tmp_path: Path, part: float, words: str) -> None:
    report = against_a_run(tmp_path, "qwen2", "gguf:F32", "gguf:F32", other_values(part))
    [found] = report.findings
    assert (found.kind, found.side, found.status) == ("value.other_weights", "left", "suspected")
    assert found.message.startswith("the recording is of other weights")
    assert words in found.message
    assert "the file that was run" in found.recommendation
    assert report.verdict == "divergent"


def test_some_matrices_without_a_cause_are_no_other_weights(tmp_path: Path) -> None:
    shuffled = [faults.shuffled(f"blk.{n}.attn_output.weight", 3, 9, seed=1) for n in range(2)]
    report = against_a_run(tmp_path, "llama", "hf:F16", "gguf:F16", shuffled)
    assert [(f.kind, f.tensor) for f in report.findings] == [
        ("unexplained", f"blk.{n}.attn_output.weight") for n in range(2)
    ]
