"""What training frameworks write in place of a model's folder: told by the names of files and tensors, never opened,
with the program that makes a folder of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rosetta.errors import RosettaError, UnsupportedError, UsageError
from rosetta.sources.places import is_file, is_folder, names_in


@dataclass(frozen=True)
class Save:
    """A way to save a training.

    Args:
        what: it is.
        files: a pattern that one of its files or folders has, and no other save's.
        remedy: what makes a folder of it; `{path}` is the folder, `{save}` the one in it that has the pattern, if any.
    """

    what: str
    files: re.Pattern[str]
    remedy: str


SAVES = (
    Save(
        "a DeepSpeed checkpoint, whose parameters lie in shards of pickles",
        re.compile(
            r"zero_to_fp32\.py|(bf16_|fp16_)?zero_pp_rank_\d+_mp_rank_\d+_(model|optim)_states\.pt|global_step\d+"
        ),
        "python zero_to_fp32.py {path} OUT --safe_serialization (it lies in the checkpoint), put config.json and the "
        "tokenizer into OUT, and give OUT",
    ),
    Save(
        "a sharded checkpoint of torch.distributed (FSDP), whose index is a pickle",
        re.compile(r"\.metadata|.*\.distcp|pytorch_model_fsdp_\d+"),
        "accelerate merge-weights {save} OUT, put config.json and the tokenizer into OUT, and give OUT",
    ),
    Save(
        "a Megatron checkpoint",
        re.compile(r"latest_checkpointed_iteration\.txt|mp_rank_\d+(_\d+)*|model_optim_rng\.pt"),
        "export it to a Hugging Face folder with Megatron-Bridge or NeMo, and give that",
    ),
    Save(
        "Meta's own form of a model, whose weights are pickles",
        re.compile(r"consolidated\.\d+\.pth"),
        "python -m transformers.models.llama.convert_llama_weights_to_hf --input_dir {path} --output_dir OUT, and "
        "give OUT",
    ),
)
MEGATRON = re.compile(
    r"(^|\.)decoder\.layers\.\d+\.(self_attention\.linear_(qkv|proj)|mlp\.linear_fc[12])\."
    r"|(^|\.)language_model\.(encoder|transformer)\.layers\.\d+\.(self_attention|attention)\.query_key_value\."
)
CHECKPOINT = re.compile(r"checkpoint-(\d+)")  # transformers, PREFIX_CHECKPOINT_DIR


def save_in(path: Path) -> RosettaError | None:
    """The error for a folder that a training was saved in, or that has its models one below; None of any other."""
    names = names_in(path)
    for save in SAVES:
        found = next((name for name in names if save.files.fullmatch(name)), None)
        if found is not None:
            message = f"is {save.what} ({found}), which rosetta does not read"
            inner = path / found if is_folder(path / found) else path
            return UnsupportedError(message, file=path, remedy=save.remedy.format(path=path, save=inner))
    models = [name for name in names if is_folder(path / name) and is_file(path / name / "config.json")]
    steps = {int(step[1]): name for name in models if (step := CHECKPOINT.fullmatch(name))}
    if steps:
        message = (
            f"is a training's folder, whose models lie one below ({', '.join(sorted(steps.values())[:4])})"
        )
        return UsageError(
            message, file=path, remedy=f"give one of them: {path / steps[max(steps)]} is the last"
        )
    if len(models) == 1:
        return UsageError("holds its model one folder below", file=path, remedy=f"give {path / models[0]}")
    return None


def names_of_training(path: Path, names: Iterable[str]) -> UnsupportedError | None:
    """Why tensors of a training framework's own names are no model that could be run; None where they have others."""
    named = next((name for name in names if MEGATRON.search(name)), None)
    if named is None:
        return None
    return UnsupportedError(
        "has Megatron's name, which no class of transformers has: queries, keys and values lie fused by groups",
        file=path,
        where=f"tensor {named!r}",
        remedy="export it to a Hugging Face folder with Megatron-Bridge or NeMo, and give that",
    )
