"""Every rule is seen to fire on the fault that it is for, at the tensor or key concerned, and on nothing else."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from fixtures import build
from fixtures.comparing import tiny
from fixtures.plain_models import (
    BOOL,
    HIDDEN,
    I32,
    WIDTH,
    PlainModel,
    PlainTensor,
    bf16,
    f16,
    f32,
    gguf_bytes,
    plain_apr,
    plain_folder,
    plain_gguf,
    safetensors_bytes,
    values,
    written,
)
from fixtures.raw_gguf import ARRAY, F32, TEXT, U32
from rosetta.architectures import find_architecture
from rosetta.compare.options import Options
from rosetta.convert import convert
from rosetta.lint import subject
from rosetta.lint.engine import linted, models_below, selected_rules
from rosetta.lint.rule import Found
from rosetta.lint.rules import all_rules

BASES = {"model.gguf": plain_gguf, "model.apr": plain_apr, "model-hf": plain_folder}
Edit = Callable[[PlainModel], object]


@dataclass(frozen=True)
class Case:
    """A fault and what is said of it.

    Args:
        rule: the id.
        name: of the file; its ending says the container.
        edit: breaks the model before it is written.
        said: a part of the line.
        broken: what is done to the written file.
    """

    rule: str
    name: str
    edit: Edit = lambda model: None
    said: str = ""
    broken: Callable[[Path], object] = lambda path: None

    @property
    def label(self) -> str:
        return f"{self.rule}-{self.name}-{self.said[:24]}"


def called_f32(path: Path) -> None:
    """Give the last matrix of a GGUF file another type; its bytes stay."""
    raw, name = bytearray(path.read_bytes()), "blk.1.ffn_down.weight"
    at = raw.index(name.encode()) + len(name) + 4 + 2 * 8  # two dims
    raw[at : at + 4] = struct.pack("<I", 0)
    path.write_bytes(raw)


def metadata_of_numbers(path: Path) -> None:
    """Put a number into the free-form part of a folder's weights."""
    file = path / "model.safetensors"
    raw = file.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.dumps({"__metadata__": {"format": 1}, **json.loads(raw[8 : 8 + size])}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + size :])


