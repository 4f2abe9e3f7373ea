"""A recorded run: every stage as a float32 tensor of a safetensors file, the run's facts in its metadata.

Written by `rosetta trace`, and read back as the side of a comparison whose weights nobody has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta import blocks
from rosetta.architectures import find_architecture
from rosetta.containers.container import ContainerDefaults, Setting, TensorEntry, TensorInput
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.safetensors_file import read_header, read_metadata, write_safetensors
from rosetta.containers.spool import Spool
from rosetta.containers.unfinished import unfinished
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError
from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.op import NotComputable, Step
from rosetta.runtimes.arithmetic import Imitation, imitations, input_rounding
from rosetta.runtimes.coarseness import coarseness
from rosetta.runtimes.observed.experts_order import OF_EXPERTS, by_weight, expert_weights
from rosetta.runtimes.recorded_chunks import Reading, joined
from rosetta.runtimes.recorded_config import recorded_config
from rosetta.same_weights import same_values
from rosetta.weight import Weight
from rosetta.weight_cache import DecodedPair, WeightCache

METADATA_KEY = "rosetta"


def write_trace(path: Path, stages: Iterable[tuple[str, Tensor]], facts: Mapping[str, Any]) -> int:
    """Write stages as they come; memory holds one of them, and the file is there whole or not at all.

    Args:
        path: the file to be written.
        stages: stage name and values, in order; any float type.
        facts: what the run was: tokens, prompt, operand, architecture, config; JSON values only.

    Returns:
        The number of stages written.

    Raises:
        UsageError: the folder of `path` does not exist or may not be written.
    """
    inputs = (TensorInput(name, "F32", tuple(x.shape), _bytes(x)) for name, x in stages)
    with unfinished(path, replace=True) as place, Spool(path, place.parent, inputs) as spool:
        write_safetensors(place, spool.tensors, {METADATA_KEY: json.dumps(facts, ensure_ascii=False)})
        return len(spool.tensors)


def _bytes(x: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return x.detach().float().cpu().contiguous().numpy().reshape(-1).view(np.uint8)


@dataclass(frozen=True)
class Recording(ContainerDefaults):
    """A recorded run, opened: its facts, and its stages on demand. A `Container` without weights.

    Args:
        path: the file.
        facts: what the run was, as `rosetta trace` writes it.
        stages: the recorded stages by name, those that are read from another among them.
        held, starts: what lies in the file under which name, and where.
        readings: stages that are not in the file as they are compared: what a recording may choose freely, see
            `gauges`.
        sources: the files that it was made of, where it is somebody else's dump, and where the data begins in each.
        ran: the model that was run, where its weights are at hand.
    """

    path: Path
    facts: Mapping[str, Any]
    stages: Mapping[str, TensorEntry]
    file: FileBytes = field(repr=False)
    held: Mapping[str, TensorEntry] = field(repr=False)
    starts: Mapping[str, int] = field(repr=False)
    readings: Mapping[str, Reading] = field(default_factory=dict, repr=False)
    sources: Mapping[Path, int] = field(default_factory=dict, repr=False)
    kind: str = "trace"
    label: str = "TRACE"
    notes: tuple[str, ...] = ()
    ran: Model | None = field(default=None, repr=False)

    @property
    def architecture(self) -> str | None:
        found = self.facts.get("architecture")
        return found if isinstance(found, str) else None

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.facts

    @property
    def settings(self) -> Mapping[str, Setting]:
        return {}

    @property
    def tensors(self) -> Mapping[str, TensorEntry]:
        """None: a recording holds stages, not weights."""
        return {}

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """See `Container`: where the stages' data begins."""
        return self.sources or {self.path: min(self.starts.values(), default=self.file.size)}

    @property
    def file_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.sources) or self.file.size

    @property
    def tokens(self) -> list[int]:
        """The token ids of the run."""
        return list(self.facts["tokens"])

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """Bytes of a recorded stage."""
        size = self.held[name].nbytes - start if nbytes is None else nbytes
        return self.file.array(self.starts[name] + start, size)

    def stage(self, name: str) -> Tensor | None:
        """A recorded stage as float32, or None where it was not recorded."""
        reading = self.readings.get(name)
        if reading is not None:
            return reading.make(*map(self._stored, reading.sources))
        return self._stored(name) if name in self.stages else None

    def _stored(self, name: str) -> Tensor:
        entry = self.held[name]
        return blocks.decode(entry.dtype, torch.from_numpy(self.read(name)), entry.dims)

    def with_readings(self, made: Mapping[str, tuple[Reading, tuple[int, ...]]], note: str) -> Recording:
        """The same recording with stages read in another way.

        Args:
            made: how, of one stage each, and the dims that come of it, by the name of the stage.
            note: what a reader should know of it.
        """
        entries = {name: TensorEntry(name, "F32", dims, 4 * prod(dims)) for name, (_, dims) in made.items()}
        readings = {name: self._after(reading) for name, (reading, _) in made.items()}
        return replace(
            self,
            stages={**self.stages, **entries},
            readings={**self.readings, **readings},
            notes=(*self.notes, note),
        )

    def _after(self, reading: Reading) -> Reading:
        """A reading of a stage that is itself read from others."""
        [source] = reading.sources
        before = self.readings.get(source)
        if before is None:
            return reading
        return Reading(before.sources, lambda *values: reading.make(before.make(*values)))

    def close(self) -> None:
        self.file.close()


