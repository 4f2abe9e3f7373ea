"""A base with an adapter merged in memory: held to merged folders, to peft where it is installed, and to its errors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from fixtures import build
from fixtures.adapters import WRAPPED, merge, write_adapter, write_lora
from fixtures.comparing import TOKENS, compared_files, tiny
from fixtures.recipes import Recipe, build_folder
from rosetta.containers import open_container
from rosetta.errors import RosettaError
from rosetta.inspection.facts import inspection
from rosetta.model import Model, open_model

SPEC = tiny("llama")  # whose GGUF files have the rotary rows in another order than a folder
LAYERS = 2
UP = "model.layers.1.mlp.up_proj"
EXPERTS = {
    "qwen3moe": Recipe(
        "Qwen3MoeConfig", {"moe_intermediate_size": 32, "num_experts": 3, "num_experts_per_tok": 2}
    ),
    "gpt-oss": Recipe(
        "GptOssConfig",
        {"intermediate_size": 32, "num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 16},
    ),
}


def farthest(a: Model, b: Model) -> float:
    """The largest difference between two models' weights."""
    assert a.weights.keys() == b.weights.keys()
    return max(float((a.weights[name].values() - b.weights[name].values()).abs().max()) for name in a.weights)


def folders(tmp_path: Path, **config: Any) -> tuple[Path, Path]:
    base = build(tmp_path / "base", SPEC, "hf:F32")
    return base, write_adapter(tmp_path / "adapter", base, LAYERS, **config)


@pytest.mark.parametrize("container", ["hf:F32", "gguf:F32", "apr:F32"])
@pytest.mark.parametrize("config", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
def test_any_base_with_its_adapter_is_the_merged_folder(
    tmp_path: Path, container: str, config: dict[str, Any]
) -> None:
    base, adapter = folders(tmp_path, **config)
    merged = open_model(merge(tmp_path / "merged", base, adapter))
    own = build(tmp_path / "own", SPEC, container)
    assert farthest(open_model(own), merged) > 0.01
    assert farthest(open_model(f"peft:{own}+{adapter}"), merged) < 1e-6


def test_rank_and_alpha_are_those_of_the_first_pattern_that_a_module_ends_with(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path, alpha_pattern={"layers.1.mlp.up_proj": 18, "up_proj": 3})
    once, own = open_model(base).weights, open_model(f"peft:{base}+{adapter}").weights
    plain = open_model(merge(tmp_path / "merged", base, adapter)).weights
    for name, times in (
        ("blk.1.ffn_up.weight", 3.0),
        ("blk.0.ffn_up.weight", 0.5),
        ("blk.0.attn_q.weight", 1.0),
    ):
        added, wanted = (weights[name].values() - once[name].values() for weights in (own, plain))
        torch.testing.assert_close(added, times * wanted, atol=1e-6, rtol=0)


def test_a_part_of_the_rows_is_merged_as_all_of_them_are(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path, use_dora=True)
    weight = open_model(f"peft:{base}+{adapter}").weights["blk.0.attn_q.weight"]
    torch.testing.assert_close(weight.values(5, 23), weight.values()[5:23], atol=1e-6, rtol=0)
    torch.testing.assert_close(weight.rows([7, 2]), weight.values()[[7, 2]], atol=1e-6, rtol=0)


def test_a_tensor_that_was_trained_as_a_whole_stands_for_the_bases(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path)
    trained = np.full(open_model(base).weights["output_norm.weight"].dims, 0.75, np.float32)
    edit_weights(adapter, lambda tensors: tensors.update({f"{WRAPPED}model.norm.weight": trained}))
    found = open_model(f"peft:{base}+{adapter}").weights["output_norm.weight"].values()
    assert found.tolist() == trained.tolist()


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_embedding_that_was_resized_brings_its_tokens(tmp_path: Path, wrapped: bool) -> None:
    base, adapter = folders(tmp_path)
    names = ("model.embed_tokens.weight", "lm_head.weight")
    own = load_file(base / "model.safetensors")
    grown = {name: np.concatenate([own[name], own[name][:6] + 0.5]) for name in names}
    stored = {f"{WRAPPED}{name}": values for name, values in grown.items()}
    if wrapped:  # what peft adds where the embedding is trained as well: itself once more, and the base's
        for copy, times in (("modules_to_save", 1), ("original_module", 0)):
            stored[f"{WRAPPED}model.embed_tokens.{copy}.weight"] = times * grown[names[0]]
    edit_weights(adapter, lambda tensors: tensors.update(stored))
    merged = merge(tmp_path / "merged", base, adapter)
    save_file({**load_file(merged / "model.safetensors"), **grown}, merged / "model.safetensors")
    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] + 6}))
    operand, last = f"peft:{base}+{adapter}", config["vocab_size"] + 5
    assert compared_files(operand, merged, tokens=(*TOKENS[:4], last)).verdict == "match"
    report = compared_files(
        base, operand
    )  # without the adapter: its rows are no fault of those that both have
    assert {finding.kind for finding in report.findings} == {"value.low_rank"}


