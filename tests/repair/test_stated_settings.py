"""What a folder of any architecture states wrongly is put right under the key that states it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.restating import restated
from rosetta.compare.options import Options
from rosetta.repair.repair import repair_operands
from tests.diagnose.test_stated_settings import CASES

pytestmark = pytest.mark.requires_transformers


# A GGUF has this scaling as tensors, and no key that would give the folder its own back.
NOT_WRITTEN = {("phi3-longrope-long", "original_max_position_embeddings")}


@pytest.mark.sample(1)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_the_one_key_is_written_and_the_folder_matches(tmp_path: Path, case: Any) -> None:
    name, stated, wrong, *_ = case
    folder, file = tiny_pair(tmp_path, name)
    broken = restated(folder, tmp_path / "broken", {stated: wrong})
    outcome = repair_operands(str(broken), str(file), tmp_path / "mended", Options(prompt="auto"))
    if (name, stated) in NOT_WRITTEN:
        assert outcome.after is None
        assert outcome.written is not None
        assert outcome.written.unsaid == ["rope.scaling"], "and it is said"
        return
    assert outcome.after is not None
    assert (outcome.after.verdict, outcome.after.findings) == ("match", [])
    assert outcome.written is not None
    (change,) = outcome.written.changes
    assert f"{stated}.".startswith(f"{change.subject}."), "the key, or the table that it stands in"
