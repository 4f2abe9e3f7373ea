"""What of a report is to be seen: how much of each stage, of which stages, on how wide a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from rosetta.errors import UsageError

if TYPE_CHECKING:
    from rosetta.compare.results import StageDiff


@dataclass(frozen=True)
class View:
    """How a report is looked at.

    Args:
        verbosity: -1 the verdict line alone (`-q`), 0 the default, 1 every stage (`-v`), 2 values (`-vv`).
        width: columns of the screen; None: there is no end to a line (a pipe, a file).
        layers: ranges of layers, the last included, that `-v` shows; none: all, and what is outside the layers.
        stage: a pattern of stages that `-v` shows: `k`, `*_rope`, `layers.3.*`.
    """

    verbosity: int = 0
    width: int | None = None
    layers: tuple[tuple[int, int], ...] = ()
    stage: str | None = None

    @property
    def chooses(self) -> bool:
        """Whether some stages only are to be seen."""
        return bool(self.layers) or self.stage is not None

    def shows(self, stage: StageDiff) -> bool:
        """Whether a stage is to be seen where all are."""
        if self.layers and not self.shows_layer(stage.layer):
            return False
        return self.stage is None or any(fnmatchcase(name, self.stage) for name in (stage.name, stage.op))

    def shows_layer(self, layer: int | None) -> bool:
        """Whether anything of a layer is to be seen."""
        return not self.layers or any(low <= layer <= high for low, high in self.layers if layer is not None)

    def chosen(self, stages: Sequence[StageDiff]) -> list[StageDiff]:
        """The stages that are to be seen where all are."""
        return [stage for stage in stages if self.shows(stage)]


def layer_ranges(text: str | None) -> tuple[tuple[int, int], ...]:
    """`--layers 0-4,9` as ranges.

    Raises:
        UsageError: it is no such list.

    >>> layer_ranges("0-4,9")
    ((0, 4), (9, 9))
    """
    if text is None:
        return ()
    ranges = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        numbers = (low, high if dash else low)
        if not all(number.strip().isascii() and number.strip().isdigit() for number in numbers):
            raise UsageError(f"--layers are numbers and ranges such as 0-4,9, not {text!r:.80}")
        first, last = map(int, numbers)
        if first > last:
            raise UsageError(f"--layers {part.strip()} ends before it begins", remedy=f"write {last}-{first}")
        ranges.append((first, last))
    return tuple(ranges)
