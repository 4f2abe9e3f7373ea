"""What a side of a comparison is: something that has a value of each stage.

There are two kinds. Our own transformer computes a stage from whatever inputs it is given. A recorded run, or a
runtime of somebody else's, was observed: its stages are what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.op import Step
from rosetta.runtimes.arithmetic import Imitation
from rosetta.weight import Weight
from rosetta.weight_cache import WeightCache


class Runtime(Protocol):
    """One side of a comparison."""

    @property
    def model(self) -> Model:
        """What is run, as far as it is known: of an observed side perhaps without weights."""
        ...

    @property
    def cache(self) -> WeightCache:
        """Where and in which precision values are held, and weights decoded."""
        ...

    @property
    def computes(self) -> bool:
        """Whether it can be given other inputs than its own, and repaired."""
        ...

    @property
    def chunks(self) -> Sequence[int] | None:
        """How many tokens it computes at a time; None: all at once, or as it was observed."""
        ...

    @property
    def noted(self) -> Sequence[str]:
        """What was found of an observed side's free choices while it was compared, one sentence each."""
        ...

    def offers(self, stage: str) -> bool:
        """Whether it has a value of a stage, by full name."""
        ...

    def compute(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        """A stage: computed from these inputs, or as it was observed.

        Raises:
            NotComputable: it has none.
        """
        ...

    def imitations(self, node: Node, model: Model) -> Sequence[Imitation]:
        """How an observed side legitimately computes a stage otherwise than in float32; none where it computes here.

        Args:
            node: the stage.
            model: the other side's, for its settings.
        """
        ...

    def step(self, node: Node) -> Step:
        """What the stage's operation may use besides its inputs."""
        ...

    def settled(self, node: Node, value: Tensor, other: Tensor) -> Tensor:
        """Its value of a stage, with what a runtime may freely choose chosen as the other side does."""
        ...

    def input_rounding(self, weight: Weight) -> float | None:
        """By how much an observed side rounds what it multiplies by a weight, see `arithmetic.input_rounding`; None
        where it is not known to have computed with the very values of this weight, or how."""
        ...

    def rounding(self, name: str, values: Callable[[], Tensor]) -> Tensor:
        """Standard deviation of the rounding of an observed side's weight; 0 if unknown.

        Args:
            name: canonical name of the weight.
            values: some rows of the other side's copy, which are about as large, float32 of any shape.

        Returns:
            A number for each of the values, or one for all of them.
        """
        ...

    def with_model(self, model: Model) -> Runtime:
        """The same side running another (repaired) model; an observed one stays what it is."""
        ...
