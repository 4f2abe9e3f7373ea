"""Some rows of two copies, beside the variance of their difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Some rows of both copies, and the variance of their difference, float32 [rows, C]."""

    fine: Tensor
    coarse: Tensor
    variance: Tensor

    def in_sigmas(self) -> tuple[Tensor, Tensor, Tensor]:
        """z, u and 1 / σ."""
        inverse = self.variance.clamp(min=1e-30).rsqrt_()
        return (self.coarse - self.fine).mul_(inverse), self.fine * inverse, inverse

    def only(self, rows: Tensor) -> Rows:
        """Some of them."""
        wanted = rows.to(self.fine.device)
        return Rows(*(x.index_select(0, wanted) for x in (self.fine, self.coarse, self.variance)))

    def unlike(self) -> Rows:
        """Those that are no copies of others: such have equal errors, as heads that were written several times do."""
        bits = self.fine.contiguous().view(torch.int32).long()
        keys = torch.arange(1, 2 * bits.shape[1], 2, device=bits.device).pow_(3)
        sums, order = (bits * keys).sum(1).sort(stable=True)  # modulo 2⁶⁴: equal where all bits are
        first = order[torch.cat([sums.new_ones(1, dtype=torch.bool), sums[1:] != sums[:-1]])]
        return self if len(first) == len(bits) else self.only(first)

    def in_columns(self, runs: Sequence[slice]) -> Rows:
        """Some of their columns."""
        if runs == [slice(None)]:
            return self
        of_each = (self.fine, self.coarse, self.variance)
        return Rows(*(torch.cat([x[:, run] for run in runs], dim=1) for x in of_each))

    def only_columns(self, wanted: Tensor) -> Rows:
        """The columns where `wanted`, bool [C], is true."""
        wanted = wanted.to(self.fine.device)
        return Rows(*(x[:, wanted] for x in (self.fine, self.coarse, self.variance)))

    def pieces(self, count: int) -> list[Rows]:
        """So many of them at a time."""
        parts = (torch.split(x, count) for x in (self.fine, self.coarse, self.variance))
        return [Rows(*part) for part in zip(*parts, strict=True)]
