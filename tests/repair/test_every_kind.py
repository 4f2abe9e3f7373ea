"""Every kind of finding that has a repair, in every form of file: planted, and the clean file given back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures import Llama3Scaling, ModelSpec, build, contents, faults, model_spec
from fixtures.adapters import write_adapter
from fixtures.architectures import RECIPES
from fixtures.comparing import tiny
from fixtures.contents import FileContents
from fixtures.pairs import place
from fixtures.recipes import build_folder
from fixtures.restating import restated, sharded
from rosetta import cli
from rosetta.compare.options import Options
from rosetta.compare.settings import agree
from rosetta.containers.gguf.writer import write_gguf
from rosetta.diagnose.kinds import all_kinds
from rosetta.model import open_model
from rosetta.names import LAYER
from rosetta.repair.repair import repair_operands
from rosetta.repair.text import render
from rosetta.settings_table import SETTINGS
from tests.diagnose.hypotheses.test_adapter_beside import wrapped
from tests.diagnose.hypotheses.test_alignment import SPEC as PADDED
from tests.diagnose.hypotheses.test_alignment import padded_to_more
from tests.repair.conftest import Repair, tensors

FORMS = ("hf", "hf-sharded", "gguf", "gguf-split", "apr")
BELIEVED = {"hf": "gguf", "gguf": "hf", "apr": "gguf"}
TOKENS = ",".join(str((37 * n + 5) % 380) for n in range(24))
Fault = Callable[[FileContents], FileContents]
UP, LATER = "blk.1.ffn_up.weight", "blk.1.attn_k.weight"  # of the second shard


def _norm_folded(file: FileContents) -> FileContents:
    norm = file.values("blk.1.ffn_norm.weight")
    for name in (UP, "blk.1.ffn_gate.weight"):
        file = file.with_values(name, file.values(name) * norm)
    return file.with_values("blk.1.ffn_norm.weight", np.ones_like(norm))


@dataclass(frozen=True)
class Planted:
    """A fault of contents that are about to be written.

    Args:
        fault: what is planted.
        spec: the model.
        dtype: of its matrices, in all forms or by container.
        forms: those that can have it.
        exact: whether the clean file's tensors come back bit for bit.
        prompt: a text, where tokens are not enough.
        everywhere: what all files have beside that.
    """

    fault: Any
    spec: ModelSpec = field(default_factory=lambda: tiny("llama", layers=2))
    dtype: str | Mapping[str, str] = "F32"
    forms: tuple[str, ...] = FORMS
    exact: bool = True
    prompt: str | None = None
    everywhere: tuple[Fault, ...] = ()

    def files(self, folder: Path, form: str) -> tuple[Path, Path, Path]:
        """The wrong file, the clean one, and the believed one."""
        own = form.partition("-")[0]
        planted = [self.fault] if callable(self.fault) else self.fault
        wrong, clean = (self._file(form, [*self.everywhere, *made]) for made in (planted, ()))
        believed = place(folder / "believed", self._file(BELIEVED[own], self.everywhere), "model")
        return _written(folder / "wrong", wrong, form), _written(folder / "clean", clean, form), believed

    def _file(self, form: str, planted: Any) -> FileContents:
        own = form.partition("-")[0]
        dtype = self.dtype if isinstance(self.dtype, str) else self.dtype[own]
        return contents(self.spec, f"{form.replace('gguf-split', 'gguf')}:{dtype}", planted)


def _written(folder: Path, file: FileContents, form: str) -> Path:
    if form != "gguf-split":
        return place(folder, file, "model")
    folder.mkdir()
    first, *others = write_gguf(folder / "m.gguf", file.metadata, file.tensors.values(), split_max_tensors=7)
    assert others
    return first


@dataclass(frozen=True)
class Restated:
    """Another value of a key, of a model of some architecture.

    Args:
        recipe: of the model.
        folder, gguf, apr: the file's own keys; none: that container is left out.
    """

    recipe: str
    folder: Mapping[str, Any] = field(default_factory=dict)
    gguf: Mapping[str, Any] = field(default_factory=dict)
    apr: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True
    prompt: None = None

    @property
    def forms(self) -> tuple[str, ...]:
        return tuple(form for form in FORMS if self._changes(form) and form != "gguf-split")

    def _changes(self, form: str) -> Mapping[str, Any]:
        return {"hf": self.folder, "gguf": self.gguf, "apr": self.apr}[form.partition("-")[0]]

    def files(self, folder: Path, form: str) -> tuple[Path, Path, Path]:
        own = form.partition("-")[0]
        clean, believed = _converted(self.recipe, own), _converted(self.recipe, BELIEVED[own])
        if form == "hf-sharded":
            clean = sharded(clean, folder / "clean")
        return restated(clean, folder / f"wrong{clean.suffix}", self._changes(form)), clean, believed


@dataclass(frozen=True)
class Wrapped:
    """A folder saved with an adapter around its modules, beside the base that it was trained on."""

    forms: tuple[str, ...] = ("hf",)
    exact: bool = True
    prompt: None = None

    def files(self, folder: Path, form: str) -> tuple[Path, Path, Path]:
        clean = build(folder / "clean", tiny("llama", hidden=128, ffn=192, tied=False), f"{form}:F32")
        adapter = write_adapter(folder / "adapter", clean, layers=2)
        return wrapped(folder / "wrong", clean, adapter), clean, clean


@dataclass(frozen=True)
class Limited:
    """Other limits of the time steps, which GGUF has no place for: the believed one is a folder, too."""

    forms: tuple[str, ...] = ("hf", "apr")
    exact: bool = True
    prompt: None = None

    def files(self, folder: Path, form: str) -> tuple[Path, Path, Path]:
        limits = {"time_step_limit": [0.001, 0.1]}
        paths = [_converted("mamba2", own) for own in (form, "hf")]
        clean, believed = (
            restated(path, folder / f"clean{n}{path.suffix}", limits) for n, path in enumerate(paths)
        )
        wrong = restated(clean, folder / f"wrong{clean.suffix}", {"time_step_limit": [0.001, 0.02]})
        return wrong, clean, believed


@dataclass(frozen=True)
class Damaged:
    """Other values of a tensor, of a model of some architecture.

    Args:
        recipe: of the model.
        folder, gguf: what its files call the tensor; an `.apr` is made of the damaged folder.
        edit: stored values -> damaged ones.
        exact: see `Planted`.
    """

    recipe: str
    folder: str | None
    gguf: str
    edit: Callable[[Any], Any]
    exact: bool = True
    prompt: None = None

    @property
    def forms(self) -> tuple[str, ...]:
        return ("hf", "hf-sharded", "gguf", "apr") if self.folder else ("gguf",)

    def files(self, folder: Path, form: str) -> tuple[Path, Path, Path]:
        own = form.partition("-")[0]
        clean, believed = _converted(self.recipe, own), _converted(self.recipe, BELIEVED[own])
        if form == "gguf":
            return self._gguf(clean, folder / "wrong.gguf"), clean, believed
        wrong = self._folder(_converted(self.recipe, "hf"), folder / "wrong")
        if form == "apr":
            cli.run(["convert", str(wrong), str(folder / "wrong.apr"), "-q"])
            return folder / "wrong.apr", clean, believed
        if form == "hf-sharded":
            return sharded(wrong, folder / "shards"), sharded(clean, folder / "clean"), believed
        return wrong, clean, believed

    def _gguf(self, clean: Path, target: Path) -> Path:
        copy(clean, target)
        reader = gguf.GGUFReader(target, "r+")
        data = next(tensor for tensor in reader.tensors if tensor.name == self.gguf).data
        data[...] = self.edit(data.copy())
        reader.data.flush()
        return target

    def _folder(self, clean: Path, target: Path) -> Path:
        copytree(clean, target)
        held = load_file(target / "model.safetensors")
        assert self.folder is not None
        values = np.ascontiguousarray(self.edit(held[self.folder].numpy().copy()))
        held[self.folder] = torch.from_numpy(values)
        save_file(held, target / "model.safetensors", {"format": "pt"})
        return target


@dataclass(frozen=True)
class Padded:
    """A GGUF file that does not state the alignment that it was written with."""

    forms: tuple[str, ...] = ("gguf",)
    exact: bool = True
    prompt: None = None

    def files(self, folder: Path, form: str) -> tuple[Path, Path, Path]:
        paths = [build(folder, PADDED, "gguf:F32", stem=stem) for stem in ("wrong", "clean", "believed")]
        padded_to_more(paths[0])
        return paths[0], paths[1], paths[2]


@pytest.fixture(scope="module", autouse=True)
def _converted_here(tmp_path_factory: pytest.TempPathFactory) -> None:
    PLACE.append(tmp_path_factory.mktemp("converted"))


PLACE: list[Path] = []


@cache
def _converted(recipe: str, container: str) -> Path:
    """A recipe's model in a container."""
    folder = PLACE[-1] / f"{recipe}-hf"
    if container == "hf":
        return build_folder(folder, RECIPES[recipe])
    target = PLACE[-1] / f"{recipe}.{container}"
    assert cli.run(["convert", str(_converted(recipe, "hf")), str(target), "-q"]) in (0, 1)
    return target


