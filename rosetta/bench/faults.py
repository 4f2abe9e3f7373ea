"""The benchmark of faults: draws as many cases as asked for, runs each in this process, and scores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rosetta.bench.draw import draw_case, kinds
from rosetta.bench.run import Score, run_case
from rosetta.errors import UsageError

Progress = Callable[[str, int, int], None]
"""(what is being done, done, in all)."""


def chosen_kinds(names: Sequence[str]) -> tuple[str, ...]:
    """The kinds of these names, in the table's order; a family (`config`) stands for all of it; none for all.

    Raises:
        UsageError: a name that is neither.
    """
    known = kinds()
    for name in names:
        if name not in known and not any(kind.startswith(f"{name}.") for kind in known):
            raise UsageError(f"no kind '{name}'", remedy=f"there are {', '.join(known)}")
    if not names:
        return known
    return tuple(kind for kind in known if kind in names or kind.partition(".")[0] in names)


def run_faults(cases: int, seed: int, names: Sequence[str], progress: Progress) -> list[Score]:
    """Draw, run and score.

    Args:
        cases: how many; kinds take turns.
        seed: of the first case; each has the next.
        names: kinds; none for all.
        progress: told before each case.
    """
    wanted = chosen_kinds(names)
    scores = []
    for number in range(cases):
        kind = wanted[number % len(wanted)]
        progress(kind, number, cases)
        scores.append(run_case(draw_case(kind, seed + number)))
    progress("done", cases, cases)
    return scores