def charsmap_broken(path: Path) -> None:
    """Give a folder's tokenizer a normaliser that is no base64."""
    file = path / "tokenizer.json"
    table = json.loads(file.read_text())
    table["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "!!!"}
    file.write_text(json.dumps(table))


def put(key: str, value: object) -> Edit:
    """Set a key."""
    return lambda model: model.keys.update({key: value})


def drop(key: str) -> Edit:
    """Remove a key."""
    return lambda model: model.keys.pop(key)


def tensor(name: str, change: Callable[[PlainTensor], PlainTensor]) -> Edit:
    """Change a tensor."""

    def edit(model: PlainModel) -> None:
        model.tensors[name] = change(model.tensors[name])

    return edit


def both(*edits: Edit) -> Edit:
    """Several edits."""
    return lambda model: [edit(model) for edit in edits]


def cut(nbytes: int) -> Callable[[Path], object]:
    """Take bytes away from the end."""
    return lambda path: path.write_bytes(path.read_bytes()[:-nbytes])


def flipped(at: int) -> Callable[[Path], object]:
    """Change one byte."""

    def broken(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 0xFF
        path.write_bytes(data)

    return broken


def in_folder(name: str, content: bytes) -> Callable[[Path], object]:
    """Put a file into the folder."""
    return lambda path: (path / name).write_bytes(content)


def flag_of(key: str, at: int, byte: int) -> Callable[[Path], object]:
    """Change a byte of a GGUF's value, counted from behind the code of its type."""

    def broken(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        raw[raw.index(key.encode()) + len(key) + 4 + at] = byte
        path.write_bytes(raw)

    return broken


def again(name: str, key: str, value: object) -> Callable[[Path], object]:
    """State a key of one of a folder's files a second time."""

    def broken(path: Path) -> None:
        stated = f"{json.dumps(key)}: {json.dumps(value)}"
        text = (path / name).read_text()
        assert text.count(stated) == 1
        (path / name).write_text(text.replace(stated, f"{stated}, {stated}"))

    return broken


def indexed(folder: Path, placed: dict[str, str | None], total: object = None) -> None:
    """An index of all tensors of `a.safetensors`, but for those that are said to be elsewhere, or are left out."""
    raw = (folder / "a.safetensors").read_bytes()
    names = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    table = {name: file for name, file in (dict.fromkeys(names, "a.safetensors") | placed).items() if file}
    said = {"metadata": {} if total is None else {"total_size": total}, "weight_map": table}
    (folder / "model.safetensors.index.json").write_text(json.dumps(said))


def listed(key: str, change: Callable[[list], object]) -> Edit:  # type: ignore[type-arg]
    """Change a list among a GGUF's keys."""

    def edit(model: PlainModel) -> None:
        change(model.keys[key][1][1])

    return edit


def called(architecture: str, epsilon: str = "layer_norm_rms_epsilon") -> Edit:
    """A GGUF of another architecture, with its keys."""

    def edit(model: PlainModel) -> None:
        prefix = f"{architecture}."
        own = {key: key.replace("llama.", prefix) for key in model.keys}
        model.keys = {
            name.replace("layer_norm_rms_epsilon", epsilon): model.keys[key] for key, name in own.items()
        }
        model.keys["general.architecture"] = (TEXT, architecture)

    return edit


def renamed(old: str, new: str) -> Edit:
    """Give a tensor another name, in its place."""

    def edit(model: PlainModel) -> None:
        model.tensors = {new if name == old else name: t for name, t in model.tensors.items()}

    return edit


def added(name: str, new: PlainTensor) -> Edit:
    """One tensor more."""
    return lambda model: model.tensors.update({name: new})


def gone(name: str) -> Edit:
    """A tensor left out."""
    return lambda model: model.tensors.pop(name)


def misplaced(name: str, by: int) -> Edit:
    """Say that a tensor of a GGUF begins so many bytes later than it does."""

    def edit(model: PlainModel) -> None:
        before = list(model.tensors)[: list(model.tensors).index(name)]
        model.offsets[name] = by + sum(-(-len(model.tensors[other].data) // 32) * 32 for other in before)

    return edit


def pieces(edit: Edit) -> Edit:
    """A vocabulary of SentencePiece in the place of the other, then an edit of it."""

    def changed(model: PlainModel) -> None:
        tokens = [
            "<unk>",
            "<s>",
            "</s>",
            *(f"<0x{byte:02X}>" for byte in range(256)),
            "▁the",
            "in",
            "g",
            "▁",
            "th",
        ]
        own = {"model": (TEXT, "llama"), "tokens": (ARRAY, (TEXT, tokens)),
               "scores": (ARRAY, (F32, [-float(id) for id in range(264)])),
               "token_type": (ARRAY, (I32, [2, 3, 3, *[6] * 256, *[1] * 5])), "bos_token_id": (U32, 1),
               "eos_token_id": (U32, 2)}  # fmt: skip
        model.keys = {key: value for key, value in model.keys.items() if not key.startswith("tokenizer.")}
        model.keys |= {f"tokenizer.ggml.{key}": value for key, value in own.items()}
        edit(model)

    return changed


def every(named: Callable[[str], str]) -> Edit:
    """Give all tensors other names."""

    def edit(model: PlainModel) -> None:
        model.tensors = {named(name): t for name, t in model.tensors.items()}

    return edit


def without_the_first(path: Path) -> None:
    """Take the last but one tensor out of the header of a folder's weights, and leave its bytes."""
    file = path / "model.safetensors"
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header.pop(list(header)[-2])
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


TOKENS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"
Q, K, NORM, DOWN = (
    *(f"blk.0.{stem}.weight" for stem in ("attn_q", "attn_k", "attn_norm")), "blk.1.ffn_down.weight",
)  # fmt: skip
BIG = values(64, 256, std=0.02)  # enough values for what is told by counting


def ranked(value: float, at: int = 3) -> Callable[[PlainTensor], PlainTensor]:
    """Put a value into an F16 tensor."""

    def change(old: PlainTensor) -> PlainTensor:
        array = np.frombuffer(old.data, np.float16).copy()
        array[at] = value
        return PlainTensor(old.dtype, old.dims, array.tobytes())

    return change


def quantised(scale: int) -> PlainTensor:
    """A Q4_K matrix `[2, 256]` whose second block has the scale of this pattern."""
    blocks = np.random.default_rng(0).integers(0, 255, (2, 144), np.uint8)
    blocks[:, :4] = np.frombuffer(struct.pack("<HH", 0x1C00, 0x1C00), np.uint8)
    blocks[1, :2] = np.frombuffer(struct.pack("<H", scale), np.uint8)
    return PlainTensor("Q4_K", (2, 256), blocks.tobytes())


def flushed(array: np.ndarray) -> PlainTensor:  # type: ignore[type-arg]
    """F16 without what lies below its smallest normal number."""
    half = array.astype(np.float16)
    half[np.abs(half) < 2.0**-14] = 0
    return f16(half)


CASES = [
    Case("F101", "model.gguf", said="tensor 'blk.1.ffn_down.weight': ends at byte", broken=cut(100)),
    Case("F101", "model.gguf", said="it would end as F16 or BF16", broken=called_f32),
    Case("F101", "model.gguf", said="counts 264 texts", broken=lambda p: p.write_bytes(p.read_bytes()[:900])),
    Case("F101", "model.gguf", said="is empty", broken=lambda p: p.write_bytes(b"")),
    Case("F101", "model.apr", said="ends at byte", broken=cut(400)),
    Case("F101", "model-hf", said="ends at byte", broken=lambda p: cut(100)(p / "model.safetensors")),
    Case("F101", "model.gguf", said="the file is cut off", broken=lambda p: p.write_bytes(p.read_bytes()[:500])),
    Case("F102", "model.gguf", said="the header counts", broken=flipped(15)),
    Case("F102", "model-hf", said="is no object of texts", broken=metadata_of_numbers),
    Case("F102", "model-hf", said="is no JSON", broken=in_folder("config.json", b"{")),
    Case("F103", "model.gguf", said="is GGUF version 1", edit=lambda m: m.options.update(version=1)),
    Case("F103", "model.gguf", said="is a pickle", broken=lambda p: p.write_bytes(b"\x80\x02}q\x00.")),
    Case("F104", "model.gguf", lambda m: m.offsets.update({Q: 0}), "shares"),
    Case("F104", "model.gguf", misplaced("blk.0.ffn_up.weight", -2 * HIDDEN * WIDTH), "shares 4,096 bytes with"),
    Case("F104", "model.apr", lambda m: m.offsets.update({"model.norm.weight": 0}), "shares"),
    Case("F105", "model.gguf", misplaced(DOWN, 2), "no multiple of 32", broken=lambda p: p.write_bytes(
        p.read_bytes() + bytes(2))),
    Case("F105", "model.apr", lambda m: m.options.update(align=4), "no multiple of 64"),
    Case("F107", "model.gguf", said="is the last one, and 64 bytes follow it",
         broken=lambda p: p.write_bytes(p.read_bytes() + bytes(64))),
    Case("F107", "model-hf", said="the file at",
         broken=lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes() + b"x")),
    Case("F108", "model.apr", said="the header's checksum is", broken=flipped(45)),
    Case("F108", "model.apr", lambda m: m.options.update(checksum=0), "the header has no checksum"),
    Case("F109", "model.apr", said="all others give", broken=flipped(-200)),
    Case("F110", "model-Q4_K_M.gguf", said="its name says Q4_K_M, and its matrices are F16"),
    Case("F110", "model.gguf", said="although its name says",
         broken=lambda p: p.write_bytes(safetensors_bytes({"a": f32(values(4))}))),
    Case("F110", "model.gguf", said="its name ends in .gguf, and it is a file of APR",
         broken=lambda p: written(plain_apr(), p.with_name("a.apr")).replace(p)),
    Case("F111", "model.gguf", put("general.file_type", (U32, 15)), "is 15 (Q4_K_M), and the tensors are F16, F32"),
    Case("F111", "model.gguf", put("general.file_type", (U32, 99)), "is 99, which llama.cpp does not define"),
    Case("F111", "model.gguf", put("general.file_type", (U32, 0)), "is 0 (F32), and the tensors are F16, F32"),
    Case("F102", "model-hf", said="bytes after the one before", broken=without_the_first),
    Case("F112", "a-00001-of-00002.gguf", both(put("split.count", (2, 2)), put("split.no", (2, 0))), "is missing"),
    Case("F112", "model-hf", said="that is no file", broken=lambda p: (
        (p / "model.safetensors").unlink(), (p / "model.safetensors").mkdir(),
    )),
    Case("F112", "model-hf", said="a link to a file that is not there", broken=lambda p: (
        (p / "model.safetensors").unlink(), (p / "model.safetensors").symlink_to("nowhere"),
    )),
    Case("F112", "model-hf", said="is missing, which", broken=lambda p: (
        (p / "model.safetensors").unlink(),
        (p / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}})),
    )),
    Case("F113", "model-hf", said="is not in", broken=lambda p: (
        (p / "model.safetensors").rename(p / "other.safetensors"),
        (p / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "other.safetensors"}})),
    )),
    Case("F112", "model-hf", said="it has model-00001-of-00001.safetensors", broken=lambda p: (
        p / "model.safetensors").rename(p / "model-00001-of-00001.safetensors")),
    Case("F113", "model-hf", said="the index places it in b.safetensors", broken=lambda p: (
        (p / "model.safetensors").rename(p / "a.safetensors"),
        (p / "b.safetensors").write_bytes(safetensors_bytes({"x.bias": f32(values(4))})),
        indexed(p, {"x.bias": "b.safetensors", "model.norm.weight": "b.safetensors"}),
    )),
    Case("F113", "model-hf", said="the index does not name it", broken=lambda p: (
        (p / "model.safetensors").rename(p / "a.safetensors"), indexed(p, {"model.norm.weight": None}))),
    Case("F121", "model-hf", said="is 3, and the tensors have", broken=lambda p: (
        (p / "model.safetensors").rename(p / "a.safetensors"), indexed(p, {}, total=3))),
    Case("F121", "model-hf", said="is '54,400', and the tensors", broken=lambda p: (
        (p / "model.safetensors").rename(p / "a.safetensors"), indexed(p, {}, total="54,400"))),
    Case("F114", "model-hf", said="names it", broken=in_folder("model-00001-of-00002.safetensors", b"")),
    Case("F115", "model.apr", added("blk.0.attn_q.weight", f16(values(HIDDEN, HIDDEN))), "is the same weight as"),
    Case("F116", "model-hf", renamed("model.norm.weight", "_orig_mod.model.norm.weight"), "'_orig_mod.'"),
    Case("F116", "model-hf", renamed("model.norm.weight", "model.model.norm.weight"), "1 names carry 'model.'"),
    Case("F116", "model.gguf", renamed(NORM, f"model.{NORM}"), "1 names carry 'model.'"),
    Case("F116", "model-hf", every(lambda name: f"student.{name}"), "'student.' of a wrapping module"),
    Case("F116", "model-hf", every(lambda name: f"transformer.{name}"), "'transformer.' of a wrapping module"),
    Case("F117", "model-hf", tensor("model.norm.weight", lambda t: PlainTensor("F32", (0,), b"")), "has dims [0]"),
    Case("F118", "model-hf", added("model.layers.0.self_attn.q_proj.lora_A.weight", f16(values(8, HIDDEN))), "adapter"),
    Case("F118", "model-hf", added("optimizer.state.exp_avg", f16(values(8, HIDDEN))), "an optimiser's state"),
    Case("F118", "model-hf", renamed("model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight"), "has GGUF's name"),
    Case("F118", "model.gguf", added("blk.0.no_such_thing.weight", f16(values(8, HIDDEN))), "no architecture of GGUF"),
    Case("F119", "model.gguf", tensor(Q, lambda t: PlainTensor("F16", t.dims, t.data * 2)), "as many as F32"),
    Case("F120", "model.apr", lambda m: m.options.update(flags=0x0800), "COLUMN_MAJOR"),
    Case("F123", "model-hf", said="has no config.json", broken=lambda p: (p / "config.json").unlink()),
    Case("F122", "model.gguf", said="its name is no UTF-8", broken=lambda p: p.write_bytes(
        p.read_bytes().replace(b"llama.context_length", b"llama.context_lengt\xff"))),
    Case("F122", "model.gguf", listed(TOKENS, lambda t: t.__setitem__(5, "QQQ")), "item 5, b'Q\\xffQ', is no UTF-8",
         broken=lambda p: p.write_bytes(p.read_bytes().replace(b"QQQ", b"Q\xffQ"))),
    Case("F122", "model.gguf", put("general.name", (TEXT, "�QQQ")), "is no UTF-8",
         broken=lambda p: p.write_bytes(p.read_bytes().replace(b"QQQ", b"Q\xffQ"))),
    Case("F122", "model.gguf", added("QQQ", f32(values(4))), "its name is no UTF-8",
         broken=lambda p: p.write_bytes(p.read_bytes().replace(b"QQQ", b"Q\xffQ"))),
    Case("F122", "model.apr", added("QQQ", f32(values(4))), "its name is no UTF-8",
         broken=lambda p: p.write_bytes(p.read_bytes().replace(b"QQQ", b"Q\xffQ"))),
    Case("C201", "model.gguf", drop("general.architecture"), "names no architecture"),
    Case("C201", "model.gguf", put("general.architecture", (TEXT, "qwen9")), "is no architecture of GGUF"),
    Case("C202", "model.gguf", drop("llama.attention.layer_norm_rms_epsilon"), "layer_norm_rms_epsilon': is missing"),
    Case("C202", "model.gguf", both(drop("llama.attention.layer_norm_rms_epsilon"),
         put("llama.attention.layer_norm_epsilon", (F32, 1e-5))), "it has llama.attention.layer_norm_epsilon"),
    Case("C202", "model.gguf", drop("llama.attention.head_count"), "'llama.attention.head_count': is missing"),
    Case("C202", "model-hf", drop("num_hidden_layers"), "its class takes 32, and the tensors say 2"),
    Case("C202", "model-hf", drop("hidden_size"), "its class takes 4,096, and the tensors say 32"),
    Case("C202", "model.apr", drop("num_heads"), "'num_heads': is missing"),
    Case("C203", "model.gguf", put("qwen2.block_count", (U32, 2)), "is a key of qwen2"),
    Case("C204", "model-hf", put("rms_norm_eps", 10**400), "'rms_norm_eps'"),
    Case("C204", "model.gguf", put("llama.rope.freq_base", (U32, 10000)), "is of type uint32, llama.cpp asks"),
    Case("C204", "model.gguf", put("llama.context_length", (TEXT, "128")), "must be a whole number"),
    Case("C204", "model.apr", put("vocab_size", 264.0), "is 264.0, and aprender asks for a whole number"),
    Case("C204", "model.apr", put("model_type", None), "is None, and aprender asks for a text"),
    Case("C204", "model.apr", put("quantization", "F16"), "asks for an object of quant_type"),
    Case("C204", "model.gguf", put("tokenizer.ggml.add_bos_token", (BOOL, True)), "holds the byte 2 as a bool",
         broken=flag_of("tokenizer.ggml.add_bos_token", 0, 2)),
    Case("C204", "model.gguf", put("llama.attention.sliding_window_pattern", (ARRAY, (BOOL, [False, False]))),
         "holds the byte 255 as a bool", broken=flag_of("llama.attention.sliding_window_pattern", 12 + 1, 255)),
    Case("C204", "model.gguf", put("tokenizer.chat_template", (ARRAY, (TEXT, ["{{ messages }}"]))), "of type array"),
    Case("C204", "model-hf", put("model_type", 3), "is 3, and must be a text"),
    Case("C204", "model-hf", put("layer_types", "full_attention"), "and must be a list of texts"),
    Case("C204", "model-hf", put("mlp_layer_types", [{}, "dense"]), "and must be a list of texts"),
    Case("C205", "model.gguf", put("llama.attention.head_count_kv", (U32, 4)), "has 16 rows"),
    Case("C205", "model.gguf", put("llama.attention.key_length", (U32, 16)), "has 32 rows"),
    Case("C205", "model.gguf", put("llama.attention.head_count_kv", (U32, 1)), "1 heads of 8, which are 8"),
    Case("C205", "model-hf", put("num_key_value_heads", 3), "does not divide the 4 heads"),
    Case("C205", "model-hf", both(drop("head_dim"), put("num_attention_heads", 8)), "each of 4 as those of"),
    Case("C205", "model-hf", both(drop("head_dim"), put("num_attention_heads", 5)), "are not those of 5 heads"),
    Case("C206", "model.gguf", put("llama.feed_forward_length", (U32, 96)), "a width of 96"),
    Case("C206", "model.gguf", put("llama.feed_forward_length", (U32, HIDDEN)), f"a width of {HIDDEN}"),
    Case("C207", "model.gguf", listed(TOKENS, lambda t: t.append("<pad>")), "and 265 tokens"),
    Case("C207", "model.gguf", both(put("llama.vocab_size", (U32, 264)), listed(TOKENS, lambda t: t.append("<pad>"))),
         "and 265 tokens"),
    Case("C207", "model-hf", put("vocab_size", 300), "vocab_size says 300"),
    Case("C208", "model.gguf", put("llama.block_count", (U32, 1)), "is of layer 1, and 1 layers"),
    Case("C208", "model.gguf", put("llama.block_count", (U32, 3)), "no tensor is of layer 2"),
    Case("C208", "model-hf", put("num_attention_heads", [2]), "'num_attention_heads': has 1 entries, and there are 2"),
    Case("C208", "model-hf", put("layer_types", ["full_attention"] * 3), "has 3 entries, and there are 2"),
    Case("C208", "model.gguf", put("llama.feed_forward_length", (ARRAY, (U32, [WIDTH]))), "has 1 entries, and"),
    Case("C209", "model-hf", both(put("num_local_experts", 4), put("num_experts_per_tok", 0)), "is 0, and there are 4"),
    Case("C209", "model.gguf", put("llama.expert_count", (U32, 4)), "expert_used_count': is missing"),
    Case("C209", "model.gguf", both(put("llama.expert_count", (U32, 4)), put("llama.expert_used_count", (U32, 8))),
         "is 8, and there are 4 experts"),
    Case("C209", "model.gguf", both(put("llama.expert_count", (U32, 4)), put("llama.expert_used_count", (U32, 2)),
         added("blk.0.ffn_down_exps.weight", f16(values(3, HIDDEN, 8)))), "holds 3 experts"),
    Case("C209", "model.gguf", both(put("llama.expert_count", (U32, 4)), put("llama.expert_used_count", (U32, 2))),
         "is 4, and no tensor is of experts"),
    Case("C209", "model.gguf", added("blk.0.ffn_down_exps.weight", f16(values(3, HIDDEN, 8))), "holds 3 experts"),
    Case("C209", "model-hf", both(put("num_local_experts", 4), *(
        added(f"model.layers.0.mlp.experts.{n}.down_proj.weight", f16(values(HIDDEN, WIDTH))) for n in range(3))),
         "is of 3 experts, numbered up to 2"),
    Case("C210", "model.apr", put("hidden_size", 48), "and the config says 48"),
    Case("C211", "model.gguf", put("llama.attention.layer_norm_rms_epsilon", (F32, 0.0)), "is 0; models have"),
    Case("C211", "model-hf", put("rms_norm_eps", 1.0), "is 1; models have"),
    Case("C212", "model.gguf", put("llama.rope.freq_base", (F32, 1.0)), "is 1; models have"),
    Case("C212", "model.apr", both(put("rope_theta", 1.0), put("rope_parameters", {"rope_theta": 1e4})), "is 1; "),
    Case("C213", "model.gguf", put("llama.rope.dimension_count", (U32, 7)), "an odd number"),
    Case("C213", "model.gguf", put("llama.rope.dimension_count", (U32, 4)), "llama.cpp wants the 8 of a head"),
    Case("C213", "model.gguf", put("llama.rope.dimension_count", (U32, 64)), "and a head has 8 dims"),
    Case("C213", "model.apr", put("partial_rotary_factor", 2.0), "the share of a head"),
    Case("C214", "model.gguf", put("llama.context_length", (U32, 0)), "is 0; models have"),
    Case("C214", "model-hf", put("max_position_embeddings", int(1e30)), "is 1e+30, more than anything counts to"),
    Case("C204", "model-hf", put("hidden_size", 1e30), "is 1e+30, more than anything counts to"),
    Case("C215", "model.gguf", put("llama.attention.sliding_window", (U32, 1)), "only itself"),
    Case("C215", "model.gguf", put("llama.attention.sliding_window", (U32, 0xFFFFFFFF)), "is 4,294,967,295"),
    Case("C215", "model-hf", both(put("sliding_window", 0),
         put("layer_types", ["full_attention", "sliding_attention"])), "is 0, and layers are said to have a window"),
    Case("C216", "model.gguf", put("llama.rope.scaling.type", (TEXT, "linear")), "there is no llama.rope.scaling.fac"),
    Case("C216", "model.gguf", put("llama.rope.scaling.factor", (F32, 4.0)), "there is no llama.rope.scaling.type"),
    Case("C216", "model-hf", put("rope_parameters", {"rope_type": "default", "rope_theta": 1e4, "factor": 2.0}),
         "states a factor of 2, and its type is default"),
    Case("C216", "model.gguf", added("rope_factors_long.weight", f32(np.ones(4))), "its other half"),
    Case("C216", "model-hf", both(put("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
         put("rope_parameters", {"rope_type": "yarn", "factor": 2.0})), "is stated twice, and differs"),
    Case("C216", "model-hf", both(put("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
         put("rope_parameters", {"rope_type": "linear", "factor": 4.0})), "states factor twice, and differs"),
    Case("C216", "model.gguf", both(put("llama.rope.scale_linear", (F32, 2.0)),
         put("llama.rope.scaling.factor", (F32, 4.0))), "is 2, and rope.scaling.factor is 4"),
    Case("C216", "model-hf", put("rope_scaling", {"rope_type": "llama3", "factor": 8.0}), "has no low_freq_factor"),
    Case("C216", "model.apr", put("rope_scaling", {"rope_type": "yarn"}), "is of type yarn, and has no factor"),
    Case("C216", "model-hf", put("rope_scaling", {"rope_type": "yarm", "factor": 2.0}), "is of type 'yarm', which"),
    Case("C216", "model.gguf", both(put("llama.rope.scaling.type", (TEXT, "dynamic")),
         put("llama.rope.scaling.factor", (F32, 4.0))), "is 'dynamic', which llama.cpp does not know"),
    Case("C216", "model-hf", put("rope_scaling", {"rope_type": "longrope", "short_factor": [1.0] * 3,
         "long_factor": [1.0] * 3, "original_max_position_embeddings": 64}), "short_factor is no list of 4 numbers"),
    Case("C217", "model-hf", put("dtype", "bfloat16"), "is bfloat16, and the weights are F16, F32"),
    Case("C218", "model-hf", put("tie_word_embeddings", False), "there is no head"),
    Case("C219", "model.apr", put("n_layers", 2), "states again what num_layers states"),
    Case("C219", "model.gguf", said="has the key 'llama.context_length' twice", broken=lambda p: p.write_bytes(
        p.read_bytes().replace(b"llama.rope.freq_base", b"llama.context_length"))),
    Case("C219", "model-hf", said="'hidden_size': stands twice in one object",
         broken=again("config.json", "hidden_size", HIDDEN)),
    Case("C219", "model-hf", said="'th': stands twice in one object", broken=again("tokenizer.json", "th", 256)),
    Case("C221", "model-hf", put("attention_bias", True), "is true, and no layer has a tensor attn_q.bias"),
    Case("C222", "model.gguf", gone("blk.1.attn_v.weight"), "'blk.1.attn_v.weight': is missing, and llama"),
    Case("C222", "model.apr", gone("model.norm.weight"), "'output_norm.weight': is missing"),
    Case("C222", "model-hf", both(gone("model.layers.1.mlp.up_proj.weight"), gone("model.layers.0.mlp.up_proj.weight"),
         ), "1 more are missing"),
    Case("C222", "model-hf", gone("model.layers.1.mlp.up_proj.weight"), "'model.layers.1.mlp.up_proj.weight': is mis"),
    Case("C222", "model.gguf", added("blk.0.attn_q.bias", f32(values(HIDDEN))), "'blk.1.attn_q.bias': is missing, and"),
    Case("C222", "model-hf", both(put("model_type", "qwen2"), put("architectures", ["Qwen2ForCausalLM"])),
         "is missing, and qwen2 computes with it; 5 more"),
    Case("C222", "model-hf", lambda m: m.tensors.clear(), "its files hold no tensor at all"),
    Case("C223", "model.gguf", tensor("blk.1.ffn_up.weight", lambda t: f16(values(96, HIDDEN))),
         "has dims [96, 32], and the config says [64, 32]"),
    Case("C220", "model.gguf", tensor(K, lambda t: PlainTensor(t.dtype, t.dims[::-1], t.data)),
         "has dims [32, 16], and the config says [16, 32]"),
    Case("C225", "model-hf", put("hidden_act", "gleu"), "'hidden_act': is 'gleu', which is no activation"),
    Case("C225", "model-hf", put("layer_types", ["full_attention", "slide_attention"]), "of layer 1, which is no kind"),
    Case("C225", "model-hf", put("model_type", "lama"), "no model of class LlamaForCausalLM goes by it"),
    Case("C226", "model.apr", put("tensor_shapes", {name: [7] for name in plain_apr().tensors}), "says [7]; 19 more"),
    Case("C226", "model.apr", put("tensor_shapes", 3), "must be an object of dims"),
    Case("C226", "model.apr", lambda m: m.keys.update(tensor_shapes={"x": [1]} | {
        name: list(t.dims[::-1]) for name, t in m.tensors.items()}), "names 'x', and there is no such"),
    Case("C227", "model.gguf", called("mpt", "layer_norm_epsilon"), "'blk.0.attn_q.weight': is apart from k and v"),
    Case("T301", "model-hf", said="the file is no JSON object", broken=in_folder("tokenizer_config.json", b"[1]")),
    Case("T301", "model-hf", said="is no base64", broken=charsmap_broken),
    Case("T301", "model.gguf", listed("tokenizer.ggml.token_type", lambda t: t.pop()), "has 263 entries for 264"),
    Case("T301", "model.gguf", put("tokenizer.ggml.model", (TEXT, "gpt5")), "is 'gpt5', which llama.cpp does not know"),
    Case("T302", "model.gguf", listed(TOKENS, lambda t: t.__setitem__(5, t[4])), "ids 4 and 5 are both"),
    Case("T302", "model-hf", lambda m: m.files["tokenizer.json"]["model"]["vocab"].update(zz=65), "65 of 'A' and 'zz'"),
    Case("T303", "model.gguf", listed(TOKENS, lambda t: t.__setitem__(260, "")), "id 260 has no token"),
    Case("T303", "model-hf", lambda m: (m.files["tokenizer.json"]["model"]["vocab"].pop("ing"),
         m.files["tokenizer.json"]["model"]["merges"].pop()), "say that '<|endoftext|>' is 261, and it gets 260"),
    Case("T304", "model.gguf", put("tokenizer.ggml.pre", (TEXT, "gpt2")), "likely 'gpt-2'"),
    Case("T304", "model.gguf", put("tokenizer.ggml.pre", (TEXT, "Qwen-2")), "likely 'qwen2'"),
    Case("T304", "model.gguf", drop("tokenizer.ggml.pre"), "'tokenizer.ggml.pre': is missing"),
    Case("T305", "model.gguf", put("tokenizer.ggml.eos_token_id", (U32, 9999)), "is 9,999, and there are 264 tokens"),
    Case("T305", "model.gguf", put("tokenizer.ggml.fim_pre_token_id", (U32, 9999)), "fim_pre_token_id': is 9,999"),
    Case("T305", "model-hf", lambda m: m.files["tokenizer_config.json"].update(eos_token="<|no|>"), "as eos"),
    Case("T305", "model-hf", lambda m: m.files.update({"generation_config.json": {"eos_token_id": [263, 9999]}}),
         "is 9,999, and there are 264 tokens"),
    Case("T306", "model-hf", lambda m: m.files["tokenizer_config.json"].update(eos_token="the"), "ordinary token"),
    Case("T306", "model-hf", put("eos_token_id", 65), "T306 key 'eos_token_id': is 65, the ordinary token 'A'"),
    Case("T306", "model-hf", lambda m: m.files.update({"generation_config.json": {"eos_token_id": [263, 65]}}),
         "generation_config.json:1: T306 key 'eos_token_id': is 65, the ordinary token 'A'"),
    Case("T306", "model.gguf", put("tokenizer.ggml.eos_token_id", (U32, 65)), "is 65, the ordinary token 'A'"),
    Case("T307", "model.gguf", listed(MERGES, lambda m: m.append("zz q")), "'zz q' joins what are no tokens"),
    Case("T307", "model-hf", lambda m: m.files["tokenizer.json"]["model"].update(merges=[]), "are none, and 5 tokens"),
    Case("T307", "model.gguf", drop(MERGES), "is missing; llama.cpp refuses"),
    Case("T307", "model.gguf", pieces(drop("tokenizer.ggml.scores")), "'tokenizer.ggml.scores': is missing"),
    Case("T308", "model.gguf", pieces(listed("tokenizer.ggml.token_type", lambda t: t.__setitem__(13, 1))),
         "'<0x0A>' (id 13) is NORMAL, and stands for a byte"),
    Case("T308", "model-hf", lambda m: next(added for added in m.files["tokenizer.json"]["added_tokens"]
         if added["id"] == 263).update(special=False), "mark '<|im_end|>' (id 263) as not special, and it is the eos"),
    Case("T308", "model.gguf", listed("tokenizer.ggml.token_type", lambda t: t.__setitem__(262, 1)), "is NORMAL"),
    Case("T308", "model.gguf", both(*(listed(f"tokenizer.ggml.{name}", lambda t, to=to: t.__setitem__(263, to))
         for name, to in (("tokens", "[EOS]"), ("token_type", 1))),
         put("tokenizer.chat_template", (TEXT, "{{ messages }}"))), "'[EOS]' (id 263) is NORMAL"),
    Case("T309", "model-hf", lambda m: m.files["tokenizer.json"]["added_tokens"].append(
        m.files["tokenizer.json"]["added_tokens"][0] | {"id": 264, "content": "<new>"}), "'<new>' has none"),
    Case("T310", "model.gguf", put("tokenizer.chat_template", (TEXT, "{% for m in messages %}")), "does not parse"),
    Case("T310", "model.apr", put("tokenizer.chat_template", {"default": 3}), "and must be a text"),
    Case("T310", "model-hf", lambda m: m.files["tokenizer_config.json"].update(chat_template=3),
         "tokenizer_config.json:58: T310 key 'chat_template': is 3, and must be a text"),
    Case("T310", "model-hf", said="chat_template.jinja: T310", broken=in_folder("chat_template.jinja", b"\xff\xfe{")),
    Case("T310", "model-hf", said="chat_template.jinja: T310 key 'chat_template': does not parse",
         broken=in_folder("chat_template.jinja", b"{% for m in messages %}")),
    Case("T311", "model.gguf", put("tokenizer.chat_template", (TEXT, "<|user|>{{ messages }}")), "writes <|user|>"),
    Case("T311", "model.apr", put("chat_template", "{{ messages }}<end_of_turn>"), "writes <end_of_turn>"),
    Case("T312", "model.gguf", lambda m: m.keys[TOKENS][1][1].__setitem__(
        slice(0, 256), [f"{byte:02x}" for byte in range(256)]), "holds 256 of the 256 bytes in hex"),
    Case("T316", "model.gguf", listed("tokenizer.ggml.token_type", lambda t: t.__setitem__(256, 99)),
         "'th' (id 256) is of type 99"),
    Case("T316", "model.apr", put("tokenizer.token_type", [1] * 200 + [-1] * 64), "63 more are of none"),
    Case("T317", "model.gguf", put("general.name", (TEXT, "my Phi-3")), "llama.cpp looks in the vocabulary"),
    Case("V401", "model.gguf", tensor(Q, ranked(float("nan"))), "1 of 1,024 values are NaN or Inf"),
    Case("V401", "model.gguf", tensor(DOWN, lambda t: quantised(0x7C00)), "the scales of 1 of 2 blocks are NaN or Inf"),
    Case("V402", "model.gguf", tensor(Q, lambda t: PlainTensor(t.dtype, t.dims, bytes(len(t.data)))), "all its 1,024"),
    Case("V402", "model.gguf", tensor(Q, lambda t: PlainTensor(t.dtype, t.dims, t.data[:-128] + bytes(128))),
         "2 of its rows are all zero, the first is row 30"),
    Case("V402", "model.gguf", tensor(NORM, lambda t: f32(np.zeros(HIDDEN))), "all its 32 values are zero"),
    Case("V403", "model.gguf", tensor(Q, lambda t: PlainTensor(t.dtype, t.dims, t.data[:-64] + b"\0\x3c" * 32)),
         "1 of its rows hold one value each, the first is row 31"),
    Case("V404", "model.gguf", tensor(NORM, lambda t: f32(np.full(HIDDEN, 5000.0))), "a norm's rms is"),
    Case("V404", "model.gguf", tensor(NORM, lambda t: f32(np.full(HIDDEN, 1e30))), "a norm's rms is"),
    Case("V405", "model-hf", added("x.weight", PlainTensor("BF16", BIG.shape, f16(BIG * 10).data)), "are those of F16"),
    Case("V405", "model.gguf", added("blk.0.attn_q_norm.weight",
         PlainTensor("F16", BIG.shape, bf16(BIG).data)), "its exponents are those of BF16"),
    Case("V405", "model-hf", added("x.weight", PlainTensor("BF16", BIG.shape, f16(BIG).data)), "are those of F16"),
    Case("V406", "model-hf", added("x.weight", PlainTensor("F32", BIG.shape, BIG.byteswap().tobytes())), "turned"),
    Case("V406", "model-hf", added("x.weight", PlainTensor("F16", BIG.shape,
         BIG.astype(np.float16).byteswap().tobytes())), "turned round"),
    Case("V407", "model.gguf", tensor(Q, ranked(65504.0)), "1 values are exactly ±65,504"),
    Case("V408", "model-hf", added("x.weight", flushed(values(512, 256, std=0.02))), "no value lies below 2⁻¹⁴"),
    Case("V409", "model-hf", added("x.weight", bf16(values(512, 512), cut=True)), "cutting 1"),
    Case("V410", "model-hf", lambda m: m.tensors.update({"lm_head.weight": f16(values(264, HIDDEN, seed=9))}),
         "is said to be 'model.embed_tokens.weight', and differs"),
]  # fmt: skip
# What one fault entails is no surprise: a shape that contradicts one key contradicts others that are worked out of it.
ENTAILED = {
    "F104": {"F106", "F107", "V404"}, "F105": {"F107"}, "F107": {"F109"}, "F108": {"F109"},
    "F120": {"F108"}, "C201": {"C203", "C202"}, "C204": {"C212"}, "C205": {"C213"}, "C207": {"T301", "T309", "C220"},
    "C208": {"C205"}, "C210": {"C205", "C213", "C220"}, "C220": {"C205"}, "T303": {"T307", "T302"},
    "T302": {"T303", "T307", "T309"}, "T312": {"T307"}, "V401": {"C206", "C220", "V403"}, "V405": {"F118", "V406"},
    "V406": {"V401", "V405", "V408"}, "F122": {"C202", "F109", "F118"},
    "F115": {"C207"}, "F117": {"V404"}, "T301": {"C207"}, "V407": {"V405"},
}  # fmt: skip


def found_in(path: Path, *, values: bool = True) -> list[Found]:
    """Everything that the rules say of a file."""
    return list(linted(path, rules=selected_rules(), values=values))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_a_fault_is_found_by_its_rule(tmp_path: Path, case: Case) -> None:
    suffix = Path(case.name).suffix
    model = next(base for name, base in BASES.items() if Path(name).suffix == suffix)()
    case.edit(model)
    path = written(model, tmp_path / case.name)
    case.broken(path)
    found = found_in(path)
    lines = [one.line() for one in found]
    assert any(one.rule.id == case.rule and case.said in one.line() for one in found), lines
    others = {one.rule.id for one in found} - {case.rule} - ENTAILED.get(case.rule, set())
    assert not others, lines


@pytest.mark.parametrize("name", BASES)
def test_a_sound_model_breaks_no_rule(tmp_path: Path, name: str) -> None:
    assert [one.line() for one in found_in(written(BASES[name](), tmp_path / name))] == []


def test_a_gguf_file_called_safetensors_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(gguf_bytes(plain_gguf()))
    lines = [found.line() for found in found_in(path)]
    assert lines == [f"{path}: F110 its name ends in .safetensors, and it is a file of GGUF"]


def test_an_end_in_config_json_counts_only_where_generation_config_json_has_none(tmp_path: Path) -> None:
    model = plain_folder()
    model.keys["eos_token_id"] = 65
    model.files["generation_config.json"] = {"eos_token_id": 263}
    assert [found.line() for found in found_in(written(model, tmp_path / "model-hf"))] == []


def test_a_file_of_a_vocabulary_alone_lacks_no_experts(tmp_path: Path) -> None:
    model = plain_gguf()
    model.keys |= {"llama.expert_count": (U32, 4), "llama.expert_used_count": (U32, 2)}
    model.tensors.clear()
    assert [found.line() for found in found_in(written(model, tmp_path / "model.gguf"))] == []


def test_every_rule_is_seen_to_fire() -> None:
    by_text = {"T313", "T314"}  # see test_health.py
    # below: the base writer sorts; tests/tokenizer/test_own_cuts.py; test_quantised.py
    made_elsewhere = {"F106", "T315", "C224"}
    assert {case.rule for case in CASES} | by_text | made_elsewhere == {
        loaded.rule.id for loaded in all_rules()
    }


def test_an_index_that_is_not_sorted_is_found(tmp_path: Path) -> None:
    model = plain_gguf()
    first, second = list(model.tensors)[:2]
    sizes = [len(model.tensors[name].data) for name in (first, second)]
    model.offsets = {first: -(-sizes[1] // 32) * 32, second: 0}
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(model))
    assert any(one.rule.id == "F106" and one.fault.tensor == second for one in found_in(path))


@pytest.mark.parametrize("name", BASES)
def test_a_fault_of_a_key_says_the_byte_where_it_stands(tmp_path: Path, name: str) -> None:
    model = BASES[name]()
    model.keys |= {"llama.rope.freq_base": (F32, 1.0)} if name == "model.gguf" else {"rope_theta": 1.0}
    path = written(model, tmp_path / name)
    found = [one for one in found_in(path) if one.rule.id == "C212"]
    raw = (path / "config.json" if path.is_dir() else path).read_bytes()
    assert found, [one.line() for one in found_in(path)]
    for one in found:
        assert one.fault.byte is not None
        assert (one.fault.key or "").encode() in raw[one.fault.byte : one.fault.byte + 60]


def test_a_fault_says_the_byte_where_it_lies(tmp_path: Path) -> None:
    model = plain_gguf()
    tensor(Q, ranked(float("inf"), at=5))(model)
    path = written(model, tmp_path / "model.gguf")
    (found,) = found_in(path)
    assert found.fault.byte is not None
    assert path.read_bytes()[found.fault.byte : found.fault.byte + 2] == np.float16(np.inf).tobytes()
    put("llama.rope.freq_base", (U32, 10000))(model)
    (typed, *_) = (one for one in found_in(written(model, path)) if one.rule.id == "C204")
    assert path.read_bytes()[typed.fault.byte or 0 :][8:28] == b"llama.rope.freq_base"


def test_values_are_read_only_where_they_are_asked_for(tmp_path: Path) -> None:
    model = plain_gguf()
    tensor(Q, ranked(float("nan")))(model)
    assert found_in(written(model, tmp_path / "model.gguf"), values=False) == []


def test_array_types_have_rules_of_their_own(tmp_path: Path) -> None:
    model = plain_gguf()
    put("llama.attention.head_count_kv", (ARRAY, (U32, [2, 2])))(model)
    put("llama.feed_forward_length", (ARRAY, (U32, [64, 64])))(model)
    assert [one.line() for one in found_in(written(model, tmp_path / "model.gguf"))] == []


def test_zeros_that_llama_cpp_writes_of_what_a_model_has_not_are_no_fault(tmp_path: Path) -> None:
    model = plain_gguf()
    model.keys["llama.attention.layer_norm_epsilon"] = (F32, 0.0)
    model.keys["llama.rope.scaling.factor"] = (F32, 0.0)
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(model))
    assert not {"C211", "C216"} & {
        found.rule.id for found in linted(path, rules=selected_rules(), values=False)
    }


def test_an_architecture_that_is_run_here_is_known_before_gguf_py_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = plain_gguf()
    put("general.architecture", (TEXT, "qwen9"))(model)
    path = written(model, tmp_path / "model.gguf")
    assert "C201" in {one.rule.id for one in found_in(path)}
    own = find_architecture("llama")
    assert own is not None
    newer = replace(own, name="qwen9", gguf="qwen9")
    monkeypatch.setattr(subject, "find_architecture", {"qwen9": newer}.get)
    assert "C201" not in {one.rule.id for one in found_in(path)}


def test_what_may_be_there_by_a_name_that_nothing_knows_is_not_called_missing(tmp_path: Path) -> None:
    model = plain_folder()
    renamed("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.wide.weight")(model)
    assert "C222" not in {
        one.rule.id for one in found_in(written(model, tmp_path / "model-hf"), values=False)
    }


def test_apart_q_k_and_v_are_no_fault_where_llama_cpp_takes_either(tmp_path: Path) -> None:
    model = plain_gguf()
    called("starcoder2")(model)
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(model))
    assert "C227" not in {one.rule.id for one in found_in(path, values=False)}


