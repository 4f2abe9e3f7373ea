"""A planted fault is repaired on disk: the copy matches, and what no repair concerns keeps its bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures import Llama3Scaling, ModelSpec, build, faults, model_spec, pair
from fixtures.architectures import RECIPES
from fixtures.faults import Fault
from fixtures.recipes import build_folder
from rosetta.model import open_model
from tests.repair.conftest import Repair, changed, tensors

pytestmark = pytest.mark.sweep

LLAMA, QWEN2, GPT2, MISTRAL = (model_spec(name) for name in ("llama", "qwen2", "gpt2", "mistral"))
QWEN3_SMALL = model_spec("qwen3", layers=1)
LLAMA31 = model_spec("llama", rope_scaling=Llama3Scaling())
APR_NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_q_norm": "self_attn.q_norm",
}  # fmt: skip
PAIRS = [
    ("apr:F16", "gguf:F16"),
    ("gguf:F16", "hf:F16"),
    ("hf:BF16", "apr:BF16"),
    ("apr-gguf:F32", "gguf:Q8_0"),
]
WEIGHTS: dict[str, tuple[Fault, set[str]]] = {
    "transposed": (faults.transposed("blk.0.attn_k.weight"), {"blk.0.attn_k.weight"}),
    "transposed square": (faults.transposed("blk.1.attn_q.weight", "as_expected"), {"blk.1.attn_q.weight"}),
    "dims swapped": (faults.dims_swapped("blk.0.ffn_up.weight"), {"blk.0.ffn_up.weight"}),
    "rope order": (faults.rope_order_changed("blk.1.attn_q.weight"), {"blk.1.attn_q.weight"}),
    "shifted": (faults.shifted("blk.1.ffn_up.weight", 12), {"blk.1.ffn_up.weight"}),
    "zeroed": (faults.zeroed("blk.1.ffn_up.weight", 3, 9), {"blk.1.ffn_up.weight"}),
    "nonfinite": (faults.nonfinite("blk.1.ffn_up.weight", 70), {"blk.1.ffn_up.weight"}),
    "sign lost": (faults.scaled("blk.1.ffn_up.weight", -1), {"blk.1.ffn_up.weight"}),
    "scaled": (faults.scaled("blk.1.ffn_up.weight", 3), {"blk.1.ffn_up.weight"}),
    "offset": (faults.offset("blk.1.ffn_norm.weight", 1), {"blk.1.ffn_norm.weight"}),
    "swapped": (
        faults.swapped("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"),
        {"blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"},
    ),
    "corrupted": (faults.corrupted("blk.1.ffn_up.weight", 1000, 500, 1), {"blk.1.ffn_up.weight"}),
    "missing norm": (faults.dropped("blk.1.ffn_norm.weight"), {"blk.1.ffn_norm.weight"}),
    "missing matrix": (faults.dropped("blk.1.attn_q.weight"), {"blk.1.attn_q.weight"}),
}


def own_name(canonical: str, operand: str) -> str:
    """What the fixtures' files call a tensor of a layer."""
    if operand.startswith(("gguf", "apr-gguf")):
        return canonical
    _, layer, stem, suffix = canonical.split(".")
    return f"model.layers.{layer}.{APR_NAMES[stem]}.{suffix}"


def two_of(pairs: list[tuple[str, str]], place: int) -> list[tuple[str, str]]:
    """Two of the pairs, other ones for each place: every fault in two containers, every container often."""
    return [pairs[(place + step) % len(pairs)] for step in (0, 1)]


@pytest.mark.parametrize(
    ("what", "left", "right"),
    [(what, *two) for place, what in enumerate(WEIGHTS) for two in two_of(PAIRS, place)],
)
def test_weight_fault_is_repaired_and_nothing_else_is_touched(
    tmp_path: Path, repair: Repair, what: str, left: str, right: str
) -> None:
    fault, concerned = WEIGHTS[what]
    wrong, believed = pair(tmp_path, LLAMA, left, right, fault)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    names = {own_name(name, left) for name in concerned}
    assert changed(tensors(wrong), tensors(run.fixed)) == names
    assert all(f"  {name}: " in run.out for name in names), "each changed tensor is said"


