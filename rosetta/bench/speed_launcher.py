"""A script, not a module: starts a command, waits for it, and prints what the whole process cost as JSON.

A bare interpreter runs it, `python -S speed_launcher.py STDERR_FILE COMMAND ARGUMENT…`, because Linux counts the memory
of whoever starts a process as that process's own.
"""

import json
import os
import sys
import time


def main(stderr: str, command: list[str]) -> None:
    """Run the command, its output thrown away and its errors in a file."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    errors = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    actions = [(os.POSIX_SPAWN_DUP2, nowhere, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
    started = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes, bytes on macOS
    cost = {
        "code": os.waitstatus_to_exitcode(status),
        "wall_s": wall,
        "processor_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
    }
    print(json.dumps(cost))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
