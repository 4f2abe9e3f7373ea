"""Is this one file right? Its headers, its tokenizer, its values, and what it says on a few prompts.

Nothing is compared: what is right by all of this may still be another model than it should be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch

from rosetta import __version__
from rosetta.compare.listener import ANY, loaded_tensors
from rosetta.compare.results import Number, Result
from rosetta.containers import Container, StoredContainer, open_container
from rosetta.errors import RosettaError
from rosetta.index_entries import needless_entries
from rosetta.inspection.statistics import TensorStatistics, tensor_statistics, untrained
from rosetta.inspection.through_llamacpp import is_installed, through_llamacpp
from rosetta.lint.engine import found_in, selected_rules
from rosetta.model import Model, build_model
from rosetta.report.report import Tool
from rosetta.runtimes.torch import run_stages
from rosetta.sources import RemotePath
from rosetta.strict_json import json_text
from rosetta.tokenizer import Tokenizer, load_tokenizer

PROMPTS = (
    "The capital of France is Paris, and the capital of Germany is Berlin.",
    "def add(a, b):\n    return a + b\n",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
)
"""Texts that every language model predicts better than guessing: prose, code, numbers."""
CONTINUED = 16  # tokens that follow the first prompt
REPEATED = 0.75  # of them that only repeat what stood one, two or three tokens before
LARGEST_CYCLE = 3
AGREEMENT = 0.05  # nats a token between two runtimes; quantised activations make less
Part = Literal["header", "tokenizer", "values", "forward", "llamacpp"]
RULES_OF: dict[str, Part] = {"F": "header", "C": "header", "T": "tokenizer", "V": "values"}
"""The part of a check in which rules are told whose ids begin so."""
Progress = Callable[[str, int, int], None]


class CheckFinding(Result):
    """One thing that is wrong with a file, or looks so."""

    part: Part
    """Where it was seen."""
    severity: Literal["error", "warning"]
    """`error`: the file is wrong; `warning`: it may be."""
    message: str
    """What is wrong, in one sentence."""
    tensor: str | None = None
    """The file's name of the tensor concerned."""


class PromptCheck(Result):
    """What a runtime made of one prompt."""

    runtime: Literal["torch", "llamacpp"]
    """What computed it."""
    prompt: str
    """The text."""
    tokens: int
    """How many tokens it has."""
    nonfinite: int
    """Logits that are NaN or Inf."""
    nll: Number | None
    """Mean negative log-likelihood of its own tokens, in nats."""
    uniform: Number
    """What guessing would cost."""
    text: str | None = None
    """What the model says next, greedily; null where that was not asked for."""


class Check(Result):
    """Whether one file is right, as far as it can be told without another."""

    schema_version: Literal["1.0"] = "1.0"
    """Fields are only ever added within major version 1."""
    tool: Tool
    """What wrote this."""
    path: str
    """The file or folder."""
    container: str
    """`apr`, `gguf` or `huggingface`."""
    architecture: str | None
    """As declared."""
    verdict: Literal["right", "doubtful", "wrong", "unjudged"]
    """`right`: nothing was found; `doubtful`: warnings only; `wrong`: errors; `unjudged`: it could not be run."""
    reason: str
    """The verdict in one sentence."""
    findings: list[CheckFinding]
    """What is wrong, errors first."""
    prompts: list[PromptCheck]
    """What the model made of the prompts."""
    notes: list[str]
    """What was tolerated, and what could not be checked."""

    def to_json(self) -> str:
        """This as strict JSON (RFC 8259), with a final line break."""
        return json_text(self.model_dump())


class _Checker:
    """Collects what is found."""

    def __init__(self, progress: Progress | None) -> None:
        self.findings: list[CheckFinding] = []
        self.prompts: list[PromptCheck] = []
        self.notes: list[str] = []
        self.progress = progress or (lambda what, done, total: None)

    def error(self, part: Part, message: str, tensor: str | None = None) -> None:
        self.findings.append(CheckFinding(part=part, severity="error", message=message, tensor=tensor))

    def warning(self, part: Part, message: str, tensor: str | None = None) -> None:
        self.findings.append(CheckFinding(part=part, severity="warning", message=message, tensor=tensor))


def check(path: str | Path, progress: Progress | None = None) -> Check:
    """Check one file or folder.

    Args:
        path: a model.
        progress: hears how far the work is.

    Raises:
        RosettaError: it cannot be opened.
    """
    container = open_container(path)
    checker = _Checker(progress)
    try:
        checker.notes += container.notes
        _rules(container, checker)
        model = _model(container, checker)
        if model is not None:
            _header(model, checker)
        tokenizer = _tokenizer(container, checker)
        _trained(container, checker)
        if model is not None and tokenizer is not None:
            here = not isinstance(container.path, RemotePath)
            other = container.kind == "gguf" and here and is_installed()
            runs = _forward(model, tokenizer, checker, continued=not other)
            if container.kind == "gguf" and here:
                _llamacpp(container.path, runs, checker)
        verdict, reason = _verdict(checker)
        return Check(
            tool=Tool(version=__version__),
            path=str(path),
            container=container.kind,
            architecture=container.architecture,
            verdict=verdict,
            reason=reason,
            findings=sorted(checker.findings, key=lambda found: found.severity),
            prompts=checker.prompts,
            notes=checker.notes,
        )
    finally:
        container.close()


