"""What is said of models that are not run: which architectures are, which of those is near, as what each was taken."""

from __future__ import annotations

import gguf

from rosetta.architectures import Architecture, all_architectures, find_architecture
from rosetta.architectures.parts.not_run import LONGEST_NAME
from rosetta.compare.results import Side
from rosetta.errors import RosettaError, UsageError
from rosetta.model import Model, build_model
from rosetta.names import LAYER

NEAR = 3  # that are named
USUAL = frozenset({"llama", "qwen2", "qwen3", "qwen3moe", "gpt2", "gemma2", "deepseek_v3"})
"""Named first, of several architectures that have the same tensors."""


def notes_on(models: dict[Side, Model]) -> list[str]:
    """What is known of each model's architecture where the file does not declare one that is run."""
    idle = [model for model in models.values() if not model.architecture.runs]
    notes = [
        f"{model.container.path}: declares the architecture {_declared(model)!r}, and is run as "
        f"{model.architecture.name} (--as)"
        for model in models.values()
        if "architecture" in model.overrides
    ]
    notes += [
        f"{model.container.path}: the architecture {_declared(model)!r} is not run: weights, settings and tokenizer "
        "alone are compared"
        for model in idle
    ]
    if not idle:
        return notes
    fitting = [near_ones(model) for model in idle]
    near = [name for name in fitting[0] if all(name in names for names in fitting)][:NEAR]
    advice = f"; {', '.join(near)} have just these tensors, so --as {near[0]} may run them" if near else ""
    notes.append(f"rosetta runs {_every_name()}; --as runs a model as one of them{advice}")
    return notes


def near_ones(model: Model) -> list[str]:
    """The architectures that are run and have just this model's tensors, in the sizes that its settings say."""
    stems = {LAYER.sub(r"\2", name) for name in model.weights}
    found: list[str] = []
    for architecture in all_architectures():
        if not _may_have(architecture, {stem.rpartition(".")[0] for stem in stems}):
            continue
        try:
            taken = build_model(model.container, {"architecture": architecture.name})
            known = taken.graph.dims
            lacking = [name for node in taken.graph for name in node.required if name not in taken.weights]
        except RosettaError:
            continue
        misfits = [name for name in known if taken.mismatch(name) is not None]
        if not lacking and not misfits and not taken.unread:
            found.append(architecture.name)
    return sorted(found, key=lambda name: (name not in USUAL, name))


def _may_have(architecture: Architecture, stems: set[str]) -> bool:
    """Whether gguf-py's table of the architecture has all of some tensors, told by their stems, experts unnumbered."""
    slug = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}.get(architecture.gguf)
    if slug is None:
        return True
    known = {gguf.TENSOR_NAMES[tensor].removeprefix("blk.{bid}.") for tensor in gguf.MODEL_TENSORS[slug]}
    split = {"attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"}  # which GGUF may keep in one
    bare = {stem.rpartition(".")[0] if stem.rpartition(".")[2].isdigit() else stem for stem in stems}
    return bare - split <= known


def _declared(model: Model) -> str:
    return str(model.container.architecture)[:LONGEST_NAME]


def _every_name() -> str:
    return ", ".join(architecture.name for architecture in all_architectures())


def check_run_as(run_as: str | None) -> None:
    """Refuse to take models for an architecture that is not run either.

    Raises:
        UsageError: it is none.
    """
    if run_as is not None and find_architecture(run_as) is None:
        raise UsageError(
            f"--as {run_as[:LONGEST_NAME]} is none that rosetta runs", remedy=f"give one of {_every_name()}"
        )


def check_was_taken(run_as: str | None, models: dict[Side, Model]) -> None:
    """Refuse to take models for another architecture that declare one that is run.

    Raises:
        UsageError: none of them was.
    """
    if run_as is not None and not any("architecture" in model.overrides for model in models.values()):
        raise UsageError(
            "--as is for a model that declares an architecture that is not run, and neither does",
            remedy="leave it out",
        )
