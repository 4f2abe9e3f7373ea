"""What systems do differently: POSIX has calls that Windows lacks, and each has its own way to say how much memory was
used. Nothing else of the package asks on which system it runs."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import threading
from pathlib import Path
from typing import Any

OF_READING = ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY")
"""Beside O_RDONLY, where there are such: no child inherits it, a pipe does not block, Windows leaves \\r\\n alone."""
_one_at_a_time = threading.Lock()


def open_to_read(path: Path) -> int:
    """A descriptor of a file, for `read_at`; OSError where it cannot be had."""
    flags = os.O_RDONLY
    for name in OF_READING:
        flags |= getattr(os, name, 0)
    return os.open(path, flags)


def read_at(descriptor: int, into: memoryview, start: int) -> int:
    """Read bytes from a position of a file on, in any thread, and say how many: 0 at its end.

    Args:
        descriptor: of the file; where the system reads by position its own position stays.
        into: takes the bytes, as many as come up to its length.
        start: byte of the file.
    """
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [into], start)
    with _one_at_a_time:
        os.lseek(descriptor, start, os.SEEK_SET)
        data = os.read(descriptor, min(len(into), 1 << 26))  # a copy: no more of it than 64 MiB
    into[: len(data)] = data
    return len(data)


def write_at(descriptor: int, data: memoryview, start: int) -> int:
    """Write bytes at a position of a file, in any thread, and say how many."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, start)
    with _one_at_a_time:
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.write(descriptor, data)


def hold(folder: Path) -> int | None:
    """A descriptor by which a folder is this process's until it is closed or the process ends, however it does; None
    where another process holds it, or the system cannot tell."""
    try:
        locks = importlib.import_module("fcntl")
    except ModuleNotFoundError:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        locks.flock(descriptor, locks.LOCK_EX | locks.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def release(held: int | None) -> None:
    """Let go of a folder that was held."""
    if held is not None:
        os.close(held)


def put_on_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; Windows has no such call for a folder."""
    if os.name == "nt":
        if path.is_file():
            with path.open("r+b") as file:  # _commit asks for a descriptor that may write
                os.fsync(file.fileno())
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def processor_maker() -> str:
    """How the processor names its maker, such as `AuthenticAMD`; empty where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # of Windows: AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD
        return platform.processor().rpartition(", ")[2]
    line = next((line for line in text.splitlines() if line.startswith("vendor_id")), "")
    return line.rpartition(": ")[2]


def peak_memory() -> int:
    """Bytes of memory that this process held at most, mapped pages among them; 0 where the system does not say."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return _peak_working_set()
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def _peak_working_set() -> int:
    """`PeakWorkingSetSize` of Windows (psapi.h, PROCESS_MEMORY_COUNTERS)."""
    import ctypes

    libraries: Any = getattr(ctypes, "windll", None)
    if libraries is None:
        return 0

    class Counters(ctypes.Structure):
        _fields_ = [
            ("size", ctypes.c_uint32),
            ("page_faults", ctypes.c_uint32),
            ("peak_working_set", ctypes.c_size_t),
            ("others", ctypes.c_size_t * 7),
        ]

    counters = Counters(size=ctypes.sizeof(Counters))
    process = libraries.kernel32.GetCurrentProcess
    process.restype = ctypes.c_void_p
    asked = libraries.kernel32.K32GetProcessMemoryInfo
    asked.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
    if not asked(process(), ctypes.byref(counters), counters.size):
        return 0
    return int(counters.peak_working_set)
