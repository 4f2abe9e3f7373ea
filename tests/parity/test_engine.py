"""Whole parity runs: what is said is what transformers generates, clean pairs are at no fault, faults are located."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import build, faults, model_spec, pair
from fixtures.builders import gguf_contents
from fixtures.writing import write
from rosetta.errors import UnsupportedError, UsageError
from rosetta.model import open_model
from rosetta.parity.engine import parity
from rosetta.parity.options import ParityOptions
from rosetta.parity.prompts import BUILT_IN, Prompt
from rosetta.parity.results import Parity

FEW = ParityOptions(generate=8)


def run(
    *operands: Path | str, prompts: tuple[Prompt, ...] = BUILT_IN, options: ParityOptions = FEW
) -> Parity:
    return parity([str(operand) for operand in operands], prompts, options)


@pytest.mark.requires_transformers
def test_what_we_say_is_what_transformers_generates(tmp_path: Path) -> None:
    import torch
    import transformers

    folder = build(tmp_path, "llama", "hf:F32")
    found = run(folder, options=ParityOptions(generate=12))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for output in found.outputs:
        [said] = model.generate(
            torch.tensor([output.prompt_ids]), max_new_tokens=12, do_sample=False, eos_token_id=-1
        ).tolist()
        assert said[len(output.prompt_ids) :] == output.ids
    assert (found.verdict, found.cells) == ("match", [])


@pytest.mark.requires_llamacpp
def test_twelve_cells_of_three_models_are_at_no_fault(tmp_path: Path) -> None:
    pairs = {
        "llama": ("hf:F32", "gguf:F32"),
        "qwen2": ("apr:F16", "gguf:Q4_K_M"),
        "gpt2": ("hf:F32", "gguf:F32"),
    }
    cells = []
    for name, dtypes in pairs.items():
        (tmp_path / name).mkdir()
        left, right = pair(tmp_path / name, name, *dtypes)
        found = run(left, f"llamacpp:{right}", options=ParityOptions(generate=32))
        assert found.findings == []
        cells += found.cells
    assert len(cells) == 12
    assert [cell.class_ for cell in cells].count("fault") == 0
    assert [cell.class_ for cell in cells].count("match") >= 9
    near = [cell for cell in cells if cell.class_ == "near_tie"]
    assert near, "four bits against sixteen part somewhere"
    assert all(
        cell.margin is not None and cell.error is not None and cell.margin <= cell.error for cell in near
    )


def test_a_fault_is_found_at_its_stage_on_the_common_tokens(tmp_path: Path) -> None:
    left, right = pair(tmp_path, "qwen2", "apr:F16", "gguf:F16", faults.rope_theta(500.0), side="left")
    found = run(left, right)
    wrong = [cell for cell in found.cells if cell.class_ == "fault"]
    assert wrong
    assert {cell.stage for cell in wrong} == {"layers.0.q_rope"}
    assert {(cause.kind, cause.side, cause.status) for cause in found.findings} == {
        ("config.rope_theta", str(left), "confirmed")
    }
    assert found.verdict == "fault"
    believing = run(left, right, options=replace(FEW, believes_left=True))
    assert {cell.side for cell in believing.cells} == {str(right)}
    assert {cause.side for cause in believing.findings} == {str(right)}


@pytest.mark.requires_transformers
def test_what_a_cache_forgets_is_no_near_tie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is in what is measured: by that alone any two candidates would be near each other."""
    import torch

    from rosetta.runtimes.transformers import session

    load = session._load

    def positions_restart(path: Path, dtype: torch.dtype) -> Any:
        model: Any = load(path, dtype)
        own = model.forward

        def forward(**given: Any) -> Any:
            if given["input_ids"].shape[1] == 1:
                given["position_ids"] = torch.zeros_like(given["input_ids"])
            return own(**given)

        model.forward = forward
        return model

    monkeypatch.setattr(session, "_load", positions_restart)
    left, right = pair(tmp_path, "llama", "hf:F32", "gguf:F32")
    found = run(f"transformers:{left}", right, options=ParityOptions(generate=16))
    wrong = [cell for cell in found.cells if cell.class_ != "match"]
    assert wrong
    assert {(cell.class_, cell.stage) for cell in wrong} == {("fault", "cache")}
    assert [(cause.kind, cause.side) for cause in found.findings] == [
        ("runtime.cache", f"transformers:{left}")
    ]