@pytest.mark.parametrize(
    ("key", "said"), [("feed_forward_length", 256), ("embedding_length", 512), ("vocab_size", 300)]
)
@pytest.mark.parametrize("left", ["apr:F16", "gguf:F16", "hf:F16"])
def test_size_that_no_tensor_has_is_written_as_the_tensors_have_it(
    tmp_path: Path, repair: Repair, left: str, key: str, said: int
) -> None:
    wrong, believed = pair(tmp_path, LLAMA, left, "gguf:Q8_0", faults.config_set(key, said))
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    fixed, clean = open_model(run.fixed), open_model(build(tmp_path / "clean", LLAMA, left))
    assert fixed.config == clean.config
    assert not changed(tensors(wrong), tensors(run.fixed))


@pytest.mark.parametrize("what", ["transposed", "rope order", "dims swapped", "swapped"])
@pytest.mark.parametrize("left", ["apr:F16", "gguf:F16", "hf:F16"])
def test_what_moves_bytes_only_gives_the_clean_file_back(
    tmp_path: Path, repair: Repair, left: str, what: str
) -> None:
    wrong, believed = pair(tmp_path, LLAMA, left, "gguf:Q8_0", WEIGHTS[what][0])
    clean = build(tmp_path / "clean", LLAMA, left)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    assert tensors(run.fixed) == tensors(clean)
    if not clean.is_dir():
        assert run.fixed.read_bytes() == clean.read_bytes(), "the whole file is the clean one, byte for byte"


@pytest.mark.parametrize(
    ("left", "right", "fault"),
    [
        ("apr-gguf:F16", "hf:BF16", faults.bf16_as_f16("blk.1.ffn_up.weight")),
        ("gguf:BF16", "hf:BF16", faults.f16_as_bf16("blk.1.ffn_up.weight")),
        ("hf:F16", "gguf:F16", faults.bf16_as_f16("blk.0.attn_v.weight")),
        ("gguf:Q6_K", "hf:F16", faults.relabeled("blk.1.ffn_up.weight", "Q4_K")),
    ],
)
def test_misread_bytes_get_another_label_only(
    tmp_path: Path, repair: Repair, left: str, right: str, fault: Fault
) -> None:
    wrong, believed = pair(tmp_path, QWEN2, left, right, fault)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    before, after = tensors(wrong), tensors(run.fixed)
    (name,) = changed(before, after)
    assert before[name][1] == after[name][1]
    assert before[name][0] != after[name][0]
    held = after[name][2][: len(before[name][2])]
    assert before[name][2] == held, "the bytes are what they were (and, of a wider dtype, those behind them)"


@pytest.mark.parametrize("left", ["gguf:Q4_0", "gguf:Q4_K", "apr:APR_Q4"])
def test_nibbles_are_put_in_order_and_scales_left_alone(tmp_path: Path, repair: Repair, left: str) -> None:
    fault = faults.nibbles_reordered("blk.0.ffn_up.weight")
    wrong, believed = pair(tmp_path, QWEN2, left, "hf:F32", fault)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    assert tensors(run.fixed) == tensors(build(tmp_path / "clean", QWEN2, left))


def test_quantised_blocks_come_from_a_reference_of_the_same_dtype(tmp_path: Path, repair: Repair) -> None:
    wrong, believed = pair(
        tmp_path, QWEN2, "gguf:Q4_K", "gguf:Q4_K", faults.zeroed("blk.1.ffn_up.weight", 3, 9)
    )
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    assert tensors(run.fixed) == tensors(believed)
    assert "value.zeroed" in run.out
    assert str(believed) in run.out, "it says whence the values come"


