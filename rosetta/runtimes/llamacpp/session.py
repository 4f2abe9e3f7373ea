"""llama.cpp's own run of a file, in this process: load it, draw its graph, run it with every stage handed on.

Whoever calls this stands to be aborted by ggml: it belongs into a child process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rosetta.runtimes.llamacpp.drawing import Drawing
from rosetta.runtimes.llamacpp.library import Ggml
from rosetta.runtimes.llamacpp.options import DEFAULTS, GGML_TYPES
from rosetta.runtimes.observed.capture import Facts, Float32
from rosetta.runtimes.observed.graph import Graph
from rosetta.runtimes.observed.placing import Placement, place
from rosetta.runtimes.observed.reading import Receive, StageReader, probe_length, rope_order

CONFIG = (
    "n_ctx_train",
    "n_embd",
    "n_layer",
    "n_head",
    "n_head_kv",
    "n_swa",
    "rope_type",
    "rope_freq_scale_train",
)
MOST_CHARS = 4096  # of one value of the file's metadata


class LoadError(Exception):
    """llama.cpp refuses the file."""


class Session:
    """One file, loaded.

    Args:
        path: of the file.
        tokens: how many a run may have.
        options: see `options.py`.
        facts: what is learned is written here.

    Raises:
        LoadError: llama.cpp does not take it.
    """

    def __init__(self, path: Path, tokens: int, options: Mapping[str, Any], facts: Facts) -> None:
        os.environ.setdefault("GGML_NO_BACKTRACE", "1")
        self.options = {**DEFAULTS, **options}
        if self.options["fusion"] == "off":
            os.environ["GGML_CPU_DISABLE_FUSION"] = "1"
        import llama_cpp

        self.api: Any = llama_cpp
        self.said: list[str] = []
        self._log = llama_cpp.llama_log_callback(self._hear)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        facts.version, facts.options = llama_cpp.__version__, dict(self.options)
        self.facts, self.ggml = facts, Ggml()
        self.calls: Drawing | Reading | None = None
        self.error: BaseException | None = None
        self.model = self._load(path)
        facts.config = self._config()
        facts.architecture = facts.config.get("general.architecture")
        self.context = self._start(tokens + 1)

    def _hear(self, level: int, text: bytes, _: Any) -> None:
        self.said.append(text.decode(errors="replace"))
        del self.said[:-200]

    def _load(self, path: Path) -> Any:
        wanted = {
            "n_gpu_layers": int(self.options["gpu_layers"]),
            "use_extra_bufts": self.options["repack"] == "on",
        }
        params = _set(self.api.llama_model_default_params(), wanted)
        model = self.api.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise LoadError(self._complaint() or "llama.cpp does not load the file")
        return model

    def _complaint(self) -> str:
        """The last line that says what went wrong."""
        lines = [line.strip() for line in "".join(self.said).splitlines() if line.strip()]
        wrong = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
        return (wrong[0] if wrong else lines[-1] if lines else "")[:500]

    def _start(self, tokens: int) -> Any:
        size = max(256, -(-tokens // 256) * 256)
        flash = self.options["flash_attn"] == "on"
        gpu = int(self.options["gpu_layers"]) != 0
        wanted = {
            "n_ctx": size,
            "n_batch": size,
            "n_ubatch": size,
            "n_threads": int(self.options["threads"]),
            "n_threads_batch": int(self.options["threads"]),
            "flash_attn_type": 1 if flash else 0,
            "type_k": GGML_TYPES[self.options["kv"]],
            "type_v": GGML_TYPES[self.options["kv"]],
            "offload_kqv": gpu,
            "op_offload": gpu,
            "swa_full": True,
            "no_perf": True,
        }
        params = _set(self.api.llama_context_default_params(), wanted)
        self._callback = self.api.ggml_backend_sched_eval_callback(self._called)
        params.cb_eval = self._callback
        context = self.api.llama_init_from_model(self.model, params)
        if not context:
            raise LoadError(self._complaint() or "llama.cpp makes no context for the file")
        return context

    def _config(self) -> dict[str, Any]:
        """The file's metadata in llama.cpp's words, and what it made of them."""
        api, found = self.api, {}
        buffer = ctypes.create_string_buffer(MOST_CHARS)
        for i in range(api.llama_model_meta_count(self.model)):
            api.llama_model_meta_key_by_index(self.model, i, buffer, len(buffer))
            key = buffer.value.decode(errors="replace")
            if key.startswith("tokenizer."):
                continue
            api.llama_model_meta_val_str_by_index(self.model, i, buffer, len(buffer))
            found[key] = buffer.value.decode(errors="replace")
        for name in CONFIG:
            function = getattr(api, f"llama_model_{name}", None)
            if function is not None:
                found[name] = function(self.model)
        return found

    def _called(self, tensor: int, ask: bool, _: Any) -> bool:
        """ggml's callback; an exception in it would be lost, so it is kept and raised after the run."""
        try:
            if self.calls is None or self.error is not None:
                return not ask
            return self.calls.called(ctypes.cast(tensor, self.ggml.pointer), ask)
        except BaseException as error:  # kept, and raised by `_decode`
            self.error = error
            return not ask

    def prepare(self, ids: Sequence[int]) -> list[str]:
        """Draw the graph over a few tokens, and find the stages in it.

        Returns:
            The stages, in order.
        """
        self._draw([ids[0]] * probe_length(len(ids)))
        return [tap.stage for tap in self.placement.taps]

    def _draw(self, ids: Sequence[int]) -> None:
        self.probed, drawing = len(ids), Drawing(self.ggml)
        self._decode(ids, drawing)
        self.graph = Graph(drawing.nodes, len(drawing.nodes) - 1)
        self.placement: Placement = place(self.graph, self.probed)
        self.facts.skipped = dict(self.placement.skipped)
        self.facts.rope = rope_order(self.placement)
        self.facts.rotary_dimensions = drawing.rotary_dimensions

    def run(self, ids: Sequence[int], receive: Receive) -> None:
        """One run; every stage is handed on, and replaced by what `receive` returns.

        A long prompt may take another graph than a few tokens: from where that shows nothing is read any more, the
        graph is drawn again over as many tokens but one, and what was not yet handed on is, in a second run.
        """
        given: set[str] = set()

        def once(stage: str, value: Float32) -> NDArray[Any] | None:
            if stage in given:
                return replaced.get(stage)
            given.add(stage)
            new = receive(stage, value)
            if new is not None:
                replaced[stage] = new
            return new

        replaced: dict[str, NDArray[Any]] = {}
        if not self._read(ids, once):
            self._draw([ids[0]] * (len(ids) - 1))
            self._read(ids, once)

    def _read(self, ids: Sequence[int], receive: Receive) -> bool:
        """Whether the run went as the graph says to its end."""
        dims = {node.key: node.dims for node in self.graph.nodes if node.key is not None}
        reader = StageReader(self.graph, self.placement, dims.get, self.probed, len(ids), receive, self.facts)
        reading = Reading(self.ggml, reader, [node.key for node in self.graph.nodes if node.key is not None])
        self._decode(ids, reading)
        if reading.lost and self.probed != len(ids) - 1 and len(ids) > 2:
            return False
        reader.finish()
        return True

    def _decode(self, ids: Sequence[int], calls: Drawing | Reading) -> None:
        api = self.api
        api.llama_memory_clear(api.llama_get_memory(self.context), True)
        batch = api.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            self.calls, self.error = calls, None
            code = api.llama_decode(self.context, batch)
        finally:
            self.calls = None
            api.llama_batch_free(batch)
        if self.error is not None:
            raise self.error
        if code != 0:
            raise RuntimeError(self._complaint() or f"llama_decode returned {code}")


