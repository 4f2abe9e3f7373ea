"""Writes a model of any container as `.apr`: tensors under the source's names, as they lie there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rosetta.compare.other_forms import OTHER_FORMS
from rosetta.compare.settings import comes_out, plain
from rosetta.config import Config, read_config
from rosetta.containers.apr import layout
from rosetta.containers.apr.keys import CANONICAL_SPELLING, LICENCE_KEYS
from rosetta.containers.apr.reader import AprContainer
from rosetta.containers.apr.settings import APR_FACTS, apr_settings
from rosetta.containers.apr.writer import check_name, pack_apr, refusal
from rosetta.containers.container import TensorEntry
from rosetta.containers.huggingface.settings import without_quantisation
from rosetta.containers.huggingface.text_part import NESTING, text_config
from rosetta.convert.draft import Draft
from rosetta.convert.folder import config_as_folder, of_folder
from rosetta.convert.folder_settings import own_keys, spelling
from rosetta.convert.folder_tensors import numbers_of, setting_tensors
from rosetta.convert.gguf_file import held
from rosetta.convert.gguf_settings import IMPLIED, IN_WEIGHTS
from rosetta.convert.plan import Done, Request, as_stored, with_dtypes
from rosetta.convert.vocabulary import PREFIX, apr_key, gguf_vocabulary_keys
from rosetta.dtypes import DTYPES
from rosetta.errors import RosettaError, UsageError
from rosetta.model import Model
from rosetta.names import canonical_names
from rosetta.setting_values import PerLayer
from rosetta.settings_reader import ACTIVATIONS
from rosetta.tokenizer.chat_template import GGUF_KEY

SPELLINGS = {fact.key: fact.spellings[0] for fact in APR_FACTS}


def write_apr_model(folder: Path, request: Request) -> tuple[list[Path], Done]:
    """Write a model as `.apr`.

    Args:
        folder: where an unfinished file may lie.
        request: what is to be written.

    Returns:
        The unfinished file under its name, and what was done.

    Raises:
        UsageError: several files are asked for, which no loader of `.apr` reads.
    """
    model, done = request.model, Done()
    if request.split_bytes:
        remedy = "leave out --split-max-size"
        raise UsageError("no loader reads an .apr of several files", file=request.target, remedy=remedy)
    stored = as_stored(model, "apr")
    canonical = canonical_names(model.container.tensors, model.architecture, model.block_count + 1)
    names = {own: name or own for own, name in canonical.items()}
    sources = with_dtypes(request, stored, names, lambda entry: refusal(entry, "all", request.target), done)
    sources += [held(tensor) for tensor in setting_tensors(model)]
    for source in sources:
        check_name(source.entry.name, request.target)
    entries = {source.entry.name: source.entry for source in sources}
    if isinstance(model.container, AprContainer):
        text = model.container.metadata_text()
        metadata: Mapping[str, Any] = model.container.metadata
    else:
        metadata = _metadata(model, entries, done)
        text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()
    flags = layout.HAS_VOCAB if "tokenizer.vocabulary" in metadata else 0
    if any(DTYPES[entry.dtype].block_size != 1 for entry in entries.values()):
        flags |= layout.QUANTIZED
    place = folder / request.target.name
    ordered = sorted(sources, key=lambda source: source.entry.name.encode())
    pack_apr(place, text, ordered, flags=flags, progress=request.progress)
    return [place], done


def _metadata(model: Model, tensors: Mapping[str, TensorEntry], done: Done) -> dict[str, Any]:
    """All that the file states: the format's own keys, and config.json's for what it has no key for."""
    unstated = (IMPLIED - {"norm_type"}) | IN_WEIGHTS
    wanted = {key: value for key, value in model.config.items() if key not in unstated}
    epsilon = model.architecture.epsilon_key
    own = model.container.settings.get(epsilon)
    # llama.cpp leaves Qwen2-VL's unread.
    if own is not None and epsilon in wanted and wanted[epsilon].key is None:
        wanted[epsilon] = replace(wanted[epsilon], value=own.value, key=own.key)
    stated = _stated(model, wanted, tensors)
    left = _differing(model, wanted, stated, tensors)
    if left and model.container.kind == "gguf":  # the words of its folder, under the name that a folder has
        for named in dict.fromkeys((model.architecture, of_folder(model))):
            alike = replace(model, architecture=named)
            tried = _with_words(alike, _stated(alike, wanted, tensors))
            lacking = _differing(alike, wanted, tried, tensors)
            if len(lacking) < len(left):
                stated, left = tried, lacking
    done.lost += [
        f"{key} is {value}, for which .apr has no place: its reader will take {read}"
        for key, (value, read) in left.items()
    ]
    return {**stated, **_tokenizer(model, done), **dict.fromkeys(LICENCE_KEYS)}


def _stated(model: Model, wanted: Config, tensors: Mapping[str, TensorEntry]) -> dict[str, Any]:
    """What is stated of the model beside its tokenizer."""
    architecture, container = model.architecture, model.container
    stated: dict[str, Any] = {
        "model_type": architecture.name,
        "architecture": architecture.name,
        "hf_architecture": architecture.classes[0] if architecture.classes else None,
        "hf_model_type": architecture.huggingface.model_type or architecture.name,
        "original_format": "gguf" if container.kind == "gguf" else "safetensors",
    }
    if container.kind == "huggingface":  # its own words, where they are none of the format's
        config = without_quantisation(container.metadata)  # what was packed is plain in the file
        stated = {**_words(config), **stated}
    single = {
        key: plain(value.value)
        for key, value in wanted.items()
        if key in SPELLINGS and value.value is not None and not isinstance(value.value, tuple)
    }
    # The size of keys comes before that of values, which go by one name.
    stated |= {SPELLINGS[key]: said for key, said in reversed(single.items())}
    _take_lists(model, wanted, stated)
    epsilon = architecture.epsilon_key
    if epsilon in wanted:
        stated["rms_norm_eps"] = plain(wanted[epsilon].value)
    if "rope.freq_base" in wanted and not isinstance(wanted["rope.freq_base"].value, tuple):
        stated["rope_theta"] = plain(wanted["rope.freq_base"].value)
    if architecture.rope is not None and "rope.type" in model.config:
        stated["rope_type"] = model.config["rope.type"].value
    stated["tie_word_embeddings"] = model.config["tied_embeddings"].value
    ours = model.config["activation"].value
    stated["hidden_act"] = next((word for word, name in ACTIVATIONS.items() if name == ours), None)
    _take_more(model, wanted, stated, tensors)
    return {key: value for key, value in stated.items() if value is not None}


def _words(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a config.json that say something, those of its text part among them, as the format spells them."""
    words = {**config, **text_config(config)}
    return {
        CANONICAL_SPELLING.get(key, key): value
        for key, value in words.items()
        if value is not None and key not in ("architectures", *NESTING)
        if key not in CANONICAL_SPELLING or not isinstance(value, list)
    }


