"""Stages of two observed runs: when one is faulty, and what is said of its size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fixtures.ggml import dequantize, quantize
from rosetta.compare.pairing import Pairing
from rosetta.compare.results import StageDiff
from rosetta.diagnose.observed_stages import Judge
from rosetta.runtimes.live import Rotation

STAGE = "layers.0.ffn_up"
ZEROS = torch.zeros(3, 4)


class Run:
    """A run that consists of one stage, or shows others as well."""

    def __init__(self, value: Tensor, name: str = STAGE, others: tuple[str, ...] = ()) -> None:
        self.value, self.name = value, name
        self.stages = {name, *others}

    def stage(self, name: str) -> Tensor | None:
        return self.value if name == self.name else None


def judge_of(runs: Any, own: Any, **roundings: float) -> Judge:
    """One of two runs, of which the subject's file has weights of these dtypes with these relative roundings."""
    plain = Pairing(Rotation(), Rotation(), "left")
    files: Any = Pairing({"F32": 1e-7}, roundings, "left")
    return Judge(runs, plain, own, files, tables=False, threshold=1e-3)


def judged(reference: Tensor, subject: Tensor, local: Tensor, **roundings: float) -> StageDiff:
    """The stage's row; `local` is the subject's from the reference's inputs."""
    runs: Any = Pairing(Run(reference), Run(subject), "left")
    [stage] = judge_of(runs, Run(local), **roundings).result([STAGE]).stages
    return stage


def test_two_sides_of_zeros_agree() -> None:
    stage = judged(ZEROS, ZEROS, ZEROS)
    assert stage.status == "ok"
    assert stage.local is not None
    assert (stage.local.max_diff, stage.local.rel_l2, stage.local.worst_ratio) == (0.0, 0.0, 0.0)


def test_something_where_the_reference_has_zeros_is_faulty() -> None:
    assert judged(ZEROS, ZEROS + 1, ZEROS + 1).status == "faulty"


def test_the_difference_is_said_by_the_size_of_the_stage() -> None:
    reference = torch.full((3, 4), 2.0)
    subject = reference.clone()
    subject[1, 2] += 0.5
    stage = judged(reference, subject, reference)
    assert (stage.max_diff, stage.scale) == (0.5, pytest.approx(2.0))
    assert stage.rel == pytest.approx(0.25)


@pytest.mark.parametrize(("others", "status"), [(("layers.0.k",), "faulty"), ((), "ok")])
def test_scores_of_latent_keys_are_as_coarse_as_the_weights_that_they_are_made_of(
    others: tuple[str, ...], status: str
) -> None:
    """Where a runtime shows keys, scores have no weights in them, and what Q4 explains is too much."""
    name = "layers.0.attn_scores"
    truth = torch.softmax(torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(1)), -1)
    near = truth * (1 + 1e-4)
    runs: Any = Pairing(Run(truth, name, ("layers.0.k",)), Run(near, name, others), "left")
    [stage] = judge_of(runs, Run(near, name), Q4_K=0.05).result([name]).stages
    assert stage.status == status


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize(
    ("dtype", "rows", "factor", "status"),
    [
        ("Q8_0", 64, 1.0, "drift"),
        ("Q8_0", 64, 1.01, "faulty"),
        ("Q4_K", 4096, 1.0, "drift"),
        ("Q4_K", 4096, 1.02, "faulty"),
        ("Q4_K", 64, 1.02, "drift"),  # errors of so few rows have a factor by chance
        ("Q6_K", 512, 1.01, "faulty"),
        ("Q6_K", 512, 1.0, "drift"),
    ],
)
def test_a_factor_beneath_the_rounding_of_weights_is_told_by_all_rows_together(
    dtype: str, rows: int, factor: float, status: str
) -> None:
    """ggml's own encoder, which makes weights smaller."""
    draw = torch.Generator().manual_seed(3)
    weight, x = torch.randn(rows, 256, generator=draw), torch.randn(9, 256, generator=draw)
    copy = torch.from_numpy(dequantize(quantize(weight.numpy(), dtype), dtype)).view(rows, 256)
    rounding = float((copy - weight).norm() / weight.norm())
    truth, seen = x @ weight.T, x @ copy.T
    assert judged(truth, factor * seen, factor * seen, **{dtype: rounding}).status == status
