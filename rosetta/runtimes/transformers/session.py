"""A model folder loaded by transformers, offline and eager, and run under watch."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rosetta.runtimes.capture import Facts, Failure, Float32, Overwrite, float32
from rosetta.runtimes.graph import Graph
from rosetta.runtimes.placing import Placement, place
from rosetta.runtimes.taps import NotPlaced, Tap, canonical, overwritten
from rosetta.runtimes.transformers.experts import ExpertRows, expert_modules
from rosetta.runtimes.transformers.watch import Calls, Drawing, Key, Reading
from rosetta.runtimes.transformers.weight_names import canonical_weight, gguf_architecture

Receive = Callable[[str, Float32], None]


class Session:
    """One model.

    Args:
        path: a folder, or a GGUF file that transformers' own loader reads.
        options: `dtype` (float32).
        facts: what is learned is written here.
    """

    def __init__(self, path: Path, options: Mapping[str, Any], facts: Facts) -> None:
        import transformers

        facts.version = transformers.__version__
        dtype = str(options.get("dtype", "float32"))
        facts.options = {"attention": "eager", "experts": "eager", "dtype": dtype, "device": "cpu"}
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.model = _load(path, getattr(torch, dtype)).eval()
        config = self.model.config.get_text_config()
        facts.architecture = str(config.model_type)
        facts.config = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
        self.facts = facts
        architecture = gguf_architecture(facts.architecture)
        self.weights = {
            id(tensor): canonical_weight(name, architecture)
            for name, tensor in (
                *self.model.named_parameters(remove_duplicate=True),
                *self.model.named_buffers(remove_duplicate=True),
            )
            if tensor.numel() and "inv_freq" not in name and not name.endswith("embed_scale")
        }
        self.experts = expert_modules(self.model)

    def draw(self, tokens: int) -> Graph:
        """The graph of a run over so many tokens."""
        drawing = Drawing(self.model, self.weights)
        logits = self._forward([1] * tokens, drawing)
        return Graph(drawing.nodes, getattr(logits, "_rosetta_node"))  # noqa: B009

    def prepare(self, ids: Sequence[int]) -> None:
        """Draw the graph with one token more or less, so that the tokens' axis shows, and find the stages in it."""
        self.probed = len(ids) - 1 if len(ids) > 2 else len(ids) + 1
        self.graph = self.draw(self.probed)
        self.placement = place(self.graph, self.probed)
        self.expected = [tap.stage for tap in self.placement.taps]
        self.facts.skipped.update(self.placement.skipped)
        self.facts.rope = rope_order(self.placement)

    def run(self, ids: Sequence[int], receive: Receive, overwrite: Overwrite) -> None:
        """One run; every stage is handed on as it is computed, and replaced where `overwrite` has it.

        Args:
            ids: tokens.
            receive: takes stage and values.
            overwrite: stage -> values to go on with, in the stage's dims.
        """
        reader = _Stages(
            self.graph, self.placement, self.probed, len(ids), receive, overwrite, self.facts
        )
        self._forward(ids, Reading(self.model, reader.wanted, reader.read))
        reader.finish()

    def _forward(self, ids: Sequence[int], calls: Calls) -> Tensor:
        with torch.no_grad(), calls.hooks(self.model), self._watched_experts(calls), calls:
            output = self.model(input_ids=torch.tensor([list(ids)]), use_cache=False)
        logits: Tensor = output.logits
        return logits

    @contextmanager
    def _watched_experts(self, calls: Calls) -> Iterator[None]:
        for path, module in self.experts.items():
            module.forward = _watched(module, path, calls, self.weights)
        try:
            yield
        finally:
            for module in self.experts.values():
                del module.forward


def rope_order(placement: Placement) -> str | None:
    """`interleaved` or `split_half`, by the first rotated stage."""
    for tap in placement.taps:
        if tap.stage.endswith("_rope") and tap.interleaved is not None:
            return "interleaved" if tap.interleaved else "split_half"
    return None


