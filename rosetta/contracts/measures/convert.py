"""`convert`: what a conversion of a model keeps, and whether a sound file comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rosetta.containers.values import TEXT
from rosetta.contracts.arguments import OPERAND
from rosetta.contracts.measures import Facts, Ground
from rosetta.errors import UsageError
from rosetta.lint.report import lint_report

ARGUMENTS = {"model": OPERAND, **dict.fromkeys(("to", "dtype", "prompt", "key"), TEXT)}
TARGETS = {"gguf": "out.gguf", "apr": "out.apr", "huggingface": "out"}


def measure(arguments: Mapping[str, Any], ground: Ground) -> Facts:
    """Convert `model` to the container `to`, in the matrices' own dtype or in `dtype`, and compare the two.

    `verdict` and `kinds` of the comparison; `rules` that the written file breaks; `lost`: settings that it has no place
    for; `encoded`: tensors whose values were encoded anew; `stays`: whether a second conversion, back to the container
    of `model`, gives every tensor its bytes again; `value` of the setting `key`, where one is named.
    """
    from rosetta.compare.options import DEFAULT_PROMPT, Options
    from rosetta.convert import convert  # imports torch: not before there is something to compute

    source = ground.model(arguments["model"], "model")
    target = ground.scratch / _named(arguments["to"])
    options = Options(prompt=arguments.get("prompt", DEFAULT_PROMPT))
    done = convert(source, target, options, dtype=arguments.get("dtype"))
    assert done.comparison is not None
    broken = lint_report([target], values=True).found
    facts: dict[str, Any] = {
        "verdict": done.comparison.verdict,
        "kinds": sorted({finding.kind for finding in done.comparison.findings}),
        "rules": sorted({found.rule.id for found in broken}),
        "lost": len(done.done.lost),
        "encoded": done.done.encoded,
        "stays": _comes_back(Path(source), target, done.source.container.kind, ground.scratch),
    }
    if "key" in arguments:
        facts["value"] = _value(target, arguments["key"])
    return facts


def _named(container: Any) -> str:
    if container not in TARGETS:
        raise UsageError(f"no container is called {container!r}", remedy=f"there are {', '.join(TARGETS)}")
    return TARGETS[container]


def _comes_back(source: Path, written: Path, kind: str, scratch: Path) -> bool:
    """Whether a conversion back gives a file with the source's tensors, byte for byte."""
    from rosetta.compare.options import Options
    from rosetta.convert import convert

    back = scratch / f"back-{TARGETS[kind]}"
    convert(str(written), back, Options(), verify=False)
    return _tensors(source) == _tensors(back)


def _tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    from rosetta.containers import open_container

    container = open_container(path)
    try:
        return {
            name: (entry.dtype, entry.dims, container.read(name).tobytes())
            for name, entry in container.tensors.items()
        }
    finally:
        container.close()


def _value(path: Path, key: str) -> Any:
    """A setting of the written file, as its own reader has it."""
    from rosetta.model import open_model

    model = open_model(path)
    try:
        return model.config[key].value if key in model.config else None
    finally:
        model.container.close()
