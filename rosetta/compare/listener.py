"""Who hears how far a comparison has come: the terminal's load log and progress bar, or nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LoadedTensor:
    """One tensor of an opened model, as its load log shows it.

    Args:
        name: canonical name (`blk.0.attn_q.weight`).
        source_name: the name that the file uses.
        dtype: declared dtype.
        dims: row-major, as stored.
        expected: row-major dims that the config's sizes ask for; None where they do not say.
    """

    name: str
    source_name: str
    dtype: str
    dims: tuple[int, ...]
    expected: tuple[int, ...] | None = None


class Listener:
    """Hears what a comparison does, and does nothing; subclasses show it."""

    def loaded(self, label: str, tensors: Iterable[LoadedTensor]) -> None:
        """A side has been opened and found sound.

        Args:
            label: how people call its container: `APR`, `GGUF`, `HF`.
            tensors: its tensors, in file order.
        """

    def working(self, what: str, done: int, total: int) -> None:
        """Work goes on.

        Args:
            what: the work at hand, for people: `layer 3`, `diagnosing layers.3.q`.
            done: units finished.
            total: units in all; 0 where that is not known.
        """
