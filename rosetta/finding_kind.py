"""What a kind of finding is: its name, its place among causes that would do as well, and what people are told of it.

All kinds there are stand in `rosetta.diagnose.kinds`, each declared beside the code that finds it.
"""

from __future__ import annotations

from dataclasses import dataclass

NEVER_TRIED = 1000  # of a kind that no repair of a stage proposes
FAMILIES = {
    # what a kind's name begins with: (its place, what it is called in a headline)
    "config": (0, "config mismatch"),
    "adapter": (5, "adapter not merged"),
    "dtype": (10, "dtype mismatch"),
    "layout": (20, "layout mismatch"),
    "value": (30, "wrong values"),
    "tokenizer": (NEVER_TRIED, "tokenizer mismatch"),
    "runtime": (NEVER_TRIED, "another arithmetic"),
    "unexplained": (NEVER_TRIED, "unexplained divergence"),
}


@dataclass(frozen=True)
class FindingKind:
    """One kind of finding. It is declared with literals alone, so that it can be read without importing its module.

    Args:
        id: `value.offset`; the family before the dot.
        means: what is wrong, in one sentence.
        why: how it comes about in practice.
        repair: what undoes it, here in memory and in the exporter.
        order: its place among causes that explain a stage equally well, where its family has more than one: the
            first wins, as it takes least from the reference. Values stand at 30 to 90, with room between.
        title: what it is called in the verdict's line, where that is not its family's.
        whole: whether it concerns all of a tensor, so that another fault may be found behind it.
        together: what several weights of a file that have it say of the file, after "{count} weights of the {side}
            file": `{actual}` is what most of them are in truth. None where they have no cause in common.
        of_file: what is to be done about a file of which many weights have it, which are one finding then: `{side}` is
            the side. None where each weight is a finding of its own.
        alike: whether it is one of the file only where it is the same of these weights in truth, `actual`.
        stated: whether it is one of the file only where it is known what these weights should be, `declared`.
    """

    id: str
    means: str
    why: str
    repair: str
    order: int | None = None
    title: str | None = None
    whole: bool = False
    together: str | None = None
    of_file: str | None = None
    alike: bool = False
    stated: bool = False

    @property
    def family(self) -> str:
        """`value` of `value.offset`."""
        return self.id.partition(".")[0]

    @property
    def rank(self) -> int:
        """Its place: of several repairs that confirm, that of the lowest rank wins."""
        return FAMILIES[self.family][0] if self.order is None else self.order

    @property
    def headline(self) -> str:
        """What it is called in the verdict's line."""
        return self.title or FAMILIES[self.family][1]
