"""Every architecture converted here and by llama.cpp's own converter: each key and each byte that differs has a reason.

Whatever differs without a reason that says otherwise, llama.cpp computes the same of both files, bit for bit. The
reasons for users stand in docs/repair.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from fixtures.architectures import CHECKPOINTS, RECIPES, build_tiny
from fixtures.llamacpp_converter import checkout, written_by_llamacpp
from fixtures.oracles import llamacpp_logits
from fixtures.published import published
from rosetta.compare.options import Options
from rosetta.convert import convert

pytestmark = [pytest.mark.sweep, pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31, 64, 12, 3, 3, 90, 21]


@dataclass(frozen=True)
class Reason:
    """Why something differs.

    Args:
        what: an expression that all of the difference's line matches, see `differences`.
        why: in words.
        of: an expression of the names of models; all where it is empty.
        theirs_is_wrong: whether llama.cpp computes another model of their file, or refuses it.
    """

    what: str
    why: str
    of: str = ""
    theirs_is_wrong: bool = False


SIZES = r"vocab_size|attention\.(key|value)_length|attention\.head_count_kv|rope\.(dimension_count|freq_base)(_swa)?"
EXPERTS = r"expert_(gating_func|weights_norm|weights_scale|shared_feed_forward_length|shared_count)"
REASONS = (
    Reason(r"[-+v] general\.(name|size_label)=.*", "says nothing of what is computed"),
    Reason(r"\+ general\.file_type=.*", "their converter leaves it out of some architectures"),
    Reason(
        r"\+ tokenizer\.ggml\.add_(bos|eos)_token=.*", "llama.cpp's default depends on tokenizer.ggml.pre"
    ),
    Reason(rf"\+ ({SIZES})=.*", "the number that llama.cpp takes without the key, or does not read"),
    Reason(rf"\+ ({EXPERTS})=.*", "the number that llama.cpp takes without the key, or does not read"),
    Reason(
        r"\+ attention\.(sliding_window|temperature_length)=.*",
        "llama.cpp does not read it of these",
        of=r"mistral|qwen2",
    ),
    Reason(r"[-+] attention\.layer_norm(_rms)?_epsilon=.*", "llama.cpp reads the one that the norms are of"),
    Reason(
        r"- (nextn_predict_layers|expert_count|expert_used_count|attention\.sliding_window)=0",
        "taken without the key",
    ),
    Reason(r"- expert_group(_used)?_count=1", "one group is taken without the key", of="nemotron_h$"),
    Reason(r"- (expert_weights_norm|ssm\.dt_b_c_rms)=False", "taken without the key"),
    Reason(r"- rope\.scaling\.type=none", "nothing is scaled"),
    Reason(r"\+ rope\.scaling\.finetuned=True", "taken without the key", of="granite"),
    Reason(r"- n_deepstack_layers=0", "taken without the key", of="qwen3-asr"),
    Reason(
        r"v rope\.freq_base=.*|- rope\.scaling\.(factor|alpha|original_context_length)=.*",
        "llama.cpp works the base out of theirs, in float32",
        of="hunyuan-vl-four",
    ),
    Reason(
        r"- rope\.scaling\.(type=linear|factor=1\.0)", "nothing is scaled by a factor of one", of="codeshell"
    ),
    Reason(r"- rope\.scaling\.original_context_length=.*", "read only with factors or YaRN", of="phi"),
    Reason(r"- residual_scale=.*", "what llama.cpp takes without the key", of="minicpm"),
    Reason(r"- tensor_data_layout=.*", "llama.cpp does not read it"),
    Reason(
        r"- (leading_dense_block_count|moe_every_n_layers)=.*",
        "the tensors say which layers have experts",
        of="step35",
    ),
    Reason(
        r"- (expert_shared_count|expert_group_count|feed_forward_length)=.*",
        "llama.cpp reads the tensors' widths",
        of=r"hunyuan-moe|hy_v3|nemotron_h_moe|kimi|qwen35moe|ernie4_5-moe",
    ),
    Reason(
        r"v context_length=.*",
        "a default of the hybrids' for llama.cpp's context",
        of=r"granitehybrid|nemotron_h",
    ),
    Reason(
        r"v context_length=.*",
        "the width of the embedding where there is no seq_length: a slip",
        of=r"bloom|glm",
    ),
    Reason(
        r"v attention\.head_count_kv=.*", "a number, where a list says the same of all layers", of="step35"
    ),
    Reason(r"v activation_sparsity_scale=.*", "-inf and 0 both say that a layer is not sparse", of="gemma3n"),
    Reason(
        r"s blk\.\d+\.exp_probs_b\.bias .*|s .*\[(1, )*\d+(, \d+)*(, 1)*\].*",
        "trailing dims of one",
        of=r"ernie4_5-moe|kimi|jamba|mamba",
    ),
    Reason(
        r"b rope_freqs\.weight",
        "one unit of the last place: the order of roundings",
        of=r"llama|exaone|apertus",
    ),
    Reason(
        r"- attention\.scale=.*|\+ attention\.scale=.*",
        "what llama.cpp takes without the key, or does not read",
        of="gemma",
    ),
    Reason(
        r"\+ final_logit_softcapping=0\.0",
        "without the key llama.cpp takes 30",
        of="gemma4-nosoftcap",
        theirs_is_wrong=True,
    ),
    Reason(
        r"\+ attention\.sliding_window_pattern=.*",
        "their converter takes every fourth layer",
        of="laguna-pattern",
        theirs_is_wrong=True,
    ),
    Reason(
        r"\+ attention\.temperature_scale=.*",
        "their converter loses it",
        of="mistral4-beta",
        theirs_is_wrong=True,
    ),
    Reason(
        r"v rope\.scaling\.finetuned=.*",
        "their converter takes all hybrids to have no positions",
        of="granitehybrid-rope",
        theirs_is_wrong=True,
    ),
    Reason(
        r"v attention\.layer_norm_rms_epsilon=.*",
        "their converter reads layernorm_epsilon only",
        of="glm-eps",
        theirs_is_wrong=True,
    ),
    Reason(
        r"v rope\.dimension_count=.*|b blk\.\d+\.attn_[qk]\.weight",
        "their converter turns whole heads",
        of="bamba-partial",
        theirs_is_wrong=True,
    ),
    Reason(
        r"\+t blk\.\d+\.attn_(k|v|k_norm)\.weight",
        "llama.cpp asks for those of the layers that share them, too",
        of="gemma3n",
        theirs_is_wrong=True,
    ),
    Reason(
        r"\+ rope\.dimension_sections=.*",
        "llama.cpp asks for the sections that the class has without saying, and theirs has not",
        of="qwen3-asr",
        theirs_is_wrong=True,
    ),
    Reason(
        r"[-+v] .*layer_norm.*",
        "llama.cpp asks for the key that theirs has not",
        of="^qwen$",
        theirs_is_wrong=True,
    ),
)


def explained(name: str, line: str) -> Reason | None:
    """The reason of a difference; None where there is none."""
    fit = (one for one in REASONS if re.search(one.of, name) and re.fullmatch(one.what, line))
    return max(fit, key=lambda one: one.theirs_is_wrong, default=None)


def stated(reader: gguf.GGUFReader) -> dict[str, Any]:
    """Keys without the architecture's name, but for those that name it."""
    architecture = reader.fields["general.architecture"].contents()
    return {
        key.removeprefix(f"{architecture}."): field.contents()
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.")
    }


