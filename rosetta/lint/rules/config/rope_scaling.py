"""C216: rope scaling is stated twice, or by halves."""

from collections.abc import Iterator, Mapping
from typing import Any

from rosetta.containers.huggingface.text_part import text_config
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C216",
    "rope-scaling",
    "error",
    what="Rope scaling is stated twice, or one half of it is missing.",
    why="transformers 5 moved rope_scaling into rope_parameters, and a tool wrote both; a converter wrote the type and "
    "not the factor, or short factors and not long ones. Every reader then makes something else of it.",
    fix="State it once and whole: the type with all that belongs to it.",
    refusals=("^ ?rope scaling: ",),
)
# transformers, modeling_rope_utils: what each rule needs beside its name.
_NEEDED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
_FACTOR = "rope.scaling.factor"
_OF_GGUF = ("none", "linear", "yarn", "longrope")  # llama-model.cpp, LLAMA_ROPE_SCALING_TYPES: others stop it
# transformers, modeling_rope_utils, ROPE_INIT_FUNCTIONS, and names of older files that it takes for one of them.
_OF_FOLDERS = {*_NEEDED, "default", "proportional", "mrope", "su"}


def faults(subject: Subject) -> Iterator[Fault]:
    """What is there twice, and what is missing."""
    names = {tensor.name for tensor in subject.tensors}
    halves = [name for name in ("rope_factors_long.weight", "rope_factors_short.weight") if name in names]
    if len(halves) == 1:
        found = next(tensor for tensor in subject.tensors if tensor.name == halves[0])
        yield subject.at_tensor(found, "is there, and its other half (long or short) is not")
    if subject.gguf is not None:
        yield from _gguf(subject, names)
    else:
        yield from _tables(subject)


def _gguf(subject: Subject, names: set[str]) -> Iterator[Fault]:
    kind, factor = subject.setting("rope.scaling.type"), subject.number(_FACTOR)
    if kind in ("linear", "yarn") and factor is None and subject.number("rope.scale_linear") is None:
        yield subject.at_key(
            "rope.scaling.type", f"is {kind}, and there is no {subject.architecture}.{_FACTOR}"
        )
    if kind == "yarn" and subject.count("rope.scaling.original_context_length") is None:
        yield subject.at_key(
            "rope.scaling.type",
            f"is yarn, and there is no {subject.architecture}.rope.scaling.original_context_length",
        )
    if kind is None and factor not in (None, 0.0, 1.0):
        yield subject.at_key(
            _FACTOR, f"is {factor:g}, and there is no {subject.architecture}.rope.scaling.type"
        )
    if kind is not None and kind not in _OF_GGUF:
        yield subject.at_key("rope.scaling.type", f"is {kind!r:.40}, which llama.cpp does not know")
    older = subject.number("rope.scale_linear")  # llama.cpp reads it where the factor is not there
    if None not in (factor, older) and factor != older:
        yield subject.at_key("rope.scale_linear", f"is {older:g}, and {_FACTOR} is {factor:g}")
    if kind == "none" and factor not in (None, 0.0, 1.0):
        yield subject.at_key(_FACTOR, f"is {factor:g}, and the scaling's type is none")
    if factor is not None and factor < 1 and factor != 0:  # 0 is none: llama-model.cpp, load_hparams
        yield subject.at_key(_FACTOR, f"is {factor:g}: positions would be stretched, not squeezed")


def _tables(subject: Subject) -> Iterator[Fault]:
    config = subject.container.metadata
    for table in (config, text_config(config)):
        stated = [key for key in ("rope_scaling", "rope_parameters") if isinstance(table.get(key), Mapping)]
        tables = [dict(table[key]) for key in stated]
        if len(tables) == 2 and _rule(tables[0]) != _rule(tables[1]):
            kinds = " and ".join(f"{key} says {_rule(one)}" for key, one in zip(stated, tables, strict=True))
            yield subject.at_file_key("rope_scaling", f"is stated twice, and differs: {kinds}")
        elif len(tables) == 2:
            other = [
                part for part in tables[0].keys() & tables[1].keys() if tables[0][part] != tables[1][part]
            ]
            for part in sorted({*other} - {"type", "rope_type"}):
                values = " and ".join(
                    f"{key} says {one[part]!r:.40}" for key, one in zip(stated, tables, strict=True)
                )
                yield subject.at_file_key("rope_scaling", f"states {part} twice, and differs: {values}")
        for key, one in zip(stated, tables, strict=True):
            missing = [part for part in _NEEDED.get(_rule(one), ()) if one.get(part) is None]
            outer = {"original_max_position_embeddings": table.get("original_max_position_embeddings")}
            missing = [part for part in missing if outer.get(part) is None]
            if missing:
                yield subject.at_file_key(
                    key, f"is of type {_rule(one)}, and has no {' and no '.join(missing)}"
                )
            factor = one.get("factor")
            if _rule(one) == "default" and isinstance(factor, int | float) and factor not in (0, 1):
                yield subject.at_file_key(
                    key, f"states a factor of {factor:g}, and its type is default, no scaling"
                )
            if _rule(one) not in _OF_FOLDERS and not _is_of_kinds(one):
                yield subject.at_file_key(
                    key, f"is of type {_rule(one)!r:.40}, which transformers does not know"
                )


def _is_of_kinds(table: Mapping[str, Any]) -> bool:
    """Whether a table has one of its own for each kind of layer."""
    return bool(table) and all(isinstance(value, Mapping) or value is None for value in table.values())


def _rule(table: Mapping[str, Any]) -> str:
    return str(table.get("rope_type", table.get("type", "default")))
