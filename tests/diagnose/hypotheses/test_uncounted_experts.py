"""A file that holds experts and does not count them is told to, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.causes import Cause, assert_causes
from fixtures.comparing import compared_files
from fixtures.restating import restated
from rosetta.errors import DamagedFileError
from rosetta.model import open_model

pytestmark = pytest.mark.requires_transformers
USED = "expert_used_count"


@pytest.mark.parametrize("believed", ["left", "right"])
@pytest.mark.parametrize("lost", [("expert_count",), ("expert_count", USED)])
def test_a_mixtral_without_its_number_of_experts_is_one_finding(
    tmp_path: Path, lost: tuple[str, ...], believed: Any
) -> None:
    folder, file = tiny_pair(tmp_path, "mixtral")
    broken = restated(file, tmp_path / "broken.gguf", dict.fromkeys(lost))
    report = compared_files(broken, folder, reference=believed)
    cause = Cause("config.experts_used", "expert_count", "left", declared=None, actual=8)
    assert_causes(report, cause)
    (found,) = report.findings
    assert "write llama.expert_count 8 into" in found.recommendation
    assert (f"write llama.{USED} 2 as well" in found.recommendation) == (USED in lost)


def test_what_a_file_lacks_is_named_alone(tmp_path: Path) -> None:
    """Keys that were asked for in vain before it are none of its names."""
    _, file = tiny_pair(tmp_path, "qwen3moe")
    broken = restated(file, tmp_path / "broken.gguf", {"expert_count": None})
    with pytest.raises(DamagedFileError, match=r"the metadata has no qwen3moe\.expert_count:"):
        open_model(broken)
