"""The values that a comparison produces and a report holds; one type each, used as they are in the JSON.

Field names and meanings are the outward contract (README, "Reading the report"). Numbers that are not
finite are written as strings, because strict JSON has no NaN or Infinity.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

Side = Literal["left", "right"]
Status = Literal["ok", "faulty", "drift", "carried", "skipped"]
Agreement = Literal["left", "right", "both", "neither"]
Verdict = Literal["match", "drift", "divergent", "inconclusive", "error"]


def _strict(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


Number = Annotated[
    float,
    PlainSerializer(_strict, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}),
]


OF_THE_WORST = "of the worst stages"
"""Marks a field of `StageDiff` that a report holds for the stages at fault and those that differ most alone."""


class Result(BaseModel):
    """Base of all results: immutable, and no field that is not declared."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,  # they are the descriptions in the JSON Schema
        json_schema_serialization_defaults_required=True,  # every field is always written
    )


class TokensDiff(Result):
    """The token ids of the prompt, each side by its own tokenizer."""

    left: list[int]
    """Ids by the left tokenizer."""
    right: list[int]
    """Ids by the right tokenizer."""
    match: bool
    """Whether the two lists are equal."""
    first_mismatch: int | None = None
    """First position at which they differ, counted from 0; null when they are equal."""


class ConfigDiff(Result):
    """One configuration key on both sides."""

    key: str
    """GGUF's key without the architecture, such as `attention.layer_norm_rms_epsilon`."""
    left: Any = None
    """The left value; null when the side has none."""
    right: Any = None
    """The right value; null when the side has none."""
    status: Literal["same", "differs", "defaulted"]
    """`defaulted`: equal, and at least one side's file lacks the key."""
    note: str = ""
    """The spelling that each file uses, and which value is its container's default."""


class BlockMap(Result):
    """Where in a matrix its two copies differ."""

    rows: int
    """Rows of the matrix; of a weight with more than two dims, those of its first."""
    columns: int
    """Values of a row."""
    row_step: int
    """Rows that a region has; the last one may have fewer."""
    column_step: int
    """Columns that a region has; the last one may have fewer."""
    values: list[list[Number]]
    """Root mean square of the difference in each region, over that of the whole reference: rows of regions."""


class WeightDiff(Result):
    """One tensor whose two copies differ by more than their dtypes explain (or whose dims differ)."""

    name: str
    """Canonical name, such as `blk.0.attn_q.weight`."""
    left_name: str | None
    """The name in the left file; null when it is missing there."""
    right_name: str | None
    """The name in the right file; null when it is missing there."""
    left_dtype: str | None
    """Declared dtype in the left file."""
    right_dtype: str | None
    """Declared dtype in the right file."""
    left_dims: list[int] | None
    """Row-major dims as the left file stores them."""
    right_dims: list[int] | None
    """Row-major dims as the right file stores them."""
    rel_rmse: Number | None = None
    """Root mean square of the difference over that of the reference; null when the dims differ."""
    predicted: Number | None = None
    """The `rel_rmse` that the two dtypes alone explain."""
    cosine: Number | None = None
    """Cosine similarity of the two copies."""
    note: str = ""
    """What else is known, such as the blocks that differ."""
    spectrum: list[Number] | None = None
    """Leading singular values of the difference, over the largest that errors without any structure would have: above 1
    there is some, and a steep fall is a low rank. Null but for the weights that differ most."""
    block_map: BlockMap | None = None
    """In which region it differs how much; null but for the weights that differ most."""


class WeightsDiff(Result):
    """All weights, counted, and those that differ."""

    compared: int = 0
    """Tensors compared by value."""
    identical_bytes: int = 0
    """Of those, tensors whose bytes are equal."""
    within_noise: int = 0
    """Of those, tensors that differ by no more than their dtypes explain."""
    differing: int = 0
    """Of those, tensors that differ by more."""
    missing_left: list[str] = []
    """Canonical names of tensors that only the right file has."""
    missing_right: list[str] = []
    """Canonical names of tensors that only the left file has."""
    differing_tensors: list[WeightDiff] = []
    """The tensors that differ, each with its numbers."""


class Worst(Result):
    """The position of the largest difference and the two values there."""

    index: list[int]
    """Index into the stage's dims, counted from 0."""
    left: Number
    """The left value there."""
    right: Number
    """The right value there."""


