"""The one forward pass. An architecture is a list of operations; each is a named stage that anyone may listen to.

Letters: T = tokens, H = embedding length, N = heads, D = head size, R = rotary pairs, V = vocabulary.
Every stage is `[T, …]`, except the attention scores `[N, T, T]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rosetta.architectures import INTERLEAVED, Architecture
from rosetta.attention import attention_context, attention_scores
from rosetta.model import Model
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import Kept, WeightCache
from rosetta.workers import spread

Hook = Callable[[str, Tensor], None]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class NotComputable(Exception):
    """A stage cannot be computed as the file says; the message says why, `tensor` names the weight concerned."""

    def __init__(self, message: str, tensor: str | None = None) -> None:
        super().__init__(message)
        self.tensor = tensor


@dataclass(frozen=True)
class Op:
    """One operation, whose result is the stage of its name.

    Args:
        name: the stage, without its layer.
        inputs: the stages it is computed from; `stream` is the residual stream that enters the layer.
        compute: the operation.
        weights: tensors it needs, without `blk.N.`.
        optional: tensors that take part where the file has them.
        keys: config keys that it reads.
        by_head: whether each head of its inputs gives one of its result, [N, T, T]: what grows with the square of
            the prompt can be computed a few heads at a time.
    """

    name: str
    inputs: tuple[str, ...]
    compute: Callable[[Step], Tensor]
    weights: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    by_head: bool = False


class Step:
    """What one operation may use: its inputs, its layer's weights, the config."""

    def __init__(
        self, model: Model, layer: int | None, inputs: Mapping[str, Tensor], cache: WeightCache
    ) -> None:
        self.model, self.layer, self.inputs, self.cache = model, layer, inputs, cache

    def __getitem__(self, key: str) -> Any:
        return self.model[key]

    def full_name(self, name: str) -> str:
        return name if self.layer is None else f"blk.{self.layer}.{name}"

    def source(self, name: str) -> Weight:
        """A required weight, not yet decoded."""
        full = self.full_name(name)
        weight = self.model.weights.get(full)
        if weight is None:
            raise NotComputable(f"{full} is missing", full)
        contradiction = self.model.contradiction(full)
        if (
            contradiction is not None and weight.entry.room is None
        ):  # with room for others it can be read as it says
            raise NotComputable(contradiction, full)
        return weight

    def weight(self, name: str) -> Tensor:
        return self.cache.values(self.source(name))

    def optional(self, name: str) -> Tensor | None:
        return self.weight(name) if self.full_name(name) in self.model.weights else None

    def rows(self, name: str, indices: Sequence[int]) -> Tensor:
        """Rows of a table, [len(indices), H], without decoding the others."""
        weight = self.source(name)
        beyond = next((index for index in indices if not 0 <= index < weight.dims[0]), None)
        if beyond is not None:
            raise NotComputable(
                f"{weight.name} has {weight.dims[0]} rows, row {beyond} is asked for", weight.name
            )
        return self.cache.moved(weight.rows(indices))

    def linear(self, x: Tensor, stem: str) -> Tensor:
        """x Wᵀ + b: [T, C] -> [T, R]; b where the file has one."""
        weight = self.source(f"{stem}.weight")
        ranges = row_ranges(weight)
        y = x.new_empty(len(x), weight.dims[0])

        def multiply(rows: tuple[int, int]) -> None:
            y[:, slice(*rows)] = F.linear(x, self.cache.moved(self.cache.rows(weight, *rows)))

        spread(multiply, ranges)
        bias = self.optional(f"{stem}.bias")
        return y if bias is None else y + bias

    def norm(self, x: Tensor, stem: str) -> Tensor:
        """RMSNorm or LayerNorm over the last dimension."""
        weight, bias = self.weight(f"{stem}.weight"), self.optional(f"{stem}.bias")
        y = normalised(x, self["norm_type"], self[self.model.architecture.epsilon_key]) * weight
        return y if bias is None else y + bias

    def head_norm(self, x: Tensor, stem: str) -> Tensor:
        """RMSNorm over each head, [T, N, D], where the architecture and the file have one."""
        if not self.model.architecture.qk_norm or self.full_name(f"{stem}.weight") not in self.model.weights:
            return x
        return normalised(x, "rms", self[self.model.architecture.epsilon_key]) * self.weight(f"{stem}.weight")


def normalised(x: Tensor, norm: str, epsilon: float) -> Tensor:
    """x divided by its root mean square over the last dimension; LayerNorm takes the mean off first."""
    if norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)