def test_a_stored_oracle_is_held_to_ids_and_to_text(tmp_path: Path) -> None:
    path = build(tmp_path, "qwen2", "gguf:F32")
    [said] = run(path, prompts=(BUILT_IN[1],)).outputs
    assert said.text is not None
    prompts = (
        Prompt("ids", BUILT_IN[1].text, None, None, tuple(said.ids)),
        Prompt("text", BUILT_IN[1].text, None, said.text),
        Prompt("wrong", BUILT_IN[1].text, None, None, (said.ids[0], said.ids[1] + 1)),
        Prompt("other", BUILT_IN[1].text, None, "return fibonacci(n - 1)"),
    )
    found = run(path, prompts=prompts)
    assert {cell.prompt: cell.class_ for cell in found.cells} == {
        "ids": "match", "text": "match", "wrong": "fault", "other": "fault"
    }  # fmt: skip
    [wrong] = [cell for cell in found.cells if cell.prompt == "wrong"]
    assert wrong.first_mismatch == 1
    assert wrong.margin is not None
    assert wrong.margin > 0


def with_template(folder: Path, template: str) -> Path:
    place = folder / "tokenizer_config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"chat_template": template}))
    return folder


def test_another_template_is_found_before_anything_is_said(tmp_path: Path) -> None:
    left, right = (build(tmp_path / side, "qwen2", "hf:F32") for side in ("left", "right"))
    with_template(left, "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    with_template(right, "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}")
    found = run(left, right, options=replace(FEW, chat=True))
    assert [(cause.kind, cause.side) for cause in found.findings] == [("tokenizer.chat_template", str(left))]
    assert {(cell.class_, cell.stage) for cell in found.cells} == {("fault", "tokens")}
    assert found.outputs[0].rendered == "[user]" + str(BUILT_IN[0].text)
    same = run(left, with_template(right, "[user]{{ messages[0].content }}"), options=replace(FEW, chat=True))
    assert (same.verdict, same.findings) == ("match", [])


def test_chat_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no chat template"):
        run(build(tmp_path, "qwen2", "gguf:F32"), options=replace(FEW, chat=True))


@pytest.mark.requires_llamacpp
def test_a_file_on_which_llamacpp_aborts_is_a_finding_of_that_side(tmp_path: Path) -> None:
    contents = gguf_contents(model_spec("qwen2"))
    metadata = {key.replace("qwen2.", "qwen2vl."): value for key, value in contents.metadata.items()}
    metadata |= {"general.architecture": "qwen2vl", "qwen2vl.rope.dimension_sections": [64, 64, 64, 0]}
    path = tmp_path / "wide.gguf"
    write(replace(contents, metadata=metadata), path)
    found = run(build(tmp_path, "qwen2", "apr:F32"), f"llamacpp:{path}")
    [cause] = found.findings
    assert (found.verdict, cause.kind, cause.side) == ("fault", "runtime.crash", f"llamacpp:{path}")
    assert "GGML_ASSERT(sect_dims" in cause.message
    assert "GGML_ASSERT(sect_dims" in (cause.printed or "")
    assert {cell.class_ for cell in found.cells} == {"fault"}
    assert all(cell.right_ids == [] and cell.left_ids for cell in found.cells)


@pytest.mark.requires_llamacpp
def test_a_file_that_a_runtime_refuses_is_refused_with_its_words(tmp_path: Path) -> None:
    contents = gguf_contents(model_spec("llama"), "F32")
    contents.metadata["general.architecture"] = "unheard-of"
    path = tmp_path / "strange.gguf"
    write(contents, path)
    with pytest.raises(UnsupportedError, match="unheard-of"):
        run(f"llamacpp:{path}")


def test_options_of_no_runtime_at_hand_are_refused(tmp_path: Path) -> None:
    path = build(tmp_path, "qwen2", "gguf:F32")
    with pytest.raises(UsageError, match="no runtime at hand has an option 'kv'"):
        run(path, options=replace(FEW, runtime_options={"kv": "f16"}))
    with pytest.raises(UsageError, match="named twice"):
        run(path, path)


def test_a_run_may_take_all_positions_that_a_model_has(tmp_path: Path) -> None:
    path = build(tmp_path, "gpt2", "gguf:F32")
    most = int(open_model(path).position_count)
    ids = tuple(i % 7 for i in range(most - 2))
    for count, asked in ((3, ids), (4, ids[:-1])):  # of which the last is said, and not fed
        [output] = run(
            path, prompts=(Prompt("long", None, asked),), options=replace(FEW, generate=count)
        ).outputs
        assert len(output.ids) == count
    with pytest.raises(UsageError, match="positions"):
        run(path, prompts=(Prompt("long", None, ids),), options=replace(FEW, generate=4))