class LocalError(Result):
    """Difference of a stage when both sides are given the reference's inputs, and what the dtypes predict."""

    max_diff: Number
    """Largest absolute difference."""
    rel_l2: Number
    """Norm of the difference over the norm of the reference."""
    predicted_max_diff: Number
    """The largest difference that the declared dtypes and the arithmetic explain."""
    predicted_rel_l2: Number
    """The `rel_l2` that they explain."""
    worst_ratio: Number
    """Largest |difference| / (k·σ) of an element; above 1 is a fault."""


class NonFinite(Result):
    """How many values of a stage are NaN or Inf."""

    left: int = 0
    """On the left side."""
    right: int = 0
    """On the right side."""


class StageDetail(Result):
    """What `-v` and `-vv` print of a stage; not part of the JSON report."""

    left_ends: tuple[list[float], list[float]] | None = None
    right_ends: tuple[list[float], list[float]] | None = None
    worst: list[tuple[Worst, list[float], list[float]]] = []
    differing: list[tuple[str, float]] = []
    """Weights in use of which a block differs by more than its dtypes explain, and how many times more; infinite
    where they leave no room at all."""
    """The worst positions, each with the values around it on both sides."""
    weight_dims: list[tuple[str, list[int] | None, list[int] | None]] = []
    """Canonical weight name and the row-major dims that each file stores."""
    not_computable: dict[Side, str] = {}
    """Why a side cannot compute the stage as its file says."""


class ByExpert(Result):
    """A stage of experts, a number an expert."""

    left: list[int]
    """Tokens that the left side sends to it."""
    right: list[int]
    """Tokens that the right side sends to it."""
    max_diff: list[Number]
    """Of the router's stage the largest absolute difference of its weight in a token's sum; of the experts' own stages
    that of its values, over the tokens that both sides send to it."""


class StageDiff(Result):
    """One stage of the forward pass on both sides; the numbers are null when it could not be compared."""

    name: str
    """Stage name, such as `layers.0.attn_norm`."""
    layer: int | None
    """Layer, counted from 0; null outside the layers."""
    op: str
    """The stage's name without its layer, such as `attn_norm`."""
    status: Status
    """`ok`; `faulty`: the fault is here; `drift`: over the threshold, and the declared dtypes explain it;
    `carried`: over the threshold because of a faulty stage before it; `skipped`: there is no such stage."""
    left_dims: list[int] | None = None
    """Dims of the left result."""
    right_dims: list[int] | None = None
    """Dims of the right result."""
    max_diff: Number | None = None
    """Largest absolute difference."""
    mean_diff: Number | None = None
    """Mean absolute difference."""
    rms_diff: Number | None = None
    """Root mean square of the difference."""
    rel_l2: Number | None = None
    """Norm of the difference over the norm of the reference."""
    cosine: Number | None = None
    """Cosine similarity of the two results."""
    scale: Number | None = None
    """Root mean square of the reference's values: what `max_diff` is large or small beside."""
    rel: Number | None = None
    """`max_diff` over `scale`."""
    by_token: list[Number] | None = None
    """The largest absolute difference at each token."""
    by_head: Annotated[list[Number] | None, OF_THE_WORST] = None
    """The largest absolute difference of each attention head; null elsewhere, and but for the stages at fault and those
    that differ most."""
    by_expert: Annotated[ByExpert | None, OF_THE_WORST] = None
    """Of the router's stage and those of experts, how tokens are sent to each and how far it is off; null elsewhere,
    and as `by_head`."""
    worst: Worst | None = None
    """Where the largest difference is."""
    local: LocalError | None = None
    """The difference when both sides are given the reference's inputs: it says where a fault is."""
    nonfinite: NonFinite = NonFinite()
    """Counts of NaN and Inf."""
    witness: Agreement | None = None
    """Where the stage is at fault and a witness was named: the side that it agrees with, `both` where dtypes leave room
    for that, or `neither`; null where it cannot say."""
    detail: StageDetail = Field(default=StageDetail(), exclude=True, repr=False)


class Witnessed(Result):
    """What a witness says of one stage at fault."""

    stage: str
    """The stage."""
    agrees: Agreement | None
    """The side that it agrees with; null where it, or one of the sides beside it, shows no such stage."""
    left: Number | None
    """By how many times what is allowed it differs from the left side there: its local error over the predicted noise,
    or, of two observed runs, their difference over the threshold. Up to 1 it agrees."""
    right: Number | None
    """The same of the right side."""


class Witness(Result):
    """A third side, which accuses nobody."""

    operand: str
    """As given on the command line."""
    stages: list[Witnessed]
    """What it says of each stage at fault, in order; empty where none is."""


