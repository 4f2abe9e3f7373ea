"""Several things in one sentence."""

from __future__ import annotations

from collections.abc import Iterable


def listed(things: Iterable[object]) -> str:
    """
    >>> listed([2, 3, 5]), listed(["a"]), listed([])
    ('2, 3 and 5', 'a', '')
    """
    words = [str(thing) for thing in things]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