def _model(container: Container, checker: _Checker) -> Model | None:
    """The model in canonical form; None, and why, where it cannot be run."""
    try:
        model = build_model(container)
    except RosettaError as error:
        checker.notes.append(
            f"cannot be run: {error.message}" + (f": {error.remedy}" if error.remedy else "")
        )
        return None
    checker.notes += needless_entries(container)
    return model


def _rules(container: StoredContainer, checker: _Checker) -> None:
    """What the rules of `rosetta lint` find in headers, tokenizer and values."""
    rules = selected_rules()
    for found in found_in(container, rules=rules, values=True, progress=checker.progress):
        name = found.fault.tensor or found.fault.key
        subject = "" if name is None else f"{name}: "
        checker.findings.append(
            CheckFinding(
                part=RULES_OF[found.rule.id[0]],
                severity=found.rule.severity,
                message=f"{subject}{found.fault.message} ({found.rule.id})",
                tensor=found.fault.tensor,
            )
        )


def _header(model: Model, checker: _Checker) -> None:
    """Tensors that the config denies, that are missing, or that the architecture does not know."""
    said = {found.tensor for found in checker.findings}
    for tensor in loaded_tensors(model):
        want, got = tensor.expected, tensor.dims
        if (
            tensor.source_name in said
            or want is None
            or (len(want) == len(got) and all(a in (ANY, b) for a, b in zip(want, got, strict=True)))
        ):
            continue
        checker.error(
            "header",
            f"{tensor.source_name} has dims {list(got)}, the config says {list(want)}",
            tensor.source_name,
        )
    if model.unknown:
        some = ", ".join(model.unknown[:3]) + (" …" if len(model.unknown) > 3 else "")
        checker.warning(
            "header", f"{len(model.unknown)} tensors that {model.architecture.name} does not know: {some}"
        )


def _tokenizer(container: Container, checker: _Checker) -> Tokenizer | None:
    """The tokenizer, with what is wrong with its description, and whether it gives a text back."""
    try:
        tokenizer = load_tokenizer(container)
    except RosettaError as error:
        if not any(found.part == "tokenizer" for found in checker.findings):
            checker.error("tokenizer", f"the tokenizer cannot be read: {error.message}")
        return None
    if tokenizer is None:
        checker.notes.append("there is no tokenizer, so nothing was run")
        return None
    checker.notes += tokenizer.notes
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt, special=False)
        if prompt.strip() not in tokenizer.decode(ids):
            checker.warning("tokenizer", f"{prompt!r} encoded and decoded is {tokenizer.decode(ids)!r}")
    return tokenizer


def _trained(container: Container, checker: _Checker) -> None:
    """Whether anything was ever trained."""
    found: list[tuple[Sequence[int], TensorStatistics | None]] = []
    for done, entry in enumerate(container.tensors.values()):
        checker.progress(f"reading {entry.name}", done, len(container.tensors))
        found.append((entry.dims, tensor_statistics(container, entry)))
    if (never := untrained(found)) is not None:
        checker.warning("values", never)


Runs = list[tuple[str, list[int], float | None]]
"""Each prompt that was run, its ids, and what they cost."""


def _forward(model: Model, tokenizer: Tokenizer, checker: _Checker, *, continued: bool) -> Runs:
    """A forward pass over each prompt: finite, better than guessing; the first one continued, not repeating itself.

    Every token of a continuation takes a pass over the whole model, where llama.cpp keeps what it has computed.
    """
    uniform, runs = math.log(model["vocab_size"]), Runs()
    for number, prompt in enumerate(PROMPTS):
        ids = [id for id in tokenizer.encode(prompt) if id < model["vocab_size"]]
        if not ids:
            size = model["vocab_size"]
            checker.error(
                "forward", f"{prompt!r} has no token below the vocabulary's size, {size}: it was not run"
            )
            continue
        checker.progress(f"running {prompt.strip()!r:.40}", number, len(PROMPTS))
        try:
            logits = _logits(model, ids)
            said = _continued(model, ids, logits, checker) if number == 0 and continued else None
        except RosettaError as error:
            checker.error("forward", error.message)
            return runs
        bad = int((~logits.isfinite()).sum())
        nll = None if bad else _cost(logits, ids)
        runs.append((prompt, ids, nll))
        checker.prompts.append(
            PromptCheck(
                runtime="torch", prompt=prompt, tokens=len(ids), nonfinite=bad, nll=nll, uniform=uniform,
                text=None if said is None else tokenizer.decode([id for id in said if id < tokenizer.size]),
            )
        )  # fmt: skip
        if bad:
            checker.error("forward", f"{prompt!r}: {bad} of {logits.numel()} logits are NaN or Inf")
        elif said is not None:
            _judge_continuation("forward", prompt, said, checker)
    _judge_costs("forward", [nll for *_, nll in runs], uniform, checker)
    return runs