def open_recording(path: Path) -> Recording:
    """Open a trace.

    Raises:
        UsageError: there is no such file.
        DamagedFileError: it is no sound safetensors file, or its facts are not what `rosetta trace` writes.
        UnsupportedError: it is a safetensors file, and no trace.
    """
    if path.is_dir():
        raise UsageError(
            "holds no run that rosetta reads",
            file=path,
            remedy="give a file of rosetta trace, a folder of aprender's stage files, or a tree of transformers' "
            "model_addition_debugger",
        )
    file = FileBytes(path)
    stages, places = read_header(file)
    text = read_metadata(file).get(METADATA_KEY)
    if text is None:
        raise UnsupportedError(
            "is a safetensors file without the facts of a run",
            file=path,
            where=f"metadata key {METADATA_KEY!r}",
            remedy="record one with: rosetta trace MODEL -o FILE.safetensors",
        )
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(
            "the facts of the run are no JSON", file=path, remedy="record it again"
        ) from error
    tokens = facts.get("tokens") if isinstance(facts, dict) else None
    if not isinstance(tokens, list) or not tokens or not all(type(t) is int and t >= 0 for t in tokens):
        raise DamagedFileError("the facts of the run name no token ids", file=path, remedy="record it again")
    whole, readings = joined(path, stages, len(tokens))
    _refuse_empty(path, whole)
    notes = facts.get("notes")
    said = tuple(note for note in notes if isinstance(note, str)) if isinstance(notes, list) else ()
    return Recording(path, facts, whole, file, stages, places, readings, notes=said)


def _refuse_empty(path: Path, stages: Mapping[str, TensorEntry]) -> None:
    """Raises:
    DamagedFileError: a stage has no values, or one for all tokens.
    """
    for name, entry in stages.items():
        is_stage = name.startswith("layers.") or name in ("embedding", "final_norm", "logits")
        if is_stage and (not entry.dims or 0 in entry.dims):
            raise DamagedFileError(
                f"a stage has dims {list(entry.dims)}, and has values of each token",
                file=path,
                where=f"stage {name!r}",
                remedy="record it again",
            )


def recorded_model(recording: Recording, like: Model) -> Model:
    """The recorded model as far as it is known: its config, and no weights.

    Args:
        recording: the trace.
        like: the model it is compared with, whose architecture and config serve where the trace names none.

    Raises:
        DamagedFileError: a setting is not of its kind.
    """
    dims = {name: entry.dims for name, entry in recording.stages.items()}
    if like.architecture.seen:  # which has the stages of the run, and may go by another name there
        return Model(recording, like.architecture, recorded_config(recording.path, None, dims, like), {})
    architecture = find_architecture(recording.architecture or "") or like.architecture
    config = recorded_config(recording.path, recording.facts.get("config"), dims, like)
    return Model(recording, architecture, config, {})


