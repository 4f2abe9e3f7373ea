"""A LoRA as llama.cpp applies it: a GGUF file beside its base, `lora:BASE+ADAPTER.gguf`.

`convert_lora_to_gguf.py` writes it: general.type `adapter`, adapter.type `lora`, and for each tensor of the base that
is adapted two tensors under its name, `.lora_a` and `.lora_b`. Of a matrix [R, C] they are [r, C] and [R, r], of
stacked experts the same for each; of token_embd, which is looked up and not multiplied with, they are [R, r] and
[C, r]. llama.cpp adds alpha / r times their product, or once that where alpha is 0 (llama-adapter.h, get_scale).

Letters: R = rows, C = columns of a matrix of the base, r = rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rosetta.containers.adapters.adapter import Factor, Module, scales_of
from rosetta.containers.gguf.reader import GgufContainer
from rosetta.containers.gguf.reader import open as open_gguf
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError

PREFIX = "lora:"
FORM = f"give {PREFIX}BASE+ADAPTER.gguf, the model and the file that convert_lora_to_gguf.py wrote"
TYPE, ADAPTER_TYPE, ALPHA = "general.type", "adapter.type", "adapter.lora.alpha"
TOKENS = "adapter.alora.invocation_tokens"
AGAIN = "convert the adapter again"
MERGE = "merge it into the base with llama.cpp's llama-export-lora, and give that file"

_A, _B = ".lora_a", ".lora_b"
_NORM = "_norm.weight"  # llama.cpp leaves these out, and so does what is merged here


class GgufAdapter:
    """An open GGUF file with a LoRA.

    Args:
        path: the file.

    Raises:
        UsageError: it holds no adapter.
        UnsupportedError: an adapter that is not merged here, by the name of what it has.
        DamagedFileError: the file contradicts its format.
    """

    kind = "gguf"
    whole: Mapping[str, str] = {}
    rows: Mapping[str, tuple[str, tuple[int, ...]]] = {}
    remedy = MERGE
    ties = False

    def __init__(self, path: Path) -> None:
        self.path = self.weights = path
        if not path.is_file():
            raise UsageError("is a folder" if path.is_dir() else "no such file", file=path, remedy=FORM)
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise UsageError("is no GGUF file", file=path, remedy=FORM)
        self.stored: GgufContainer = open_gguf(path)
        try:
            self._refuse()
            self.alpha = self._alpha()
            self.modules = tuple(self._modules())
        except BaseException:
            self.stored.close()
            raise

    @property
    def architecture(self) -> str | None:
        """As llama.cpp holds it to its base's."""
        return self.stored.architecture

    @property
    def base(self) -> str | None:
        """The first base model that the file names."""
        named = self.stored.metadata.get("general.base_model.0.name")
        return named if isinstance(named, str) else None

    @property
    def words(self) -> str:
        """What the adapter is: `LoRA of 14 modules, scale 2`."""
        left_out = sum(name.endswith(_NORM) for name in self.stored.tensors)
        norms = f"; {left_out} tensors of norms are left out, as llama.cpp leaves them" if left_out else ""
        return f"LoRA of {len(self.modules)} modules{scales_of(self.modules)}{norms}"

    def _refuse(self) -> None:
        metadata = self.stored.metadata
        if metadata.get(TYPE) != "adapter":
            message = f"holds no adapter: its {TYPE} is {metadata.get(TYPE)!r:.40}, not 'adapter'"
            raise UsageError(message, file=self.path, remedy=FORM)
        if metadata.get(ADAPTER_TYPE) != "lora":
            message = f"{ADAPTER_TYPE} {metadata.get(ADAPTER_TYPE)!r:.40} is not merged here, 'lora' is"
            raise UnsupportedError(message, file=self.path, remedy=MERGE)
        if metadata.get(TOKENS):
            raise UnsupportedError(
                "is an aLoRA, which acts only behind the tokens that invoke it: no weights are those of base and "
                "adapter",
                file=self.path,
                where=f"key {TOKENS!r}",
                remedy="compare base and adapter by runs of llama.cpp, one with it and one without",
            )

    def _alpha(self) -> float:
        alpha = self.stored.metadata.get(ALPHA, 0.0)  # llama.cpp, llama_adapter_lora_init_impl
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            message = f"is {alpha!r:.40}, not a number"
            raise DamagedFileError(message, file=self.path, where=f"key {ALPHA!r}", remedy=AGAIN)
        return float(alpha)

    def _modules(self) -> Iterator[Module]:
        names: dict[str, set[str]] = {}
        for name in self.stored.tensors:
            if name.endswith((_A, _B)):
                names.setdefault(name[: -len(_A)], set()).add(name[-len(_A) :])
            elif not name.endswith(_NORM):
                where = f"tensor {name!r}"
                message = f"is none of {_A} and {_B}, the parts of a LoRA"
                raise UnsupportedError(message, file=self.path, where=where, remedy=MERGE)
        if not names:
            raise DamagedFileError(f"has no {_A} and {_B}", file=self.path, remedy=AGAIN)
        for name, parts in names.items():
            for part in (_A, _B):
                if part not in parts:
                    where = f"tensor {name!r}"
                    raise DamagedFileError(f"has no {part}", file=self.path, where=where, remedy=AGAIN)
            yield self._module(name)

    def _module(self, name: str) -> Module:
        a, b = (Factor(name + part, self.stored.tensors[name + part].dims) for part in (_A, _B))
        looked_up = name.endswith("token_embd.weight")
        if looked_up:  # its product is [R, r] times the transpose of [C, r]
            left, right = a, replace(b, dims=b.dims[::-1], turned=True)
        else:
            left, right = b, a
        stacked = left.dims[:-2] == right.dims[:-2] and 2 <= len(left.dims) <= 3
        if not stacked or len(left.dims) != len(right.dims) or left.dims[-1] != right.dims[-2]:
            raise DamagedFileError(
                f"{_A} of dims {list(a.dims)} and {_B} of dims {list(b.dims)} make no product",
                file=self.path,
                where=f"tensor {name!r}",
                remedy=AGAIN,
            )
        rank = left.dims[-1]
        if not rank:
            raise DamagedFileError("has rank 0", file=self.path, where=f"tensor {name!r}", remedy=AGAIN)
        scale = self.alpha / rank if self.alpha else 1.0
        return Module(name, (name,), left, right, rank, self.alpha or rank, scale)


def open(path: Path) -> GgufAdapter:
    """Open an adapter; see `GgufAdapter`."""
    return GgufAdapter(path)