def test_names_of_an_architecture_that_is_not_known_are_not_judged(tmp_path: Path) -> None:
    model = plain_gguf()
    model.keys["general.architecture"] = (TEXT, "of_tomorrow")
    model.tensors["output_hc_fn.weight"] = f32(np.ones((2, 2), np.float32))
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(model))
    assert "F118" not in {found.rule.id for found in found_in(path, values=False)}


@pytest.mark.parametrize("said", [{"global_head_dim": 8}, {"per_layer_config": {"1": {"head_dim": 8}}}])
def test_heads_of_another_size_in_layers_without_a_window_are_no_fault(
    tmp_path: Path, said: dict[str, object]
) -> None:
    """As Gemma 4's config.json says them, published and as transformers 5 saves it."""
    model = plain_folder()
    model.keys |= {"head_dim": 4, **said}
    found = linted(written(model, tmp_path / "model-hf"), rules=selected_rules(), values=False)
    assert "C205" not in {one.rule.id for one in found}


def test_a_dense_network_that_is_as_wide_as_its_model_is_no_fault(tmp_path: Path) -> None:
    model = plain_gguf()
    model.keys = {
        "general.architecture": (TEXT, "arctic"),
        "arctic.feed_forward_length": (U32, 3 * HIDDEN),
    }
    model.tensors = {"blk.0.ffn_down.weight": f32(np.ones((HIDDEN, HIDDEN), np.float32))}
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(model))
    assert "C206" not in {found.rule.id for found in found_in(path, values=False)}