def edit_weights(adapter: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")


def edit_config(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def renamed(tensors: dict[str, Any]) -> None:
    for letter in "AB":
        tensors[f"{WRAPPED}model.layers.1.mlp.oops.lora_{letter}.weight"] = tensors.pop(
            f"{WRAPPED}{UP}.lora_{letter}.weight"
        )


def narrowed(tensors: dict[str, Any]) -> None:
    name = f"{WRAPPED}{UP}.lora_A.weight"
    tensors[name] = np.ascontiguousarray(tensors[name][:, :-8])


def halved(tensors: dict[str, Any]) -> None:
    del tensors[f"{WRAPPED}{UP}.lora_B.weight"]


def pickled(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(b"PK\x03\x04")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda a: edit_weights(a, renamed), "'model.layers.1.mlp.oops.weight': the base"),
        (lambda a: edit_weights(a, narrowed), "is [96, 56] in the adapter and [96, 64] in the base"),
        (lambda a: edit_weights(a, halved), f"module '{UP}': has no lora_B"),
        (lambda a: edit_config(a, r=8), "lora_A has rank 4, lora_B 4, and adapter_config.json says 8"),
        (lambda a: edit_config(a, peft_type="IA3"), "peft_type 'IA3' is not merged here"),
        (lambda a: edit_config(a, layer_replication=[[0, 1]]), "layer_replication is not merged here"),
        (lambda a: edit_config(a, target_parameters=["x.y"]), "has no tensors for 'x.y', which"),
        (lambda a: edit_config(a, init_lora_weights="pissa"), "'pissa' changes the base itself"),
        (lambda a: edit_config(a, use_dora=True), "has no lora_magnitude_vector"),
        (lambda a: edit_config(a, rank_pattern={"(": 2}), "is no regular expression"),
        (pickled, "as a pickle only (adapter_model.bin), which rosetta never opens"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_an_adapters_error_is_one_sentence(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    base, adapter = folders(tmp_path)
    damage(adapter)
    with pytest.raises(RosettaError) as caught:
        open_model(f"peft:{base}+{adapter}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_base_and_a_missing_plus_are_said(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path)
    with pytest.raises(RosettaError, match="nowhere: no such file or directory"):
        open_model(f"peft:{tmp_path / 'nowhere'}+{adapter}")
    with pytest.raises(RosettaError, match=r"does not name a base and an adapter.*peft:BASE\+ADAPTER"):
        open_model(f"peft:{base}")


def test_what_writes_files_says_that_it_takes_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(RosettaError, match="merged in memory, no file of its own"):
        open_container("peft:base+adapter")


def test_paths_may_have_a_plus_sign(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path)
    moved, base = adapter.rename(tmp_path / "a+b"), base.rename(tmp_path / "c+d")
    assert open_model(f"peft:{base}+{moved}").container.label == "HF+LoRA"


def test_inspect_says_what_is_merged(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path)
    assert (
        f"{adapter} is merged in memory: LoRA of 8 modules, scale 1.5"
        in inspection(f"peft:{base}+{adapter}").notes
    )


@pytest.mark.parametrize(
    ("times", "layers", "said", "weights"),
    [
        (0, None, "not merged in the left file", 8),
        (2, None, "merged twice, or with the scale 3 (alpha/√r) in the left file", 8),
        (2 / 3, None, "merged with the scale 1 (1, without alpha/r) in place of 1.5", 8),
        (2, [], "", 0),
        (1, [0], "not merged in the left file: blk.1.", 4),
    ],
)
def test_how_often_an_adapter_is_merged_is_one_finding(
    tmp_path: Path, times: float, layers: list[int] | None, said: str, weights: int
) -> None:
    base, adapter = folders(tmp_path)
    operand = f"peft:{base}+{adapter}"
    left = operand if layers == [] else merge(tmp_path / "m", base, adapter, times=times, layers=layers)
    report = compared_files(left, operand)
    assert len(report.findings) == (weights > 0)
    for finding in report.findings:
        assert (finding.kind, finding.status, finding.tensor) == ("value.low_rank", "confirmed", None)
        assert finding.message.startswith(f"{weights} weights: the adapter is ")
        assert said in finding.message


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_another_scale_of_an_adapter_that_both_sides_have_is_said(tmp_path: Path, dtype: str) -> None:
    """llama.cpp's convert_lora_to_gguf.py leaves use_rslora out: alpha/r is applied in place of alpha/√r."""
    base, adapter = folders(tmp_path, use_rslora=True)
    lora = write_lora(tmp_path / "lora.gguf", adapter, {"self_attn.q_proj": 4, "self_attn.k_proj": 2})
    file = build(tmp_path / "file", SPEC, f"gguf:{dtype}")
    report = compared_files(f"lora:{file}+{lora}", f"peft:{base}+{adapter}")
    [finding] = report.findings
    assert (finding.kind, finding.side, finding.status) == ("value.low_rank", "left", "confirmed")
    assert "8 weights: the adapter is merged with the scale 1.5 (alpha/r) in place of 3" in finding.message


@pytest.mark.parametrize(
    ("turned", "said", "findings"),
    [
        ("A", "merged with A read as its transpose", 1),
        ("B", "merged with B read as its transpose", 1),
        ("AB", "merged with A and B read as their transposes", 1),
        ("BA", "merged with the product of its factors turned", 2),  # queries are square, of either layer
    ],
)
def test_factors_that_were_turned_are_said(tmp_path: Path, turned: str, said: str, findings: int) -> None:
    base, adapter = folders(tmp_path)
    broken = merge(tmp_path / "m", base, adapter, turned=turned)
    report = compared_files(broken, f"peft:{base}+{adapter}", reference="right")
    assert [finding.kind for finding in report.findings] == ["value.low_rank"] * findings
    for finding in report.findings:
        assert f"the adapter is {said} in the left file" in finding.message
        assert finding.status == "confirmed"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"times": 13 / 6}, r"merged with the scale 3\.25\d? in place of 1\.5"),
        ({"times": 2}, r"merged with the scale 3 \(alpha/√r\) in place of 1\.5"),
        ({"times": 0}, "not merged"),
        ({"turned": "A"}, "merged with A read as its transpose"),
        ({"stretched": False}, "merged without the lengths that DoRA gives its rows"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["hf:F32", "hf:BF16"])
def test_a_merge_of_dora_that_went_wrong_is_said(
    tmp_path: Path, dtype: str, wrong: dict[str, Any], said: str
) -> None:
    base, adapter = folders(tmp_path, use_dora=True)
    broken = merge(tmp_path / "m", base, adapter, **wrong)
    if wrong.get("times") == 0:
        shutil.copy(base / "model.safetensors", broken / "model.safetensors")
    if dtype == "hf:BF16":
        rounded_to_bf16(broken)
    report = compared_files(broken, f"peft:{base}+{adapter}")
    kind = "value.low_rank" if wrong.get("stretched", True) else "adapter.merge"
    (finding,) = report.findings
    assert (finding.kind, finding.side, finding.status) == (kind, "left", "confirmed")
    assert re.search(f"the adapter (is|otherwise than it is meant:) {said}", finding.message)


def rounded_to_bf16(folder: Path) -> None:
    held = load_torch(folder / "model.safetensors")
    save_torch({name: values.bfloat16() for name, values in held.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("trained", ["lm_head.weight", "model.norm.weight"])
def test_a_tensor_that_was_trained_as_a_whole_and_left_out_is_said(
    tmp_path: Path, trained: str, side: str
) -> None:
    base, adapter = folders(tmp_path)
    own = load_file(base / "model.safetensors")[trained]
    other = own + np.random.default_rng(1).standard_normal(own.shape).astype(np.float32) / 8
    edit_weights(adapter, lambda tensors: tensors.update({f"{WRAPPED}{trained}": other}))
    forgotten, operand = merge(tmp_path / "merged", base, adapter), f"peft:{base}+{adapter}"
    report = compared_files(*((forgotten, operand) if side == "left" else (operand, forgotten)))
    [finding] = report.findings
    assert (finding.kind, finding.status) == ("adapter.merge", "confirmed")
    assert f"is not in the {side} file, which holds the base's" in finding.message


def with_trained_tokens(adapter: Path, base: Path, rows: list[int], stated: Any) -> Any:
    """Rows of the embedding beside an adapter, as peft saves them; the whole embedding with them is given."""
    whole = load_file(base / "model.safetensors")["model.embed_tokens.weight"].copy()
    whole[rows] = np.random.default_rng(2).standard_normal((len(rows), whole.shape[1])) / 4
    name = f"{WRAPPED}model.embed_tokens.token_adapter.trainable_tokens_delta"
    edit_weights(adapter, lambda tensors: tensors.update({name: whole[rows].copy()}))
    edit_config(adapter, trainable_token_indices=stated)
    return whole


@pytest.mark.parametrize("stated", [[17, 3, 5], {"embed_tokens": [17, 3, 5]}], ids=str)
def test_tokens_that_were_trained_stand_for_the_bases(tmp_path: Path, stated: Any) -> None:
    base, adapter = folders(tmp_path)
    whole = with_trained_tokens(adapter, base, [17, 3, 5], stated)
    weight = open_model(f"peft:{base}+{adapter}").weights["token_embd.weight"]
    assert np.array_equal(weight.values().numpy(), whole)
    assert np.array_equal(weight.values(4, 20).numpy(), whole[4:20])
    assert "3 rows in place of the base's" in " ".join(inspection(f"peft:{base}+{adapter}").notes)


def test_tokens_that_were_trained_and_left_out_are_said(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path)
    with_trained_tokens(adapter, base, [TOKENS[0], 3], [TOKENS[0], 3])
    report = compared_files(merge(tmp_path / "merged", base, adapter), f"peft:{base}+{adapter}")
    [finding] = report.findings
    assert (finding.kind, finding.tensor) == ("adapter.merge", "token_embd.weight")
    assert finding.status == "confirmed"


def test_tokens_that_the_config_does_not_list_are_refused(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path)
    with_trained_tokens(adapter, base, [3, 5], [3, 5, 7])
    with pytest.raises(RosettaError, match=r"lists 3 rows in trainable_token_indices"):
        open_model(f"peft:{base}+{adapter}")


def test_the_side_with_the_adapter_may_be_the_accused_one(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path)
    broken = merge(tmp_path / "m", base, adapter, turned="A")
    report = compared_files(f"peft:{base}+{adapter}", broken)
    assert {finding.kind for finding in report.findings} == {"value.low_rank"}
    assert all("read as its transpose in the right file" in finding.message for finding in report.findings)


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    "config", [{}, {"use_rslora": True}, {"use_dora": True}, {"trainable_token_indices": [3, 17]}], ids=str
)
def test_the_folder_that_peft_merges_is_the_same(tmp_path: Path, config: dict[str, Any]) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    base, adapter = folders(tmp_path, **config)
    if rows := config.get("trainable_token_indices"):
        with_trained_tokens(adapter, base, rows, rows)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(loaded, adapter).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    assert farthest(open_model(f"peft:{base}+{adapter}"), open_model(tmp_path / "merged")) < 1e-6


OF_A_VOCABULARY = {
    "DoRA of an embedding": {"target_modules": ["up_proj", "embed_tokens"], "use_dora": True},
    "an embedding saved": {"modules_to_save": ["embed_tokens"]},
    "a head saved": {"modules_to_save": ["lm_head"]},
    "both saved": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "both tied": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
}


@pytest.mark.requires_transformers
@pytest.mark.parametrize("config", OF_A_VOCABULARY.values(), ids=OF_A_VOCABULARY)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "apart"])
def test_what_is_trained_of_a_vocabulary_is_what_peft_merges(
    tmp_path: Path, config: dict[str, Any], tied: bool
) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    base = build(tmp_path / "base", tiny("llama", tied=tied), "hf:F32")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = peft.get_peft_model(
        loaded, peft.LoraConfig(r=4, lora_alpha=6, **{"target_modules": ["up_proj"], **config})
    )
    draw = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad and "magnitude" in name:
            parameter.data *= 1 + 0.2 * torch.rand(parameter.shape, generator=draw)
        elif parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    operand, merged = f"peft:{base}+{tmp_path / 'adapter'}", tmp_path / "merged"
    assert farthest(open_model(operand), open_model(merged)) < 1e-6
    report = compared_files(operand, merged)
    assert (report.verdict, report.findings) == ("match", [])


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", ["qwen3moe", "gpt-oss"])
def test_experts_of_one_parameter_are_those_that_peft_merges(tmp_path: Path, name: str) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    base = build_folder(tmp_path / "base", EXPERTS[name])
    loaded = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj"], target_parameters=names)
    adapted = peft.get_peft_model(loaded, config)
    for parameter in (tensor for key, tensor in adapted.named_parameters() if "lora_" in key):
        parameter.data = 0.05 * torch.randn_like(parameter)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    found = open_model(f"peft:{base}+{tmp_path / 'adapter'}")
    assert farthest(found, open_model(base)) > 0.01
    assert farthest(found, open_model(tmp_path / "merged")) < 1e-6


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", ["qwen3moe", "gpt-oss"])
def test_experts_of_one_parameter_are_added_to_each(tmp_path: Path, name: str) -> None:
    base, draw, count, rank = build_folder(tmp_path / "base", EXPERTS[name]), np.random.default_rng(1), 3, 2
    module = "base_model.model.model.layers.0.mlp.experts"
    sizes = {".base_layer": (64, 64), "": (64, 32)}  # outputs and inputs: gate and up within, down around it
    factors = {
        at: (draw.standard_normal((count * rank, columns)), draw.standard_normal((rows, count * rank)))
        for at, (rows, columns) in sizes.items()
    }
    folder = tmp_path / "adapter"
    folder.mkdir()
    stored = {
        f"{module}{at}.lora_{letter}.weight": values.astype(np.float32)
        for at, pair in factors.items()
        for letter, values in zip("AB", pair, strict=True)
    }
    save_file(stored, folder / "adapter_model.safetensors")
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    stated = {"peft_type": "LORA", "r": rank, "lora_alpha": 3, "target_parameters": names}
    (folder / "adapter_config.json").write_text(json.dumps(stated))
    plain, found = open_model(base).weights, open_model(f"peft:{base}+{folder}").weights
    a, b = factors[""]
    for e in range(count):
        weight = f"blk.0.ffn_down_exps.{e}.weight"
        added = (found[weight].values() - plain[weight].values()).numpy()
        wanted = 1.5 * b[:, e::count] @ a[e * rank : (e + 1) * rank]  # columns of B by turns
        np.testing.assert_allclose(added, wanted, atol=1e-5)
