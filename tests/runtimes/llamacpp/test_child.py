"""The process in which llama.cpp runs: what it needs to start."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["child", "decoding_child", "session"])
def test_it_starts_without_torch(module: str) -> None:
    code = f"import sys, rosetta.runtimes.llamacpp.{module}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"
