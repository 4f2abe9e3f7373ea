"""What the child process of a job runs: rosetta, for as long as the process that started it is there.

A sweep that is killed cannot end its children. Where they went on, one that is started again would run their jobs a
second time beside them.
"""

from __future__ import annotations

import os
import runpy
import threading


def end_with_parent() -> None:
    """End this process once nobody holds the other end of its stdin, and let what it runs read an empty one.

    The system closes that end however the parent ends, on every system that Python runs on.
    """
    held = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_wait, args=(held,), daemon=True).start()


def _wait(held: int) -> None:
    while os.read(held, 1):
        pass  # nobody writes to it
    os._exit(1)


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("rosetta", run_name="__main__", alter_sys=True)