def _with_words(model: Model, stated: Mapping[str, Any]) -> dict[str, Any]:
    """What is stated, and what a folder of the model would say beside it."""
    return {**_words(config_as_folder(model)), **stated}


def _take_lists(model: Model, wanted: Config, stated: dict[str, Any]) -> None:
    """What differs between layers as the architecture's config.json has it: a number, and a list or another number."""
    own = own_keys(model, wanted)
    for key, value in wanted.items():
        if key in SPELLINGS and isinstance(value.value, PerLayer) and spelling(model, key) in own:
            stated[SPELLINGS[key]] = own[spelling(model, key)]
            stated |= {
                name: said for name, said in own.items() if "." not in name and name not in CANONICAL_SPELLING
            }


def _take_more(
    model: Model, wanted: Config, stated: dict[str, Any], tensors: Mapping[str, TensorEntry]
) -> None:
    """Keys of config.json for what the format has none for, where a reader comes to something else without them."""
    for key in _differing(model, wanted, stated, tensors):
        value = wanted[key].value
        single = [] if isinstance(value, tuple) else [(key.rpartition(".")[2], plain(value))]
        own = model.architecture.huggingface.spellings.get(key)
        ways = [*([(own, plain(value))] if own and single else []), *single]
        ways += [(CANONICAL_SPELLING.get(name, name), said) for name, said in own_keys(model, wanted).items()]
        ways += [(name, form(wanted)) for name, form in OTHER_FORMS.items() if _applies(form, wanted)]
        ways += [(key, plain(value))] if single else []  # GGUF's own key, where nobody has another
        for name, said in ways:
            tried = {**stated, name: said}
            if (
                _differing(model, wanted, tried, tensors).keys()
                < _differing(model, wanted, stated, tensors).keys()
            ):
                stated[name] = said
                break


def _applies(form: Any, wanted: Config) -> bool:
    try:
        return form(wanted) is not None
    except (KeyError, ZeroDivisionError):
        return False


def _differing(
    model: Model, wanted: Config, stated: Mapping[str, Any], tensors: Mapping[str, TensorEntry]
) -> dict[str, tuple[Any, Any]]:
    """Settings that a reader of the file will not find as they are: what is wanted, and what it will have."""
    shapes = {
        name: tensors.get(weight.entry.name, weight.entry).dims for name, weight in model.weights.items()
    }
    try:
        settings = apr_settings(model.container.path, stated, lambda note: None)
        numbers = numbers_of(model, tensors)
        draft = Draft(
            model.container.path, "apr", stated, settings, tensors, model.architecture.name, data=numbers
        )
        found, _ = read_config(draft, model.architecture, shapes, {})
    except RosettaError:
        return {key: (value.value, None) for key, value in wanted.items()}
    return {
        key: (value.value, found[key].value if key in found else None)
        for key, value in wanted.items()
        if key != "rope.scaling" or "rope_freqs.weight" not in tensors
        if not comes_out(key, value.value, found)
    }


def _tokenizer(model: Model, done: Done) -> dict[str, Any]:
    written = gguf_vocabulary_keys(model)
    done.notes += written.notes
    done.lost += written.findings
    keys: dict[str, Any] = {}
    if written.keys.get(PREFIX + "model") in (None, "none"):
        return keys
    for key, value in written.keys.items():
        if key == GGUF_KEY:
            keys["chat_template"] = value
        elif key.startswith(PREFIX):
            own = apr_key(key.removeprefix(PREFIX))
            plain_value = value.tolist() if hasattr(value, "tolist") else value
            keys[own] = list(plain_value) if isinstance(plain_value, tuple | bytes) else plain_value
    return keys
