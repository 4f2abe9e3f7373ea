"""Runs the rules over files: what is to be looked at, which rules, and what they found."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from rosetta.containers import StoredContainer, open_container
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError, UsageError
from rosetta.lint.rule import Fault, Found, LoadedRule, Rule
from rosetta.lint.rules import all_rules
from rosetta.lint.subject import Subject
from rosetta.sources import RemotePath, located

Progress = Callable[[str, int, int], None]
MODEL_SUFFIXES = (".gguf", ".apr")
_SHARD = re.compile(r"(.*-)\d{5}(-of-\d{5}\.gguf)")  # all shards are opened by the first that is there

_WEIGHTS = re.compile(r"(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?")

_TENSOR_FIRST = re.compile(r"tensor '(.+?)' (ends at .*)", re.DOTALL)
_END_OF_FILE = re.compile(r"after the end of the file \(([\d,]+)\)")


def linted(
    path: str | Path, *, rules: Sequence[LoadedRule], values: bool = False, progress: Progress | None = None
) -> Iterator[Found]:
    """What is wrong with one file or folder.

    Args:
        path: a file, or the folder of a Hugging Face model.
        rules: those to look for; a file that no reader opens breaks the rule that its refusal tells of.
        values: whether to read all values, too.
        progress: hears how far the reading of values is.

    Raises:
        UsageError: there is nothing at the path, or it is none of a model.
    """
    path = located(path)
    try:
        container = open_container(path)
    except RosettaError as error:
        found = refused(path, error)
        if found is None:
            raise
        if any(found.rule is loaded.rule for loaded in rules):
            yield found
        return
    try:
        yield from found_in(container, rules=rules, values=values, progress=progress)
    finally:
        container.close()


def found_in(
    container: StoredContainer,
    *,
    rules: Sequence[LoadedRule],
    values: bool = False,
    progress: Progress | None = None,
) -> Iterator[Found]:
    """What is wrong with an open file or folder; the arguments are `linted`'s."""
    subject, path, silent = Subject(container), container.path, True
    contradicted = any(loaded.rule.consequence for loaded in rules) and _contradicted(subject)
    broken: list[DamagedFileError] = []
    said: set[str] = set()
    for loaded in rules:
        if loaded.rule.consequence and contradicted:
            continue
        if loaded.faults is not None and (values or not loaded.rule.reads_values):
            try:
                for fault in loaded.faults(subject):
                    silent = silent and loaded.rule.id[0] not in "FC"
                    said.add(fault.message)
                    yield Found(loaded.rule, subject.placed(fault), path)
            except DamagedFileError as error:  # a small file beside the model that is none of its kind
                broken.append(error)
    for refusal in {each.message: each for each in broken if each.message not in said}.values():
        told = refused(path, refusal)
        if told is not None and any(told.rule is loaded.rule for loaded in rules):
            yield told
    if silent and isinstance(subject.model_refusal, DamagedFileError):  # which no rule on headers tells of
        told = refused(path, subject.model_refusal)
        if told is not None and any(told.rule is loaded.rule for loaded in rules):
            yield told
    looking = [loaded for loaded in rules if loaded.value_faults is not None]
    if not values or not looking:
        return
    from rosetta.lint.value_facts import seen_tensors

    for seen in seen_tensors(subject, progress):
        for loaded in looking:
            assert loaded.value_faults is not None
            yield from (Found(loaded.rule, fault, path) for fault in loaded.value_faults(seen))


def _contradicted(subject: Subject) -> bool:
    """Whether a rule says that config and tensors contradict each other, asked for or not."""
    looking = (loaded.faults for loaded in all_rules() if loaded.rule.contradiction)
    return any(True for faults in looking if faults is not None for _ in faults(subject))