def _edited(name: str, edit: Callable[[Any], Any]) -> Fault:
    return lambda file: file.with_values(name, np.asarray(edit(file.values(name)), np.float32))


def _added(values: Any) -> Any:
    draw = np.random.default_rng(3)
    rows, columns = (np.sign(draw.standard_normal((size, 4))) for size in values.shape)
    return values + 0.02 * rows @ columns.T


def _bytes(name: str, edit: Callable[[Any], Any]) -> Fault:
    def fault(file: FileContents) -> FileContents:
        data = file.tensor(name).data.reshape(-1).view(np.uint8)
        return file.with_tensor(name, data=np.ascontiguousarray(edit(data)))

    return fault


def _template(text: str) -> Fault:
    """Conversations are written so."""

    def fault(file: FileContents) -> FileContents:
        if file.container != "hf":
            key = "tokenizer.chat_template" if file.container == "gguf" else "chat_template"
            return file.with_metadata(lambda metadata: metadata.update({key: text}))
        files = dict(file.files or {})
        stated = json.loads(files.get("tokenizer_config.json", "{}")) | {"chat_template": text}
        return replace(file, files={**files, "tokenizer_config.json": json.dumps(stated)})

    return fault


def _side_by_side(values: Any) -> Any:
    """Four rows, eight weights of each in turn."""
    rows, columns = values.shape
    return values.reshape(rows // 4, 4, columns // 8, 8).swapaxes(1, 2).reshape(rows, columns)


def _first_half_twice(values: Any) -> Any:
    half = len(values) // 2
    return np.concatenate([values[:half], values[:half]])


def _layers_one_on(file: Any) -> Any:
    """Each layer holds the tensors of the next one, the last those of the first."""
    tensors, count = dict(file.tensors), file.spec.layers
    for name, own in file.tensors.items():
        if (found := LAYER.match(name)) is not None:
            next_one = file.tensors[f"blk.{(int(found[1]) + 1) % count}.{found[2]}"]
            tensors[name] = replace(own, data=next_one.data)
    return replace(file, tensors=tensors)


WITH_KEYS = ("gguf", "gguf-split", "apr")  # for a tokenizer's facts, which a folder keeps in another form
LLAMA31 = model_spec("llama", rope_scaling=Llama3Scaling())
UNTIED, TIED = (tiny("llama", layers=2, tied=tied) for tied in (False, True))
FOLDERS = ("hf", "hf-sharded")
NOT_FOLDERS = ("gguf", "gguf-split", "apr")
TALK = "{{ messages[0].content }}"
GPT2 = tiny("gpt2", layers=2)
BLOCKS = model_spec("qwen2")
PROMPT = "Hello world, it's 2+2= 12345 and so on"
NOT_SHARDED = ("hf", "gguf", "gguf-split", "apr")

Case = Planted | Restated | Wrapped | Damaged | Padded | Limited
CASES: dict[str, list[Case]] = {
    "config.norm_epsilon": [Planted(faults.norm_epsilon(1e-2)), Planted(faults.norm_epsilon(1e-1), GPT2)],
    "config.rope_theta": [Planted(faults.rope_theta(500.0))],
    "config.rope_scaling": [
        Planted(faults.rope_scaling_lost(), LLAMA31),
        Planted(faults.rope_scaling_added(4.0)),
        Restated("llama-rope-yarn", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
                 {"rope.scaling.type": None, "rope.scaling.factor": None}, {"rope_parameters": None}),
    ],
    "config.rope_dimensions": [
        Planted(faults.rope_dimensions(32), model_spec("llama"), forms=NOT_FOLDERS),
        Restated("glm4", {"rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.25}}),
    ],
    "config.activation": [Planted(faults.activation("gelu"), forms=("hf", "hf-sharded", "apr"))],
    "config.embedding_length": [Planted(faults.config_set("embedding_length", 512))],
    "config.feed_forward_length": [Planted(faults.config_set("feed_forward_length", 512))],
    "config.vocab_size": [Planted(faults.config_set("vocab_size", 300))],
    "config.rope_type": [Planted(faults.rope_type(0), forms=("apr",))],
    "config.attention_scale": [
        Planted(faults.attention_scale(0.5), forms=NOT_FOLDERS),
        Restated("granite", {"attention_multiplier": 0.5}),
    ],
    "config.sliding_window": [Planted(faults.sliding_window(4), tiny("mistral", layers=2))],
    "config.head_dim": [Planted(faults.config_set("attention.key_length", 32), model_spec("qwen3", layers=2))],
    "config.head_count": [Planted(faults.head_count(2))],
    "config.head_count_kv": [Planted(faults.head_count_kv(4))],
    "config.layer_count": [Planted(faults.layer_count(1)), Planted(faults.layer_dropped(1), exact=False)],
    "config.tied_embeddings": [
        Planted(faults.dropped("output.weight"), UNTIED, forms=WITH_KEYS),
        Planted(faults.config_set("tied_embeddings", False), TIED, forms=FOLDERS),
    ],
    "config.architecture": [Planted(faults.architecture("qwen2"), forms=("gguf", "gguf-split"))],
    "config.layer_pattern": [
        Restated("gemma2", {"layer_types": 2 * ["full_attention", "sliding_attention"]}, {},
                 {"layer_types": 2 * ["full_attention", "sliding_attention"]}),
    ],
    "config.alibi": [
        # MPT's class in transformers heeds neither key, so no folder can be wrong.
        Restated("mpt-clip", {}, {"attention.max_alibi_bias": 16.0}, {"attn_config.alibi_bias_max": 16}),
    ],
    "config.clamp_kqv": [
        Restated("mpt-clip", {"attn_config.clip_qkv": None}, {"attention.clamp_kqv": 0.5},
                 {"attn_config.clip_qkv": 0.5}),
    ],
    "config.state_size": [
        Restated("mamba2", {"state_size": 32}, {"ssm.state_size": 32}, {"state_size": None}),
        Restated("mamba2", {"expand": 4}, {"ssm.inner_size": 256}, {"expand": 4}),
        Restated("mamba2", {"num_heads": 16}, {"ssm.time_step_rank": 16}, {"num_heads": None}),
        Restated("mamba2", {"n_groups": None}, {"ssm.group_count": 4}, {"n_groups": None}),
    ],
    "config.softcap": [
        Restated("gemma2", {"attn_logit_softcapping": 25.0}, {"attn_logit_softcapping": 25.0},
                 {"attn_logit_softcapping": 25.0}),
        Restated("gemma2", {"final_logit_softcapping": 15.0}, {"final_logit_softcapping": 15.0},
                 {"final_logit_softcapping": 15.0}),
    ],
    "config.experts_used": [
        Restated("qwen3moe", {"num_experts_per_tok": 4}, {"expert_used_count": 4}, {"num_experts_per_tok": 4}),
    ],
    "config.expert_weights": [
        Restated("qwen3moe", {"norm_topk_prob": False}, {}, {"norm_topk_prob": False}),
        Restated("deepseek2-v3", {}, {"expert_weights_norm": False}),  # of Qwen's llama.cpp does not read it
    ],
    "config.expert_gating": [
        Restated("deepseek2-v3", {}, {"expert_gating_func": 1}, {"scoring_func": "softmax"}),
    ],
    "config.expert_groups": [
        Restated("deepseek2-v3", {"topk_group": 1}, {"expert_group_used_count": 1}, {"topk_group": 1}),
    ],
    "config.residual_scale": [
        Restated("granite", {"residual_multiplier": 0.5}, {"residual_scale": 0.5}, {"residual_multiplier": 0.5}),
    ],
    "config.embedding_scale": [
        Restated("granite", {"embedding_multiplier": 2.0}, {"embedding_scale": 2.0}, {"embedding_multiplier": 2.0}),
    ],
    "config.logit_scale": [
        Restated("granite", {"logits_scaling": 2.0}, {"logit_scale": 2.0}, {"logits_scaling": 2.0}),
    ],
    "config.parallel_residual": [
        Restated("gptneox", {"use_parallel_residual": False}, {"use_parallel_residual": False},
                 {"use_parallel_residual": False}),
    ],
    "config.attention_temperature": [
        Restated("mistral4-beta", {"rope_parameters.llama_4_scaling_beta": 0.5},
                 {"attention.temperature_scale": 0.5}, {"rope_parameters.llama_4_scaling_beta": 0.5}),
    ],
    "config.time_steps": [Limited()],
    "layout.expert_order": [
        Damaged("qwen3moe", "model.layers.1.mlp.gate.weight", "blk.1.ffn_gate_inp.weight", lambda x: np.roll(x, 3, 0)),
        Damaged("qwen3moe", None, "blk.1.ffn_down_exps.weight", lambda x: np.roll(x, 3, 0)),
    ],
    "value.transformed": [
        Damaged("mamba2", "backbone.layers.1.mixer.A_log", "blk.1.ssm_a", lambda a: -np.exp(a), exact=False),
    ],
    "dtype.block_order": [
        Planted(faults.nibbles_reordered(UP), BLOCKS, {"gguf": "Q4_K", "apr": "APR_Q4", "hf": "F32"}, WITH_KEYS),
    ],
    "dtype.byte_order": [Planted(_bytes(UP, lambda data: data.reshape(-1, 4)[:, ::-1].reshape(-1)))],
    "dtype.mislabeled": [Planted(faults.bf16_as_f16(UP), dtype="F16", exact=False)],
    "layout.fused_order": [
        Planted(faults.fused_order("blk.1.attn_qkv.weight", "kqv"), GPT2, forms=(*FOLDERS, "gguf", "gguf-split")),
    ],
    "layout.flattened": [Planted(_edited(UP, lambda x: x.reshape(-1)))],
    "layout.layer_order": [Planted(_layers_one_on, tiny("llama", layers=3))],
    "value.repeated": [Planted(_edited(UP, _first_half_twice))],
    "layout.interleaved": [Planted(_edited(UP, _side_by_side))],
    "layout.permuted": [Planted(faults.features_permuted(UP, 0, 5))],
    "layout.rope_order": [Planted(faults.rope_order_changed("blk.1.attn_q.weight"))],
    "layout.shifted": [Planted(faults.shifted(UP, 16)), Padded()],
    "layout.transposed": [
        Planted(faults.transposed(LATER)),
        Planted(faults.transposed("blk.1.attn_q.weight", "as_expected")),
    ],
    "layout.dims_swapped": [Planted(faults.dims_swapped(LATER))],
    "value.swapped": [Planted(faults.swapped("blk.1.ffn_gate.weight", UP))],
    "value.offset": [Planted(faults.offset("blk.1.ffn_norm.weight", 1), exact=False)],
    "value.scaled": [Planted(faults.scaled(UP, -2))],
    "value.folded": [Planted(_norm_folded, exact=False)],
    "value.zeroed": [Planted(faults.zeroed(UP, 3, 9))],
    "value.clipped": [Planted(_edited(UP, lambda x: x.clip(-2 * x.std(), 2 * x.std())))],
    "value.nonfinite": [Planted(faults.nonfinite(UP, 70))],
    "value.low_rank": [Planted(_edited(UP, _added), tiny("llama", hidden=128, head_dim=32, ffn=192), exact=False)],
    "adapter.merge": [Wrapped()],
    "value.missing": [Planted(faults.dropped("blk.1.ffn_norm.weight")), Planted(faults.dropped(LATER))],
    "value.requantised": [Planted(faults.requantised(UP, 32))],
    "value.corrupted": [Planted(faults.corrupted(UP, 1000, 500, 1))],
    "tokenizer.vocabulary": [Planted(faults.tokens_exchanged(270, 300), prompt=PROMPT)],
    "tokenizer.merges": [Planted(faults.merges_lost(20), prompt=PROMPT)],
    "tokenizer.pre_tokenizer": [Planted(faults.pre_tokenizer("qwen2"), prompt=PROMPT, forms=WITH_KEYS)],
    "tokenizer.special_tokens": [Planted(faults.special_token_lost(0), prompt="<s>" + PROMPT, forms=WITH_KEYS)],
    "tokenizer.chat_template": [
        Planted(_template(TALK + "!"), prompt=PROMPT, everywhere=(_template("<s>" + TALK),)),
    ],
    "tokenizer.bos": [Planted(faults.bos_added(), prompt=PROMPT, forms=WITH_KEYS)],
}  # fmt: skip


def _all() -> Iterator[Any]:
    for kind, cases in CASES.items():
        for number, case in enumerate(cases):
            for form in case.forms:
                yield pytest.param(kind, case, form, id=f"{kind}-{number}-{form}")


NO_REPAIR = {
    "config.causal_mask": "it is read off a recorded run, which is no file to repair",
    "config.context_length": "nothing computes otherwise, so that no rerun proves it",
    "config.rope_sections": "a text shows of it a fourth section alone, which no published model has",
    "config.norm_type": "it comes with the architecture, whose name is repaired",
    "config.quantization": "packed weights are written by their own tools alone; the command says so and stops",
    "layout.reordered": "that would be a copy of the other file's tensor",
    "value.rotated": "nothing is wrong: one model in another basis",
    "value.other_weights": "that would be a copy of the other file; --allow-copy makes it and calls it one",
    "runtime.cache": "it is a runtime's",
    "runtime.precision": "it is a runtime's, and meant",
    "runtime.crash": "it is a runtime's",
    "unexplained": "no cause of it is proven",
}


def test_no_kind_is_left_out() -> None:
    assert set(CASES).isdisjoint(NO_REPAIR)
    assert set(CASES) | set(NO_REPAIR) == set(all_kinds())


@pytest.mark.requires_transformers
@pytest.mark.sample(10)
@pytest.mark.parametrize(("kind", "case", "form"), list(_all()))
def test_what_is_planted_is_repaired(tmp_path: Path, kind: str, case: Case, form: str) -> None:
    wrong, clean, believed = case.files(tmp_path, form)
    asked = {"prompt": case.prompt} if case.prompt else {"tokens": tuple(map(int, TOKENS.split(",")))}
    fixed = tmp_path / f"fixed{wrong.suffix}"
    done = repair_operands(str(wrong), str(believed), fixed, Options(**asked), allow_copy=True)
    said = render(done, str(fixed), ("before", "after"))
    assert kind in {found.kind for found in done.before.findings}, [f.message for f in done.before.findings]
    assert done.after is not None, said
    assert done.written is not None, said
    assert not done.written.unsaid, said
    assert done.after.verdict in ("match", "drift"), said
    assert not [f for f in done.after.findings if f.kind == kind], said
    held, meant = tensors(fixed), _tensors(clean, form)
    assert held.keys() == meant.keys(), said
    if case.exact:
        assert not {name for name in held if held[name] != meant[name]}, said
    found, right = open_model(fixed).config, open_model(clean).config
    assert not [key for key in found.keys() | right.keys() if not _alike(key, found, right)], said


def _tensors(path: Path, form: str) -> Any:
    files = sorted(path.parent.glob("*.gguf")) if form == "gguf-split" else [path]
    return {name: held for file in files for name, held in tensors(file).items()}


def _alike(key: str, found: Any, right: Any) -> bool:
    if key not in SETTINGS or SETTINGS[key].kind is None:
        return True
    return key in found and key in right and agree(key, found[key].value, right[key].value)


def test_what_a_file_has_no_place_for_is_said_and_nothing_is_written(tmp_path: Path, repair: Repair) -> None:
    spec = tiny("llama", layers=2)
    believed = build(tmp_path / "b", spec, "hf:F32", faults.activation("gelu"))
    run = repair(build(tmp_path / "a", spec, "gguf:F32"), believed, "--tokens", TOKENS)
    assert run.code == 1
    assert not run.fixed.exists()
    assert "Nothing was written: " in run.out
    assert "NOT REPAIRED: activation: rosetta does not write it into a GGUF file" in run.out
