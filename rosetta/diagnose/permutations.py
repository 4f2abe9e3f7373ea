"""What permutation an order of rows, columns or values is, in words.

An order says for each right place where it lies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]
WOVEN = (2, 3, 4, 8, 16, 32, 64, 128)


def permutation_in_words(order: Places, head: int, things: str) -> str:
    """What permutation it is: halves exchanged, heads reordered, interleaved in n, of blocks, within each, or none.

    Args:
        order: for each right place where it lies.
        head: how many of them are a head's; 0 where there are none.
        things: rows, columns, values.

    >>> permutation_in_words(np.array([2, 3, 0, 1, 6, 7, 4, 5]), 0, "rows")
    'within each 4 rows its two halves are exchanged'
    >>> permutation_in_words(np.array([4, 5, 0, 1, 6, 7, 2, 3]), 0, "rows")
    'its blocks of 2 rows are reordered: 2, 0, 3, 1'
    >>> permutation_in_words(np.array([0, 1, 2, 5, 4, 3, 6]), 0, "rows")
    '3 and 5 of its rows are exchanged'
    """
    count = len(order)
    if (name := _named(order, things)) is not None:
        return name
    whole = next((n for n in _divisors(count) if _moves_blocks(order, n)), 1)
    if head and whole % head == 0:
        return f"heads of {head} {things} are reordered: {first_of(order[::head] // head)}"
    inner = next((n for n in reversed(_divisors(count)) if _is_within(order, n)), count)
    within = f"within each {f'head of {inner}' if inner == head else f'{inner} {things}'}"
    if inner < count and (name := _named(order[:inner], things)) is not None:
        return f"{within} {name}"
    if whole > 1:
        blocks, of_blocks = order[::whole] // whole, f"blocks of {whole} {things}"
        return _named(blocks, of_blocks) or f"its {of_blocks} are reordered: {first_of(blocks)}"
    if inner < count:
        return f"{within} they lie in the order {first_of(order[:inner])}"
    moved = np.flatnonzero(order != np.arange(count))
    where = ", ".join(f"{place} at {order[place]}" for place in moved[:4]) + (", …" if len(moved) > 4 else "")
    return f"{len(moved)} of {count} {things} lie elsewhere: {where}"


def rotary_order_in_words(order: Places, head: int) -> str | None:
    """How the rotary rows of heads were reordered, where they were, as if a head had another size or as heads'
    own; None of another order.

    >>> whole = np.arange(8).reshape(2, 4).T.reshape(-1)
    >>> rotary_order_in_words(whole, 4)
    'its rotary rows are reordered in blocks of 8 rows instead of a head of 4'
    >>> rotary_order_in_words(np.array([0, 2, 1, 3, 4, 6, 5, 7]), 4)
    'the rotary rows of each head of 4 lie in the order 0, 2, 1, 3'
    """
    count = len(order)
    here = np.arange(count)
    if count % head:
        return None
    heads = (here, *_turned(count, head))
    for size in (n for n in _divisors(count, most=count) if n % 2 == 0 and n not in (2, head)):
        for turned in _turned(count, size):
            if any(np.array_equal(order, turned[own]) or np.array_equal(order, own[turned]) for own in heads):
                return f"its rotary rows are reordered in blocks of {size} rows instead of a head of {head}"
    if bool((order // head == here // head).all()):
        return f"the rotary rows of each head of {head} lie in the order {first_of(order[:head])}"
    return None


def is_rolled(order: Places) -> bool:
    """Whether all stand as many places on, and those that this pushes off one end come in at the other."""
    return bool((order == (np.arange(len(order)) + order[0]) % len(order)).all())


def first_of(order: Places) -> str:
    """The first places of an order, in words."""
    return ", ".join(map(str, order[:8].tolist())) + (", …" if len(order) > 8 else "")


def _named(order: Places, things: str) -> str | None:
    """The name of an order that has one."""
    count, here = len(order), np.arange(len(order))
    if count % 2 == 0 and bool((order == (here + count // 2) % count).all()):
        return "its two halves are exchanged"
    if bool((order == here[::-1]).all()):
        return f"its {things} run backwards"
    if is_rolled(order):
        return f"they begin with number {order[0]}, and those before it stand at the end"
    moved = np.flatnonzero(order != here)
    if len(moved) == 2:
        return f"{moved[0]} and {moved[1]} of its {things} are exchanged"
    for n in WOVEN:
        if count % n == 0 and n < count:
            woven = here.reshape(n, -1).T.reshape(-1)
            if bool((order == woven).all()) or bool((order == np.argsort(woven)).all()):
                return f"its {things} are interleaved in {n} parts"
    return None


def _divisors(count: int, most: int = 0) -> list[int]:
    """Sizes of blocks that leave nothing over, the largest first; below half of all, or up to so many."""
    most = most or count // 2
    return [n for n in range(most, 1, -1) if count % n == 0]


def _moves_blocks(order: Places, size: int) -> bool:
    """Whether blocks of a size lie elsewhere, each whole."""
    blocks = order.reshape(-1, size)
    return bool((blocks - blocks[:, :1] == np.arange(size)).all() and (blocks[:, 0] % size == 0).all())


def _is_within(order: Places, size: int) -> bool:
    """Whether each block of a size has its own in one other order."""
    blocks = order.reshape(-1, size) - np.arange(0, len(order), size)[:, None]
    return bool((blocks == blocks[0]).all() and (blocks >= 0).all() and (blocks < size).all())


def _turned(count: int, size: int) -> tuple[Places, Places]:
    """Rows of blocks of a size, split in halves and interleaved, and the reverse."""
    one = np.arange(size).reshape(2, -1).T.reshape(-1)
    return tuple(  # type: ignore[return-value]
        (np.arange(0, count, size)[:, None] + way).reshape(-1) for way in (one, np.argsort(one))
    )