def test_bases_that_each_layer_has_its_own_of_are_no_fault(tmp_path: Path) -> None:
    """As Step 3.5's config.json lists them, one of each kind of layer; another list is no text, either."""
    for layers in (["full_attention", "sliding_attention"], None):
        model = plain_folder()
        model.keys |= {"rope_theta": [5e6, 1e4]} | ({} if layers is None else {"layer_types": layers})
        path = written(model, tmp_path / f"{layers is None}-hf")
        assert list(linted(path, rules=selected_rules(), values=True)) == []


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 1000\n"


@pytest.mark.parametrize(
    ("shard", "content", "rule", "said"),
    [
        (1, None, "F112", "model-00001-of-00003.gguf is missing"),
        (2, None, "F112", "model-00002-of-00003.gguf is missing"),
        (2, b"", "F101", "is empty"),
        (2, POINTER, "F102", "is a Git LFS pointer"),
        (3, b"<!DOCTYPE html><html>", "F113", "does not begin as a GGUF file does"),
    ],
)
def test_shards_of_a_gguf_are_linted_by_the_first_that_is_there(
    tmp_path: Path, shard: int, content: bytes | None, rule: str, said: str
) -> None:
    whole = build(tmp_path, tiny("llama"), "gguf:F16")
    parts = tmp_path / "parts"
    parts.mkdir()
    convert(str(whole), parts / "model.gguf", Options(), verify=False, split_bytes=100_000)
    damaged = parts / f"model-0000{shard}-of-00003.gguf"
    if content is None:
        damaged.unlink()
    else:
        damaged.write_bytes(content)
    (model,) = models_below(parts)
    (found,) = linted(model, rules=selected_rules(), values=False)
    assert found.rule.id == rule
    assert said in found.line()