def _judge_costs(part: Part, costs: Sequence[float | None], uniform: float, checker: _Checker) -> None:
    known = [cost for cost in costs if cost is not None]
    if known and min(known) >= uniform:
        said = ", ".join(f"{cost:.2f}" for cost in known)
        checker.error(
            part,
            f"the prompts' own tokens cost {said} nats each, guessing {uniform:.2f}: it predicts nothing",
        )


def _logits(model: Model, ids: Sequence[int]) -> torch.Tensor:
    """[T, V]."""
    last = None
    for name, value in run_stages(model, ids):
        if name == "logits":
            last = value
    assert last is not None
    return last.float()


def _cost(logits: torch.Tensor, ids: Sequence[int]) -> float | None:
    """Mean negative log-likelihood of the ids' own successors, in nats."""
    if len(ids) < 2:
        return None
    return float(torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(list(ids[1:]))))


def _continued(model: Model, ids: Sequence[int], logits: torch.Tensor, checker: _Checker) -> list[int]:
    """The likeliest tokens that follow."""
    said: list[int] = []
    for _ in range(CONTINUED):
        if not bool(logits[-1].isfinite().all()):
            break
        said.append(int(logits[-1].argmax()))
        checker.progress("continuing the first prompt", len(said), CONTINUED)
        if len(said) < CONTINUED:
            logits = _logits(model, [*ids, *said])
    return said


def _judge_continuation(part: Part, prompt: str, said: Sequence[int], checker: _Checker) -> None:
    if _repeats(said):
        checker.warning(part, f"after {prompt!r} it only repeats itself: {checker.prompts[-1].text!r}")


def _repeats(said: Sequence[int]) -> bool:
    """Whether tokens go round in a circle."""
    if len(said) < max(CONTINUED, 2 * LARGEST_CYCLE):
        return False
    again = max(
        sum(a == b for a, b in zip(said, said[cycle:], strict=False)) / (len(said) - cycle)
        for cycle in range(1, LARGEST_CYCLE + 1)
    )
    return again >= REPEATED


def _llamacpp(path: Path, runs: Runs, checker: _Checker) -> None:
    """The same through llama.cpp, where it is installed."""
    if not runs:
        return
    if not is_installed():
        checker.notes.append("llama.cpp is not installed: what it makes of the file was not checked")
        return
    checker.progress("running llama.cpp", 0, 0)
    found = through_llamacpp(path, [(prompt, ids) for prompt, ids, _ in runs], CONTINUED)
    if isinstance(found, str):
        checker.error("llamacpp", found)
        return
    uniform = checker.prompts[0].uniform
    for number, ((prompt, ids, nll), theirs) in enumerate(zip(runs, found, strict=True)):
        checker.prompts.append(
            PromptCheck(
                runtime="llamacpp", prompt=prompt, tokens=len(theirs.ids), nonfinite=theirs.nonfinite,
                nll=theirs.nll, uniform=uniform, text=theirs.text if number == 0 else None,
            )
        )  # fmt: skip
        if number == 0:
            _judge_continuation("llamacpp", prompt, theirs.said, checker)
        if theirs.ids != ids:
            checker.error(
                "llamacpp", f"{prompt!r} has the ids {theirs.ids} in llama.cpp, and {ids} by the file"
            )
        if theirs.nonfinite:
            checker.error("llamacpp", f"{prompt!r}: {theirs.nonfinite} logits are NaN or Inf in llama.cpp")
        if nll is not None and theirs.nll is not None and abs(nll - theirs.nll) > AGREEMENT:
            checker.warning(
                "llamacpp",
                f"{prompt!r} costs {theirs.nll:.3f} nats a token in llama.cpp, {nll:.3f} by the file",
            )
    _judge_costs("llamacpp", [run.nll for run in found], uniform, checker)


def _verdict(checker: _Checker) -> tuple[Literal["right", "doubtful", "wrong", "unjudged"], str]:
    errors = [found for found in checker.findings if found.severity == "error"]
    if errors:
        more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        return "wrong", f"{errors[0].message}{more}"
    if not checker.prompts:
        return "unjudged", "it could not be run: its headers and values alone were read"
    if checker.findings:
        return "doubtful", checker.findings[0].message
    return "right", f"its headers, tokenizer and values are sound, and it predicts {len(PROMPTS)} prompts"