def embedding(step: Step) -> Tensor:
    tokens = step.inputs["tokens"].tolist()
    x = step.rows("token_embd.weight", tokens)  # [T, H]
    if step.model.architecture.learned_positions and "position_embd.weight" in step.model.weights:
        x = x + step.rows("position_embd.weight", range(len(tokens)))
    return x


def query(step: Step) -> Tensor:
    return step.head_norm(
        _heads(step, step.linear(step.inputs["attn_norm"], "attn_q"), "head_count"), "attn_q_norm"
    )


def key(step: Step) -> Tensor:
    return step.head_norm(
        _heads(step, step.linear(step.inputs["attn_norm"], "attn_k"), "head_count_kv"), "attn_k_norm"
    )


def value(step: Step) -> Tensor:
    return _heads(step, step.linear(step.inputs["attn_norm"], "attn_v"), "head_count_kv")


def _heads(step: Step, x: Tensor, count: str) -> Tensor:
    return x.view(len(x), step[f"attention.{count}"], -1)  # [T, N, D]


def rotated(step: Step, x: Tensor) -> Tensor:
    """Rotary embedding of q or k, [T, N, D] (Su et al. 2021, eq. 34); dimensions beyond 2R pass."""
    pairs = step["rope.dimension_count"] // 2
    angles, magnitude = rotary_angles(step.model, len(x))
    cos, sin = ((f(angles) * magnitude).to(x)[:, None, :] for f in (torch.cos, torch.sin))  # [T, 1, R]
    y = x.clone()
    if step.model.architecture.rope == INTERLEAVED:
        a, b = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
        y[..., 0 : 2 * pairs : 2], y[..., 1 : 2 * pairs : 2] = a * cos - b * sin, b * cos + a * sin
    else:
        a, b = x[..., :pairs], x[..., pairs : 2 * pairs]
        y[..., :pairs], y[..., pairs : 2 * pairs] = a * cos - b * sin, b * cos + a * sin
    return y


def rotary_angles(model: Model, tokens: int) -> tuple[Tensor, float]:
    """Angles of all positions and rotary pairs, float64 [T, R] in radians, and YaRN's magnitude."""
    pairs, scaling = model["rope.dimension_count"] // 2, model["rope.scaling"]
    frequency = model["rope.freq_base"] ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    if scaling is not None:
        frequency = frequency / torch.tensor(scaling.factors, dtype=torch.float64)
    return torch.outer(
        torch.arange(tokens, dtype=torch.float64), frequency
    ), scaling.magnitude if scaling else 1.0


def feed_forward_activation(step: Step) -> Tensor:
    activation = ACTIVATIONS[step["activation"]]
    if step.model.architecture.gated:
        return activation(step.inputs["ffn_gate"]) * step.inputs["ffn_up"]
    return activation(step.inputs["ffn_up"])


@dataclass(frozen=True)
class Plan:
    """The operations of an architecture: before the layers, of each layer, after them."""

    before: tuple[Op, ...]
    layer: tuple[Op, ...]
    after: tuple[Op, ...]

    def steps(self, block_count: int) -> Iterator[tuple[int | None, Op]]:
        """(layer, operation) in the order of the forward pass."""
        yield from ((None, op) for op in self.before)
        for layer in range(block_count):
            yield from ((layer, op) for op in self.layer)
        yield from ((None, op) for op in self.after)