def refused(path: Path, error: RosettaError) -> Found | None:
    """The fault of a file that its reader refuses; None where the command line is at fault."""
    said = f"{error.where or ''} {error.message}"
    told = next((one.rule for one in all_rules() if any(re.search(p, said) for p in one.rule.refusals)), None)
    if told is None and not isinstance(error, DamagedFileError | UnsupportedError):
        return None
    rule = told or _fallback(error)
    tensor, key, byte = (_within(error.where, what) for what in ("tensor", "key", "byte"))
    file = None if error.file is None or Path(error.file) == path else Path(error.file)
    where = error.where if error.where is not None and tensor is key is byte is None else None
    message = f"{where}: {error.message}" if where else error.message
    named = _TENSOR_FIRST.fullmatch(message)
    if named is not None:
        tensor, message = named.groups()
    end = byte or next(iter(_END_OF_FILE.findall(message)), None)
    at = None if end is None else int(end.replace(",", ""))
    return Found(rule, Fault(message, tensor, key, at, file), path)


def _fallback(error: RosettaError) -> Rule:
    wanted = "F103" if isinstance(error, UnsupportedError) else "F102"
    return next(loaded.rule for loaded in all_rules() if loaded.rule.id == wanted)


def _within(where: str | None, what: str) -> str | None:
    """What a place names: `a.weight` of `tensor 'a.weight'`, `12` of `byte 12`."""
    found = re.fullmatch(rf"{what} '?(.+?)'?", where or "")
    return None if found is None else found[1]


def selected_rules(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> list[LoadedRule]:
    """The rules that are asked for.

    Args:
        select, ignore: ids, their beginnings (`F`, `C2`), names, or patterns of them (`*dtype*`); without any, all.

    Raises:
        UsageError: one of them names no rule.
    """
    rules = all_rules()
    wanted = [
        loaded for loaded in rules if not select or any(_is_named(loaded.rule, name) for name in select)
    ]
    left = [loaded for loaded in wanted if not any(_is_named(loaded.rule, name) for name in ignore)]
    for name in (*select, *ignore):
        if not any(_is_named(loaded.rule, name) for loaded in rules):
            known = [known for loaded in rules for known in (loaded.rule.id, loaded.rule.name)]
            [nearest] = get_close_matches(name, known, n=1, cutoff=0)
            raise UsageError(
                f"no rule is called {name!r}",
                remedy=f"did you mean {nearest}? rosetta lint --rules lists all",
            )
    return left


def _is_named(rule: Rule, name: str) -> bool:
    if any(sign in name for sign in "*?["):
        return fnmatch.fnmatchcase(rule.id, name) or fnmatch.fnmatchcase(rule.name, name)
    return rule.name == name or (
        rule.id.startswith(name) and (name == rule.id or name[1:].isdigit() or len(name) == 1)
    )


def _opened_by_another(name: str, files: list[str]) -> bool:
    """Whether a file is a shard of a GGUF of which one of these files comes before it."""
    shard = _SHARD.fullmatch(name)
    return shard is not None and any(
        other < name and (found := _SHARD.fullmatch(other)) is not None and found.groups() == shard.groups()
        for other in files
    )


def models_below(path: str | Path) -> list[Path]:
    """The models that a path names: itself, or all below a folder that is none."""
    path = located(path)
    if isinstance(path, RemotePath) or not path.is_dir() or _is_model([each.name for each in path.iterdir()]):
        return [path]
    found: list[Path] = []
    whole: set[Path] = set()
    for at, folders, files in os.walk(path):
        folders.sort()
        folder = Path(at)
        # What a model's folder has below it is a part of it (an encoder's pooling), unless it has weights of its own.
        if _is_model(files) and (_has_weights(files) or whole.isdisjoint(folder.parents)):
            whole.add(folder)
            found.append(folder)
        found += [
            folder / name
            for name in sorted(files)
            if name.endswith(MODEL_SUFFIXES) and not _opened_by_another(name, files)
        ]
    return found or [path]  # said of it where it is opened


def _is_model(files: Sequence[str]) -> bool:
    """Whether a folder of these files is a Hugging Face one, whole or not; config.json lies beside GGUF files, too."""
    if "config.json" in files:
        return _has_weights(files) or not any(name.endswith(MODEL_SUFFIXES) for name in files)
    return _has_weights(files) and "adapter_config.json" not in files


def _has_weights(files: Sequence[str]) -> bool:
    """Whether weights are among these files, under the names that transformers gives them."""
    return any(_WEIGHTS.fullmatch(name) for name in files)
