"""The C library's allocator: what a block of rows was decoded into is wanted again a moment later."""

from __future__ import annotations

import ctypes

# glibc's malloc.h. By default it gives large blocks back to the system as soon as they are free, and each new one
# costs its pages again, zeroed: a seventh of a comparison's time (docs/benchmarks.md, "Before and after").
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
KEPT = 1 << 30  # bytes of free memory


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next use, where the C library can be told so."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc; Windows has no library of no name
        return
    mallopt(M_ARENA_MAX, 1)  # a thread's own arena is given back in pieces of 64 MiB, whatever the thresholds
    mallopt(M_MMAP_MAX, 0)  # no block is mapped by itself, which the largest of a long prompt else are
    mallopt(M_TRIM_THRESHOLD, KEPT)