def _load(path: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    file: dict[str, Any] = {}
    if path.is_file():
        path, file = path.parent, {"gguf_file": path.name}
    return AutoModelForCausalLM.from_pretrained(
        path,
        dtype=dtype,
        attn_implementation="eager",
        experts_implementation="eager",
        local_files_only=True,
        trust_remote_code=False,
        **file,
    )


def _watched(
    module: torch.nn.Module, path: str, calls: Calls, weights: Mapping[int, str]
) -> Callable[..., Tensor]:
    """The block's own forward, its experts' rows put together and handed on as nodes."""
    own = type(module).forward

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        given = [*args, *kwargs.values()]
        rows = ExpertRows(module)
        calls.listener = rows.heard
        try:
            output: Tensor = own(module, *args, **kwargs)
        finally:
            calls.listener = None
        if len(given) < 3:
            return calls.seen((path, "experts", 0, 0), "experts", tuple(given), {}, output)
        hidden, chosen, mixing = given[:3]
        return _hand_on(calls, path, module, rows, (hidden, chosen, mixing), output, weights)

    return forward


def _hand_on(
    calls: Calls,
    path: str,
    module: torch.nn.Module,
    rows: ExpertRows,
    given: tuple[Tensor, Tensor, Tensor],
    output: Tensor,
    weights: Mapping[int, str],
) -> Tensor:
    hidden, chosen, mixing = given
    with torch._C.DisableTorchFunction():
        stacked = dict(rows.stacked(chosen))
        # what the tensors are, apart from those that they share memory with
        ids, mixed = chosen.clone(), mixing.clone()
    act = stacked.pop("act", None)
    calls.seen((path, "experts.chosen", 0, 0), "clone", (chosen,), {}, ids)
    calls.seen((path, "experts.weights", 0, 0), "clone", (mixing,), {}, mixed)
    parameters = dict(module.named_parameters(recurse=False))
    down: Tensor | None = None
    parts = _split(module, stacked)
    for name, part, value in parts:
        if name != "down_proj":
            calls.seen((path, f"experts.{part}", 0, 0), "linear", (hidden, parameters[name]), {}, value)
    if act is not None:
        calls.seen((path, "experts.act", 0, 0), "silu", tuple(v for n, _, v in parts if n != "down_proj"), {}, act)
        if "down_proj" in stacked:
            down = stacked["down_proj"]
            calls.seen(
                (path, "experts.down", 0, 0), "linear", (act, ids, parameters["down_proj"]), {}, down
            )
    inputs = (down, mixed) if down is not None else (hidden, mixed)
    return calls.seen((path, "experts", 0, 0), "experts", inputs, {}, output)


def _split(module: Any, stacked: Mapping[str, Tensor]) -> list[tuple[str, str, Tensor]]:
    """(parameter, what it is, values): gate and up in one, made into halves where the module has them interleaved."""
    found = []
    for name, value in stacked.items():
        if name == "gate_up_proj" and not module.is_concatenated:
            value = torch.cat([value[..., ::2], value[..., 1::2]], -1)
        found.append((name, name, value))
    return found


class _Stages:
    """Reads stages out of a run, and writes them back."""

    def __init__(
        self,
        graph: Graph,
        placement: Placement,
        probed: int,
        tokens: int,
        receive: Receive,
        overwrite: Overwrite,
        facts: Facts,
    ) -> None:
        self.graph, self.probed, self.tokens = graph, probed, tokens
        self.receive, self.overwrite, self.facts = receive, overwrite, facts
        self.taps: dict[Key, list[Tap]] = {}
        for tap in placement.taps:
            for node in tap.nodes:
                self.taps.setdefault(graph[node].key, []).append(tap)
        self.parts: dict[str, dict[Key, Tensor]] = {}
        self.given: set[str] = set()

    @property
    def wanted(self) -> frozenset[Key]:
        return frozenset(self.taps)

    def read(self, key: Key, value: Tensor) -> Tensor:
        for tap in self.taps[key]:
            if len(tap.nodes) > 1:
                value = self._part(tap, key, value)
                continue
            probed = self.graph[tap.nodes[0]].dims
            array = value.detach().float().cpu().numpy()
            try:
                stage = canonical(tap, array, probed, self.probed, self.tokens)
                self._give(tap.stage, float32(stage))
                new = self.overwrite.get(tap.stage)
                if new is not None:
                    array = overwritten(tap, array, new, probed, self.probed, self.tokens)
                    value = torch.from_numpy(np.ascontiguousarray(array)).to(value)
            except NotPlaced as reason:
                self.facts.skipped[tap.stage] = str(reason)
        return value

    def _part(self, tap: Tap, key: Key, value: Tensor) -> Tensor:
        """The routing: experts and weights are two nodes, and one stage."""
        parts = self.parts.setdefault(tap.stage, {})
        parts[key] = value.detach().reshape(self.tokens, -1).float()
        if len(parts) == len(tap.nodes):
            values = [parts[self.graph[node].key] for node in tap.nodes]
            if values[0].shape == values[1].shape:
                self._give(tap.stage, float32(torch.stack(values, -1).numpy()))
        return value

    def _give(self, stage: str, value: Float32) -> None:
        self.given.add(stage)
        self.receive(stage, value)

    def finish(self) -> None:
        """Say of every stage that was expected and did not come that it did not."""
        for taps in self.taps.values():
            for tap in taps:
                if tap.stage not in self.given:
                    self.facts.skipped.setdefault(tap.stage, "the run did not compute it as the one before did")


def load_failure(error: BaseException) -> Failure:
    """What transformers said of a folder that it does not load or run."""
    text = " ".join(str(error).split())
    return Failure("load", text[:500] or type(error).__name__)


@contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Nothing that transformers prints reaches the terminal; it is kept."""
    said = io.StringIO()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(said):
            yield said
    finally:
        logging.disable(level)
