"""Cutting a text into the words that merges may not cross, by a chain of regular expressions.

Each expression cuts every word that the one before left, and what lies between two matches is a word as well.
An expression that names classes of characters (`\\p{L}`) runs over the reduced text (see `unicode_classes`),
so that Python's `re` suffices and every character has the class that llama.cpp gives it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence

from rosetta.tokenizer.unicode_classes import (
    HAN,
    LETTER,
    MARK,
    NUMBER,
    OTHER_HAN,
    PUNCTUATION,
    SYMBOL,
    reduced,
    with_ascii_spaces,
)

Cut = Callable[[str, int, int], Iterator[int]]
"""A way of cutting that is no regular expression: reduced text, start, end -> ends of words, ascending."""

_CLASSES = {
    "L": f"{LETTER}{HAN}A-Za-z",
    "N": f"{NUMBER}0-9",
    "M": MARK,
    "P": PUNCTUATION + r"!-#%-*,-/:-;?-@\[-\]_\{\}",
    "S": SYMBOL + r"$+<->^`|~",
    "Han": HAN + OTHER_HAN,
    "NotHan": f"{LETTER}A-Za-z",  # letters only
    "NotLower": f"{LETTER}{HAN}A-Z",  # letters only: all but a-z
    "NotUpper": f"{LETTER}{HAN}a-z",  # letters only: all but A-Z
}


def words(text: str, cuts: Sequence[str | Cut]) -> list[str]:
    """Cut a text by a chain of expressions.

    Args:
        text: without lone surrogates.
        cuts: regular expressions in Python's syntax with `\\p{…}` for the classes above, or functions.

    Returns:
        The words in order; joined they are the text.
    """
    if not text:
        return []
    ends = [len(text)]
    for cut in cuts:
        if callable(cut):
            find, view = cut, reduced(text)
        else:
            find = functools.partial(_matches, _compiled(cut))
            view = reduced(text) if r"\p{" in cut else with_ascii_spaces(text)
        starts = [0, *ends[:-1]]
        ends = [stop for start, end in zip(starts, ends, strict=True) for stop in find(view, start, end)]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def digits_grouped_from_the_right(view: str, start: int, end: int) -> Iterator[int]:
    """Numbers in groups of three counted from their end; the text before a number belongs to its first group.

    (llama.cpp's handling of `afmoe` and `tiny_aya`; that the text before joins the first group is its own.)
    """
    for run in _compiled(r"\p{N}+").finditer(view, start, end):
        first = (run.end() - run.start()) % 3 or 3
        yield from range(run.start() + first, run.end() + 1, 3)
        start = run.end()
    if start < end:
        yield end


def thousands(view: str, start: int, end: int) -> Iterator[int]:
    """A cut before every group of three ASCII digits counted from a number's end: `(?=(\\d{3})+(?!\\d))`."""
    last = start
    for run in _compiled("[0-9]{3,}").finditer(view, start, end):
        for stop in range(run.start() + (run.end() - run.start()) % 3, run.end(), 3):
            if stop > last:
                yield stop
                last = stop
    if last < end:
        yield end


def trailing_space(view: str, start: int, end: int) -> Iterator[int]:
    """The spaces that end a word, apart: `\\s+$`, without a search at every space of a long run."""
    stop = start + len(view[start:end].rstrip(" \t\n\v\f\r"))
    if start < stop < end:
        yield stop
    yield end


def _matches(pattern: re.Pattern[str], view: str, start: int, end: int) -> Iterator[int]:
    for match in pattern.finditer(view, start, end):
        if match.start() > start:
            yield match.start()
        start = match.end()
        yield start
    if start < end:
        yield end


@functools.cache
def _compiled(expression: str) -> re.Pattern[str]:
    """The expression with its classes written out, inside a set of characters or as a set of their own."""
    parts, inside = [], False
    for token in re.findall(r"\\p\{\w+\}|\\.|.", expression, re.DOTALL):
        if token.startswith(r"\p{"):
            characters = _CLASSES[token[3:-1]]
            parts.append(characters if inside else f"[{characters}]")
            continue
        inside = token == "[" or (inside and token != "]")
        parts.append(token)
    return re.compile("".join(parts), re.ASCII)
