"""The matrix of a sweep as JUnit XML."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from rosetta.sweep.junit import junit_of
from rosetta.sweep.matrix import Cell, Matrix


def cell(verdict: str, code: int, **more: object) -> Cell:
    return Cell("id", "a\x00b", "l", "r", "p <&>", "reports/id.json", verdict, code, reason="why", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdict", "code", "tag"),
    [
        ("match", 0, "system-out"),
        ("drift", 0, "system-out"),
        ("drift", 1, "failure"),
        ("divergent", 0, "failure"),
        ("divergent", 1, "failure"),
        ("inconclusive", 3, "error"),
        ("inconclusive", 0, "error"),
        ("error", 2, "error"),
        ("missing", 3, "error"),
    ],
)
def test_what_becomes_of_a_job(verdict: str, code: int, tag: str) -> None:
    text = junit_of(Matrix([cell(verdict, code), cell("match", 0)]))
    top = ElementTree.fromstring(text)
    first, second = top.iter("testcase")
    assert (next(iter(first)).tag, next(iter(second)).tag) == (tag, "system-out")
    assert (top.get("tests"), top.get("failures"), top.get("errors")) == (
        "2",
        str(int(tag == "failure")),
        str(int(tag == "error")),
    )
    assert first.get("name") == "p <&>"


def test_a_failure_says_where_and_what() -> None:
    top = ElementTree.fromstring(junit_of(Matrix([cell("divergent", 1, kinds=["a.b"], first="layers.0.k")])))
    (failure,) = top.iter("failure")
    assert failure.get("message") == "divergent at layers.0.k (a.b): why"
    assert "reports/id.json" in str(failure.text)
