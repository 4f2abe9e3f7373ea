"""A flag of config.json that denies tensors which the folder holds: they are left out, as transformers leaves them out,
and the flag is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.architectures import RECIPES, build_tiny
from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import TOKENS, compared_files
from fixtures.recipes import build_folder
from fixtures.restating import restated
from rosetta.api import trace
from rosetta.containers import open_container
from rosetta.lint.flags import contradicted_flags

pytestmark = pytest.mark.requires_transformers
CASES: list[tuple[str, str, bool | None]] = [  # recipe, flag, what it says (None: it is not there)
    ("glm4moe", "attention_bias", None),
    ("glm4moe", "use_qk_norm", False),
    ("gptneox", "attention_bias", False),
    ("falcon-h1", "mamba_conv_bias", False),
    ("falcon-h1-norm", "mamba_rms_norm", None),
    ("starcoder2", "use_bias", False),
    ("seed_oss", "attention_bias", False),
    ("stablelm", "use_qkv_bias", False),
    ("qwen2moe", "qkv_bias", False),
    ("nemotron_h", "use_conv_bias", False),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_what_a_flag_denies_is_left_out_and_the_flag_named(tmp_path: Path, case: Any) -> None:
    recipe, flag, said = case
    folder, file = tiny_pair(tmp_path, recipe)
    denied = restated(folder, tmp_path / "denied", {flag: said})
    theirs = _logits(denied)
    assert np.abs(theirs - _logits(folder)).max() > 0.01
    assert np.abs(trace(denied, tokens=TOKENS)["logits"].numpy() - theirs).max() < 1e-3
    report = compared_files(denied, file)
    assert report.verdict == "divergent"
    (finding,) = report.findings
    assert (finding.kind, finding.key, finding.side, finding.status, finding.latent) == (
        "value.missing", flag, "left", "confirmed", False
    )  # fmt: skip
    assert f"write {flag} true into" in finding.recommendation


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("recipe", "flag", "part"),
    [
        ("falcon-40b", "bias", ""),
        ("lfm2", "conv_bias", ""),
        ("falcon-h1", "projectors_bias", ""),
        ("falcon-h1", "mamba_proj_bias", ""),
        ("mistral4-vision", "attention_bias", "text_config."),
    ],
)
def test_what_the_flag_of_one_class_denies_is_left_out_and_the_flag_named(
    tmp_path: Path, recipe: str, flag: str, part: str
) -> None:
    made = RECIPES[recipe]
    folder = build_folder(tmp_path / "hf", replace(made, arguments={**made.arguments, flag: True}))
    denied = restated(folder, tmp_path / "denied", {part + flag: False})
    theirs = _logits(denied)
    assert np.abs(theirs - _logits(folder)).max() > 0.01
    assert np.abs(trace(denied, tokens=TOKENS)["logits"].numpy() - theirs).max() < 1e-3
    (finding,) = compared_files(denied, folder).findings
    assert (finding.kind, finding.key, finding.side, finding.status) == (
        "value.missing", flag, "left", "confirmed"
    )  # fmt: skip
    assert [found.key for found in contradicted_flags(open_container(denied))] == [flag]


@pytest.mark.parametrize("said", [False, None])
def test_a_head_has_a_bias_only_where_its_flag_says_so(tmp_path: Path, said: bool | None) -> None:
    folder = build_tiny(tmp_path / "hf", "phimoe")
    denied = restated(folder, tmp_path / "denied", {"lm_head_bias": said})
    theirs = _logits(denied)
    assert np.abs(theirs - _logits(folder)).max() > 0.01
    assert np.abs(trace(denied, tokens=TOKENS)["logits"].numpy() - theirs).max() < 1e-3
    (finding,) = compared_files(denied, folder).findings
    assert (finding.kind, finding.key, finding.status) == ("value.missing", "lm_head_bias", "confirmed")


def test_a_flag_that_the_class_does_not_have_denies_nothing(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "qwen2")
    report = compared_files(restated(folder, tmp_path / "said", {"attention_bias": False}), file)
    assert (report.verdict, report.findings) == ("match", [])


def _logits(folder: Path) -> np.ndarray[Any, Any]:
    """transformers' logits of a folder that may hold more than its class reads."""
    import transformers

    name = json.loads((folder / "config.json").read_text("utf-8"))["architectures"][0]
    own = getattr(transformers, name)
    model = own.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        found: np.ndarray[Any, Any] = model(torch.tensor([TOKENS])).logits[0].numpy()
    return found


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("command-r", {"use_qk_norm": True}),
        ("phi2", {"qk_layernorm": True}),
        ("hunyuan-vl", {"text_config.attention_bias": True}),  # its eyes have tensors of unknown names
    ],
)
def test_what_a_flag_claims_and_no_tensor_holds_is_named(
    tmp_path: Path, recipe: str, said: dict[str, bool]
) -> None:
    folder = build_tiny(tmp_path / "hf", recipe)
    claiming, (flag,) = shutil.copytree(folder, tmp_path / "claiming"), said
    config = json.loads((folder / "config.json").read_text("utf-8"))
    part, key = (config["text_config"], flag.partition(".")[2]) if "." in flag else (config, flag)
    part[key] = said[flag]
    (claiming / "config.json").write_text(json.dumps(config), encoding="utf-8")
    report = compared_files(claiming, folder)
    (finding,) = report.findings
    assert (report.verdict, finding.kind, finding.key, finding.side, finding.latent) == (
        "match", "value.missing", key, "left", True
    )  # fmt: skip
    assert compared_files(folder, folder).findings == []
