"""Runs token ids through llama.cpp, in a process of its own: what it does with a broken file may end the process.

`python -m rosetta.inspection.through_llamacpp FILE` reads a list of runs from stdin as JSON and writes what came of
each to stdout.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SECONDS = 600.0  # for all runs
CONTEXT = 512  # tokens


@dataclass(frozen=True)
class Run:
    """What llama.cpp gave for one prompt.

    Args:
        ids: of the prompt by its own tokenizer, special tokens and all.
        nonfinite: logits that are no finite number.
        nll: mean negative log-likelihood of the ids that were run, in nats; None of one id.
        said, text: what it says next, greedily.
    """

    ids: list[int]
    nonfinite: int
    nll: float | None
    said: list[int]
    text: str


def is_installed() -> bool:
    """Whether llama-cpp-python is there."""
    return find_spec("llama_cpp") is not None


def through_llamacpp(path: Path, prompts: Sequence[tuple[str, Sequence[int]]], more: int) -> list[Run] | str:
    """What llama.cpp makes of some prompts.

    Args:
        path: a GGUF file.
        prompts: each text and the ids to run.
        more: how many tokens it is to go on with.

    Returns:
        One result for each prompt; a sentence where llama.cpp could not run the file.
    """
    asked = json.dumps([{"text": text, "ids": list(ids), "more": more} for text, ids in prompts])
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(path)],
            input=asked,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"llama.cpp did not come to an end in {SECONDS:.0f} s"
    if done.returncode < 0:
        return f"llama.cpp crashed on it (signal {-done.returncode})"
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return f"llama.cpp does not run it: {said[-1].strip() if said else 'it does not say why'}"
    return [Run(**result) for result in json.loads(done.stdout)]


def _run(model: Any, text: str, ids: list[int], more: int) -> dict[str, Any]:
    import numpy as np

    own = list(model.tokenize(text.encode(), add_bos=True, special=True))
    model.reset()
    model.eval(ids)
    logits = np.array(model.scores[: len(ids)], dtype=np.float64)
    nll = None
    if len(ids) > 1:
        top = logits[:-1].max(-1, keepdims=True)
        total = np.log(np.exp(logits[:-1] - top).sum(-1)) + top[:, 0]
        nll = float((total - logits[np.arange(len(ids) - 1), ids[1:]]).mean())
    said: list[int] = []
    for _ in range(more):
        said.append(int(np.argmax(model.scores[len(ids) + len(said) - 1])))
        model.eval(said[-1:])
    return {
        "ids": own,
        "nonfinite": int(np.count_nonzero(~np.isfinite(logits))),
        "nll": None if nll is None or math.isnan(nll) else nll,
        "said": said,
        "text": model.detokenize(said).decode("utf-8", "replace"),
    }


def main() -> None:
    """Run what stdin asks for."""
    import llama_cpp

    model = llama_cpp.Llama(
        model_path=sys.argv[1], logits_all=True, n_ctx=CONTEXT, n_batch=CONTEXT, verbose=False
    )
    print(json.dumps([_run(model, **asked) for asked in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
