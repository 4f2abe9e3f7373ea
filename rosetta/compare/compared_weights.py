"""The weights that both sides of a pair have, held against each other once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from rosetta.compare.ahead import rows_in_use
from rosetta.compare.at_sight import compare_at_sight
from rosetta.compare.kept_order import KeptOrder
from rosetta.compare.lane import Lane
from rosetta.compare.one_pass import OnePass, one_pass
from rosetta.compare.pairing import Pairing
from rosetta.compare.weights import Copies, WeightPair, comparable, compare_weights
from rosetta.digests import Digests
from rosetta.graph import Node
from rosetta.weight import Weight


class ComparedWeights:
    """Comparisons of weights by their names, made when they are asked for and kept.

    Args:
        lanes: the two sides.
        frugal: whether of a table only the rows in use are compared, for it is far away and the run may end early.
        before: those of the same files under other models, whose comparisons serve these, too.

    `order` keeps what was seen of the order of their levels. Whoever learns that the sides are two models sets
    `two_models`: that weights differ is then all there is to know. Whoever will ask for digests of what is read sets
    `digests`.
    """

    def __init__(
        self, lanes: Pairing[Lane], *, frugal: bool = False, before: ComparedWeights | None = None
    ) -> None:
        self._lanes, self.frugal, self.two_models = lanes, frugal, False
        self.digests: Digests | None = None if before is None else before.digests
        self._made: dict[tuple[Weight, Weight], WeightPair] = {} if before is None else before._made
        self.order: KeptOrder = KeptOrder() if before is None else before.order

    def pair(self, name: str) -> WeightPair | None:
        """The comparison of a weight that both sides have; None where one lacks it."""
        copies = self._copies(name)
        if copies is None:
            return None
        key = _by_place(copies)
        if key not in self._made:
            self._made[key] = self._compared(copies)
            self._hash(copies, self._made[key])
        elif not self._made[key].identical_bytes:
            self._multiplied(copies)
        return self._made[key]

    def has(self, name: str) -> bool:
        """Whether `pair` has the answer already."""
        copies = self._copies(name)
        return copies is not None and _by_place(copies) in self._made

    def used_by(self, node: Node, other: Node) -> dict[str, WeightPair | None]:
        """Comparisons of all weights that either side uses in a stage, by full name; None: on one side only."""
        names = dict.fromkeys([*node.tensors, *other.tensors])
        models = self._lanes.reference.model, self._lanes.subject.model
        present = [name for name in names if any(name in model.weights for model in models)]
        rows = rows_in_use(self._lanes.reference, node) if self.frugal else {}
        return {
            name: self._of_rows(name, rows[name]) if name in rows else self.pair(name) for name in present
        }

    def read_whole(self) -> Iterator[Copies]:
        """The copies that were compared value by value, all of them."""
        for copies, found in self._made.items():
            yield from self._whole(copies, found)

    def _whole(self, copies: tuple[Weight, Weight], found: WeightPair) -> Iterator[Copies]:
        """Two copies, where all of them was read."""
        a, b = copies
        if found.sampled is None and a.dims == b.dims:
            left, right = (a, b) if self._lanes.reference_side == "left" else (b, a)
            yield Copies(left, right, found.identical_bytes and a.plain and b.plain)

    def _hash(self, copies: tuple[Weight, Weight], found: WeightPair) -> None:
        if self.digests is not None:
            for whole in self._whole(copies, found):
                self.digests.begin(place for places in whole.places for place in places.values())

    def _compared(self, copies: tuple[Weight, Weight]) -> WeightPair:
        cache = self._lanes.reference.runtime.cache
        if self.two_models:
            found = compare_at_sight(*copies, cache.device, cache.kept)
            return self.order.heeded(found, copies, self._in_both())
        look = self.order.begun(copies)
        found = compare_weights(*copies, cache.device, cache.kept, self._loops)
        return self.order.heeded(found, copies, self._in_both(), look)

    def _multiplied(self, copies: tuple[Weight, Weight]) -> None:
        """Make the products that the stage at hand awaits of copies that were compared before, as of a tied head."""
        kept = self._lanes.reference.runtime.cache.kept
        if kept.awaits(*copies) and comparable(*copies) and self._loops is not None:
            self._loops.multiply(*copies, kept)

    @cached_property
    def _loops(self) -> OnePass | None:
        """Compiled loops for the comparison of weights, where those of unlike dtypes are so many that it pays."""
        unlike = sum(a.count for a, b in self._in_both() if a.dtype != b.dtype and a.dims == b.dims)
        return one_pass(unlike) if self._lanes.reference.runtime.cache.device == "cpu" else None

    def _of_rows(self, name: str, rows: Sequence[int]) -> WeightPair | None:
        """The comparison of some rows of a table; of all where some cannot be read by themselves."""
        copies = self._copies(name)
        if copies is None or copies[0].dims != copies[1].dims:
            return self.pair(name)
        a, b = copies
        some = a.only(rows), b.only(rows)
        if some[0] is a or some[1] is b:
            return self.pair(name)
        return compare_weights(*some, self._lanes.reference.runtime.cache.device)

    def _copies(self, name: str) -> tuple[Weight, Weight] | None:
        """The reference's and the subject's."""
        a, b = (lane.model.weights.get(name) for lane in (self._lanes.reference, self._lanes.subject))
        return None if a is None or b is None else (a, b)

    def _in_both(self) -> Iterator[tuple[Weight, Weight]]:
        """Both copies of each weight that both sides have."""
        own = self._lanes.subject.model.weights
        return ((a, own[name]) for name, a in self._lanes.reference.model.weights.items() if name in own)


def _by_place(copies: tuple[Weight, Weight]) -> tuple[Weight, Weight]:
    """Two copies under no name: weights that are read alike are one comparison."""
    a, b = copies
    return replace(a, name=""), replace(b, name="")
