"""What a lint of several files found, and it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rosetta import __version__
from rosetta.lint.engine import Progress, linted, models_below, selected_rules
from rosetta.lint.health import Health, tokenizer_health
from rosetta.lint.rule import Found, Severity
from rosetta.strict_json import DESCRIBED, json_text

SCHEMA_VERSION = "1.0"
"""Fields are only ever added within major version 1."""
TOOL = {"name": "rosetta", "version": __version__}


@dataclass(frozen=True)
class LintFault:
    """A rule that a model breaks."""

    __pydantic_config__ = DESCRIBED
    rule: str
    """The rule's id: `C202`."""
    name: str
    """The rule's name."""
    severity: Severity
    """`error`: the file is wrong; `warning`: it may be."""
    path: str
    """The model as it was given."""
    file: str
    """The file of it that the fault is in."""
    tensor: str | None
    """The tensor as the file spells it; null where the fault is of none."""
    key: str | None
    """The key as the file spells it; null where the fault is of none."""
    byte: int | None
    """Where in the file, counted from 0; null where that means nothing."""
    message: str
    """What is wrong, in a sentence."""
    fix: str
    """What to do about it."""


@dataclass(frozen=True, kw_only=True)
class HealthOf(Health):
    """What a model's tokenizer made of the text that `--text` gives."""

    path: str


@dataclass(frozen=True)
class LintDocument:
    """What `rosetta lint --json` writes."""

    __pydantic_config__ = DESCRIBED
    schema_version: str
    """Fields are only ever added within a major version."""
    tool: dict[str, str]
    """Name and version of the program."""
    paths: list[str]
    """The models that were looked at."""
    values: bool
    """Whether values were read."""
    faults: list[LintFault]
    """File by file, in the order of the rules."""
    tokenizers: list[HealthOf]
    """One a model, where a text was given."""


@dataclass(frozen=True)
class LintReport:
    """What was found.

    Args:
        paths: the models that were looked at.
        found: every fault with its rule, file by file in the order of the rules; `line()` is what `rosetta lint`
            says of one.
        health: of the tokenizers, where a text was given.
        values: whether values were read.
    """

    paths: tuple[Path, ...]
    found: tuple[Found, ...]
    health: tuple[tuple[Path, Health], ...]
    values: bool

    def to_json(self) -> str:
        """This as strict JSON, with a final line break."""
        return json_text(asdict(self.document()))

    def document(self) -> LintDocument:
        """This as `--json` writes it."""
        faults = [
            LintFault(
                rule=found.rule.id,
                name=found.rule.name,
                severity=found.rule.severity,
                path=str(found.path),
                file=str(found.file),
                tensor=found.fault.tensor,
                key=found.fault.key,
                byte=found.fault.byte,
                message=found.fault.message,
                fix=found.rule.fix,
            )
            for found in self.found
        ]
        health = [HealthOf(**asdict(health), path=str(path)) for path, health in self.health]
        return LintDocument(
            SCHEMA_VERSION, TOOL, [str(path) for path in self.paths], self.values, faults, health
        )


def lint_report(
    paths: Sequence[str | Path],
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    values: bool = False,
    text: str | Path | None = None,
    progress: Progress | None = None,
) -> LintReport:
    """Lint files and folders.

    Args:
        paths: files, folders of a model, folders of many.
        select, ignore: see `selected_rules`.
        values: whether to read all values, too.
        text: a file to be encoded by each tokenizer; None for none.
        progress: hears how far the reading of values is.

    Raises:
        UsageError: a path or a rule that is none.
    """
    rules = selected_rules(select, ignore)
    models = tuple(dict.fromkeys(model for path in paths for model in models_below(path)))
    found = [one for model in models for one in linted(model, rules=rules, values=values, progress=progress)]
    health = []
    if text is not None:
        for model in models:
            measured = tokenizer_health(model, Path(text))
            if measured is None:
                continue
            health.append((model, measured))
            for loaded in rules:
                if loaded.health_faults is not None:
                    found += [Found(loaded.rule, fault, model) for fault in loaded.health_faults(measured)]
    return LintReport(models, tuple(found), tuple(health), values)
