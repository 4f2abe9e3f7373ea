"""The typed report: one comparison, complete, as `--json` writes it and as every other output reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, WithJsonSchema

from rosetta.compare.results import (
    Compared,
    ConfigDiff,
    Finding,
    FirstDivergence,
    LogitsDiff,
    Refuted,
    Result,
    Side,
    StageDiff,
    TokensDiff,
    Verdict,
    WeightsDiff,
    Witness,
)
from rosetta.report.worst_stages import MEASURES, worst_stages
from rosetta.strict_json import json_text

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
VERSION_PATTERN = {"type": "string", "pattern": r"^1\.[0-9]+$", "title": "Schema Version"}
"""Every report of major version 1, later ones too."""


class Tool(Result):
    """What wrote the report."""

    name: str = "rosetta"
    """Always `rosetta`."""
    version: str
    """Its version."""


class RemoteFacts(Result):
    """How an operand was read that lies elsewhere."""

    fetched_bytes: int
    """Bytes of it that came over the network."""
    requests: int
    """Ranges that were asked for."""
    revision: str | None
    """The commit that all its files are of; null where the place has none."""
    versions: dict[str, str]
    """Where there is no commit: the version or ETag that each file was pinned to when it was opened."""


class SideFacts(Result):
    """One operand of the comparison."""

    operand: str
    """As given on the command line."""
    path: str
    """The file or folder."""
    container: str
    """`apr`, `gguf`, `huggingface`, …"""
    runtime: str
    """What computed it: `torch`, `llamacpp`, `transformers`, `trace`."""
    device: str
    """Where: `cpu`, `cuda`."""
    architecture: str
    """The canonical architecture, such as `qwen2`."""
    parameters: int
    """Weights in all tensors."""
    dtypes: dict[str, int]
    """Number of tensors of each dtype."""
    file_bytes: int
    """Size of the file, or of the folder's model files."""
    header_sha256: str | None = None
    """SHA-256 of all that is no tensor data: a GGUF file's keys and index, a folder's config.json and headers."""
    sha256: str | None = None
    """SHA-256 of the file, or of a folder's model files one after another by name; null where they are large (above 64
    MiB) or far away and it was not asked for."""
    tensors_sha256: dict[str, str] | None = None
    """SHA-256 of each tensor's bytes as stored, by the name that the file uses; where `sha256` is null, of the tensors
    that were read to their ends anyway and need not be fetched again, null where there is none."""
    remote: RemoteFacts | None = None
    """How it was read; null where it lies on this machine."""


class Asked(Result):
    """The options that decide what was compared and how."""

    threshold_is_explicit: bool
    """Whether the threshold was given, which makes it a limit that drift fails."""
    stop_at_first: bool
    """Whether to stop at the first divergent stage."""
    diagnose: bool
    """Whether causes were looked for."""
    left_device: str
    """Where the left side was to compute."""
    right_device: str
    """Where the right side was to compute."""
    dtype: str
    """In what precision."""
    runtime_options: dict[str, str] = Field(default={})
    """What was asked of the runtimes that ran an operand."""
    run_as: str | None = None
    """The architecture that a model was to be taken for which declares none that is run; null: none."""
    detail: Literal["summary", "stages", "tokens"]
    """How much this report holds: no stages; the stages, the worst with their heads and experts; the stages, each with
    the differences of its tokens, heads and experts."""


class Assertion(Result):
    """What was asserted of the comparison, and what came of it."""

    asserted: bool = False
    """Whether `--assert-match` was given."""
    passed: bool | None = None
    """Whether the assertion holds; null where nothing was asserted."""
    exit_code: int = 0
    """What the program exits with."""
    fail_on: tuple[Literal["divergent", "latent", "drift"], ...] = ()
    """What fails an assertion."""


class Git(Result):
    """The checkout that the program ran in."""

    commit: str
    """Its commit."""
    branch: str | None
    """Its branch; null where it is on none."""
    dirty: bool
    """Whether tracked files are changed."""


class Host(Result):
    """The machine that the program ran on."""

    name: str
    """Its name."""
    system: str
    """Operating system and its release."""
    machine: str
    """Processor architecture."""
    cpus: int
    """Processors."""


class RunFacts(Result):
    """One run of the program."""

    id: str
    """Different for every run."""
    started: str
    """When it began, in UTC (ISO 8601)."""
    argv: list[str]
    """The command line."""
    versions: dict[str, str]
    """Of Python and of the libraries that compute."""
    host: Host
    """Where it ran."""
    git: Git | None
    """The checkout that it ran in; null outside one."""


class Timing(Result):
    """Wall time in seconds."""

    load_s: float
    """Opening and checking both sides."""
    compare_s: float
    """Running and comparing the stages."""
    diagnose_s: float
    """Trying repairs."""
    total_s: float
    """All of it."""


