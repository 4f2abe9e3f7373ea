"""A model in another container: written through the containers' own writers, opened again, linted, compared with its
source."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rosetta.compare.listener import Listener
from rosetta.compare.options import Options
from rosetta.containers import StoredContainer, open_container
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.containers.unfinished import folder_beside, publish
from rosetta.convert.apr_file import write_apr_model
from rosetta.convert.folder import write_folder_model
from rosetta.convert.gguf_file import write_gguf_model
from rosetta.convert.plan import Done, Kind, Request, check_dtype
from rosetta.diagnose import Comparison, compare_operands
from rosetta.errors import UsageError
from rosetta.lint.engine import linted, selected_rules
from rosetta.lint.rule import Found
from rosetta.model import Model, build_model
from rosetta.sources import located_here
from rosetta.tokenizer import load_tokenizer

Writer = Callable[[Path, Request], tuple[list[Path], Done]]
WRITERS: dict[str, Writer] = {
    "apr": write_apr_model,
    "gguf": write_gguf_model,
    "huggingface": write_folder_model,
}
FORCE = "name another, or say --force"
TOKENS = 8  # that are run where neither side has a tokenizer


@dataclass(frozen=True)
class Conversion:
    """What was written, and what it is worth.

    Args:
        source: the model that was converted.
        done: what was written.
        comparison: of the written file with its source; None where it was not asked for.
        faults: what the rules of lint find in its headers; none where no comparison was asked for.
    """

    source: Model
    done: Done
    comparison: Comparison | None
    faults: tuple[Found, ...] = ()


def kind_of(target: Path) -> Kind:
    """The container that a name asks for: by its ending, a folder where it has none of these."""
    return {".gguf": "gguf", ".apr": "apr"}.get(target.suffix.lower(), "huggingface")  # type: ignore[return-value]


def convert(
    source: str,
    target: Path,
    options: Options,
    listener: Listener | None = None,
    *,
    dtype: str | None = None,
    split_bytes: int = 0,
    force: bool = False,
    verify: bool = True,
) -> Conversion:
    """Write a model in another container, lint what was written, and compare it with the source.

    Args:
        source: a file or folder.
        target: the file or folder to be written.
        options: how to compare.
        listener: hears how far the work has come.
        dtype: what matrices are to be encoded as; None: they stay as they are.
        split_bytes: most bytes of tensor data in one file; 0 for one file.
        force: whether what is there may be replaced.
        verify: whether to lint and compare at all.

    Raises:
        UsageError: the target is taken or is the source, or it cannot be written; a dtype that nothing encodes.
        RosettaError: the source is missing, damaged or unsupported.
    """
    listener = listener or Listener()
    check_dtype(dtype)
    place = located_here(source, "a conversion")
    _check_target(target, place, force)
    model = build_model(_in_blocks(open_container(place)))
    request = Request(
        model,
        target,
        dtype,
        split_bytes,
        lambda what, done, total: listener.working(f"writing {what}", done, total),
    )
    with folder_beside(target) as folder:
        places, done = WRITERS[kind_of(target)](folder, request)
        for place in places:
            _put(place, target.parent / place.name, force)
    done.files = tuple(target.parent / place.name for place in places)
    if not verify:
        return Conversion(model, done, None)
    faults = tuple(linted(done.files[0], rules=selected_rules()))
    comparison = compare_operands(
        str(done.files[0]), source, _with_tokens(options, model), _Progress(listener)
    )
    return Conversion(model, done, comparison, faults)


def _in_blocks(container: StoredContainer) -> StoredContainer:
    """A quantised folder with its packed weights as the blocks that other containers hold, where they are some."""
    return container.in_blocks() if isinstance(container, QuantisedContainer) else container


class _Progress(Listener):
    """Passes on how far the work is, and not what is loaded."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def working(self, what: str, done: int, total: int) -> None:
        """See `Listener.working`."""
        self.listener.working(what, done, total)


def _check_target(target: Path, source: Path, force: bool) -> None:
    if target.exists() and source.exists() and os.path.samefile(target, source):
        raise UsageError("is the source, which is never touched", file=target, remedy="name another file")
    if source.is_dir() and source.resolve() in target.resolve().parents:
        raise UsageError(
            f"lies inside the source {source}, which is never touched", file=target, remedy=FORCE
        )
    if os.path.lexists(target) and not force:
        raise UsageError("exists already, and nothing is overwritten", file=target, remedy=FORCE)
    if target.is_dir() != (kind_of(target) == "huggingface") and os.path.lexists(target):
        raise UsageError("is of another kind than what is to be written", file=target, remedy="name another")
    if not target.name or not target.parent.is_dir():
        raise UsageError("its folder does not exist", file=target, remedy="make the folder first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UsageError("may not be written", file=target, remedy="choose another place")


def _put(place: Path, target: Path, force: bool) -> None:
    """Give a finished file or folder its name; what had it before is gone only when the new one is there."""
    if not force or not os.path.lexists(target):
        publish(place, target)
    elif target.is_dir():
        old = place.parent / f"{target.name}.old"
        os.rename(target, old)
        try:
            publish(place, target)
        except BaseException:
            os.rename(old, target)
            raise
        shutil.rmtree(old)
    else:
        os.replace(place, target)


def _with_tokens(options: Options, model: Model) -> Options:
    """Ids to run where there is no tokenizer to make them of a prompt."""
    if options.tokens is not None or load_tokenizer(model.container) is not None:
        return options
    return replace(options, tokens=tuple(range(min(TOKENS, model["vocab_size"]))))