@pytest.mark.parametrize("what", ["zeroed", "transposed square", "sign lost", "nonfinite"])
@pytest.mark.parametrize("left", ["gguf:Q8_0", "gguf:Q4_0", "apr-gguf:Q4_K"])
def test_what_a_quantised_dtype_cannot_say_is_not_rounded_again(
    tmp_path: Path, repair: Repair, left: str, what: str
) -> None:
    wrong, believed = pair(tmp_path, QWEN2, left, "gguf:F16", WEIGHTS[what][0])
    (name,) = WEIGHTS[what][1]
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    assert changed(tensors(wrong), tensors(run.fixed)) == {name}
    dims, data = tensors(run.fixed)[name][1:]
    assert (dims, data) == tensors(believed)[name][1:], "the reference's own tensor, bit for bit"
    assert "without rounding them again" in run.out


SETTINGS: list[tuple[str, ModelSpec, Fault]] = [
    ("epsilon", LLAMA, faults.norm_epsilon(1e-2)),
    ("epsilon missing", model_spec("llama", epsilon=1e-2), faults.norm_epsilon(None)),
    ("theta", LLAMA, faults.rope_theta(500.0)),
    ("theta missing", model_spec("llama", theta=500.0), faults.rope_theta(None)),
    ("heads", LLAMA, faults.head_count(2)),
    ("kv heads", LLAMA, faults.head_count_kv(4)),
    ("too few layers", LLAMA, faults.layer_count(1)),
    ("too many layers", LLAMA, faults.layer_count(5)),
    ("scaling lost", LLAMA31, faults.rope_scaling_lost()),
    ("scaling of another factor", LLAMA31, faults.rope_scaling_factor(4.0)),
    ("scaling invented", LLAMA, faults.rope_scaling_added(4.0)),
    ("rotated dimensions", LLAMA, faults.rope_dimensions(32)),
    ("attention scale", LLAMA, faults.attention_scale(0.5)),
    ("window", MISTRAL, faults.sliding_window(4)),
    ("activation", LLAMA, faults.activation("gelu")),
    ("gpt2's epsilon", GPT2, faults.norm_epsilon(1e-1)),
]


STATING = [
    ("apr:F16", "gguf:F16"),
    ("gguf:F16", "hf:F16"),
    ("hf:F16", "gguf:F16"),
    ("hf-before-5:F16", "apr:F16"),
]


@pytest.mark.parametrize(
    ("what", "left", "right", "spec", "fault"),
    [
        (what, *two, spec, fault)
        for place, (what, spec, fault) in enumerate(SETTINGS)
        for two in two_of(STATING, place)
        if not (what == "activation" and two[0].startswith("gguf"))  # GGUF has no key for it
        # transformers' Llama reads no key of these.
        and not (what in ("rotated dimensions", "attention scale") and two[0].startswith("hf"))
    ],
)
def test_setting_is_written_under_the_files_own_spelling(
    tmp_path: Path, repair: Repair, what: str, left: str, right: str, spec: ModelSpec, fault: Fault
) -> None:
    wrong, believed = pair(tmp_path, spec, left, right, fault)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    before, after = tensors(wrong), tensors(run.fixed)
    assert changed(before, after) <= {"rope_freqs.weight"}, "a setting leaves the tensors alone"


