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
Verdict = Literal["match", "drift", "divergent", "inconclusive"]


def _strict(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


Number = Annotated[
    float,
    PlainSerializer(_strict, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}),
]


class Result(BaseModel):
    """Base of all results: immutable, and no field that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TokensDiff(Result):
    left: list[int]
    right: list[int]
    match: bool
    first_mismatch: int | None = None


class ConfigDiff(Result):
    key: str
    left: Any = None
    right: Any = None
    status: Literal["same", "differs", "defaulted"]
    note: str = ""


class WeightDiff(Result):
    """One tensor whose two copies differ by more than their dtypes explain (or whose dims differ)."""

    name: str
    left_name: str | None
    right_name: str | None
    left_dtype: str | None
    right_dtype: str | None
    left_dims: list[int] | None
    right_dims: list[int] | None
    rel_rmse: Number | None = None
    predicted: Number | None = None
    cosine: Number | None = None
    note: str = ""


class WeightsDiff(Result):
    compared: int = 0
    identical_bytes: int = 0
    within_noise: int = 0
    differing: int = 0
    missing_left: list[str] = []
    missing_right: list[str] = []
    differing_tensors: list[WeightDiff] = []


class Worst(Result):
    """The position of the largest difference and the two values there."""

    index: list[int]
    left: Number
    right: Number


class LocalError(Result):
    """Difference of a stage when both sides are given the reference's inputs, beside what the dtypes predict."""

    max_diff: Number
    rel_l2: Number
    predicted_max_diff: Number
    predicted_rel_l2: Number
    worst_ratio: Number = Field(description="largest |difference| / (k·σ) of an element; above 1 is a fault")


class NonFinite(Result):
    left: int = 0
    right: int = 0


class StageDetail(Result):
    """What `-v` and `-vv` print of a stage; not part of the JSON report."""

    left_ends: tuple[list[float], list[float]] | None = None
    right_ends: tuple[list[float], list[float]] | None = None
    worst: list[tuple[Worst, list[float], list[float]]] = []
    """The worst positions, each with the values around it on both sides."""
    weight_dims: list[tuple[str, list[int] | None, list[int] | None]] = []
    """Canonical weight name and the row-major dims that each file stores."""
    not_computable: dict[Side, str] = {}
    """Why a side cannot compute the stage as its file says."""


class StageDiff(Result):
    name: str
    layer: int | None
    op: str
    status: Status
    left_dims: list[int] | None = None
    right_dims: list[int] | None = None
    max_diff: Number | None = None
    mean_diff: Number | None = None
    rms_diff: Number | None = None
    rel_l2: Number | None = None
    cosine: Number | None = None
    by_token: list[Number] | None = None
    worst: Worst | None = None
    local: LocalError | None = None
    nonfinite: NonFinite = NonFinite()
    detail: StageDetail = Field(default=StageDetail(), exclude=True, repr=False)


class FirstDivergence(Result):
    name: str
    layer: int | None
    op: str
    token: int | None
    index: list[int] | None


class Evidence(Result):
    """The proof of a finding: the stage's local error before and after the repair; null: not computable."""

    stage: str
    metric: str = "local_max_diff"
    before: Number | None
    after: Number | None
    predicted: Number | None = None
    from_reference: str | None = Field(default=None, description="what the repair took from the reference")


class Finding(Result):
    kind: str
    side: Side
    layer: int | None = None
    tensor: str | None = None
    key: str | None = None
    partner: str | None = None
    alternatives: list[str] = []
    left_name: str | None = None
    right_name: str | None = None
    declared: Any = None
    actual: Any = None
    message: str
    recommendation: str
    status: Literal["confirmed", "suspected"]
    latent: bool = False
    evidence: Evidence | None = None


class Refuted(Result):
    kind: str
    tensor: str | None = None
    key: str | None = None
    stage: str
    before: Number | None
    after: Number | None


class TopToken(Result):
    id: int
    token: str | None
    logit: Number


class NegativeLogLikelihood(Result):
    left: Number | None
    right: Number | None
    uniform: Number


class LogitsDiff(Result):
    left_top: list[TopToken] = []
    right_top: list[TopToken] = []
    argmax_match: bool | None = None
    margin: Number | None = None
    kl: Number | None = None
    nll: NegativeLogLikelihood | None = None


class Compared(Result):
    stages: int = 0
    weights: int = 0
    config_keys: int = 0
    tokens: int = 0


class SideFacts(Result):
    operand: str
    path: str
    container: str
    runtime: str
    device: str
    architecture: str
    parameters: int
    dtypes: dict[str, int]
    file_bytes: int


class Timing(Result):
    load_s: float
    compare_s: float
    diagnose_s: float
    total_s: float


class Tool(Result):
    name: str = "rosetta"
    version: str


class Report(Result):
    """One comparison, complete: what `--json` writes and every other output is made from."""

    schema_version: Literal["1.0"] = "1.0"
    tool: Tool
    verdict: Verdict
    reason: str
    left: SideFacts
    right: SideFacts
    reference: Side
    prompt: str | None
    threshold: float
    tokens: TokensDiff
    config: list[ConfigDiff]
    weights: WeightsDiff
    stages: list[StageDiff]
    first_divergence: FirstDivergence | None
    findings: list[Finding]
    refuted: list[Refuted]
    logits: LogitsDiff | None
    compared: Compared
    timing: Timing
    peak_rss_bytes: int
    notes: list[str] = Field(
        default=[], description="what a reader should know of this run: a defaulted tokenizer, a tolerated oddity"
    )
