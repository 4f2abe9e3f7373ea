"""Files and folders that are no container: what each seems to be, and what to give instead."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

from rosetta.containers.training_saves import save_in
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError, UsageError
from rosetta.sources import RemotePath
from rosetta.sources.places import names_in

PEFT = "peft:"  # before BASE+ADAPTER: see `open_operand`
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_ZIP = b"PK\x03\x04"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_GGML_MAGICS = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # llama.cpp before GGUF: ggml, ggmf, ggjt, ggla
_SCHEME = re.compile(r"(\w+):/+(.*)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BLOB = re.compile(r"sha256[-:][0-9a-f]+")
_MANIFEST = 1 << 20  # bytes
_GIT_LFS = b"version https://git-lfs"

_BESIDE_WEIGHTS = (  # files of a Hugging Face folder that have no other use
    *("generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"),
    *("special_tokens_map.json", "chat_template.jinja", "preprocessor_config.json"),
    *("model.safetensors.index.json",),
)
SAFE = "open it with transformers and save it with save_pretrained, which writes safetensors"


def refusal_of_file(path: Path, head: bytes) -> RosettaError:
    """The error for a file whose first bytes no container recognises.

    Args:
        path: the file.
        head: its first 64 bytes, or all of a shorter one.
    """
    if not head:
        return DamagedFileError("is empty", file=path, remedy="copy it again")
    if is_safetensors(head):
        name = f", although its name says {path.suffix}" if path.suffix in (".gguf", ".apr") else ""
        message = f"holds safetensors{name}; weights alone do not say what model they are of"
        return UsageError(message, file=path, remedy="give the folder that holds them with config.json")
    if head.startswith(_PICKLES):
        return UnsupportedError(
            "is a pickle, which rosetta never opens (it can run code)", file=path, remedy=SAFE
        )
    if head.startswith(_ZIP):
        message = "is a ZIP archive; torch.save packs pickles so, which rosetta never opens"
        return UnsupportedError(message, file=path, remedy=SAFE)
    if head.startswith(_GGML_MAGICS):
        remedy = "convert the model again with a current llama.cpp"
        return UnsupportedError("is a GGML file from before GGUF", file=path, remedy=remedy)
    if head.startswith(_GIT_LFS):
        return pointer_instead_of("the model", path)
    if is_page(head):
        return page_instead_of("a model", path)
    if _is_text(head):
        if (ollama := _refusal_of_ollama(path)) is not None:
            return ollama
        if path.name == "config.json" or path.name.endswith(".safetensors.index.json"):
            remedy = "give the folder that holds it"
            return UsageError("is one file of a Hugging Face folder", file=path, remedy=remedy)
        return UnsupportedError("is a text, not a model", file=path, remedy=_WANTED)
    message = f"begins with the bytes {head[:4].hex(' ')}, which no model format does"
    return UnsupportedError(message, file=path, remedy=_WANTED)


def refusal_of_folder(path: Path) -> RosettaError:
    """The error for a folder without a config.json."""
    names = names_in(path)
    if "snapshots" in names:
        return _refusal_of_cache(path)
    if "adapter_config.json" in names:
        return _refusal_of_adapter(path)
    if (save := save_in(path)) is not None:
        return save
    models = [name for name in names if name.endswith((".gguf", ".apr"))]
    if len(models) == 1:
        remedy = f"give the file: {path / models[0]}"
        return UsageError("is a folder that holds one model file", file=path, remedy=remedy)
    if models:
        message = (
            f"is a folder of {len(models)} model files ({', '.join(models[:4])}{', …' * (len(models) > 4)})"
        )
        return UsageError(message, file=path, remedy="give one of the files")
    if any(name.endswith(".safetensors") for name in names):
        remedy = "put the model's config.json beside the weights"
        return UsageError("has no config.json", file=path, remedy=remedy)
    if any(name.endswith(PICKLE_SUFFIXES) for name in names):
        message = "has no config.json, and holds weights as a pickle only, which rosetta never opens"
        return UnsupportedError(message, file=path, remedy=SAFE)
    if parts := [name for name in names if name in _BESIDE_WEIGHTS]:
        message = f"has no config.json and no weights; it has {', '.join(parts[:3])}"
        return UsageError(message, file=path, remedy="put the model's config.json and weights beside it")
    return UsageError("is a folder without config.json and weights", file=path, remedy=_WANTED)


def refusal_of_missing(path: Path) -> RosettaError:
    """The error for a path at which there is nothing: often it is the name of a model somewhere else."""
    if isinstance(path, RemotePath):
        remedy = "check the address; of a folder it must be that of config.json's"
        return UsageError("is an address at which there is no model", file=path, remedy=remedy)
    text = path.as_posix()
    scheme = _SCHEME.match(text)
    if scheme and scheme[1] in ("http", "https"):
        message = "is an address, and rosetta opens what lies on this machine"
        remedy = f"{_download(scheme[2])}; or {_REMOTE}"
        return UsageError(message, file=f"{scheme[1]}://{scheme[2]}", remedy=remedy)
    if _HUB_ID.fullmatch(text) and not path.parent.is_dir():  # a folder that is there is no organisation
        message = "no such file or folder; it looks like a model of the Hugging Face hub"
        return UsageError(message, file=path, remedy=f"download it: {_hub_command(text)}")
    return UsageError("no such file or directory", file=path, remedy="check the path")


def refusal_of_adapted(path: Path) -> RosettaError:
    """The error for a base and an adapter where a file is asked for."""
    message = "is a base and an adapter that are merged in memory, no file of its own"
    return UsageError(message, file=path, remedy="compare, trace and inspect take it; else " + _MERGE)


def _download(address: str) -> str:
    """How to get what an address names."""
    host, _, rest = address.partition("/")
    if host.endswith("huggingface.co") and (found := _HUB_ID.match(rest)):
        return f"download it: {_hub_command(found[0])}"
    return "download it, and give the file"


def _hub_command(name: str) -> str:
    return f"hf download {name} --local-dir {name.rpartition('/')[2]}"


def _refusal_of_cache(path: Path) -> RosettaError:
    """A model's folder in the hub's cache: the model is one level down, under its revision."""
    revisions = names_in(path / "snapshots") if (path / "snapshots").is_dir() else []
    main = path / "refs" / "main"
    wanted = main.read_text(errors="replace").strip() if main.is_file() else ""
    revision = wanted if wanted in revisions else next(iter(revisions), "REVISION")
    message = "is a folder of the Hugging Face cache, and holds its model under snapshots/"
    return UsageError(message, file=path, remedy=f"give {path / 'snapshots' / revision}")


def _refusal_of_adapter(path: Path) -> RosettaError:
    """A folder with an adapter and not the model that it is for."""
    try:
        config = json.loads((path / "adapter_config.json").read_bytes())
        base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    except (OSError, ValueError):
        base = None
    return UsageError(
        f"holds an adapter{f' for {base}' if base else ''}, not a model",
        file=path,
        remedy=f"give {PEFT}BASE+{path}, which merges it in memory",
    )


def _refusal_of_ollama(path: Path) -> RosettaError | None:
    """What Ollama keeps beside its models; None where a file is none of it."""
    if _BLOB.fullmatch(path.name):
        message = "is an Ollama blob that holds a text (a template, parameters, a licence), not the model"
        return UsageError(
            message, file=path, remedy="give the model's blob: ollama show --modelfile NAME names it"
        )
    try:
        manifest = json.loads(path.read_bytes()[:_MANIFEST])
        layers = manifest["layers"] if isinstance(manifest, dict) else []
        digest = next(layer["digest"] for layer in layers if layer["mediaType"].endswith("image.model"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None
    blob = f"blobs/{str(digest).replace(':', '-')}"
    return UsageError(
        "is an Ollama manifest, not the model", file=path, remedy=f"give {blob} of the models folder"
    )


_WANTED = "give an .apr file, a GGUF file or a Hugging Face folder"


_REMOTE = "pip install 'rosetta-trace[remote]', which reads of it what is needed"
_MERGE = "merge it with peft (merge_and_unload, then save_pretrained), and give that folder"


def is_pointer(head: bytes) -> bool:
    """Whether a file stands for one that Git LFS has not fetched."""
    return head.startswith(_GIT_LFS)


def pointer_instead_of(what: str, path: Path) -> DamagedFileError:
    """The error for such a file, which should be `what`: `the weights`."""
    return DamagedFileError(f"is a Git LFS pointer, not {what}", file=path, remedy="run git lfs pull")


def is_page(text: bytes) -> bool:
    """Whether a text is a web page, as a site answers whoever has not logged in."""
    return text[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def page_instead_of(what: str, path: Path) -> DamagedFileError:
    """The error for a web page that was saved in the place of `what`: `the config`."""
    remedy = "download it again, logged in where the site asks for it"
    return DamagedFileError(f"is a web page, not {what}", file=path, remedy=remedy)


def is_safetensors(head: bytes) -> bool:
    """Whether a file seems to be safetensors: a header length, then a JSON object."""
    if len(head) < 10 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack_from("<Q", head)
    return bool(2 <= length <= 100_000_000 and head[9:10] in b'"} \n\t')


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else a letter cut by the end of the head
            return False
        text = head[: error.start].decode()
    return all(letter.isprintable() or letter in "\r\n\t\f\ufeff" for letter in text)