STRUCTURE: list[tuple[str, ModelSpec, str, str, Any]] = [
    ("layer dropped", LLAMA, "gguf:F16", "hf:F16", faults.layer_dropped(1)),
    ("layer lost, the others numbered on", model_spec("llama", layers=3), "apr:F16", "gguf:F16", faults.layer_lost(1)),
    ("layers exchanged", LLAMA, "hf:F16", "gguf:F16", faults.layers_swapped(0, 1)),
    ("head of its own lost", model_spec("qwen2", tied=False), "hf:F16", "gguf:F16", faults.dropped("output.weight")),
    ("head of its own lost", model_spec("qwen2", tied=False), "gguf:F16", "apr:F16", faults.dropped("output.weight")),
    ("bias lost", QWEN2, "apr:F16", "gguf:F16", faults.dropped("blk.0.attn_q.bias")),
    ("all q norms lost", QWEN3_SMALL, "hf:F16", "gguf:F16", faults.dropped("blk.0.attn_q_norm.weight")),
    ("final norm lost", QWEN2, "apr:F16", "gguf:Q8_0", faults.dropped("output_norm.weight")),
    ("positions lost", GPT2, "apr:F16", "gguf:F16", faults.dropped("position_embd.weight")),
    ("positions lost", GPT2, "hf:F16", "gguf:F16", faults.dropped("position_embd.weight")),
    ("fused bias lost", GPT2, "gguf:F16", "apr:F16", faults.dropped("blk.1.attn_qkv.bias")),
    ("fused parts reordered", GPT2, "hf:F16", "gguf:F16", faults.fused_order("blk.0.attn_qkv.weight", "kqv")),
    ("fused parts reordered", GPT2, "gguf:Q8_0", "hf:F16", faults.fused_order("blk.0.attn_qkv.weight", "vkq")),
    ("part of a fused one zeroed", GPT2, "gguf:F16", "apr:F16", faults.zeroed("blk.1.attn_qkv.weight", 300, 330)),
    ("another architecture's name", LLAMA, "gguf:F16", "hf:F16", faults.architecture("qwen2")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "left", "right", "fault"), [c[1:] for c in STRUCTURE], ids=[f"{c[0]} {c[2]}" for c in STRUCTURE]
)
def test_structure_is_repaired(
    tmp_path: Path, repair: Repair, spec: ModelSpec, left: str, right: str, fault: Fault
) -> None:
    wrong, believed = pair(tmp_path, spec, left, right, fault)
    clean = build(tmp_path / "clean", spec, left)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    assert tensors(run.fixed).keys() == tensors(clean).keys(), "added tensors are named as the others are"
    dims = [{name: found[1] for name, found in tensors(path).items()} for path in (run.fixed, clean)]
    assert dims[0] == dims[1]


@pytest.mark.parametrize("left", ["apr:F16", "gguf:Q8_0", "hf:F32"])
def test_several_faults_at_once(tmp_path: Path, repair: Repair, left: str) -> None:
    planted = [
        faults.rope_order_changed("blk.0.attn_k.weight"),
        faults.norm_epsilon(1e-2),
        faults.swapped("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"),
        faults.dropped("blk.1.ffn_norm.weight"),
    ]
    wrong, believed = pair(tmp_path, LLAMA, left, "gguf:F16", planted)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    assert tensors(run.fixed).keys() == tensors(build(tmp_path / "clean", LLAMA, left)).keys()


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_that_is_not_believed_is_repaired(tmp_path: Path, repair: Repair, side: str) -> None:
    fault = faults.norm_epsilon(1e-2)
    paths = pair(tmp_path, QWEN2, "gguf:F16", "gguf:F16", fault, side="left" if side == "left" else "right")
    reference = "right" if side == "left" else "left"
    run = repair(*paths, "--reference", reference)
    assert run.code == 0, run.out + run.err
    assert "0.01 -> 1e-06" in run.out
    assert run.fixed.read_bytes() == paths[1 if side == "left" else 0].read_bytes()


def test_both_files_wrong_are_repaired_one_after_the_other(tmp_path: Path, repair: Repair) -> None:
    left = build(tmp_path / "a", QWEN2, "apr:F16", faults.norm_epsilon(1e-2))
    right = build(tmp_path / "b", QWEN2, "gguf:F16", faults.dims_swapped("blk.0.attn_k.weight"))
    first = repair(left, right)
    assert first.code == 1, "the reference contradicts itself, so this cannot match yet"
    assert f"repair the right file next: rosetta repair {first.fixed} {right} -o NAME" in first.out
    second = repair(first.fixed, right, fixed=tmp_path / "second.gguf")
    assert second.code == 0, second.out + second.err
    assert second.fixed.read_bytes() == build(tmp_path / "clean", QWEN2, "gguf:F16").read_bytes()


