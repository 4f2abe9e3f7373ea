"""What a parity run found, as `--json` writes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from rosetta.compare.results import Number, Result
from rosetta.report.report import VERSION_PATTERN, Assertion, RunFacts, Tool
from rosetta.strict_json import json_text

Class = Literal["match", "near_tie", "fault"]
Verdict = Literal["match", "near_tie", "fault", "inconclusive", "error"]
Mark = Literal["empty", "repeats", "stops_early", "nonfinite"]


class ParitySide(Result):
    """One operand."""

    operand: str
    """As given on the command line."""
    path: str
    """The file or folder."""
    container: str
    """`apr`, `gguf`, `huggingface`."""
    runtime: str
    """What ran it: `torch`, `llamacpp`, `transformers`."""
    version: str
    """Of the runtime."""
    options: dict[str, str]
    """Of the runtime, as they were in force."""
    architecture: str
    """As the file declares it."""
    parameters: int
    """Weights in all tensors."""
    dtypes: dict[str, int]
    """Number of tensors of each dtype."""
    file_bytes: int
    """Size of the file, or of the folder's model files."""
    header_sha256: str | None
    """SHA-256 of all that is no tensor data."""
    tokenizer_of: str | None
    """The operand whose tokenizer it used; null: none was at hand."""


class ParityPrompt(Result):
    """One prompt."""

    id: str
    """What the report calls it."""
    text: str | None
    """The text; null where ids were given alone."""
    expected_text: str | None
    """What a stored oracle goes on with, as text."""
    expected_ids: list[int] | None
    """What it goes on with, as ids."""


class Output(Result):
    """What one side said to one prompt."""

    prompt: str
    """The prompt's id."""
    side: str
    """The operand."""
    rendered: str | None
    """The text that was encoded: of a chat, by the side's own template; null where ids were given."""
    prompt_ids: list[int]
    """Its ids."""
    ids: list[int]
    """The tokens said, greedily, the one that ended them among them."""
    text: str | None
    """Their text, without that token; null without a tokenizer."""
    ended: Literal["length", "stop", "nonfinite", "failed"]
    """`length`: all that were asked for; `stop`: by a token that ends a text; `nonfinite`: by a NaN or Inf; `failed`:
    the runtime gave nothing."""
    marks: list[Mark]
    """What is odd about it."""
    cached_error: Number | None
    """Largest difference of the logits, computed token by token, from the same computed all at once."""
    cached_limit: Number | None
    """What the arithmetic may make of that."""
    cached_first_mismatch: int | None
    """The first token that would have been chosen otherwise all at once; null where there is none."""


class Candidate(Result):
    """A token that a side chose where they part."""

    id: int
    """Token id."""
    token: str | None
    """Its text; null without a tokenizer."""


class Cell(Result):
    """One side held to another, or to the stored oracle, at one prompt."""

    prompt: str
    """The prompt's id."""
    side: str
    """The operand that is judged."""
    reference: str
    """The operand that is believed; `expected` for the stored oracle."""
    class_: Class = Field(serialization_alias="class")
    """`match`: the same tokens; `near_tie`: the margin is within the measured error and no stage is faulty, neither is
    wrong; `fault`."""
    left_ids: list[int]
    """What the side judged said."""
    right_ids: list[int]
    """What the believed one said."""
    left_text: str | None
    """As text."""
    right_text: str | None
    """As text."""
    first_mismatch: int | None
    """The first token that differs, counted from 0; null where none does."""
    left_candidate: Candidate | None
    """What the side judged chose there."""
    right_candidate: Candidate | None
    """What the believed one chose there."""
    margin: Number | None
    """How far apart the believed side holds these two, in logits."""
    error: Number | None
    """Largest difference of all other logits over the common tokens; null where they were not both at hand."""
    stage: str | None
    """The first faulty stage over the common tokens; `tokens` where the prompt's ids differ; `cache` where all stages
    agree, and one of both says otherwise token by token than all at once."""
    marks: list[Mark]
    """What is odd about what the side judged said."""


class Cause(Result):
    """Why something is not as it should be."""

    kind: str
    """Of the kinds that `rosetta explain` lists."""
    side: str
    """The operand at fault."""
    prompt: str | None
    """The prompt where it showed."""
    stage: str | None
    """The stage where it showed."""
    message: str
    """What is wrong, in one sentence."""
    recommendation: str
    """What to do about it."""
    status: Literal["confirmed", "suspected"]
    """Whether it is proven."""
    printed: str | None = None
    """What a runtime printed before it ended."""


class Summary(Result):
    """How many cells are of each class."""

    match: int = 0
    """That say the same."""
    near_tie: int = 0
    """That part at a near tie."""
    fault: int = 0
    """That are at fault."""


class Parity(Result):
    """What several sides say to the same prompts, and whether that is the same."""

    schema_version: Annotated[Literal["1.0"], WithJsonSchema(VERSION_PATTERN)] = "1.0"
    """Fields are only ever added within major version 1."""
    tool: Tool
    """What wrote this."""
    verdict: Verdict
    """The worst of all cells and outputs; `inconclusive`: nothing could be judged; `error`: see there."""
    reason: str
    """The verdict in one sentence."""
    generate: int
    """How many tokens each side was to say."""
    chat: bool
    """Whether prompts were rendered as questions to an assistant."""
    sides: list[ParitySide]
    """The operands."""
    prompts: list[ParityPrompt]
    """The prompts."""
    outputs: list[Output]
    """What each side said to each prompt."""
    cells: list[Cell]
    """Each prompt by each pair of sides."""
    findings: list[Cause]
    """Why, as far as it was found."""
    summary: Summary
    """The cells, counted."""
    notes: list[str]
    """What a reader should know of this run."""
    total_s: float
    """Wall time in seconds."""
    assertion: Assertion = Assertion()
    """What was asserted, and what came of it."""
    run: RunFacts | None = None
    """The run of the program; null where it was called as a library."""
    error: str | None = None
    """Why there was nothing to judge, as the program said it (exit code 2)."""

    def to_json(self) -> str:
        """This as strict JSON (RFC 8259), with a final line break."""
        return json_text(self.model_dump(by_alias=True))
