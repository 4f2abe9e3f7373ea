"""SARIF 2.1.0 (OASIS) as code hosts show it: the log of one run, its rules and its results, whoever found them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import quote

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
IDENTITY = 32  # hexadecimal digits: 128 bits tell faults apart


def log(
    version: str, rules: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], **facts: Any
) -> str:
    """One run of rosetta as text.

    Args:
        version: of rosetta.
        rules: see `rule`; each result is of one of them.
        results: see `result`.
        facts: what else there is to say of the run.
    """
    places = {stated["id"]: place for place, stated in enumerate(rules)}
    run = {
        "tool": {
            "driver": {"name": "rosetta", "version": version, "semanticVersion": version, "rules": rules}
        },
        **facts,
        "columnKind": "unicodeCodePoints",
        "results": [{**found, "ruleIndex": places[found["ruleId"]]} for found in results],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def rule(
    id: str, name: str, short: str, full: str, sections: Mapping[str, str], level: str, tags: Sequence[str]
) -> dict[str, Any]:
    """What results are instances of.

    Args:
        id: what results name.
        name: a word for people.
        short, full: what is wrong, in a sentence and in full.
        sections: of its help, by heading; empty ones are left out.
        level: `error`, `warning` or `note`.
        tags: what it is about.
    """
    said = {heading: text for heading, text in sections.items() if text}
    return {
        "id": id,
        "name": name,
        "shortDescription": {"text": short},
        "fullDescription": {"text": full},
        "help": {
            "text": " ".join(said.values()),
            "markdown": "\n\n".join(f"**{heading}** {text}" for heading, text in said.items()),
        },
        "defaultConfiguration": {"level": level},
        "properties": {"tags": list(tags)},
    }


def result(
    rule: str,
    level: str,
    message: str,
    identity: str,
    *,
    file: str,
    member: str = "",
    byte: int | None = None,
) -> dict[str, Any]:
    """One thing that was found.

    Args:
        rule: id of its rule.
        level: how grave it is.
        message: what is wrong, in plain text.
        identity: see `identity`.
        file: where it is; empty where no file is known.
        member: the tensor or key in it; empty where it is of none.
        byte: of the file, where it begins.
    """
    location: dict[str, Any] = {}
    if file:  # an artifact of no name would be the folder itself
        region = {"startLine": 1}  # GitHub shows nothing without a line
        if byte is not None:
            region |= {"byteOffset": byte, "byteLength": 1}
        location["physicalLocation"] = {"artifactLocation": {"uri": uri(file)}, "region": region}
    if member:
        location["logicalLocations"] = [{"fullyQualifiedName": member, "kind": "member"}]
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": message},
        "locations": [location] if location else [],
        # GitHub follows an alert by the second; without it, it would hash lines of a binary file.
        "partialFingerprints": {
            "rosettaFinding/v1": identity,
            "primaryLocationLineHash": f"{identity[:16]}:1",
        },
    }


def identity(*told: str) -> str:
    """The same for the same fault in every run.

    Args:
        told: what it is and where, never the figures.
    """
    return hashlib.sha256("\0".join(told).encode("utf-8", "replace")).hexdigest()[:IDENTITY]


def uri(path: str) -> str:
    """A path as a URI reference: relative ones stay so, and are of the folder that the program ran in.

    >>> uri("models/my model.gguf")
    'models/my%20model.gguf'
    >>> uri("/data/model.gguf")
    'file:///data/model.gguf'
    """
    path = path.encode("utf-8", "replace").decode("utf-8")
    if path.startswith("/"):
        return "file://" + quote(str(PurePosixPath(path)))
    if PureWindowsPath(path).drive:
        return "file:///" + quote(path.replace("\\", "/"), safe="/:")
    return quote(path.removeprefix("./"), safe="/")
