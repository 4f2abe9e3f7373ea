"""A recorded run: every stage as a float32 tensor of a safetensors file, the run's facts in its metadata."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rosetta.containers.container import TensorInput
from rosetta.containers.spool import Spool, folder_beside

METADATA_KEY = "rosetta"
ALIGNMENT = 8  # of the header, as the safetensors library writes it


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
    with folder_beside(path) as folder:
        inputs = (TensorInput(name, "F32", tuple(x.shape), _bytes(x)) for name, x in stages)
        with Spool(path, folder, inputs) as spool:
            entries: dict[str, Any] = {"__metadata__": {METADATA_KEY: json.dumps(facts, ensure_ascii=False)}}
            for tensor in spool.tensors:
                offsets = [tensor.start, tensor.start + tensor.entry.nbytes]
                entries[tensor.entry.name] = {"dtype": "F32", "shape": list(tensor.entry.dims), "data_offsets": offsets}
            header = json.dumps(entries, ensure_ascii=False).encode()
            header += b" " * (-len(header) % ALIGNMENT)
            part = folder / "trace"
            with part.open("wb") as file:
                file.write(struct.pack("<Q", len(header)) + header)
                for tensor in spool.tensors:
                    for chunk in spool.chunks(tensor):
                        file.write(chunk)
        os.replace(part, path)
        return len(spool.tensors)


def _bytes(x: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return x.detach().float().cpu().contiguous().numpy().reshape(-1).view(np.uint8)
