"""The torch runtime: our shared transformer run on one model, every stage handed on as it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rosetta import __version__
from rosetta.containers.container import Container
from rosetta.errors import DamagedFileError, UsageError
from rosetta.model import Model, open_model
from rosetta.ops.op import NotComputable
from rosetta.ops.rotary import Rotary
from rosetta.rope_scaling import RopeScaling
from rosetta.row_order import INTERLEAVED, SPLIT_HALF
from rosetta.runtimes.coarseness import coarseness
from rosetta.runtimes.decoding import RuntimeFailed
from rosetta.runtimes.observed.capture import Facts, Failure, Float32
from rosetta.tokenizer import load_tokenizer
from rosetta.transformer import Decoding, Transformer
from rosetta.weight import Weight
from rosetta.weight_cache import LastingCache
from rosetta.workers import one_thread_each

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def prompt_ids(container: Container, prompt: str) -> list[int]:
    """The prompt in the container's own tokens.

    Raises:
        UsageError: it has no tokenizer, or the prompt has no tokens.
    """
    tokenizer = load_tokenizer(container)
    if tokenizer is None:
        raise UsageError(
            "has no tokenizer", file=container.path, remedy="give token ids: --tokens 17,10,17,28"
        )
    ids = tokenizer.encode(prompt)
    if not ids:
        raise UsageError("the prompt has no tokens", remedy="give a longer one, or --tokens")
    return ids


def run_stages(
    model: Model, ids: Sequence[int], device: str = "cpu", dtype: str = "float32"
) -> Iterator[tuple[str, Tensor]]:
    """Every stage of one run, by name.

    Args:
        model: what to run.
        ids: token ids.
        device: `cpu` or `cuda`.
        dtype: `float32` or `float64`.

    Raises:
        UsageError: an id is beyond the vocabulary, the ids are more than the positions, or there is no such device.
        DamagedFileError: a stage cannot be computed as the file says.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available", remedy="leave out --device cuda")
    if max(ids) >= model["vocab_size"]:
        raise UsageError(
            f"token id {max(ids)} is beyond the vocabulary of {model['vocab_size']} tokens",
            remedy="give ids below it",
        )
    check_positions(ids, model)
    done = "tokens"
    try:
        with one_thread_each():
            for name, value in Transformer(model, device, PRECISIONS[dtype]).stages(ids):
                yield name, value
                done = name
    except NotComputable as reason:
        raise DamagedFileError(
            f"the stage after {done} cannot be computed: {reason}",
            file=model.container.path,
            remedy="compare it with another copy of the model",
        ) from reason


def check_positions(ids: Sequence[int], *models: Model) -> None:
    """Refuse more tokens than any of the models has positions for, or than one of them attends to: a fault of the
    prompt, not of a file.

    Raises:
        UsageError: there are too many.
    """
    most = max(model.position_count for model in models)
    if len(ids) > most:
        raise UsageError(
            f"the prompt has {len(ids)} tokens, and the model positions for {most}",
            remedy="give a shorter one",
        )
    for model in models:
        if len(ids) > model.dense_count:
            raise UsageError(
                f"the prompt has {len(ids)} tokens, and each sees only {model.dense_count} of them, chosen by an "
                "indexer that is not run",
                file=model.container.path,
                remedy=f"give one of {model.dense_count} or fewer, of which all are seen",
            )


def run_facts(
    model: Model,
    operand: str,
    prompt: str | None,
    ids: Sequence[int],
    dtype: str,
    told: Callable[[Weight], dict[str, Any]] = coarseness,
) -> dict[str, Any]:
    """What a run was, in JSON's own types.

    Args:
        model, operand, prompt, ids, dtype: of the run.
        told: of each weight.
    """
    return {
        "schema_version": "1.0",
        "tool": {"name": "rosetta", "version": __version__},
        "operand": operand,
        "container": model.container.kind,
        "runtime": "torch",
        "dtype": dtype,
        "architecture": model.architecture.gguf,
        "prompt": prompt,
        "tokens": list(ids),
        **_rope_order(model),
        "stages": [node.name for node in model.graph],
        "weights": {name: told(weight) for name, weight in model.weights.items()},
        "config": {key: _plain(value.value) for key, value in model.config.items()},
    }


def _rope_order(model: Model) -> dict[str, str]:
    """In which order the rows of queries and keys lie within a head, as they are turned."""
    names = {INTERLEAVED: "interleaved", SPLIT_HALF: "split_half"}
    ops = (op for node in model.graph for op in node.op.links)
    orders = {op.order for op in ops if isinstance(op, Rotary)}
    return {"rope_order": names[orders.pop()]} if len(orders) == 1 else {}


def _plain(value: Any) -> Any:
    if isinstance(value, RopeScaling):
        return {name: list(v) if isinstance(v, tuple) else v for name, v in value.stated.items()}
    return value


class TorchDecoder:
    """A model that our transformer goes on with, token by token; see `runtimes.decoding.Decoder`.

    Args:
        path: a file or folder.
        tokens: how many there may be.
        options: none.

    Raises:
        RosettaError: see `open_model`.
        UsageError: the model has fewer positions.
    """

    def __init__(self, path: Path, tokens: int, options: Mapping[str, Any] | None = None) -> None:
        self.model = open_model(path)
        check_positions([0] * tokens, self.model)
        self.transformer = Transformer(self.model, cache=LastingCache())
        self.facts = Facts("torch", __version__, {"device": "cpu", "dtype": "float32"})
        self.restart()

    def restart(self) -> None:
        """Forget the tokens so far."""
        self._decoding = Decoding(self.transformer)

    @one_thread_each()
    def feed(self, ids: Sequence[int], last: int = 1) -> Float32:
        """Compute the next tokens; logits of the last of them, [last, V]."""
        try:
            logits: Float32 = self._decoding.feed(ids)[-last:].float().cpu().numpy()
        except NotComputable as reason:
            raise RuntimeFailed(
                Failure("run", f"it cannot be computed as its file says: {reason}")
            ) from reason
        return logits

    def close(self) -> None:
        """Let go of the file."""
        self.model.container.close()


decoder = TorchDecoder