@lru_cache(maxsize=32)
def plan(a: Architecture) -> Plan:
    """The forward pass of an architecture."""
    norm_keys = ("norm_type", a.epsilon_key)
    head_norms = {"q": ("attn_q_norm.weight",), "k": ("attn_k_norm.weight",)} if a.qk_norm else {}

    def norm(name: str, source: str, tensor: str) -> Op:
        return Op(
            name,
            (source,),
            lambda s: s.norm(s.inputs[source], tensor),
            (f"{tensor}.weight",),
            (f"{tensor}.bias",),
            norm_keys,
        )

    def linear(name: str, source: str, tensor: str) -> Op:
        return Op(
            name,
            (source,),
            lambda s: s.linear(s.inputs[source], tensor),
            (f"{tensor}.weight",),
            (f"{tensor}.bias",),
        )

    def projection(name: str, compute: Callable[[Step], Tensor], count: str) -> Op:
        return Op(
            name,
            ("attn_norm",),
            compute,
            (f"attn_{name}.weight",),
            (f"attn_{name}.bias", *head_norms.get(name, ())),
            (f"attention.{count}", *([a.epsilon_key] if name in head_norms else [])),
        )

    def rope(name: str) -> Op:
        keys = ("rope.dimension_count", "rope.freq_base", "rope.scaling")
        return Op(f"{name}_rope", (name,), lambda s: rotated(s, s.inputs[name]), keys=keys)

    queries, keys = ("q", "k") if a.rope is None else ("q_rope", "k_rope")

    def scores(s: Step) -> Tensor:
        return attention_scores(
            s.inputs[queries], s.inputs[keys], s["attention.scale"], s["attention.sliding_window"]
        )

    def add(name: str, left: str, right: str) -> Op:
        return Op(name, (left, right), lambda s: s.inputs[left] + s.inputs[right])

    layer = [
        norm("attn_norm", "stream", "attn_norm"),
        projection("q", query, "head_count"),
        projection("k", key, "head_count_kv"),
        projection("v", value, "head_count_kv"),
        *([rope("q"), rope("k")] if a.rope is not None else []),
        Op(
            "attn_scores",
            (queries, keys),
            scores,
            keys=("attention.scale", "attention.sliding_window"),
            by_head=True,
        ),
        Op(
            "attn_context",
            ("attn_scores", "v"),
            lambda s: attention_context(s.inputs["attn_scores"], s.inputs["v"]),
        ),
        linear("attn_out", "attn_context", "attn_output"),
        add("attn_residual", "stream", "attn_out"),
        norm("ffn_norm", "attn_residual", "ffn_norm"),
        *([linear("ffn_gate", "ffn_norm", "ffn_gate")] if a.gated else []),
        linear("ffn_up", "ffn_norm", "ffn_up"),
        Op(
            "ffn_act",
            (*(["ffn_gate"] if a.gated else []), "ffn_up"),
            feed_forward_activation,
            keys=("activation",),
        ),
        linear("ffn_out", "ffn_act", "ffn_down"),
        add("residual", "attn_residual", "ffn_out"),
    ]
    positions = ("position_embd.weight",) if a.learned_positions else ()
    return Plan(
        before=(Op("embedding", ("tokens",), embedding, ("token_embd.weight",), positions),),
        layer=tuple(layer),
        after=(norm("final_norm", "stream", "output_norm"), linear("logits", "final_norm", "output")),
    )


def stage_name(layer: int | None, op: str) -> str:
    """The name under which a stage is known everywhere: `layers.3.attn_norm`, `logits`."""
    return op if layer is None else f"layers.{layer}.{op}"


class Transformer:
    """Runs a model, stage by stage.

    Args:
        model: the model in canonical form.
        device: `cpu`, `cuda`.
        dtype: float32 or float64, of weights and activations alike.
        kept: rows that need not be decoded, shared with the transformer of the other side.
    """

    def __init__(
        self,
        model: Model,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        kept: Kept | None = None,
    ) -> None:
        self.model, self.plan = model, plan(model.architecture)
        self.cache = WeightCache(device, dtype, kept)
        self._hooks: list[Hook] = []

    def with_model(self, model: Model) -> Transformer:
        """Another model run in the same way."""
        return Transformer(model, self.cache.device, self.cache.dtype, self.cache.kept)

    def register_hook(self, hook: Hook) -> Callable[[], None]:
        """Call `hook(stage, tensor)` at every stage from now on; the returned function takes it off again."""
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook)

    @torch.inference_mode()
    def compute(self, layer: int | None, op: Op, values: Mapping[str, Tensor]) -> Tensor:
        """One stage from the stages it needs.

        Raises:
            NotComputable: a weight is missing or of the wrong dims, the layer is absent, inputs do not fit.
        """
        if layer is not None and layer >= self.model.block_count:
            raise NotComputable(f"the file has {self.model.block_count} layers")
        try:
            return op.compute(Step(self.model, layer, values, self.cache)).contiguous()
        except RuntimeError as error:  # torch: shapes of inputs that do not fit the config or each other
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            raise NotComputable(f"its inputs do not fit: {str(error).splitlines()[0]}") from error

    def stages(self, tokens: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        """All stages of one run over the tokens, in order, each handed to the hooks too.

        Raises:
            NotComputable: see `compute`.
        """
        values: dict[str, Tensor] = {"tokens": torch.tensor(list(tokens), dtype=torch.int64)}
        for layer, op in self.plan.steps(self.model.block_count):
            values[op.name] = self.compute(layer, op, values)
            self.cache.clear()
            if op.name in ("embedding", "residual"):
                values["stream"] = values[op.name]
            name = stage_name(layer, op.name)
            for hook in self._hooks:
                hook(name, values[op.name])
            yield name, values[op.name]

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        """Logits of every position, [T, V]."""
        *_, (_, logits) = self.stages(tokens)
        return logits
