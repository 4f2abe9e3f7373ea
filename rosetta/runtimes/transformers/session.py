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

from rosetta.runtimes.observed.capture import Facts, Failure
from rosetta.runtimes.observed.graph import Graph, Node
from rosetta.runtimes.observed.operations import made_of_weights
from rosetta.runtimes.observed.placing import place
from rosetta.runtimes.observed.reading import Receive, StageReader, probe_length, rope_order
from rosetta.runtimes.transformers.experts import ExpertRows, expert_modules
from rosetta.runtimes.transformers.folded_factors import after_factors
from rosetta.runtimes.transformers.value_heads import in_file_order
from rosetta.runtimes.transformers.watch import Calls, Drawing, Key, Reading
from rosetta.runtimes.transformers.weight_names import canonical_weight, gguf_architecture

DRAWN = "_drawn_by_transformers"  # attribute of a loaded model


class Session:
    """One model.

    Args:
        path: a folder, or a GGUF file that transformers' own loader reads.
        options: `dtype` (float32).
        facts: what is learned is written here.
    """

    def __init__(self, path: Path, options: Mapping[str, Any], facts: Facts) -> None:
        self.model = loaded(path, options, facts)
        config = self.model.config.get_text_config()
        facts.architecture = str(config.model_type)
        facts.config = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
        self.facts = facts
        architecture = gguf_architecture(facts.architecture)
        held = (
            *self.model.named_parameters(remove_duplicate=True),
            *self.model.named_buffers(remove_duplicate=True),
        )
        # Held as long as their ids are gone by: a module that unpacks its weight lets go of the packed one, and what is
        # made next would have its id.
        self.held = {name: tensor for name, tensor in held if tensor.numel()}
        self.weights = {
            id(tensor): canonical_weight(name, architecture)
            for name, tensor in self.held.items()
            if "inv_freq" not in name and not name.endswith("embed_scale")
        }
        self.experts = expert_modules(self.model)

    def draw(self, ids: Sequence[int]) -> Graph:
        """The graph of a run."""
        drawing = Drawing(self.model, self.weights)
        logits = self._forward(ids, drawing)
        output = drawing.number_of(logits)
        if output is None:
            raise RuntimeError("the model's logits were computed by nothing that can be watched")
        return Graph(drawing.nodes, output)

    def prepare(self, ids: Sequence[int]) -> list[str]:
        """Draw the graph of the run, whose loops may depend on the tokens, and of one over few tokens, for its dims.

        Returns:
            The stages, in order.
        """
        self.probed = probe_length(len(ids))
        self.graph = self.draw(ids)
        self.dims = counterparts(self.graph, self.draw([ids[0]] * self.probed))
        placement = after_factors(self.graph, place(self.graph, len(ids)), self.facts.config)
        self.placement, self.facts.operations = made_of_weights(
            self.graph, in_file_order(placement, self.facts.config)
        )
        self.facts.skipped.update(self.placement.skipped)
        self.facts.rope = rope_order(self.placement)
        return [tap.stage for tap in self.placement.taps]

    def run(self, ids: Sequence[int], receive: Receive) -> None:
        """One run; every stage is handed on, and replaced by what `receive` returns."""
        reader = StageReader(
            self.graph, self.placement, self.dims.get, self.probed, len(ids), receive, self.facts
        )

        def read(key: Key, value: Tensor) -> Tensor:
            plain = value.detach().cpu()
            new = reader.read(key, (plain.float() if plain.is_floating_point() else plain).numpy())
            return value if new is None else torch.from_numpy(np.ascontiguousarray(new)).to(value)

        self._forward(ids, Reading(self.model, frozenset(reader.taps), read))
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


def counterparts(graph: Graph, probe: Graph) -> dict[Key, tuple[int, ...]]:
    """Dims in another run by the key of a node in this one. A loop over tokens shifts what follows it in its module:
    that is counted from the module's end.
    """
    here, there = calls_by_place(graph), calls_by_place(probe)
    found: dict[Key, tuple[int, ...]] = {}
    for place_, calls in here.items():
        others = there.get(place_, [])
        shift = len(others) - len(calls)
        for number, nodes in enumerate(calls):
            other = number if not shift else number + shift
            if 0 <= other < len(others) and len(others[other]) == len(nodes):
                found |= {
                    node.key: twin.dims for node, twin in zip(nodes, others[other], strict=True) if node.key
                }
    return found


def calls_by_place(graph: Graph) -> dict[Key, list[list[Node]]]:
    """The calls of each function in each module, in order, each with its results."""
    found: dict[Key, dict[Any, list[Node]]] = {}
    for node in graph.nodes:
        if isinstance(node.key, tuple):
            path, name, count, _ = node.key
            found.setdefault((path, name), {}).setdefault(count, []).append(node)
    return {place_: list(calls.values()) for place_, calls in found.items()}


def loaded(path: Path, options: Mapping[str, Any], facts: Facts) -> Any:
    """The model, ready to run; version and options are written into the facts."""
    import transformers

    facts.version = transformers.__version__
    dtype = str(options.get("dtype", "float32"))
    facts.options = {"attention": "eager", "experts": "eager", "dtype": dtype, "device": "cpu"}
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = _load(path, getattr(torch, dtype)).eval()
    facts.drawn = getattr(model, DRAWN, ())
    return model


def _load(path: Path, dtype: torch.dtype) -> Any:
    import transformers

    file: dict[str, Any] = {}
    if path.is_file():
        path, file = path.parent, {"gguf_file": path.name}
    settings = {
        "dtype": dtype,
        "attn_implementation": "eager",
        "experts_implementation": "eager",
        "local_files_only": True,
        "trust_remote_code": False,
        **file,
    }
    try:
        return _pretrained(transformers.AutoModelForCausalLM, path, settings)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        own = _own_class(path)
        if own is None:
            raise
        return _pretrained(own, path, settings)


def _own_class(path: Path) -> Any:
    """The class that a folder itself names; of a model that thinks and talks, that of the part that thinks."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    thinker = getattr(config, "thinker_config", None)
    if thinker is not None:
        return transformers.AutoModelForMultimodalLM._model_mapping[type(thinker)]
    return getattr(transformers, (config.architectures or [""])[0], None)


def _pretrained(of: Any, path: Path, settings: Mapping[str, Any]) -> Any:
    """A class's model, with what was in no file beside it."""
    model, told = of.from_pretrained(path, output_loading_info=True, **settings)
    drawn = sorted(told["missing_keys"], key=lambda name: (not name.endswith((".weight", ".bias")), name))
    setattr(model, DRAWN, tuple(drawn))
    return model


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
        calls.seen(
            (path, "experts.act", 0, 0), "silu", tuple(v for n, _, v in parts if n != "down_proj"), {}, act
        )
        if "down_proj" in stacked:
            down = stacked["down_proj"]
            calls.seen((path, "experts.down", 0, 0), "linear", (act, ids, parameters["down_proj"]), {}, down)
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