def differences(ours: Path, theirs: Path) -> Iterator[str]:
    """A line for each: `+` only ours, `-` only theirs, `v` another value; of tensors `+t`, `-t`, `d` dtype, `s` dims,
    `b` bytes."""
    a, b = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    left, right = stated(a), stated(b)
    for key in left | right:
        if key not in right:
            yield f"+ {key}={left[key]}"
        elif key not in left:
            yield f"- {key}={right[key]}"
        elif left[key] != right[key]:
            yield f"v {key}={left[key]} theirs {right[key]}"
    own, other = ({tensor.name: tensor for tensor in reader.tensors} for reader in (a, b))
    for name in own | other:
        if name not in other or name not in own:
            yield f"{'+' if name in own else '-'}t {name}"
        elif own[name].tensor_type != other[name].tensor_type:
            yield f"d {name}"
        elif list(own[name].shape) != list(other[name].shape):
            yield f"s {name} {[int(n) for n in own[name].shape]} {[int(n) for n in other[name].shape]}"
        elif own[name].data.tobytes() != other[name].data.tobytes():
            yield f"b {name}"


# Folders that their converter does not make of what transformers saves, and why.
NOT_COMPARED = {
    "exaone": "transformers saves llama's class, by which their converter goes",
    "sarvam-moe": "transformers saves GLM's class and names",
    "qwen3vlmoe": "transformers 5 saves stacked experts turned; their converter takes them as they were published",
    "hunyuan-dense-alpha": "their converter asserts the published context",
    "hunyuan-moe-alpha": "their converter asserts the published context and width of heads",
    "phimoe": "transformers saves no original context of its rotation, for which their converter asks",
    "mimo2": "their converter counts three layers that predict further tokens, which are not there",
    "minimax-m3-text": "their converter knows no folder of the part that reads alone",
    "kimi-linear": "transformers saves the dense layer under the experts' name",
    **dict.fromkeys(
        ("apertus1p5", "deepseek-ocr", "emu3", "ernie4_5-vl-moe", "gemma4-unified", "granite-docling",
         "phi4-multimodal", "qwen3-omni", "unlimited-ocr"),
        "their converter knows no such class",
    ),
}  # fmt: skip


