"""Keeps the transcripts of the Markdown files true, by running the commands of every `console` block.

`python docs/transcripts.py` rewrites the files; a test checks that nothing would change. A block's lines that
start with `$ ` are commands; they run in order, all blocks of a file in one folder, empty at first. What a
command prints on stdout follows it; stderr (the load log, progress) is left out. An exit code other than 0 is
shown as `[exit code 1]`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
DOCUMENTS = tuple(
    str(path.relative_to(ROOT))
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
    if BLOCK.search(path.read_text(encoding="utf-8"))
)
SECONDS = 120  # for one command


def regenerated(text: str) -> str:
    """A document with the output of its commands as it is now.

    Args:
        text: Markdown.
    """
    with tempfile.TemporaryDirectory() as folder:
        return BLOCK.sub(lambda block: _transcript(block.group(), Path(folder)), text)


def _transcript(block: str, folder: Path) -> str:
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return "".join(f"$ {command}\n{_output(command, folder)}" for command in commands)


def _output(command: str, folder: Path) -> str:
    """What a command prints, run with this interpreter's programs and this checkout's fixtures."""
    environment = {
        **{key: value for key, value in os.environ.items() if key != "GITHUB_ACTIONS"},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",  # marks are ASCII where LANG=C asks for it
        "COLUMNS": "110",
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode and not done.stdout:  # a transcript that says nothing of why would mislead
        raise RuntimeError(f"{shlex.quote(command)} failed:\n{done.stderr}")
    ending = f"[exit code {done.returncode}]\n" if done.returncode else ""
    return done.stdout + ending


def main() -> int:
    """Rewrite every document whose transcripts have changed."""
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        fresh = regenerated(text)
        if fresh != text:
            path.write_text(fresh, encoding="utf-8")
            print(f"{name}: transcripts rewritten")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
