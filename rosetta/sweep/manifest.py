"""Which comparisons a sweep makes, of a YAML or JSONL file: pairs, globs, a matrix, prompts, options.

    options: {assert-match: true}           # of `rosetta compare`, for all
    pairs:
      - {left: hf/llama, right: llama.gguf, name: llama}
      - {left: "hf/*", right: "gguf/*.gguf"} # what a star stands for on the left, it stands for on the right
    matrix:                                 # every left one with every right one
      left: [a.gguf, "b-*.gguf"]
      right: [reference.gguf]
    prompts:
      - "2+2="
      - {name: code, file: code.txt}
      - {name: ids, tokens: [1, 2, 3]}

`options` may be a list: each comparison is made with each of them (`options: [{}, {name: strict, threshold: 0.5}]`); a
pair's own are added to those of all. In JSONL each line is one pair, with `prompts` of its own where it has any. Paths
are as seen from its folder.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosetta.errors import UsageError
from rosetta.sweep.job import Job, Prompt

PAIR_KEYS = {"left", "right", "name", "prompts", "options"}
MANIFEST_KEYS = {"pairs", "matrix", "prompts", "options"}
LARGEST = 64 << 20  # bytes of a manifest
SIDES = {"left", "right"}
MOST_JOBS = 1_000_000
LONGEST_NAME = 24  # characters of a prompt that name its column
PREFIX = re.compile(r"^[a-z]{2,}:(?!//)")  # of a runtime or a trace; `C:\\` is a drive
STARS = re.compile(r"\*+")


@dataclass(frozen=True)
class _Options:
    """Options that comparisons are made with.

    Args:
        name: what tells them from others; empty where there are no others.
        values: by long name.
    """

    name: str
    values: Mapping[str, Any]

    def with_more(self, more: _Options) -> _Options:
        """These and a pair's own, which go before."""
        name = ", ".join(one.name for one in (self, more) if one.name)
        return _Options(name, {**self.values, **more.values})


def _said(options: Mapping[str, Any]) -> str:
    """Options in a row's heading.

    >>> _said({"hash": True, "threshold": 0.5})
    'hash, threshold 0.5'
    """
    return ", ".join(name if value is True else f"{name} {value}" for name, value in options.items())


