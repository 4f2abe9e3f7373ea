"""The four promises of a conversion, each with code that breaks it: the promise is seen to fail then."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from fixtures import build, model_spec
from rosetta import cli
from rosetta.compare.options import Options
from rosetta.containers.spool import TensorSource
from rosetta.convert import convert
from rosetta.errors import UsageError

Promise = Callable[[Path], None]
Break = Callable[[pytest.MonkeyPatch], None]


def tensors_of(path: Path) -> dict[str, tuple[str, bytes]]:
    """Every tensor of a GGUF file by gguf-py."""
    reader = gguf.GGUFReader(path)
    return {tensor.name: (tensor.tensor_type.name, tensor.data.tobytes()) for tensor in reader.tensors}


def bytes_are_untouched(folder: Path) -> None:
    """Quantised blocks go through another container and back."""
    source = build(folder / "a", model_spec("qwen2"), "gguf:Q4_K")
    convert(str(source), folder / "out.apr", Options(diagnose=False), verify=False)
    convert(str(folder / "out.apr"), folder / "back.gguf", Options(diagnose=False), verify=False)
    same = tensors_of(folder / "back.gguf") == tensors_of(source)
    assert same, "bytes were touched"  # of the bytes themselves pytest would draw a comparison for minutes


def keys_are_the_architectures(folder: Path) -> None:
    """GPT-2's norm is a LayerNorm, and its epsilon goes by that key."""
    source = build(folder / "a", model_spec("gpt2"), "hf:F32")
    convert(str(source), folder / "out.gguf", Options(diagnose=False), verify=False)
    made = gguf.GGUFReader(build(folder / "b", model_spec("gpt2"), "gguf:F32")).fields
    found = gguf.GGUFReader(folder / "out.gguf").fields
    keys = [{key for key in fields if key.startswith("gpt2.")} for fields in (found, made)]
    assert not keys[1] - keys[0], "keys are missing"
    assert not [key for key in found if "rms_epsilon" in key], "keys of another architecture"
    for key in keys[1]:
        assert found[key].contents() == made[key].contents(), f"{key} says something else"


def a_failure_leaves_nothing(folder: Path) -> None:
    """The disk is full after some of the bytes."""
    source = build(folder / "a", model_spec("qwen2"), "hf:F16")

    def full(what: str, done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    class Full:
        working = staticmethod(full)

    with pytest.raises((UsageError, OSError), match=r"(?i)no space left on device"):
        convert(str(source), folder / "out.gguf", Options(), Full())  # type: ignore[arg-type]
    assert [path.name for path in folder.iterdir()] == ["a"], "something is left"


def the_exit_code_is_the_comparisons(folder: Path) -> None:
    """A writer that harms what it writes is told by the exit code."""
    source = build(folder / "a", model_spec("qwen2"), "hf:F32")
    with pytest.MonkeyPatch.context() as patch:
        harmed(patch)
        code = cli.run(["convert", str(source), str(folder / "out.gguf"), "-q"])
    assert code == 1, f"exit code {code}"
    assert cli.run(["convert", str(source), str(folder / "sound.gguf"), "-q"]) == 0, "a sound file is refused"


def harmed(patch: pytest.MonkeyPatch) -> None:
    """All bytes of one tensor are written as zeros."""
    import rosetta.convert.gguf_file as module

    place = module.with_dtypes

    def zeroed(*given: Any) -> list[TensorSource]:
        sources = place(*given)
        names = [source.entry.name for source in sources]
        which = names.index("blk.0.attn_k.weight")
        sources[which] = replace(sources[which], chunks=lambda: [bytes(sources[which].entry.nbytes)])
        return sources

    patch.setattr(module, "with_dtypes", zeroed)


def everything_decoded(patch: pytest.MonkeyPatch) -> None:
    """The plan takes no stored bytes for such as can stay."""
    patch.setattr("rosetta.convert.plan.keeps_bytes", lambda placed: False)


def epsilon_by_the_other_key(patch: pytest.MonkeyPatch) -> None:
    """The settings are stated under the key of the other norm."""
    import rosetta.convert.gguf_file as module

    state = module.gguf_settings

    def renamed(*given: Any) -> Any:
        stated = state(*given)
        keys = {
            key.replace("layer_norm_epsilon", "layer_norm_rms_epsilon"): value
            for key, value in stated.keys.items()
        }
        return replace(stated, keys=keys)

    patch.setattr(module, "gguf_settings", renamed)


def written_in_place(patch: pytest.MonkeyPatch) -> None:
    """Files are written where they will be, not in a folder beside."""

    @contextmanager
    def same(target: Path) -> Iterator[Path]:
        yield target.parent

    module = importlib.import_module("rosetta.convert.convert")  # the package has a function of that name
    patch.setattr(module, "folder_beside", same)


def always_content(patch: pytest.MonkeyPatch) -> None:
    """The command ends well whatever the comparison says."""
    patch.setattr("rosetta.cli.convert.exit_code", lambda report, assert_match: 0)


PROMISES: dict[str, tuple[Promise, Break, str]] = {
    "bytes": (bytes_are_untouched, everything_decoded, "bytes were touched"),
    "keys": (keys_are_the_architectures, epsilon_by_the_other_key, "keys are missing"),
    "atomic": (a_failure_leaves_nothing, written_in_place, "something is left"),
    "exit code": (the_exit_code_is_the_comparisons, always_content, "exit code 0"),
}


@pytest.mark.parametrize("name", PROMISES)
def test_a_promise_is_kept(tmp_path: Path, name: str) -> None:
    PROMISES[name][0](tmp_path)


@pytest.mark.parametrize("name", PROMISES)
def test_code_that_breaks_a_promise_is_caught(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    promise, broken, said = PROMISES[name]
    broken(monkeypatch)
    with pytest.raises(AssertionError, match=said):
        promise(tmp_path)
