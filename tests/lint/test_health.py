"""How well a tokenizer copes with a text: numbers worked out by hand, and the report's own bug told by counting."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fixtures.plain_models import plain_gguf, written
from rosetta.errors import UsageError
from rosetta.lint.health import tokenizer_health
from rosetta.lint.report import lint_report
from rosetta.lint.text import render

SOURCE = Path(__file__).read_text("utf-8")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """This file as a text to encode."""
    path = tmp_path / "source.py"
    path.write_text(SOURCE, "utf-8")
    return path


def test_a_byte_level_vocabulary_gives_source_code_back(tmp_path: Path, text: Path) -> None:
    model = written(plain_gguf(), tmp_path / "model.gguf")
    health = tokenizer_health(model, text)
    assert health is not None
    assert (health.spelling, health.spelled) == ("byte-level", 256)
    assert (health.unknown, health.round_trip, health.differs_at) == (0, True, None)
    assert health.text_bytes == len(SOURCE.encode())
    report = lint_report([model], text=text)
    assert (report.found, [path for path, _ in report.health]) == ((), [model])
    assert "0.0% unknown" in render(report)


def test_entropy_is_that_of_the_ids(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("aabb cccc")
    health = tokenizer_health(written(plain_gguf(), tmp_path / "model.gguf"), text)
    assert health is not None
    shares = [2 / 9, 2 / 9, 1 / 9, 4 / 9]
    assert health.entropy == pytest.approx(-sum(share * math.log2(share) for share in shares))
    assert health.most_entropy == pytest.approx(math.log2(9))
    assert (health.tokens, health.distinct) == (9, 4)


def test_hex_bytes_are_told_by_counting_and_the_share_of_unknown_tokens_is_said(
    tmp_path: Path, text: Path
) -> None:
    """The report that the rule is from: 0.1 bits and 99 % unknown, of a vocabulary that looked byte-level."""
    model = plain_gguf()
    hexed = [f"{byte:02x}" for byte in range(256) if byte > 55][:201]  # what ASCII needs is missing
    model.keys["tokenizer.ggml.tokens"][1][1][:256] = ["<unk>", *hexed, *(f"w{n}" for n in range(54))]
    model.keys["tokenizer.ggml.merges"] = (9, (8, []))
    model.keys["tokenizer.ggml.unknown_token_id"] = (4, 0)
    health = tokenizer_health(written(model, tmp_path / "model.gguf"), text)
    assert health is not None
    assert (health.spelling, health.spelled) == ("hex", 200)
    assert health.unknown_share > 0.01
    found = lint_report([tmp_path / "model.gguf"], text=text, select=["T312", "T313", "T314"]).found
    assert {one.rule.id for one in found} == {"T312", "T313", "T314"}


def test_few_different_tokens_are_said(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("ab" * 600)
    (found,) = lint_report([written(plain_gguf(), tmp_path / "model.gguf")], text=text).found
    assert found.rule.id == "T313"
    assert "carry 1.00 bits each" in found.fault.message


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    model = written(plain_gguf(), tmp_path / "model.gguf")
    (tmp_path / "binary").write_bytes(b"abc\xff")
    with pytest.raises(UsageError, match=r"byte 3: is not UTF-8"):
        tokenizer_health(model, tmp_path / "binary")
    with pytest.raises(UsageError, match="no such file"):
        tokenizer_health(model, tmp_path / "none")


@pytest.mark.requires_samples
@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "llama-spm", "qwen2"])
def test_published_vocabularies_are_healthy(samples: Path, text: Path, name: str) -> None:
    health = tokenizer_health(samples / "vocabs" / f"ggml-vocab-{name}.gguf", text)
    assert health is not None
    assert health.unknown == 0
    assert health.entropy > 5.5
    assert health.round_trip
