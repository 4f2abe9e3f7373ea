"""The one forward pass: runs the graph of a model, every stage handed to whoever listens.

Letters: T = tokens, N = heads, V = vocabulary. Every stage is `[T, …]`, except the attention scores `[N, T, T]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from rosetta.errors import is_out_of_memory
from rosetta.graph import TOKENS, Graph, Node
from rosetta.model import Model
from rosetta.ops.op import WHOLE, Chunk, NotComputable, Step
from rosetta.weight import Weight
from rosetta.weight_cache import DecodedPair, WeightCache

Hook = Callable[[str, Tensor], None]


class Transformer:
    """Runs a model, stage by stage.

    Args:
        model: the model in canonical form.
        device: `cpu`, `cuda`.
        dtype: float32 or float64, of weights and activations alike.
        kept: rows that need not be decoded, shared with the transformer of the other side.
        chunks: how many tokens are computed at a time, one number a chunk: prefill and then token by token, say. The
            last one repeats. None: all at once.
        cache: of decoded weights; None: one for the stage at hand, on that device and in that precision.
    """

    def __init__(
        self,
        model: Model,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        kept: DecodedPair | None = None,
        chunks: Sequence[int] | None = None,
        cache: WeightCache | None = None,
    ) -> None:
        self.model, self.chunks = model, chunks
        self.cache = cache or WeightCache(device, dtype, kept)
        self._hooks: list[Hook] = []

    @property
    def graph(self) -> Graph:
        """The model's forward pass."""
        return self.model.graph

    @property
    def computes(self) -> bool:
        """Yes: see `runtimes.runtime.Runtime`, of which this is one kind."""
        return True

    @property
    def noted(self) -> tuple[()]:
        """Nothing: it chooses nothing freely."""
        return ()

    def offers(self, stage: str) -> bool:
        """Whether the model has the stage."""
        return stage in self.graph

    def imitations(self, node: Node, model: Model) -> tuple[()]:
        """None: it computes as it is told to."""
        return ()

    def settled(self, node: Node, value: Tensor, other: Tensor) -> Tensor:
        """The value as it is: nothing about it was chosen freely."""
        return value

    def input_rounding(self, weight: Weight) -> None:
        """Nothing of this side is observed."""
        return None

    def rounding(self, name: str, values: Callable[[], Tensor]) -> Tensor:
        """The weight's own rounding is at hand, and nobody asks."""
        return torch.zeros(())

    def with_model(self, model: Model) -> Transformer:
        """Another model run in the same way."""
        return Transformer(model, self.cache.device, self.cache.dtype, self.cache.kept, self.chunks)

    def register_hook(self, hook: Hook) -> Callable[[], None]:
        """Call `hook(stage, tensor)` at every stage from now on; the returned function takes it off again."""
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook)

    @torch.inference_mode()
    def compute(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        """One stage from the values of the stages that it is computed from.

        Raises:
            NotComputable: a weight is missing or of the wrong dims, the layer is absent, inputs do not fit.
        """
        return self.computed(node, inputs, WHOLE if self.chunks is None else None)

    def computed(self, node: Node, inputs: Sequence[Tensor], chunk: Chunk | None) -> Tensor:
        """A stage of the tokens of one chunk; None: of all tokens, in this transformer's own chunks.

        Raises:
            NotComputable: see `compute`.
        """
        if node.layer is not None and node.layer >= self.model.block_count:
            raise NotComputable(f"the file has {self.model.block_count} layers")
        try:
            if chunk is not None:
                return node.op.compute(self.step(node, chunk), *inputs).contiguous()
            return self._in_chunks(node, inputs, self.chunks or ())
        except (RuntimeError, IndexError) as error:  # torch: inputs that do not fit the config or each other
            if is_out_of_memory(error):
                raise
            raise NotComputable(f"its inputs do not fit: {str(error).splitlines()[0]}") from error

    def step(self, node: Node, chunk: Chunk = WHOLE) -> Step:
        """What a stage's operation may use besides its inputs."""
        return Step(self.model, node.layer, self.cache, chunk)

    def _in_chunks(self, node: Node, inputs: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
        """The stage, a chunk of tokens after another: what its operation carries on, it carries by itself."""
        axes = [self.graph[name].op.token_axis if name in self.graph else 0 for name in node.inputs]
        total, axis = inputs[0].shape[axes[0]], node.op.token_axis
        state: dict[str, Tensor] = {}
        parts, start = [], 0
        for count in _chunk_sizes(sizes, total):
            some = [x.narrow(a, start, count) for x, a in zip(inputs, axes, strict=True)]
            y = node.op.compute(self.step(node, Chunk(start, state)), *some)
            if axis and y.shape[-1] < total:  # scores of the tokens to come are none
                y = torch.nn.functional.pad(y, (0, total - y.shape[-1]))
            parts.append(y)
            start += count
        return torch.cat(parts, dim=axis).contiguous()

    def stages(self, tokens: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        """All stages of one run over the tokens, in order, each handed to the hooks too.

        Raises:
            NotComputable: see `compute`.
        """
        values: dict[str, Tensor] = {TOKENS: torch.tensor(list(tokens), dtype=torch.int64)}
        for node in self.graph:
            values[node.name] = self.compute(node, inputs_of(node, values))
            self.cache.clear()
            self.tell(node.name, values[node.name])
            yield node.name, values[node.name]
            forget(values, node, self.graph)

    def tell(self, stage: str, value: Tensor) -> None:
        """Hand a stage to the hooks."""
        for hook in self._hooks:
            hook(stage, value)

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        """Logits of every position, [T, V]."""
        for _, value in self.stages(tokens):  # none is held on to: those of a long prompt take gigabytes
            logits = value
        return logits


class Decoding:
    """One text, computed as its tokens come: every operation is left with what it carries on, and no token is computed
    twice.

    Args:
        transformer: whose hooks hear the stages of the tokens at hand; its own chunks count for nothing.
    """

    def __init__(self, transformer: Transformer) -> None:
        self.transformer, self.position = transformer, 0
        self._states: dict[str, dict[str, Tensor]] = {}

    @torch.inference_mode()
    def feed(self, tokens: Sequence[int]) -> Tensor:
        """Logits of the next tokens, [T, V].

        Raises:
            NotComputable: see `Transformer.compute`.
        """
        transformer, graph = self.transformer, self.transformer.graph
        values: dict[str, Tensor] = {TOKENS: torch.tensor(list(tokens), dtype=torch.int64)}
        for node in graph:
            chunk = Chunk(self.position, self._states.setdefault(node.name, {}))
            values[node.name] = transformer.computed(node, inputs_of(node, values), chunk)
            transformer.cache.clear()
            transformer.tell(node.name, values[node.name])
            forget(values, node, graph)
        self.position += len(tokens)
        return values["logits"]


def inputs_of(node: Node, values: Mapping[str, Tensor]) -> list[Tensor]:
    """The values that a stage is computed from."""
    return [values[name] for name in node.inputs]


def forget(values: dict[str, Tensor], node: Node, graph: Graph) -> None:
    """Drop the values that no stage behind this one is computed from."""
    for name in node.inputs:
        if graph.last_reader[name] == node.name:
            values.pop(name, None)


def _chunk_sizes(sizes: Sequence[int], total: int) -> Iterator[int]:
    """The sizes of the chunks of so many tokens; the last size that is given repeats."""
    given, done, count = iter(sizes), 0, 1
    while done < total:
        count = next(given, count)
        yield min(count, total - done)
        done += count
