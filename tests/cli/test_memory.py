"""Memory that was freed is used again, page for page, instead of fetched anew from the system."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

BLOCKS, ROUNDS = 3, 20
SIZE = 40 << 20  # bytes; more than the largest threshold from which on blocks are mapped, 32 MiB
FAULTS = f"""
import resource, sys
import torch
from rosetta.cli.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def rounds(count):
    for _ in range(count):
        blocks = [torch.ones({SIZE}, dtype=torch.uint8) for _ in range({BLOCKS})]

rounds(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds({ROUNDS})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    fixed = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}  # its default, which glibc else adapts
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, env=fixed, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="the C library has no mallopt",
)
def test_freed_memory_is_kept() -> None:
    assert faults("kept") < faults("given back") / 5