class Report(Result):
    """One comparison of two models, stage by stage: whether they compute the same, where not, and why."""

    schema_version: Annotated[Literal["1.0"], WithJsonSchema(VERSION_PATTERN)] = "1.0"
    """Fields are only ever added within major version 1."""
    tool: Tool
    """What wrote the report."""
    verdict: Verdict
    """`match`; `drift`: over the threshold, and the declared dtypes explain it; `divergent`;
    `inconclusive`: nothing comparable was compared; `error`: there was no comparison, see `error`."""
    reason: str
    """The verdict in one sentence."""
    left: SideFacts
    """The first operand."""
    right: SideFacts
    """The second operand."""
    reference: Side
    """The side that is believed."""
    prompt: str | None
    """The text that was run, of a recorded run its own; null where there is none but token ids (`tokens` has them)."""
    threshold: float
    """Largest allowed difference of a stage, times the larger of 1 and the reference's rms."""
    tokens: TokensDiff
    """The token ids of both sides."""
    config: list[ConfigDiff]
    """Every configuration key that was compared."""
    weights: WeightsDiff
    """What the comparison of the weights themselves said."""
    stages: list[StageDiff]
    """Every stage, in the order of the forward pass."""
    first_divergence: FirstDivergence | None
    """The first faulty stage; null unless the verdict is `divergent`."""
    findings: list[Finding]
    """The diagnosed causes, in order of depth."""
    refuted: list[Refuted]
    """What was tried and did not help."""
    logits: LogitsDiff | None
    """What the two sides would say next; null when the logits could not be compared."""
    compared: Compared
    """How much was compared."""
    timing: Timing
    """Where the time went."""
    peak_rss_bytes: int
    """Peak resident memory, mapped file pages included; 0 where the system does not say."""
    notes: list[str] = Field(default=[])
    """What a reader should know of this run: a defaulted tokenizer, a tolerated oddity."""
    options: Asked | None = None
    """How it was compared; null in a report of an error."""
    witness: Witness | None = None
    """A third side, and with whom it agrees at each stage at fault; null where none was named."""
    assertion: Assertion = Assertion()
    """What was asserted, and what came of it."""
    run: RunFacts | None = None
    """The run of the program that wrote this; null where it was called as a library."""
    error: str | None = None
    """Why there was no comparison, as the program said it (exit code 2); null where there was one."""

    def to_json(self) -> str:
        """The report as strict JSON (RFC 8259), with a final line break; NaN and Inf are strings."""
        return json_text(self._detailed())

    def table(self, name: Literal["stages", "findings", "config", "weights", "refuted", "tokens"]) -> Any:
        """A part of the report as a pandas DataFrame, a row each, where pandas is installed."""
        from rosetta.report.notebook import table  # it reads what is defined here

        return table(self, name)

    def tensors(self, stage: str) -> tuple[Tensor | None, Tensor | None]:
        """The left and the right value of a stage, such as `layers.0.k`, as torch tensors: both sides are run once more
        as far as that. None on a side that lacks the stage.

        Raises:
            RosettaError: the report has no such stage, or an operand is gone or another file by now.
        """
        from rosetta.report.stage_values import stage_values  # it reads what is defined here

        return stage_values(self, stage)

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        from rosetta.report.notebook import fragment  # it reads what is defined here

        return fragment(self)

    def _detailed(self) -> dict[str, Any]:
        """The fields, with as much of the stages as was asked for; what is left out is empty or null."""
        fields, detail = self.model_dump(), self.options.detail if self.options else "tokens"
        if detail == "summary":
            fields["stages"], fields["refuted"] = [], []
            for weight in fields["weights"]["differing_tensors"]:
                weight["spectrum"] = weight["block_map"] = None
        told = worst_stages(self.stages)
        for stage in fields["stages"]:
            if detail != "tokens":
                stage["by_token"] = None
                stage |= {} if stage["name"] in told else dict.fromkeys(MEASURES)
            stage |= {name: _rounded(stage[name]) for name in ("by_token", *MEASURES)}
        for weight in fields["weights"]["differing_tensors"]:
            weight |= {name: _rounded(weight[name]) for name in ("spectrum", "block_map")}
        return fields


def _rounded(value: Any) -> Any:
    """Differences in as many digits as are ever read of one, however deep they stand."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case list():
            return [_rounded(item) for item in value]
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
    return value


def report_schema() -> str:
    """The JSON Schema (2020-12) of a report, as text: deterministic, with a final line break."""
    return schema_text(Report)


def document_schema(document: type) -> str:
    """The JSON Schema (2020-12) of a dataclass that is written as a document of its own, as `asdict` gives it."""
    schema = TypeAdapter(document).json_schema(mode="serialization")
    schema["properties"]["schema_version"] = VERSION_PATTERN
    return _schema_json(schema)


def schema_text(model: type[Result]) -> str:
    """The JSON Schema (2020-12) of a result that is written as a document of its own."""
    schema = model.model_json_schema(mode="serialization")
    for definition in (schema, *schema["$defs"].values()):
        definition.pop("additionalProperties", None)  # a later 1.x may add fields, and stays valid
    return _schema_json(schema)


def _schema_json(schema: dict[str, Any]) -> str:
    return json.dumps({"$schema": SCHEMA_DIALECT, **schema}, indent=2, ensure_ascii=False) + "\n"