@dataclass(frozen=True)
class _Reader:
    """One manifest being read.

    Args:
        file: the manifest.
        known: options that `rosetta compare` has.
    """

    file: Path
    known: Collection[str]

    def jobs(self) -> list[Job]:
        """All jobs, in the manifest's order; the same question asked twice is one job.

        Raises:
            UsageError: it cannot be read, or says something that is not understood, or asks nothing.
        """
        found: dict[str, Job] = {}
        names: dict[tuple[str, str], str] = {}
        for job in self._jobs(self._parsed()):
            called = (job.row, job.prompt.name)
            if names.setdefault(called, job.id) != job.id:
                raise UsageError(
                    f"two comparisons are called {job.row}, {job.prompt.name}",
                    file=self.file,
                    remedy="give each pair, or each of its options, a name: of its own",
                )
            found.setdefault(job.id, job)
            if len(found) > MOST_JOBS:
                raise UsageError(f"more than {MOST_JOBS:,} comparisons", file=self.file, remedy="split it")
        if not found:
            raise UsageError("asks for no comparison", file=self.file, remedy="give it pairs: or matrix:")
        return list(found.values())

    def _parsed(self) -> Mapping[str, Any]:
        try:
            if self.file.stat().st_size > LARGEST:
                raise UsageError(f"is over {LARGEST >> 20} MiB", file=self.file, remedy="split the manifest")
            text = self.file.read_text("utf-8")
        except OSError as error:
            raise UsageError(
                (error.strerror or str(error)).lower(), file=self.file, remedy="check the path"
            ) from error
        except UnicodeDecodeError as error:
            raise UsageError("is not UTF-8 text", file=self.file, where=f"byte {error.start}") from error
        if self.file.suffix == ".jsonl":
            return {
                "pairs": [self._line(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
            }
        import yaml  # not at the program's start

        try:
            found = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            where = None if mark is None else f"line {mark.line + 1}"
            said = getattr(error, "problem", None) or error
            raise UsageError(f"is no YAML ({said})", file=self.file, where=where) from error
        return self._mapping(found, "the manifest", MANIFEST_KEYS)

    def _line(self, number: int, line: str) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"is no JSON ({error})", file=self.file, where=f"line {number}") from error

    def _jobs(self, manifest: Mapping[str, Any]) -> Iterator[Job]:
        options = self._option_sets(manifest.get("options"), of_all=True)
        prompts = self._prompts(manifest.get("prompts"))
        pairs = self._sequence(manifest.get("pairs"), "pairs")
        for entry in pairs:
            pair = self._mapping(entry, "a pair", PAIR_KEYS)
            own = [
                of_all.with_more(more)
                for of_all in options
                for more in self._option_sets(pair.get("options"), of_all=False)
            ]
            asked = self._prompts(pair["prompts"]) if "prompts" in pair else prompts
            found = list(self._pairs(self._operand(pair, "left"), self._operand(pair, "right")))
            for left, right in found:
                name = pair.get("name") if len(found) == 1 else None
                yield from self._of_pair(name, left, right, asked, own)
        if (matrix := manifest.get("matrix")) is not None:
            sides = self._mapping(matrix, "matrix", SIDES)
            if set(sides) != SIDES:
                raise UsageError("matrix has left and right", file=self.file, remedy="give both")
            lefts, rights = (self._all_found(sides, side) for side in ("left", "right"))
            for left in lefts:
                for right in rights:
                    if left != right:
                        yield from self._of_pair(None, left, right, prompts, options)

    def _of_pair(
        self, name: Any, left: str, right: str, prompts: Sequence[Prompt], options: Sequence[_Options]
    ) -> Iterator[Job]:
        row = str(name) if name is not None else f"{left} | {right}"
        for one in options:
            yield from (Job(row, left, right, prompt, one.values, one.name) for prompt in prompts)

    def _pairs(self, left: str, right: str) -> Iterator[tuple[str, str]]:
        """Each left path with the right one that its stars stand for."""
        if not STARS.search(right):
            return ((one, right) for one in self._found(left))
        if len(STARS.findall(left)) != len(STARS.findall(right)):
            raise UsageError(
                f"{left} and {right} have not as many stars",
                file=self.file,
                remedy="a star on the right is what it is on the left; matrix: pairs each with each",
            )
        return ((one, self._filled(right, self._stars(left, one))) for one in self._found(left))

    def _stars(self, pattern: str, path: str) -> Sequence[str]:
        """What the stars of a pattern stand for in a path."""
        pieces = (re.escape(piece) for piece in STARS.split(pattern))
        found = re.fullmatch("(.*?)".join(pieces), path)
        return () if found is None else found.groups()

    def _filled(self, pattern: str, stars: Sequence[str]) -> str:
        given = iter(stars)
        return STARS.sub(lambda _: next(given, "*"), pattern)

    def _found(self, operand: str) -> list[str]:
        """The paths that an operand names, sorted; itself where it has no star."""
        if not STARS.search(operand):
            return [operand]
        prefix = found.group() if (found := PREFIX.match(operand)) else ""
        pattern = operand.removeprefix(prefix)
        paths = sorted(glob.glob(pattern, root_dir=self.file.parent, recursive=True))
        if not paths:
            raise UsageError(f"nothing is called {operand}", file=self.file, remedy="check the pattern")
        return [prefix + path for path in paths]

    def _option_sets(self, given: Any, *, of_all: bool) -> list[_Options]:
        """The options of a list, each named by what it says; those of a pair alone likewise."""
        if not isinstance(given, list):
            values = self._options(given)
            return [_Options("" if of_all else _said(values), values)]
        found = []
        for entry in given:
            stated = self._mapping(entry, "options", {*self.known, "name"})
            values = self._options({key: value for key, value in stated.items() if key != "name"})
            found.append(_Options(str(stated.get("name", _said(values))), values))
        return found or [_Options("", {})]

    def _options(self, given: Any) -> dict[str, Any]:
        options = dict(self._mapping(given or {}, "options", self.known))
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                if not isinstance(one, (str, int, float, bool)):
                    raise UsageError(f"{name} is a text, a number or a yes", file=self.file, where="options")
        return options

    def _prompts(self, given: Any) -> list[Prompt]:
        found = [self._prompt(entry) for entry in self._sequence(given, "prompts")] or [Prompt("default")]
        if len({prompt.name for prompt in found}) < len(found):
            raise UsageError("two prompts have one name", file=self.file, where="prompts", remedy="name them")
        return found

    def _prompt(self, given: Any) -> Prompt:
        if isinstance(given, str):
            return Prompt(_short(given), {"prompt": given})
        entry = self._mapping(given, "a prompt", {"name", "text", "file", "tokens"})
        kinds = [kind for kind in ("text", "file", "tokens") if kind in entry]
        if len(kinds) != 1:
            raise UsageError("a prompt has one of text, file and tokens", file=self.file, where="prompts")
        value, kind = entry[kinds[0]], kinds[0]
        if kind == "tokens":
            ids = self._sequence(value, "tokens")
            if not all(type(one) is int for one in ids):
                raise UsageError("tokens are whole numbers", file=self.file, where="prompts")
            text = ",".join(map(str, ids))
            return Prompt(str(entry.get("name", _short(text))), {"tokens": text})
        name = {"text": "prompt", "file": "prompt-file"}[kind]
        return Prompt(str(entry.get("name", _short(str(value)))), {name: str(value)})

    def _mapping(self, given: Any, what: str, keys: Collection[str]) -> Mapping[str, Any]:
        if not isinstance(given, dict):
            raise UsageError(f"{what} is not a mapping of keys to values", file=self.file)
        for key in given:
            if key not in keys:
                raise UsageError(
                    f"{what} has no {str(key)[:40]!r}",
                    file=self.file,
                    remedy=f"there are {', '.join(sorted(keys))}",
                )
        return given

    def _sequence(self, given: Any, what: str) -> list[Any]:
        if given is None:
            return []
        if not isinstance(given, list):
            raise UsageError(f"{what} is not a list", file=self.file)
        return given

    def _operand(self, pair: Mapping[str, Any], side: str) -> str:
        value = pair.get(side)
        if not isinstance(value, str) or not value:
            raise UsageError(
                f"a pair has no {side}", file=self.file, remedy="left and right are two operands"
            )
        return value

    def _all_found(self, matrix: Mapping[str, Any], side: str) -> list[str]:
        """The paths of all patterns of a side."""
        given = matrix[side]
        patterns = given if isinstance(given, list) else [given]
        return [path for one in patterns for path in self._found(self._operand({side: one}, side))]


def read_manifest(file: Path, known: Collection[str]) -> list[Job]:
    """The jobs of a manifest, in its order.

    Args:
        file: YAML, or JSONL where its name ends so.
        known: options that `rosetta compare` has, by long name.

    Raises:
        UsageError: see `_Reader.jobs`.
    """
    return _Reader(file, known).jobs()


def _short(text: str) -> str:
    """A prompt as a heading."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"
