"""What `import rosetta` offers: the commands as functions, with results that Python can work with."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rosetta.compare.options import AUTO, DEFAULT_PROMPT, DEFAULT_THRESHOLD, TRACE, Options, live
from rosetta.digests import Digests
from rosetta.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from rosetta.compare.listener import Listener
    from rosetta.lint.report import LintReport
    from rosetta.model import Model
    from rosetta.report.report import Report

Device = Literal["cpu", "cuda"]
Precision = Literal["float32", "float64"]


def compare(
    left: str | Path,
    right: str | Path,
    *,
    prompt: str = DEFAULT_PROMPT,
    tokens: Sequence[int] | None = None,
    threshold: float | None = None,
    reference: Literal["left", "right"] = "right",
    diagnose: bool = True,
    stop_at_first: bool = False,
    device: Device = "cpu",
    dtype: Precision = "float32",
    runtime_options: Mapping[str, str] | None = None,
    witness: str | Path | None = None,
    listener: Listener | None = None,
) -> Report:
    """Compare two models stage by stage; where they differ, find out why and prove it.

    Args:
        left: a file or folder that holds a model, or `trace:FILE`, `llamacpp:FILE`, `transformers:FOLDER`.
        right: the one to compare it with.
        prompt: what to run; `auto` for the shortest tokens that show every difference in config.
        tokens: ids to run instead.
        threshold: largest difference of a stage, times the larger of 1 and its rms; by default 1e-3. Given, it is a
            hard limit.
        reference: the side that is believed.
        diagnose: whether to look for causes.
        stop_at_first: whether to stop at the first divergent stage, once diagnosed.
        device: where to compute.
        dtype: in what precision.
        runtime_options: of a runtime that runs an operand, such as `{"kv": "f16"}`.
        witness: a third operand, which says with which side it agrees at each stage at fault.
        listener: hears how far it is.

    Returns:
        The report, as `--json` writes it, with each token's differences.

    Raises:
        RosettaError: an operand is missing, damaged or unsupported, or the call asks for the impossible.
    """
    if tokens is not None and not tokens:
        raise UsageError("there are no tokens", remedy="give at least one id, or a prompt")
    if threshold is not None and not (math.isfinite(threshold) and threshold >= 0):
        raise UsageError(f"threshold is a number from 0 on, not {threshold}")
    from rosetta.diagnose import compare_operands  # imports torch
    from rosetta.report.build import build_report

    options = Options(
        prompt=prompt,
        tokens=None if tokens is None else tuple(tokens),
        threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
        threshold_is_explicit=threshold is not None,
        reference=reference,
        stop_at_first=stop_at_first,
        diagnose=diagnose,
        left_device=device,
        right_device=device,
        dtype=dtype,
        runtime_options=dict(runtime_options or {}),
        witness=None if witness is None else str(witness),
    )
    digests = Digests()
    return build_report(compare_operands(str(left), str(right), options, listener, digests), digests=digests)


def lint(
    *paths: str | Path,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    values: bool = False,
    text: str | Path | None = None,
) -> LintReport:
    """Check model files against rules that a file must not break, whatever the model; none is run.

    Args:
        paths: files, folders of a model, folders of many.
        select: only these rules: ids (`F101`), their beginnings (`F`, `C2`), names.
        ignore: not these.
        values: whether to read all values, too, and not headers alone.
        text: a file to be encoded by each tokenizer, which shows how healthy it is.

    Returns:
        Every fault, file by file, as `rosetta lint --json` writes it.

    Raises:
        RosettaError: a path where no model is, or a rule that there is not.
    """
    if not paths:
        raise UsageError("no file is named", remedy='rosetta.lint("model.gguf")')
    from rosetta.lint.report import lint_report  # imports gguf-py's tables

    return lint_report([str(path) for path in paths], select=select, ignore=ignore, values=values, text=text)


def open_model(path: str | Path) -> Model:
    """Open a file or folder: config under GGUF's keys, weights under GGUF's names, read when they are asked for.

    Args:
        path: a file or folder that holds a model.

    Raises:
        RosettaError: it is missing, damaged or unsupported.
    """
    from rosetta.model import open_model as opened  # imports torch

    return opened(path)


@dataclass(frozen=True)
class Trace(Mapping[str, "Tensor"]):
    """Every stage of one run, by name, in the order of the forward pass.

    Args:
        tokens: the ids that were run.
        stages: a tensor each.
    """

    tokens: tuple[int, ...]
    stages: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.stages[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)


def trace(
    path: str | Path,
    *,
    prompt: str = DEFAULT_PROMPT,
    tokens: Sequence[int] | None = None,
    device: Device = "cpu",
    dtype: Precision = "float32",
    runtime_options: Mapping[str, str] | None = None,
) -> Trace:
    """Run one model and keep every stage.

    Args:
        path: a file or folder that holds a model, or `llamacpp:FILE`, `transformers:FOLDER`.
        prompt: what to run.
        tokens: ids to run instead.
        device: where to compute; a runtime of somebody else's has options instead.
        dtype: in what precision.
        runtime_options: of a runtime that runs it, such as `{"kv": "f16"}`.

    Raises:
        RosettaError: it is missing, damaged or unsupported, or the call asks for the impossible.
    """
    run = live(str(path))
    if str(path).startswith(TRACE):
        raise UsageError("a trace is recorded already", file=path, remedy="give a model")
    if run is None and runtime_options:
        raise UsageError("runtime_options are of a runtime", file=path, remedy="give llamacpp:FILE")
    if run is not None and (device, dtype) != ("cpu", "float32"):
        raise UsageError(f"device and dtype are not {run[0]}'s", file=path, remedy="give runtime_options")
    if tokens is None and prompt == AUTO:
        raise UsageError("prompt='auto' compares two configs, and this is one model", remedy="give a prompt")
    if tokens is not None and not tokens:
        raise UsageError("there are no tokens", remedy="give at least one id, or a prompt")
    if run is not None:
        return _of_runtime(*run, prompt, tokens, runtime_options or {})
    from rosetta.runtimes.torch import prompt_ids, run_stages  # imports torch

    model = open_model(path)
    ids = prompt_ids(model.container, prompt) if tokens is None else list(tokens)
    return Trace(tuple(ids), dict(run_stages(model, ids, device, dtype)))


def _of_runtime(
    runtime: str, place: str, prompt: str, tokens: Sequence[int] | None, options: Mapping[str, str]
) -> Trace:
    """Every stage of one run of somebody else's runtime."""
    from rosetta.runtimes.live import refuse_unknown, requested, traced
    from rosetta.runtimes.trace import open_recording
    from rosetta.sources import located_here

    refuse_unknown([runtime], options)
    request = requested(runtime, located_here(place, runtime), prompt, tokens, options)
    with tempfile.TemporaryDirectory(prefix="rosetta-") as folder:
        file = Path(folder) / "run.safetensors"
        traced(request, file)
        recording = open_recording(file)
    stages = {name: recording.stage(name) for name in recording.stages}
    return Trace(tuple(request.ids), {name: x for name, x in stages.items() if x is not None})