UNKNOWN = "llama.cpp has no such architecture"
COMPARED = [name for name, recipe in RECIPES.items() if recipe.gguf != UNKNOWN and name not in NOT_COMPARED]


def converted(folder: Path, name: str, dtype: str = "f32") -> tuple[Path, Path]:
    """A recipe's folder as we convert it, and as llama.cpp's converter does."""
    sources = checkout()
    if sources is None:
        pytest.skip("LLAMA_CPP names no checkout of llama.cpp")
    source = build_tiny(folder / "hf", name)
    source = published(source, folder / "published") or source
    ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
    convert(str(source), ours, Options(), dtype=None if dtype == "f32" else dtype.upper(), verify=False)
    written_by_llamacpp(sources, source, theirs, dtype)
    return ours, theirs


@pytest.mark.parametrize("name", [*COMPARED, *CHECKPOINTS])
def test_every_difference_has_a_reason(tmp_path: Path, name: str) -> None:
    ours, theirs = converted(tmp_path, name)
    found = {line: explained(name, line) for line in differences(ours, theirs)}
    assert [line for line, reason in found.items() if reason is None] == []
    if any(reason is not None and reason.theirs_is_wrong for reason in found.values()):
        return
    rounded = any(line.startswith(("b rope_freqs", "v rope.freq_base")) for line in found)
    left, right = llamacpp_logits(ours, IDS), llamacpp_logits(theirs, IDS)
    assert np.abs(left - right).max() <= (1e-5 if rounded else 0)


@pytest.mark.parametrize("dtype", ["bf16", "f16", "q8_0"])
@pytest.mark.parametrize("name", [*COMPARED, *CHECKPOINTS])
def test_every_difference_of_encoded_files_has_a_reason(tmp_path: Path, name: str, dtype: str) -> None:
    """Which tensors stay F32, which blocks are written, and what is said of them."""
    ours, theirs = converted(tmp_path, name, dtype)
    assert [line for line in differences(ours, theirs) if explained(name, line) is None] == []