class FirstDivergence(Result):
    """The first faulty stage, or `tokens` when the ids differ."""

    name: str
    """Stage name."""
    layer: int | None
    """Layer, counted from 0; null outside the layers."""
    op: str
    """The stage's name without its layer."""
    token: int | None
    """Position in the prompt of the worst difference."""
    index: list[int] | None
    """Index of the worst difference into the stage's dims."""


class Evidence(Result):
    """The proof of a finding: the stage's local error before and after the repair; null: not computable."""

    stage: str
    """The stage that was computed again."""
    metric: str = "local_max_diff"
    """What `before` and `after` measure."""
    before: Number | None
    """As stored; null when the stage cannot be computed."""
    after: Number | None
    """With the repair applied in memory."""
    predicted: Number | None = None
    """What the declared dtypes and the arithmetic explain."""
    ratio_before: Number | None = None
    """The figure that decides, as stored: the largest local error over its predicted noise, above 1 a fault; where a
    block of a weight alone gave the fault away, that block's difference over what its dtypes explain.
    Null when the stage cannot be computed, or ids and not values are compared."""
    ratio_after: Number | None = None
    """The largest local error over its predicted noise, with the repair."""
    from_reference: str | None = None
    """What the repair took from the reference, because the file no longer holds it."""


class Finding(Result):
    """One cause of a difference: a tensor, a key or a tokenizer that is not what its file says."""

    kind: str
    """What is wrong, such as `layout.transposed` or `config.norm_epsilon`."""
    side: Side
    """The side that is at fault."""
    layer: int | None = None
    """Layer, counted from 0; null outside the layers."""
    tensor: str | None = None
    """Canonical name of the one tensor concerned."""
    key: str | None = None
    """Configuration key concerned."""
    partner: str | None = None
    """Canonical name of the other tensor of a swapped pair."""
    alternatives: list[str] = []
    """Other kinds that the evidence supports equally well."""
    left_name: str | None = None
    """The name that the left file uses."""
    right_name: str | None = None
    """The name that the right file uses."""
    declared: Any = None
    """What the file says."""
    actual: Any = None
    """What it is."""
    message: str
    """What is wrong, in one sentence that begins with the tensor or key."""
    recommendation: str
    """What to do about it, in one sentence."""
    status: Literal["confirmed", "suspected"]
    """`confirmed`: the repair brought the stage back to its predicted noise."""
    latent: bool = False
    """Whether it makes nothing divergent on this prompt."""
    evidence: Evidence | None = None
    """The proof, or the attempt at one."""


class Refuted(Result):
    """A repair that was tried and did not help."""

    kind: str
    """The kind of finding it would have been."""
    tensor: str | None = None
    """Canonical name of the tensor concerned."""
    key: str | None = None
    """Configuration key concerned."""
    stage: str
    """The stage that was computed again."""
    before: Number | None
    """Local error as stored; null when the stage cannot be computed."""
    after: Number | None
    """Local error with the repair; null where it was not computed."""
    why: str | None = None
    """Why it proves nothing, where the weights say so already."""


class TopToken(Result):
    """One of the most likely next tokens."""

    id: int
    """Token id."""
    token: str | None
    """Its text; null without a tokenizer."""
    logit: Number
    """Its logit."""


class NegativeLogLikelihood(Result):
    """Mean negative log-likelihood of the prompt's own next tokens, in nats: above `uniform` is worse than
    guessing."""

    left: Number | None
    """On the left side."""
    right: Number | None
    """On the right side."""
    uniform: Number
    """Logarithm of the vocabulary's size: what guessing would cost."""


class LogitsDiff(Result):
    """What the two sides would say next, after the last token."""

    left_top: list[TopToken] = []
    """The left side's most likely tokens, best first."""
    right_top: list[TopToken] = []
    """The right side's most likely tokens, best first."""
    argmax_match: bool | None = None
    """Whether the most likely token is the same."""
    margin: Number | None = None
    """Distance of the reference's best logit from its second."""
    kl: Number | None = None
    """Kullback-Leibler divergence of the other side's distribution from the reference's, in nats."""
    nll: NegativeLogLikelihood | None = None
    """Whether either side predicts the prompt at all; null for a prompt of one token."""


class Compared(Result):
    """How much was compared; nothing compared is never a pass."""

    stages: int = 0
    """Stages."""
    weights: int = 0
    """Weights."""
    config_keys: int = 0
    """Configuration keys."""
    tokens: int = 0
    """Tokens of the prompt."""
