"""The registry of finding kinds: it holds what code can find, all of it and nothing else."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import rosetta
from rosetta.diagnose import hypotheses
from rosetta.diagnose.kinds import all_kinds, declared_kinds, headline
from rosetta.settings_table import KEYS

PACKAGE = Path(rosetta.__file__).parent
TABLE = PACKAGE.parent / "docs" / "reading.md"
NAME = re.compile(r"(config|dtype|layout|value|tokenizer|adapter|runtime)\.[a-z_]+|unexplained")
KINDS_OF_SETTINGS = {row.kind.id for row in KEYS if row.kind is not None}


def names_in(tree: ast.AST) -> Iterator[str]:
    """Texts of code that read like a kind, other than in the declaration of one."""
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "FindingKind":
        return
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str) and NAME.fullmatch(tree.value):
        yield tree.value
    for child in ast.iter_child_nodes(tree):
        yield from names_in(child)


def given_as_kind(tree: ast.AST) -> Iterator[str]:
    """Texts given as an argument `kind`: other texts of tokenizers are the names of a file's keys."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            yield from (name for word in call.keywords if word.arg == "kind" for name in names_in(word.value))


def found_by_code() -> set[str]:
    """Every kind that code names to say that it was found."""
    found: set[str] = set()
    for file in (
        *PACKAGE.glob("diagnose/**/*.py"),
        *PACKAGE.glob("tokenizer/*.py"),
        *PACKAGE.glob("parity/*.py"),
    ):
        tree = ast.parse(file.read_text("utf-8"))
        about_tokenizers = file.parent.name in ("tokenizer", "parity") or file.name == "tokenizers.py"
        found |= set(given_as_kind(tree) if about_tokenizers else names_in(tree))
        if file.relative_to(PACKAGE) == Path("tokenizer/comparison.py"):
            found |= set(names_in(tree))
    return found


def test_what_code_finds_is_registered_and_nothing_else_is() -> None:
    found = found_by_code()
    assert "value.bogus" not in found
    assert {"value.swapped", "tokenizer.bos", "unexplained"} <= found
    assert found <= set(all_kinds()), "a kind that nobody explains"
    assert set(all_kinds()) == found | KINDS_OF_SETTINGS, "a kind that nothing can find"


def modules() -> Iterator[ModuleType]:
    """All hypotheses, imported: a key may be named elsewhere."""
    for found in pkgutil.iter_modules(hypotheses.__path__):
        yield importlib.import_module(f"{hypotheses.__name__}.{found.name}")


@pytest.mark.parametrize("row", [row for row in KEYS if row.own_hypothesis], ids=lambda row: row.key)
def test_setting_of_its_own_hypothesis_has_one(row: object) -> None:
    texts = [file.read_text("utf-8") for file in PACKAGE.glob("diagnose/hypotheses/*.py")]
    texts += [
        f'"{value}"' for module in modules() for value in vars(module).values() if isinstance(value, str)
    ]
    # Those that a folder's reader multiplies into weights have one together, that the weights tell of them.
    named = "of_settings" if row.in_weights else f'"{row.key}"'  # type: ignore[attr-defined]
    assert any(named in text for text in texts)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(hypotheses.__path__)])
def test_kinds_are_read_from_a_module_as_it_declares_them(name: str) -> None:
    module = importlib.import_module(f"{hypotheses.__name__}.{name}")
    source = Path(str(module.__file__)).read_text("utf-8")
    assert tuple(declared_kinds(source)) == getattr(module, "KINDS", ())


def test_registry_does_without_torch() -> None:
    code = "import sys, rosetta.diagnose.kinds as k; k.all_kinds(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=False).returncode == 0


@pytest.mark.parametrize("kind", all_kinds().values(), ids=lambda kind: kind.id)
def test_every_kind_is_explained_in_sentences(kind: object) -> None:
    for text in (kind.means, kind.why, kind.repair):  # type: ignore[attr-defined]
        assert re.fullmatch(r"\S.*\S\.", text), text
        assert "  " not in text


def test_no_two_entries_share_a_name() -> None:
    declared = [
        kind for file in PACKAGE.glob("diagnose/**/*.py") for kind in declared_kinds(file.read_text("utf-8"))
    ]
    names = [kind.id for kind in declared]
    assert len(names) == len(set(names))
    assert not set(names) & KINDS_OF_SETTINGS


def test_the_table_of_kinds_names_every_kind_and_no_other() -> None:
    table = TABLE.read_text("utf-8").partition("| kind | what is wrong")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([a-z_]+(?:\.(?:[a-z_]+|\*))?)`", table))
    families = {name.removesuffix(".*") for name in named if name.endswith(".*")}
    assert {kind.id for kind in all_kinds().values() if kind.family not in families} <= named
    unknown = {name for name in named if NAME.fullmatch(name)} - set(all_kinds())
    assert not unknown
    assert families <= {kind.family for kind in all_kinds().values()}


def test_kind_that_a_later_version_reports_goes_by_its_name() -> None:
    assert headline("value.missing") == "missing weight"
    assert headline("value.unheard_of") == "value.unheard_of"
