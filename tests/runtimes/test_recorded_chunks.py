"""Chunks of one run are put together, and refused in a sentence where they are not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rosetta.errors import DamagedFileError
from rosetta.runtimes.trace import Recording, open_recording

X = torch.arange(30.0).reshape(6, 5)
SCORES = torch.tril(torch.arange(72.0).reshape(2, 6, 6))


def opened(folder: Path, stages: dict[str, Tensor]) -> Recording:
    path = folder / "run.safetensors"
    kept = {name: x.clone(memory_format=torch.contiguous_format) for name, x in stages.items()}
    save_file(kept, path, metadata={"rosetta": json.dumps({"tokens": [1, 2, 3, 4, 5, 6]})})
    return open_recording(path)


@pytest.mark.parametrize("sizes", [[6], [4, 2], [3, 1, 1, 1]])
def test_chunks_are_the_stage(tmp_path: Path, sizes: list[int]) -> None:
    stages, start = {}, 0
    for size in sizes:
        stop = start + size
        stages[f"layers.0.q@{start}"] = X[start:stop]
        stages[f"layers.0.attn_scores@{start}"] = SCORES[:, start:stop, :stop]
        start = stop
    run = opened(tmp_path, stages)
    assert sorted(run.stages) == ["layers.0.attn_scores", "layers.0.q"]
    found = {name: run.stage(name) for name in run.stages}
    for name, whole in (("layers.0.q", X), ("layers.0.attn_scores", SCORES)):
        value = found[name]
        assert value is not None
        assert torch.equal(value, whole)
        assert run.stages[name].dims == tuple(whole.shape)


@pytest.mark.parametrize(
    ("stages", "what"),
    [
        ({"q@0": X[:4]}, "has 4 tokens in its chunks, and the run 6"),
        ({"q@0": X[:3], "q@4": X[4:]}, "begins at token 4, and the chunk before ends at 3"),
        ({"q@0": X[:4], "q@3": X[3:]}, "begins at token 3, and the chunk before ends at 4"),
        ({"q@2": X[2:]}, "begins at token 2, and the chunk before ends at 0"),
        ({"q@0": X, "q": X}, "is there whole and in chunks"),
        ({"q@0": X[:4], "q@4": X[4:, :3]}, "has chunks whose other dims differ"),
        ({"attn_scores@0": X}, "none of them of tokens"),
        ({"attn_scores@0": SCORES[:, :3, :2], "attn_scores@3": SCORES[:, 3:]}, "scores of 2 tokens, and 3 are"),
        ({"q@0": torch.tensor(1.0)}, "none of them of tokens"),
    ],
)  # fmt: skip
def test_chunks_that_are_not_whole_are_refused(tmp_path: Path, stages: dict[str, Tensor], what: str) -> None:
    with pytest.raises(DamagedFileError, match=what) as raised:
        opened(tmp_path, {f"layers.0.{name}": x for name, x in stages.items()})
    assert "\n" not in str(raised.value)