def test_padding_behind_the_vocabulary_is_kept(tmp_path: Path, repair: Repair) -> None:
    wrong = build(
        tmp_path / "a", model_spec("llama", vocab=416), "gguf:Q8_0", faults.zeroed("token_embd.weight", 3, 9)
    )
    believed = build(tmp_path / "b", LLAMA, "gguf:Q8_0")
    run = repair(wrong, believed, "--tokens", "3,4,5,6,7,8,20,60")
    assert run.code == 0, run.out + run.err
    rows = 384 * (256 // 32 * 34)  # bytes of the common rows
    before, after = (tensors(path)["token_embd.weight"] for path in (wrong, run.fixed))
    assert after[:2] == before[:2]
    assert after[2][rows:] == before[2][rows:]
    assert after[2][:rows] == tensors(believed)["token_embd.weight"][2]


def test_a_repair_that_would_be_a_copy_is_refused_with_its_share(repair: Repair, tmp_path: Path) -> None:
    wrong = [faults.zeroed(f"blk.{n}.ffn_{part}.weight") for n in range(2) for part in ("up", "gate", "down")]
    left, right = pair(tmp_path, "llama", "gguf:F16", "gguf:F16", wrong)
    done = repair(left, right, copy=False)
    assert done.code == 2
    assert not done.fixed.exists()
    share = re.search(
        r"(\d+)% of the tensors' bytes would come from .*: that is a copy of it, not a repair", done.err
    )
    assert share is not None
    reader = gguf.GGUFReader(left)
    zero = sum(
        int(t.n_bytes)
        for t in reader.tensors
        if t.name.split(".")[2:3] and "ffn_" in t.name and "norm" not in t.name
    )
    assert int(share[1]) == round(100 * zero / sum(int(t.n_bytes) for t in reader.tensors))
    assert repair(left, right).code == 0


def test_a_repair_of_little_needs_no_permission(repair: Repair, tmp_path: Path) -> None:
    left, right = pair(tmp_path, "llama", "gguf:F16", "gguf:F16", faults.transposed("blk.0.attn_q.weight"))
    assert repair(left, right, copy=False).code == 0


@pytest.mark.requires_transformers
@pytest.mark.parametrize("fault", ["grouped otherwise", "a part scaled"])
def test_parts_of_each_head_are_written_beside_each_other(repair: Repair, tmp_path: Path, fault: str) -> None:
    """GPT-NeoX has q, k and v of each head beside each other in one tensor."""
    pytest.importorskip("transformers")
    sound, wrong = (build_folder(tmp_path / name, RECIPES["gptneox"]) for name in ("sound", "wrong"))
    weights = load_file(wrong / "model.safetensors")
    heads = json.loads((wrong / "config.json").read_text())["num_attention_heads"]
    name = "gpt_neox.layers.1.attention.query_key_value.weight"
    by_head = weights[name].view(heads, 3, -1, weights[name].shape[-1])  # [heads, q k v, head size, C]
    if fault == "a part scaled":
        by_head[:, 1] *= 2
    else:
        by_head = by_head.transpose(0, 1)
    weights[name] = by_head.reshape(weights[name].shape).contiguous()
    save_file(weights, wrong / "model.safetensors", metadata={"format": "pt"})
    run = repair(wrong, sound, "--tokens", "5,9,17,33", fixed=tmp_path / "fixed")
    assert run.code == 0, run.err
    fixed, clean = (load_file(folder / "model.safetensors") for folder in (run.fixed, sound))
    assert all(torch.equal(fixed[key], clean[key]) for key in clean)
