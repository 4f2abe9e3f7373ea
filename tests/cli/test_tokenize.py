"""`rosetta tokenize`: ids and pieces, as text and as JSON; every wrong input is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.vocabularies import byte_level

Rosetta = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A vocabulary-only GGUF file that adds BOS."""
    written = byte_level("qwen2")
    written.keys["add_bos_token"] = True
    return written.write(tmp_path / "model.gguf")


def lines(path: Path, *texts: str) -> Path:
    target = path / "prompts.jsonl"
    target.write_text("\n".join(texts), "utf-8")
    return target


def test_text_shows_ids_and_pieces(rosetta: Rosetta, model: Path) -> None:
    result = rosetta("tokenize", model, "--prompt", "Hi\n!")
    shown = result.out.splitlines()
    ids = json.loads(shown[1].removeprefix("[ROSETTA] Token IDs: "))
    tokens = byte_level().tokens
    assert result.code == 0
    assert shown[0] == '[ROSETTA] Prompt: "Hi\\n!"'
    assert [tokens[id] for id in ids] == ["<s>", "H", "i", "Ċ", "!"]
    assert [line.split()[-1] for line in shown[2:]] == ['"<s>"', '"H"', '"i"', '"\\n"', '"!"']


def test_json_has_every_prompt_in_order(rosetta: Rosetta, model: Path, tmp_path: Path) -> None:
    file = lines(tmp_path, '{"prompt": ""}', "", '{"prompt": "a</s>", "more": 1}', '{"prompt": "\\u00e9"}')
    result = rosetta("tokenize", model, "--prompts", file, "--json", "-")
    prompts = json.loads(result.out)["prompts"]
    tokens = byte_level().tokens
    assert [each["prompt"] for each in prompts] == ["", "a</s>", "é"]
    assert [[tokens[id] for id in each["ids"]] for each in prompts][:2] == [["<s>"], ["<s>", "a", "</s>"]]
    assert [each["tokens"] for each in prompts] == [["<s>"], ["<s>", "a", "</s>"], ["<s>", "é"]]
    assert list(prompts[0]) == ["prompt", "ids", "tokens"]


def test_no_special_adds_and_matches_none(rosetta: Rosetta, model: Path) -> None:
    result = rosetta("tokenize", model, "--prompt", "a</s><|user|>", "--no-special", "--json", "-")
    (prompt,) = json.loads(result.out)["prompts"]
    assert prompt["tokens"][0] == "a"
    assert "</s>" not in prompt["tokens"]
    assert prompt["tokens"][-1] == "<|user|>"
    assert "".join(prompt["tokens"]) == "a</s><|user|>"


def test_json_to_a_file_leaves_the_text_on_stdout(rosetta: Rosetta, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "ids.json"
    result = rosetta("tokenize", model, "--prompt", "a", "--json", target)
    assert result.out.startswith("[ROSETTA] Prompt")
    assert json.loads(target.read_text("utf-8"))["prompts"][0]["prompt"] == "a"


def test_a_wrong_pre_tokenizer_is_said_on_stderr(rosetta: Rosetta, tmp_path: Path) -> None:
    file = byte_level("gpt2").write(tmp_path / "model.gguf")
    result = rosetta("tokenize", file, "--prompt", "a", "--json", "-")
    assert result.code == 0
    assert "tokenizer.ggml.pre is 'gpt2', which llama.cpp does not know; likely 'gpt-2'" in result.err
    assert json.loads(result.out)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": 1}', "line 2: is no object with a text under 'prompt'"),
        ("[]", "line 2: is no object with a text under 'prompt'"),
        ("{", "line 2: is no JSON"),
        ("[" * 100_000, "line 2: is no JSON"),
        ('{"prompt": "\\ud800"}', "line 2: character 0 of the prompt is half of a surrogate pair"),
    ],
)
def test_a_wrong_line_is_named(rosetta: Rosetta, model: Path, tmp_path: Path, line: str, said: str) -> None:
    result = rosetta("tokenize", model, "--prompts", lines(tmp_path, '{"prompt": "a"}', line))
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --prompt TEXT or --prompts FILE"),
        (["--prompt", "a", "--prompts", "b"], "either --prompt TEXT or --prompts FILE"),
        (["--prompts", "absent.jsonl"], "absent.jsonl: is no file"),
        (["--prompt", "a", "--json", "absent/out.json"], "its folder does not exist"),
    ],
)
def test_wrong_usage_is_one_line(rosetta: Rosetta, model: Path, arguments: list[str], said: str) -> None:
    result = rosetta("tokenize", model, *arguments)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_a_file_without_a_tokenizer_is_refused(rosetta: Rosetta, tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "empty.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    result = rosetta("tokenize", tmp_path / "empty.gguf", "--prompt", "a")
    assert (result.code, result.out) == (2, "")
    assert "has no tokenizer" in result.err
