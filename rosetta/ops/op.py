"""What an operation is: its maths, the tensors and settings that it reads, and how exactly it can be computed.

Letters: T = tokens, C = inputs, R = outputs of a matrix, N = heads.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rosetta.lazily import ByDtype, torch
from rosetta.weight import Weight
from rosetta.weight_cache import WeightCache

if TYPE_CHECKING:
    from torch import Tensor

HALF_ULP = ByDtype(float32=2.0**-24, float64=2.0**-53, float16=2.0**-11, bfloat16=2.0**-8)
"""Half a unit in the last place of the arithmetic: what one operation rounds by at most, relative."""

ELEMENTWISE_UNITS = 4.0
"""Of a product, a tanh or a clamp, in units of `HALF_ULP`."""

Settings = Mapping[str, Any]
"""One layer's settings by canonical key."""

Size = int | str | tuple["Size", ...]
"""A number, a config key, or the product of several."""

Dims = dict[str, tuple[int, ...]]
"""Row-major dims by tensor name, without `blk.N.`; -1 where any size will do."""


class Sum(tuple[Size, ...]):
    """The sum of several sizes, where a plain tuple is their product."""


def size(c: Settings, of: Size) -> int:
    """A size as the settings have it.

    >>> size({"attention.head_count": 4, "attention.key_length": 64}, ("attention.head_count", "attention.key_length"))
    256
    >>> size({"ssm.inner_size": 8, "ssm.state_size": 3}, Sum(("ssm.inner_size", (2, "ssm.state_size"))))
    14
    """
    if isinstance(of, Sum):
        return sum(size(c, summand) for summand in of)
    if isinstance(of, tuple):
        return math.prod(size(c, factor) for factor in of)
    return of if isinstance(of, int) else int(c[of])


def keys_of(of: Size) -> tuple[str, ...]:
    """The config keys that a size is worked out from.

    >>> keys_of(("ssm.inner_size", (2, "ssm.state_size")))
    ('ssm.inner_size', 'ssm.state_size')
    """
    if isinstance(of, tuple):
        return tuple(key for part in of for key in keys_of(part))
    return (of,) if isinstance(of, str) else ()


class NotComputable(Exception):
    """A stage cannot be computed as the file says; the message says why, `tensor` names the weight concerned."""

    def __init__(self, message: str, tensor: str | None = None) -> None:
        super().__init__(message)
        self.tensor = tensor


class Holder(Protocol):
    """What an operation asks of a model."""

    @property
    def weights(self) -> Mapping[str, Weight]: ...

    def contradiction(self, name: str) -> str | None:
        """How the file contradicts itself over a weight; None if not."""
        ...

    def settings_of(self, layer: int | None) -> Settings:
        """The settings of a layer, or of what stands outside the layers."""
        ...


@dataclass(frozen=True)
class Chunk:
    """The tokens that one step computes, and what the steps before it left.

    Args:
        start: position of the first of them.
        state: what operations carry from one chunk to the next, by their own names; None where all tokens are one
            chunk and nothing needs carrying.
    """

    start: int = 0
    state: dict[str, Tensor] | None = None


WHOLE = Chunk()


class Step:
    """What one operation may use besides its inputs: its layer's weights and settings, positions, state."""

    def __init__(self, model: Holder, layer: int | None, cache: WeightCache, chunk: Chunk = WHOLE) -> None:
        self.model, self.layer, self.cache, self.chunk = model, layer, cache, chunk
        self.settings = model.settings_of(layer)

    def __getitem__(self, key: str) -> Any:
        return self.settings[key]

    def full_name(self, name: str) -> str:
        """A tensor's canonical name."""
        return name if self.layer is None else f"blk.{self.layer}.{name}"

    def has(self, name: str) -> bool:
        """Whether the file has a tensor."""
        return self.full_name(name) in self.model.weights

    def source(self, name: str) -> Weight:
        """A required weight, not yet decoded.

        Raises:
            NotComputable: the file lacks it, or contradicts itself over it.
        """
        full = self.full_name(name)
        weight = self.model.weights.get(full)
        if weight is None:
            raise NotComputable(f"{full} is missing", full)
        contradiction = self.model.contradiction(full)
        # With room for others it can be read as it says.
        if contradiction is not None and weight.entry.room is None:
            raise NotComputable(contradiction, full)
        return weight

    def weight(self, name: str) -> Tensor:
        return self.cache.values(self.source(name))

    def optional(self, name: str) -> Tensor | None:
        return self.weight(name) if self.has(name) else None

    def rows(self, name: str, indices: Sequence[int]) -> Tensor:
        """Rows of a table, [len(indices), C], without decoding the others."""
        weight = self.source(name)
        beyond = next((index for index in indices if not 0 <= index < weight.dims[0]), None)
        if beyond is not None:
            raise NotComputable(
                f"{weight.name} has {weight.dims[0]} rows, row {beyond} is asked for", weight.name
            )
        return self.cache.moved(weight.rows(indices))

    def positions(self, tokens: int) -> range:
        """Positions of so many tokens of this chunk."""
        return range(self.chunk.start, self.chunk.start + tokens)

    def carried(self, name: str, x: Tensor) -> Tensor:
        """What an operation keeps of every token so far, [all tokens, …], given that of this chunk, [T, …]."""
        state = self.chunk.state
        if state is None:
            return x
        x = torch.cat([state[name], x]) if name in state else x
        state[name] = x
        return x

    def rounded(self, x: Tensor) -> Tensor:
        """An intermediate value that the arithmetic rounds: as it is, but where its rounding is measured (`Moved`)."""
        return x

    def state(self, name: str, initial: Tensor) -> Tensor:
        """What the chunk before left under a name, else the initial value."""
        return initial if self.chunk.state is None else self.chunk.state.get(name, initial)

    def leave(self, name: str, value: Tensor) -> None:
        """Leave a value for the next chunk."""
        if self.chunk.state is not None:
            self.chunk.state[name] = value


