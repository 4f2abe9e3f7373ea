"""llama.cpp itself, in this process: a file loaded, a context for so many tokens, tokens decoded one batch at a time.

Whoever calls this stands to be aborted by ggml: it belongs into a child process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rosetta.runtimes.llamacpp.options import DEFAULTS, GGML_TYPES
from rosetta.runtimes.observed.capture import Facts, Float32

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
Called = Callable[[int, bool, Any], bool]


class LoadError(Exception):
    """llama.cpp refuses the file."""


class Context:
    """One file, loaded, and what llama.cpp remembers of the tokens so far.

    Args:
        path: of the file.
        tokens: how many there may be.
        options: see `options.py`.
        facts: what is learned is written here.
        called: ggml's callback: address of a node, whether it asks, nothing; None: nobody is asked.

    Raises:
        LoadError: llama.cpp does not take it.
    """

    def __init__(
        self,
        path: Path,
        tokens: int,
        options: Mapping[str, Any],
        facts: Facts,
        called: Called | None = None,
    ) -> None:
        os.environ.setdefault("GGML_NO_BACKTRACE", "1")
        self.options = {**DEFAULTS, **options}
        if self.options["fusion"] == "off":
            os.environ["GGML_CPU_DISABLE_FUSION"] = "1"
        # Keys and values of a cache of steps would be mixed before they are kept, and none of them be seen.
        os.environ["LLAMA_ATTN_ROT_DISABLE"] = "1"
        import llama_cpp

        self.api: Any = llama_cpp
        self.said: list[str] = []
        self._log = llama_cpp.llama_log_callback(self._hear)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        facts.version, facts.options = llama_cpp.__version__, dict(self.options)
        self.model = self._load(path)
        facts.config = self._config()
        facts.architecture = facts.config.get("general.architecture")
        self.context = self._start(tokens, called)

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

    def _start(self, tokens: int, called: Called | None) -> Any:
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
        if called is not None:
            self._callback = self.api.ggml_backend_sched_eval_callback(called)  # as long as the context
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

    def clear(self) -> None:
        """Forget the tokens so far."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def decode(self, ids: Sequence[int], start: int = 0, wanted: int | None = None) -> None:
        """Compute the next tokens.

        Args:
            ids: of them.
            start: position of the first.
            wanted: of how many of the last the logits are wanted; None: of all.

        Raises:
            RuntimeError: llama.cpp does not compute them.
        """
        api, first = self.api, 0 if wanted is None else len(ids) - wanted
        batch = api.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.logits[i] = token, start + i, int(i >= first)
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            code = api.llama_decode(self.context, batch)
        finally:
            api.llama_batch_free(batch)
        if code != 0:
            raise RuntimeError(self._complaint() or f"llama_decode returned {code}")

    def logits(self, i: int) -> Float32:
        """Logits of token i of the last batch, [V]: a copy."""
        width = self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(self.model))
        pointer = self.api.llama_get_logits_ith(self.context, i)
        if not pointer:
            raise RuntimeError(self._complaint() or "llama.cpp gave no logits")
        return np.array(np.ctypeslib.as_array(pointer, shape=(width,)), dtype=np.float32)


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
