"""Prompts out of a file: lines of text, lines of JSON, and what is none of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from rosetta.errors import UsageError
from rosetta.parity.prompts import BUILT_IN, Prompt, prompts_of


def file_of(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "prompts"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_four_prompts_are_built_in() -> None:
    assert {prompt.id: prompt.text for prompt in BUILT_IN} == {
        "arithmetic": "What is 2+2? Answer:",
        "code": "def fibonacci(n):",
        "completion": "The capital of France is",
        "greeting": "Hello, my name is",
    }


def test_lines_of_text_and_of_json_may_stand_side_by_side(tmp_path: Path) -> None:
    lines = [
        "Once upon a time",
        "",
        '{"id": "sum", "prompt": "2+2=", "expected_text": "4"}',
        '{"ids": [17, 10], "expected_ids": [28]}\r',
    ]
    assert prompts_of(file_of(tmp_path, "\n".join(lines))) == (
        Prompt("line 1", "Once upon a time"),
        Prompt("sum", "2+2=", None, "4"),
        Prompt("line 4", None, (17, 10), None, (28,)),
    )


def test_a_file_may_be_one_json_list(tmp_path: Path) -> None:
    text = '[\n  {"id": "sum", "prompt": "2+2=", "expected_text": "4"},\n  {"prompt": "Hi"}\n]\n'
    assert prompts_of(file_of(tmp_path, text)) == (
        Prompt("sum", "2+2=", None, "4"),
        Prompt("prompt 2", "Hi"),
    )


def test_a_line_of_text_may_begin_as_a_list_does(tmp_path: Path) -> None:
    assert [prompt.text for prompt in prompts_of(file_of(tmp_path, "[1, 2, 3]\n[INST] Hi"))] == [
        "[1, 2, 3]",
        "[INST] Hi",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no prompts"),
        ('[{"prompt": "a"}, {"prompt": 7}]', "prompt 2.*'prompt' is no text"),
        ('{"prompt": 7}', "line 1.*'prompt' is no text"),
        ('{"text": "a"}', "line 1.*'text'.*none of a prompt"),
        ('x\n{"prompt"', "line 2"),
        ('{"ids": [1, -2]}', "'ids' is no list of token ids"),
        ('{"ids": [true]}', "'ids' is no list of token ids"),
        ("{}", "neither a text"),
        ('{"id": "a", "prompt": "1"}\n{"id": "a", "prompt": "2"}', "two prompts with the id 'a'"),
        (b"\xff\xfe", "line 1.*UTF-8"),
    ],
)
def test_what_is_no_prompt_is_refused_by_its_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prompts_of(file_of(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no file"):
        prompts_of(tmp_path / "none")
