"""Experts that llama.cpp runs in a GGUF of architectures whose class has none, or another name for that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits
from fixtures.restating import renamed, restated
from rosetta.errors import UnsupportedError
from rosetta.model import open_model
from rosetta.transformer import Transformer

pytestmark = [pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31]


@pytest.mark.parametrize(
    ("recipe", "name"),
    [("granitemoe-shared", "granite"), ("mixtral", "minicpm"), ("mixtral", "mistral3")],
)
def test_experts_are_run_as_llamacpp_does(tmp_path: Path, recipe: str, name: str) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    under = renamed(file, tmp_path / f"{name}.gguf", name)
    theirs = llamacpp_logits(under, IDS)
    assert np.abs(Transformer(open_model(under))(IDS).numpy() - theirs).max() < 1e-5 * np.abs(theirs).max()
    fewer = restated(under, tmp_path / "fewer.gguf", {"expert_used_count": 1})
    (finding,) = compared_files(fewer, under, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.status) == ("config.experts_used", "confirmed")


def test_experts_that_llamacpp_does_not_run_are_refused(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "mixtral")
    with pytest.raises(UnsupportedError, match=r"refact\.expert_count is 8, and rosetta runs refact without"):
        open_model(renamed(file, tmp_path / "refact.gguf", "refact"))


@pytest.mark.parametrize(
    ("recipe", "stated"),
    [
        ("hy_v3", {"expert_shared_feed_forward_length": None}),
        ("hy_v3", {"expert_gating_func": None}),
        ("kimi-linear", {"expert_shared_count": 0}),
    ],
)
def test_keys_that_llamacpp_can_do_without_are_taken_as_it_takes_them(
    tmp_path: Path, recipe: str, stated: dict[str, int | None]
) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    silent = restated(file, tmp_path / "silent.gguf", stated)
    assert np.array_equal(llamacpp_logits(silent, IDS), llamacpp_logits(file, IDS))
    report = compared_files(silent, file, tokens=tuple(IDS))
    assert (report.verdict, report.findings) == ("match", [])


def test_experts_of_hunyuan_are_as_wide_as_its_network_whatever_width_is_stated(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "hunyuan-moe")
    planted = restated(file, tmp_path / "planted.gguf", {"expert_feed_forward_length": 192})
    assert np.array_equal(llamacpp_logits(planted, IDS), llamacpp_logits(file, IDS))
    report = compared_files(planted, file, tokens=tuple(IDS))
    assert report.verdict == "match"
    [found] = report.findings
    assert (found.key, found.latent) == ("expert_feed_forward_length", True)
    assert found.recommendation.startswith("write hunyuan-moe.expert_feed_forward_length 96 into ")
    network = restated(file, tmp_path / "network.gguf", {"feed_forward_length": 192})  # llama.cpp refuses it
    [found] = compared_files(network, file, tokens=tuple(IDS)).findings
    assert (found.kind, found.key, found.status) == (
        "config.feed_forward_length", "feed_forward_length", "confirmed",
    )  # fmt: skip


def test_an_epsilon_that_makes_norms_of_another_type_is_to_be_taken_out(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "cohere2moe")
    key = "attention.layer_norm_rms_epsilon"
    planted = restated(file, tmp_path / "planted.gguf", {key: 1e-5})
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(theirs - llamacpp_logits(file, IDS)).max() > 1e-2
    assert np.abs(Transformer(open_model(planted))(IDS).numpy() - theirs).max() < 1e-5 * np.abs(theirs).max()
    (finding,) = compared_files(planted, folder, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.status) == ("config.norm_type", "confirmed")
    assert finding.recommendation.startswith(f"take cohere2moe.{key} out of ")
