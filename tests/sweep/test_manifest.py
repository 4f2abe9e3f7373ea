"""What a manifest asks for, and what it may not say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rosetta.errors import UsageError
from rosetta.sweep.job import Job, Prompt
from rosetta.sweep.manifest import read_manifest

KNOWN = {"assert-match", "threshold", "runtime-option"}


def jobs(folder: Path, text: str, name: str = "m.yaml") -> list[Job]:
    """The jobs of a manifest's text."""
    (folder / name).write_text(text, encoding="utf-8")
    return read_manifest(folder / name, KNOWN)


def test_pairs_times_prompts(tmp_path: Path) -> None:
    found = jobs(
        tmp_path,
        """
        options: {assert-match: true}
        pairs:
          - {left: a.apr, right: a.gguf, name: a}
          - {left: b.apr, right: b.gguf, options: {threshold: 0.5}, prompts: [hello]}
        prompts: ["2+2=", {name: ids, tokens: [1, 2]}, {file: p.txt}]
        """,
    )
    assert [(job.row, job.prompt.name) for job in found] == [
        ("a", "2+2="), ("a", "ids"), ("a", "p.txt"), ("b.apr | b.gguf (threshold 0.5)", "hello"),
    ]  # fmt: skip
    assert found[1].arguments("R") == [
        "compare", "--assert-match", "--tokens=1,2", "-q", "--json=R", "--", "a.apr", "a.gguf",
    ]  # fmt: skip
    assert found[2].prompt.options == {"prompt-file": "p.txt"}
    assert found[3].options == {"assert-match": True, "threshold": 0.5}


def test_stars_stand_for_the_same_on_both_sides(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "hf" / name).mkdir(parents=True)
    found = jobs(tmp_path, "pairs: [{left: 'hf/*', right: 'gguf/*.gguf'}]")
    assert [(job.left, job.right) for job in found] == [
        ("hf/one", "gguf/one.gguf"),
        ("hf/two", "gguf/two.gguf"),
    ]


def test_stars_keep_the_name_of_a_runtime(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    (job,) = jobs(tmp_path, "pairs: [{left: '*.gguf', right: 'llamacpp:*.gguf'}]")
    assert (job.left, job.right) == ("a.gguf", "llamacpp:a.gguf")
    (job,) = jobs(tmp_path, "pairs: [{left: 'llamacpp:*.gguf', right: '*.gguf'}]")
    assert (job.left, job.right) == ("llamacpp:a.gguf", "a.gguf")


def test_a_matrix_pairs_each_with_each_but_none_with_itself(tmp_path: Path) -> None:
    found = jobs(tmp_path, "matrix: {left: [a, b, c], right: [b, d]}")
    assert [job.left + job.right for job in found] == ["ab", "ad", "bd", "cb", "cd"]


def test_each_comparison_is_made_with_each_of_several_options(tmp_path: Path) -> None:
    """A pair's own go before those of all, so that the last question of `c` is asked once."""
    found = jobs(
        tmp_path,
        """
        options: [{}, {name: strict, threshold: 0.5}]
        pairs: [{left: a, right: b}, {left: c, right: d, options: [{assert-match: true}, {threshold: 0.1}]}]
        matrix: {left: e, right: f}
        """,
    )
    assert [(job.row, job.options) for job in found] == [
        ("a | b", {}),
        ("a | b (strict)", {"threshold": 0.5}),
        ("c | d (assert-match)", {"assert-match": True}),
        ("c | d (threshold 0.1)", {"threshold": 0.1}),
        ("c | d (strict, assert-match)", {"threshold": 0.5, "assert-match": True}),
        ("e | f", {}),
        ("e | f (strict)", {"threshold": 0.5}),
    ]


def test_no_two_comparisons_have_one_place_in_the_matrix(tmp_path: Path) -> None:
    twice = "pairs: [{left: a, right: b}, {left: a, right: b, options: {threshold: 0.5}}]"
    assert [job.row for job in jobs(tmp_path, twice)] == ["a | b", "a | b (threshold 0.5)"]
    with pytest.raises(UsageError, match="two comparisons are called same, default"):
        jobs(tmp_path, "pairs: [{left: a, right: b, name: same}, {left: a, right: c, name: same}]")


def test_jsonl_is_a_pair_a_line(tmp_path: Path) -> None:
    lines = [{"left": "a", "right": "b"}, {"left": "c", "right": "d", "prompts": ["x", "y"]}]
    found = jobs(tmp_path, "\n\n".join(map(json.dumps, lines)), "m.jsonl")
    assert [(job.left, job.prompt.name) for job in found] == [("a", "default"), ("c", "x"), ("c", "y")]
    assert found[0].prompt.options == {}


def test_the_same_question_is_asked_once(tmp_path: Path) -> None:
    pair = "{left: a, right: b}"
    assert len(jobs(tmp_path, f"pairs: [{pair}, {pair}]")) == 1


def test_an_id_is_of_the_question_alone() -> None:
    def job(**options: object) -> Job:
        return Job("a pair/of names", "l", "r", Prompt("2+2=", {"prompt": "2+2="}), options)

    assert job(threshold=1, strict=True).id == job(strict=True, threshold=1).id
    assert job(threshold=1).id != job(threshold=2).id
    assert job().id.startswith("a-pair-of-names-2-2-")  # a file's name on every system
    assert Job("對", "l", "r", Prompt("字")).id.isalnum()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the manifest is not a mapping"),
        ("pairs: []", "asks for no comparison: give it pairs: or matrix:"),
        ("pairs: [a]", "a pair is not a mapping"),
        ("pairs: [{left: a}]", "a pair has no right"),
        ("pairs: [{left: a, right: b, rihgt: c}]", "a pair has no 'rihgt': there are left, name, options"),
        ("pairs: [{left: a, right: b}]\nprompts: [{}]", "a prompt has one of text, file and tokens"),
        ("pairs: [{left: a, right: b}]\nprompts: [{tokens: [a]}]", "tokens are whole numbers"),
        ("pairs: [{left: a, right: b}]\nprompts: [a, a]", "two prompts have one name"),
        ("options: {json: x}\npairs: [{left: a, right: b}]", "options has no 'json': there are assert-match"),
        ("options: {threshold: {}}\npairs: []", "threshold is a text, a number or a yes"),
        ("pairs: [{left: '*.nope', right: b}]", "nothing is called *.nope: check the pattern"),
        ("pairs: [{left: '*', right: '*/*'}]", "* and */* have not as many stars"),
        ("matrix: {left: [a]}", "matrix has left and right: give both"),
        ("pairs: [", "is no YAML"),
        ("pairs: !!python/object/apply:os.getcwd []", "is no YAML"),
        ("[" * 10_000, "is no YAML"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        jobs(tmp_path, text)
    assert said in str(error.value)
    assert str(tmp_path / "m.yaml") in str(error.value)


def test_a_broken_line_of_jsonl_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 2: is no JSON"):
        jobs(tmp_path, '{"left": "a", "right": "b"}\n{"left"', "m.jsonl")
