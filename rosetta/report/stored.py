"""Reads a report that `--json` wrote, of any 1.x version."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rosetta.errors import DamagedFileError, UnsupportedError, UsageError, unreadable
from rosetta.report.report import Report

VERSION = re.compile(r"1\.\d+")


def read_report(path: str | Path) -> Report:
    """The report that a file holds. What a later minor version has added is left out.

    Raises:
        RosettaError: there is no such file, or it holds no report.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFileError("is not UTF-8 text", file=path, where=f"byte {error.start}") from error
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else None
        raise UsageError(
            "is no JSON", file=path, where=where, remedy="give a file that --json wrote"
        ) from error
    return _report(fields, path)


def _report(fields: Any, path: str | Path) -> Report:
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if not isinstance(version, str):
        raise UsageError("is no report of a comparison", file=path, remedy="give a file that --json wrote")
    if not VERSION.fullmatch(version):
        raise UnsupportedError(
            f"is a report of version {version!r:.20}", file=path, remedy="this program reads 1.x"
        )
    fields["schema_version"] = "1.0"
    try:
        return Report.model_validate(fields)
    except ValidationError as error:
        unknown = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
    for location in unknown:
        _drop(fields, location)
    try:
        return Report.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedFileError(
            f"is no valid report: {first['msg'].lower()}",
            file=path,
            where=".".join(map(str, first["loc"])),
            remedy="rosetta schema says what a report holds",
        ) from error


def _drop(fields: Any, location: tuple[int | str, ...]) -> None:
    """Take one field out of nested objects and arrays."""
    for key in location[:-1]:
        fields = fields[key]
    del fields[location[-1]]