class Reading:
    """Reads the nodes that are asked for.

    Args:
        ggml: the library.
        reader: takes their values.
        expected: keys of all nodes, in order.
    """

    def __init__(self, ggml: Ggml, reader: StageReader, expected: Sequence[Hashable]) -> None:
        self.ggml, self.reader, self.expected = ggml, reader, expected
        self.asked, self.lost = 0, False
        self.key: Hashable = None

    def called(self, tensor: Any, ask: bool) -> bool:
        if ask:
            self.key = (self.asked, self.ggml.operation(tensor), tensor.contents.name)
            self.lost |= self.asked >= len(self.expected) or self.expected[self.asked] != self.key
            self.asked += 1
            return not self.lost and self.key in self.reader.taps
        value = self.ggml.read(tensor)
        if value is not None:
            new = self.reader.read(self.key, value)
            if new is not None:
                self.ggml.write(tensor, new)
        return True


def _set(params: Any, wanted: Mapping[str, Any]) -> Any:
    """Set fields that exist: ctypes takes any name, and does nothing with one that it does not know.

    Raises:
        RuntimeError: this llama.cpp has no such field.
    """
    known = {name for name, *_ in params._fields_}
    for name, value in wanted.items():
        if name not in known:
            raise RuntimeError(f"this version of llama.cpp has no parameter '{name}'")
        setattr(params, name, value)
    return params
