"""Two files of which one was quantised from other weights than the other holds, beneath the noise of all matrices."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.compare.kept_order import KeptOrder
from rosetta.compare.pairing import other_side
from rosetta.compare.results import Finding, Side


def made_of_other_weights(order: KeptOrder, reference: Side) -> Iterator[Finding]:
    """A latent finding, where no matrix keeps the order of the other side's: no stage shows it, and an encoder that
    does not round to the nearest level leaves the same.

    Args:
        order: what the run has learned of the encoders.
        reference: the side that is believed.
    """
    if order.never_kept:
        dtypes = " and ".join(sorted({dtype for pair in order.never_kept for dtype in pair}))
        yield Finding(
            kind="value.other_weights",
            side=other_side(reference),
            message=f"the matrices of {dtypes} agree within the noise, and in none of them do larger weights have "
            "larger values throughout: one file was quantised from other weights than the other one holds (another "
            "revision, a fine-tune), or by an encoder that learns its rounding (AutoRound, GPTQ)",
            recommendation="see which checkpoint and which revision the quantised file was made from",
            status="suspected",
            latent=True,
        )
