"""Mixtures of experts: which are chosen, and what they compute.

Letters: T = tokens, E = experts, k = chosen ones, C = inputs, R = outputs of an expert's matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import functional as F
from rosetta.lazily import torch
from rosetta.ops.linear import Linear, product_unit
from rosetta.ops.op import Op, Rounding, Settings, Size, Spread, Step, Tensors, nothing, size, unit_of

if TYPE_CHECKING:
    from torch import Tensor

SOFTMAX, SIGMOID, SOFTMAX_OF_CHOSEN, SQRT_SOFTPLUS = 1, 2, 3, 4
"""Gating functions as GGUF numbers them (llama.cpp, llama_expert_gating_func_type)."""
LARGEST_GATING = SQRT_SOFTPLUS

ROUTER_UNITS = 20.0  # of a softmax, as for attention's
NEAR_TIE = 10.0
"""Standard deviations within which two scores may change places: those of `compare.local_error`."""
EPSILON = 2.0**-14
"""Least sum of the chosen weights that they are divided by (ggml clamps at F16's smallest normal)."""


@dataclass(frozen=True)
class Router(Op):
    """How much each expert counts for each token, [T, C] -> [T, E]: zero where it is not chosen.

    Args:
        stem: of the matrix that scores experts.
        count, used: config keys of E and k; or E.
        gating: config key of the function of the scores, see `SOFTMAX` and those beside it; or that function.
        normalised: config key of whether the weights of the chosen ones are made to sum to one; or whether they are.
        scale: config key of what the weights are multiplied with, or that; None: 1.
        selection_bias: stem of what is added to the scores for choosing only; None: nothing is.
        groups, groups_used: config keys: experts are in groups, of which only the best may be chosen from.
        group_best: config key of how many of its experts a group is judged by, by the sum of what they are preferred
            by: two (DeepSeek-V3, and llama.cpp always), or the best one (V2).
        softcap: config key of c in c·tanh(x/c) of the scores; None: there is none.
        by_scores: whether experts are chosen by their scores, which a sigmoid of large ones can no longer tell apart.
        biased: whether the weights, too, have added what is added for choosing: no published model's have.
    """

    stem: str = "ffn_gate_inp"
    count: str | int = "expert_count"
    used: str = "expert_used_count"
    gating: str | int = SOFTMAX
    normalised: str | bool = True
    scale: str | float | None = None
    selection_bias: str | None = None
    groups: str | None = None
    groups_used: str | None = None
    group_best: str = "expert_group_best"
    softcap: str | None = None
    by_scores: bool = False
    biased: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        groups = () if self.groups is None else (self.groups, self.groups_used, self.group_best)
        stated = (self.used, self.gating, self.normalised, self.scale, self.softcap, *groups)
        return tuple(key for key in stated if isinstance(key, str))

    @property
    def shape(self) -> tuple[Size, ...]:
        return (self.count,)

    @property
    def _scorer(self) -> Linear:
        return Linear(self.stem, rows=self.count, columns="embedding_length")

    def tensors(self, c: Settings) -> Tensors:
        found = self._scorer.tensors(c)
        if self.selection_bias is None:
            return found
        return found + Tensors({}, {f"{self.selection_bias}.bias": (size(c, self.count),)})

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return self._weighed(s, self._scorer.compute(s, *inputs))

    def _of(self, s: Step, value: str | int | bool) -> int:
        return int(s[value]) if isinstance(value, str) else int(value)

    def _probabilities(self, s: Step, scores: Tensor) -> Tensor:
        cap = 0.0 if self.softcap is None else float(s[self.softcap])
        scores = (scores / cap).tanh() * cap if cap else scores
        gating = self._of(s, self.gating)
        if gating == SIGMOID:
            return scores.sigmoid()
        if gating == SQRT_SOFTPLUS:
            return F.softplus(scores).sqrt()
        return scores if gating == SOFTMAX_OF_CHOSEN else scores.softmax(-1)

    def _biased(self, s: Step, scores: Tensor, probabilities: Tensor) -> Tensor:
        """By what experts are chosen, whatever their group, [T, E]."""
        preferred = scores if self.by_scores else probabilities
        bias = None if self.selection_bias is None else s.optional(f"{self.selection_bias}.bias")
        return preferred if bias is None else preferred + bias

    def _grouped(self, s: Step) -> bool:
        """Whether experts are chosen from the best groups alone."""
        return self.groups is not None and self.groups_used is not None and int(s[self.groups]) > 1

    def _group_scores(self, s: Step, preferred: Tensor) -> Tensor:
        """What each group is judged by, [T, groups]."""
        by_group = preferred.view(len(preferred), int(s[str(self.groups)]), -1)
        best = min(int(s[self.group_best]), by_group.shape[-1])
        return by_group.topk(best, dim=-1).values.sum(-1)

    def _preferences(self, s: Step, scores: Tensor, probabilities: Tensor) -> Tensor:
        """By what experts are chosen, [T, E]; −∞ in groups that are not chosen from."""
        preferred = self._biased(s, scores, probabilities)
        if not self._grouped(s):
            return preferred
        best = self._group_scores(s, preferred)
        kept = torch.zeros_like(best, dtype=torch.bool)
        kept.scatter_(1, best.topk(int(s[str(self.groups_used)]), dim=-1).indices, True)
        return preferred.masked_fill(
            ~kept.repeat_interleave(preferred.shape[-1] // best.shape[-1], dim=1), -torch.inf
        )

    def _weighed(self, s: Step, scores: Tensor) -> Tensor:
        probabilities = self._probabilities(s, scores)
        chosen = self._preferences(s, scores, probabilities).topk(int(s[self.used]), dim=-1).indices
        weights = (self._biased(s, scores, probabilities) if self.biased else probabilities).gather(1, chosen)
        if self._of(s, self.gating) == SOFTMAX_OF_CHOSEN:
            weights = weights.softmax(-1)
        elif self._of(s, self.normalised):
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(EPSILON)
        if self.scale is not None:
            weights = weights * (s[self.scale] if isinstance(self.scale, str) else self.scale)
        return torch.zeros_like(scores).scatter_(1, chosen, weights)

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        """To first order, and as much as a weight at all where two experts may change places at the boundary: that is
        a near tie, not a fault."""
        scores = self._scorer.compute(s, *inputs)
        found = self._scorer.spread(s, rounding, scores, *inputs)
        probabilities = self._probabilities(s, scores)
        chosen, size_y = y != 0, y.float().abs()
        # |∂ ln p / ∂ score| is at most one for each of the functions; of the raw score it is that of its softmax.
        share = size_y / size_y.sum(-1, keepdim=True).clamp_min(1e-30)
        relative = found.explained + (share.square() * found.explained).sum(-1, keepdim=True)
        relative_floor = found.floor + (share * found.floor).sum(-1, keepdim=True)
        explained = size_y.square() * relative
        floor = size_y * (relative_floor + ROUTER_UNITS * unit_of(rounding))
        near = self._near_ties(s, scores, probabilities, found.sigma, chosen)
        largest = size_y.amax(-1, keepdim=True).expand_as(y)
        return Spread(explained, torch.where(near, floor.maximum(largest), floor))

    def _near_ties(
        self, s: Step, scores: Tensor, probabilities: Tensor, sigma: Tensor, chosen: Tensor
    ) -> Tensor:
        """Which weights may be another one because another expert, or group, may be chosen, bool [T, E]."""
        preferred = self._preferences(s, scores, probabilities)
        slope = torch.ones_like(probabilities)
        if not self.by_scores and self._of(s, self.gating) in (SIGMOID, SOFTMAX):
            slope = probabilities * (1 - probabilities)
        margin = (NEAR_TIE * sigma * slope).amax(-1, keepdim=True)
        last = preferred.masked_fill(~chosen, torch.inf).amin(-1, keepdim=True)
        first_out = preferred.masked_fill(chosen, -torch.inf).amax(-1, keepdim=True)
        tied = (last - first_out).abs() <= 2 * margin  # else the reference chose by something else
        near = tied & (chosen | (preferred >= last - 2 * margin)) & preferred.isfinite()
        if not self._grouped(s):
            return near
        groups = (
            self._group_scores(s, self._biased(s, scores, probabilities)).sort(-1, descending=True).values
        )
        used = int(s[str(self.groups_used)])
        if used >= groups.shape[-1]:
            return near
        apart = groups[:, used - 1 : used] - groups[:, used : used + 1]
        return near | (apart <= 2 * int(s[self.group_best]) * margin)


def chosen_of(weights: Tensor, used: int | None = None) -> Tensor:
    """The chosen experts of each token, the one that counts most first, int64 [T, k].

    Args:
        weights: the router's, [T, E].
        used: k; None: as many as count at all for any token. So the routing that is given is followed, whatever number
            of experts the settings speak of.
    """
    most = int((weights != 0).sum(-1).max()) if used is None else used
    return weights.abs().topk(max(most, 1), dim=-1).indices


def tokens_of(chosen: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each expert that any token chose: (its number, which tokens did, in which place)."""
    for expert in sorted(set(chosen.flatten().tolist())):
        tokens, places = (chosen == expert).nonzero(as_tuple=True)
        yield expert, tokens, places


@dataclass(frozen=True)
class ExpertLinear(Op):
    """The product with a matrix of each expert that a token chose: [T, C] or [T, k, C] and the router's [T, E] to
    [T, k, R], in the order of what the experts count for.

    Args:
        stem: of the matrices' names: `ffn_up_exps`; expert 7's is `ffn_up_exps.7.weight`.
        router: whose choice it follows.
        rows, columns: R and C.
        weighed: whether the inputs are weighed by the router.
    """

    stem: str
    router: Router
    rows: Size
    columns: Size
    weighed: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.router.used,)

    def tensors(self, c: Settings) -> Tensors:
        rows, columns = size(c, self.rows), size(c, self.columns)
        names = [f"{self.stem}.{e}" for e in range(size(c, self.router.count))]
        return Tensors(
            {f"{name}.weight": (rows, columns) for name in names}, {f"{name}.bias": (rows,) for name in names}
        )

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return self.products(s, *self._chosen(*inputs))

    def _chosen(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs as the experts get them, and which these are."""
        chosen = chosen_of(weights)
        return (x[:, None] * weights.gather(1, chosen)[..., None] if self.weighed else x), chosen

    def products(self, s: Step, x: Tensor, chosen: Tensor) -> Tensor:
        """The products with the chosen experts' matrices, [T, k, R]."""
        y = x.new_empty(*chosen.shape, size(s.settings, self.rows))
        for expert, tokens, places in tokens_of(chosen):
            y[tokens, places] = self._own(x, tokens, places) @ s.weight(f"{self.stem}.{expert}.weight").T
            bias = s.optional(f"{self.stem}.{expert}.bias")
            if bias is not None:
                y[tokens, places] += bias
        return y

    @staticmethod
    def _own(x: Tensor, tokens: Tensor, places: Tensor) -> Tensor:
        return x[tokens] if x.dim() == 2 else x[tokens, places]

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        x, chosen = self._chosen(*inputs)
        return self.products_spread(s, rounding, x, chosen)

    def products_spread(self, s: Step, rounding: Rounding, x: Tensor, chosen: Tensor) -> Spread:
        """How far each product may stray, [T, k, R]; see `Linear`."""
        explained = torch.zeros(*chosen.shape, size(s.settings, self.rows), device=x.device)
        floor = torch.zeros_like(explained)
        unit = product_unit(x, rounding)
        for expert, tokens, places in tokens_of(chosen):
            name = f"{self.stem}.{expert}"
            own = self._own(x, tokens, places)
            squares, weight = own.float().square(), s.weight(f"{name}.weight").float()
            floor[tokens, places] = unit * (squares @ weight.square().T).sqrt()
            added = s.optional(f"{name}.bias")
            if added is not None:
                of_sum = unit_of(rounding) * added.float().abs()
                floor[tokens, places] = torch.hypot(floor[tokens, places], of_sum)
            full, bias = s.full_name(f"{name}.weight"), s.full_name(f"{name}.bias")
            if rounding.explains(full):
                explained[tokens, places] = rounding.explained(full, s.cache, own, (0, len(weight)))
            if rounding.explains(bias):
                explained[tokens, places] += rounding.variance(bias, s.cache)
        return Spread(explained, floor)


@dataclass(frozen=True)
class ExpertSum(Op):
    """What the chosen experts make of their activations, weighed and summed, [T, k, C] and the router's [T, E] to
    [T, R]; plus the shared expert's, where it is a third input.

    Args:
        stem, router, rows, columns: see `ExpertLinear`.
        weighed: whether the products are weighed; not where the router's weights went into the experts' inputs.
        scale: name of a learned factor of each expert's product, [E], where the file has one; None: there is none.
        shared_by: what the shared expert's result is multiplied with: 1 in every published model.
    """

    stem: str
    router: Router
    rows: Size
    columns: Size
    weighed: bool = True
    scale: str | None = None
    shared_by: float = 1.0

    @property
    def _product(self) -> ExpertLinear:
        return ExpertLinear(self.stem, self.router, self.rows, self.columns)

    def tensors(self, c: Settings) -> Tensors:
        found = self._product.tensors(c)
        return (
            found if self.scale is None else found + Tensors({}, {self.scale: (size(c, self.router.count),)})
        )

    def _shares(self, s: Step, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen experts and what each counts, [T, k]."""
        chosen = chosen_of(weights, x.shape[1])
        shares = weights.gather(1, chosen)
        shares = shares if self.weighed else torch.ones_like(shares)
        factors = None if self.scale is None else s.optional(self.scale)
        return chosen, shares if factors is None else shares * factors[chosen]

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        x, weights, *shared = inputs
        chosen, shares = self._shares(s, x, weights)
        y = (self._product.products(s, x, chosen) * shares[..., None]).sum(1)
        return y + self.shared_by * shared[0] if shared else y

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        x, weights, *shared = inputs
        chosen, shares = self._shares(s, x, weights)
        found = self._product.products_spread(s, rounding, x, chosen)
        squares = shares.float().square()[..., None]
        floor = (found.floor.square() * squares).sum(1).sqrt() + 2 * unit_of(rounding) * y.float().abs()
        if shared:
            floor = floor + unit_of(rounding) * shared[0].float().abs()
        explained = (found.explained * squares).sum(1) if found.explained.numel() else nothing(y)
        return Spread(explained + self._of_scale(s, rounding, x, weights, y), floor)

    def _of_scale(self, s: Step, rounding: Rounding, x: Tensor, weights: Tensor, y: Tensor) -> Tensor:
        """The variance that the dtypes of the experts' own factors explain."""
        if self.scale is None or not rounding.explains(s.full_name(self.scale)):
            return nothing(y)
        chosen = chosen_of(weights, x.shape[1])
        variance = rounding.variance(s.full_name(self.scale), s.cache).flatten()[chosen]
        unscaled = self._product.products(s, x, chosen) * weights.gather(1, chosen)[..., None]
        return (unscaled.float().square() * variance[..., None]).sum(1)