class RecordedRun:
    """A recording as a side of a comparison; see `runtimes.runtime.Runtime`.

    Args:
        recording: the trace.
        model: the recorded model, as far as it is known.
        device, dtype: where and in which precision its stages are compared.
        kept: what is decoded of the weights that it is compared with.

    A stage of one row, where there are more tokens, is the last token's: the other rows are the other side's.
    """

    def __init__(
        self,
        recording: Recording,
        model: Model,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        kept: DecodedPair | None = None,
    ) -> None:
        self.recording, self.model = recording, model
        self.cache = WeightCache(device, dtype, kept)
        self._noted: dict[str, str] = {}
        self._of_last: list[str] = []
        self._input_roundings: dict[Weight, float | None] = {}
        self._sigmas: dict[str, float] = {}

    @property
    def computes(self) -> bool:
        """No: its stages are what they are."""
        return False

    @property
    def chunks(self) -> None:
        """As it was recorded."""
        return None

    def with_model(self, model: Model) -> RecordedRun:
        """The same recording: no repair changes it."""
        return self

    def offers(self, stage: str) -> bool:
        """Whether the stage was recorded."""
        return stage in self.recording.stages

    def compute(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        """The recorded stage.

        Raises:
            NotComputable: it was not recorded.
        """
        value = self.stage(node.name)
        if value is None:
            raise NotComputable(f"the trace has no stage {node.name}")
        return value

    def stage(self, name: str) -> Tensor | None:
        """A recorded stage, or None; what a runtime routed as number and weight of each chosen expert, as ours is."""
        value = self.recording.stage(name)
        if value is None:
            return None
        return self.cache.moved(self._routed(name, value))

    def _routed(self, name: str, value: Tensor) -> Tensor:
        prefix, _, stage = name.rpartition(".")
        if stage != "ffn_router" and stage not in OF_EXPERTS:
            return value
        routing = self.recording.stage(f"{prefix}.ffn_router")
        if routing is None or routing.ndim != 3:  # ours: the weight of each expert
            return value
        count = self.model.config.get("expert_count")  # an architecture may know of none
        most = max(int(count.value) if count else 0, int(routing[..., 0].max()) + 1)
        weights = expert_weights(routing, most)
        if stage == "ffn_router":
            return weights
        return by_weight(value, routing, weights) if value.ndim == 3 else value

    def imitations(self, node: Node, model: Model) -> Sequence[Imitation]:
        """The ways of the runtime that was recorded."""
        return imitations(str(self.recording.facts.get("runtime", "")), node, model, self.recording.facts)

    def step(self, node: Node) -> Step:
        """The recorded settings; there are no weights."""
        return Step(self.model, node.layer, self.cache)

    def settled(self, node: Node, value: Tensor, other: Tensor) -> Tensor:
        """Recorded logits are known but for a constant, see `without_gauge`; heads may be recorded side by side."""
        if value.ndim == 2 and other.ndim == 3 and value.shape == other.flatten(1).shape:
            value = value.reshape(other.shape)  # [T, H·P] for [T, H, P]
        if len(value) == 1 < len(other) and value.shape[1:].numel() == other.shape[1:].numel():
            self._of_last.append(node.name)
            value = torch.cat([other[:-1], value.reshape(1, *other.shape[1:])])
        if node.name != "logits":
            return value
        moved = without_gauge(value, other)
        if moved is not value:
            self._noted["logits"] = (
                "its logits are compared up to a constant for each token, which changes no probability"
            )
        return moved

    @property
    def noted(self) -> list[str]:
        """See `Runtime`."""
        said = list(self._noted.values())
        if self._of_last:
            stages = dict.fromkeys(name.rpartition(".")[2] for name in self._of_last)
            said.append(
                f"its {', '.join(stages)} are of the last token only: at the others they are not compared"
            )
        return [f"{self.recording.path}: {words}" for words in said]

    def input_rounding(self, weight: Weight) -> float | None:
        """See `Runtime`."""
        if weight not in self._input_roundings:
            ran, facts = self.recording.ran, self.recording.facts
            own = None if ran is None else ran.weights.get(weight.name)
            self._input_roundings[weight] = (
                input_rounding(str(facts.get("runtime", "")), own.dtype, facts)
                if own is not None and _is_same(own, weight)
                else None
            )
        return self._input_roundings[weight]

    def rounding(self, name: str, values: Callable[[], Tensor]) -> Tensor:
        """See `Runtime`.

        Of blocks the recording knows what it is over the whole tensor. A float's is its own: one large weight
        among small ones is rounded far more coarsely than they are, and an embedding shows each by itself.
        """
        facts = self.recording.facts.get("weights")
        found = facts.get(name) if isinstance(facts, dict) else None
        found = found if isinstance(found, dict) else {}
        dtype, sigma = blocks.TORCH_FLOATS.get(str(found.get("dtype"))), found.get("rms_sigma")
        if dtype is not None:
            own = values()
            raw = own.to(dtype).contiguous().reshape(-1).view(torch.uint8)
            rounding = blocks.sigma(str(found["dtype"]), raw, tuple(own.shape))
            return rounding.where(rounding.isfinite(), torch.zeros(()))
        ran = self.recording.ran
        if sigma is None and ran is not None and name in ran.weights:
            sigma = self._sigmas.get(name)
            if sigma is None:
                sigma = self._sigmas[name] = coarseness(ran.weights[name])["rms_sigma"]
        return torch.tensor(float(sigma) if isinstance(sigma, int | float) else 0.0)


def _is_same(own: Weight, weight: Weight) -> bool:
    """Whether two weights hold the same numbers; of one file nothing is read for it."""
    of_one_file = own.container.path == weight.container.path
    return (of_one_file and replace(own, container=weight.container) == weight) or same_values(own, weight)


def without_gauge(logits: Tensor, other: Tensor) -> Tensor:
    """Recorded logits moved by a constant per token to where the other side's lie: softmax takes no notice of it,
    and runtimes that centre their logits differ by it.

    Args:
        logits, other: [T, V].
    """
    if logits.shape != other.shape:
        return logits
    constant = (other.double() - logits.double()).mean(-1, keepdim=True)
    spread = (other.double() - logits.double() - constant).square().mean().sqrt()
    # Only a constant that stands out is a gauge; a small mean of noise is not.
    return logits + constant.to(logits.dtype) if bool((constant.abs() > 4 * spread).any()) else logits


def trace_tokens(recording: Recording, largest: int) -> list[int]:
    """The recorded token ids, checked against a vocabulary.

    Raises:
        UsageError: an id is beyond it.
    """
    if max(recording.tokens) >= largest:
        raise UsageError(
            f"token id {max(recording.tokens)} is beyond the vocabulary of {largest} tokens",
            file=recording.path,
            remedy="compare it with the model it was recorded from",
        )
    return recording.tokens