class Rounding(Protocol):
    """What is known of how the copies of the weights and the arithmetic of two sides were rounded."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic."""
        ...

    def explains(self, name: str) -> bool:
        """Whether the dtypes of a weight's copies add noise, by full canonical name: not where the copies are equal,
        nor where they differ by more than the dtypes explain."""
        ...

    def variance(self, name: str, cache: WeightCache, start: int = 0, stop: int | None = None) -> Tensor:
        """Explained variance of the difference of a weight's two copies, float32 [rows, C]."""
        ...

    def explained(self, name: str, cache: WeightCache, x: Tensor, rows: tuple[int, int]) -> Tensor:
        """What that makes of products of a matrix with x, its variance for each output of some rows, [T, rows].

        Args:
            name: of the matrix.
            cache: where it is decoded.
            x: [T, C].
            rows: (first, after the last).
        """
        ...

    def row_variance(self, name: str, rows: Sequence[int]) -> list[Tensor]:
        """The same of some rows of a table, float32 [rows, C], in summands."""
        ...

    def agree(self, key: str) -> bool:
        """Whether both sides state the very same value of a setting."""
        ...


@dataclass(frozen=True)
class Spread:
    """How far a result may stray, each part shaped as (or broadcast to) the result.

    Args:
        explained: variance that the dtypes of the weights explain.
        floor: standard deviation of the rounding of both sides' arithmetic.
    """

    explained: Tensor
    floor: Tensor

    @property
    def sigma(self) -> Tensor:
        """Both together, as a standard deviation."""
        return (self.explained + self.floor.square()).sqrt()


@dataclass(frozen=True)
class Part:
    """A part of a stage that is judged by itself, because all of it at once would take too much memory.

    Args:
        of: the stage's value -> the part's.
        sigma: standard deviation of each element of the part's local error, as `of` gives them.
    """

    of: Callable[[Tensor], Tensor]
    sigma: Callable[[], Tensor]


@dataclass(frozen=True)
class Tensors:
    """The tensors that an operation reads, with their dims.

    Args:
        required: without which it cannot be computed.
        optional: that take part where the file has them.
        settings: that hold settings of the forward pass, and are read into the config.
    """

    required: Dims = field(default_factory=dict)
    optional: Dims = field(default_factory=dict)
    settings: Dims = field(default_factory=dict)

    def __add__(self, other: Tensors) -> Tensors:
        return Tensors(
            self.required | other.required, self.optional | other.optional, self.settings | other.settings
        )


class Op(ABC):
    """One operation. A subclass is a frozen dataclass whose fields name tensors and config keys."""

    token_axis: ClassVar[int] = 0
    """Which axis of the result counts tokens."""

    @property
    def by_head(self) -> bool:
        """Whether each head of the inputs gives one of the result, [N, T, T]: what grows with the square of the prompt
        can be computed a few heads at a time."""
        return False

    @property
    def matrix(self) -> str | None:
        """The tensor with which it multiplies its one input, row by row; None where it does anything else first."""
        return None

    @property
    def keys(self) -> tuple[str, ...]:
        """Config keys that it reads, those aside that only say how large its tensors are."""
        return ()

    @property
    def shape(self) -> tuple[Size, ...]:
        """The last dims of its result, where they are sizes that the config states."""
        return ()

    @property
    def links(self) -> tuple[Op, ...]:
        """The operations that it is, one after another: itself, if it is no chain."""
        return (self,)

    def tensors(self, c: Settings) -> Tensors:
        """The tensors that it reads."""
        return Tensors()

    def takes_part(self, s: Step) -> bool:
        """Whether it does anything in this file: an optional norm is left out where the file has none."""
        return True

    def stretch(self, s: Step) -> float | None:
        """By how much an operation on each element can at most enlarge a difference of its input; None: it is no such
        operation."""
        return None

    @abstractmethod
    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        """Its result."""

    @abstractmethod
    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        """How far the result may stray.

        Args:
            s: the reference's step.
            rounding: of both sides' weights and arithmetic.
            y: the reference's result.
            inputs: what it was computed from, the same on both sides.
            before: how far the first input strays already, where it is an intermediate result of the same stage.
        """

    def parts(self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor) -> list[Part]:
        """The result in parts, each with its standard deviation; the arguments are those of `spread`."""
        return [Part(lambda value: value, lambda: self.spread(s, rounding, y, *inputs).sigma)]


def unit_of(rounding: Rounding) -> float:
    """What an operation on either side rounds by, as the standard deviation of the difference of both."""
    return HALF_ULP[rounding.dtype] * math.sqrt(2)


def nothing(like: Tensor) -> Tensor:
    """A variance of zero."""
    return torch.zeros((), device=like.device)
