"""Settings under a file's own spelling, read back by the containers' own readers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import Llama3Scaling, build, model_spec
from fixtures.architectures import RECIPES, build_tiny
from fixtures.recipes import build_folder
from rosetta.containers.container import Setting
from rosetta.containers.stand_in import StandIn
from rosetta.diagnose.stated_scaling import as_gguf, as_parameters
from rosetta.model import Model, build_model, open_model
from rosetta.repair.changes import Change, said
from rosetta.repair.settings import Settings
from rosetta.rope_scaling import RopeScaling, scaling_from_gguf, scaling_from_parameters

LLAMA31 = model_spec("llama", rope_scaling=Llama3Scaling(original_context=128), context=512)


def opened(folder: Path, kind: str, spec: Any = None, edit: Any = None) -> Model:
    """A model file of the kind, its metadata edited before anything reads it."""
    path = build(folder, spec or model_spec("llama"), f"{kind}:F16")
    if edit is not None:
        assert kind.startswith("hf")
        config = json.loads((path / "config.json").read_text())
        edit(config)
        (path / "config.json").write_text(json.dumps(config))
    return open_model(path)


def reread(model: Model, file: Settings) -> Model:
    """The model again, with the changed metadata in place of its own."""
    from rosetta.containers.apr.settings import apr_settings
    from rosetta.containers.huggingface.settings import huggingface_settings

    metadata, path = file.metadata, model.container.path
    found = (
        apr_settings(path, metadata, print) if file.kind == "apr" else huggingface_settings(path, metadata)
    )
    container = StandIn(model.container)
    container.path, container.metadata, container.settings = path, metadata, found
    return build_model(container)


@pytest.mark.parametrize("kind", ["apr", "hf", "hf-before-5"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.layer_norm_rms_epsilon", 0.25),
        ("rope.freq_base", 123456.0),
        ("activation", "gelu_tanh"),
        ("activation", "relu"),
        ("block_count", 1),
        ("attention.head_count_kv", 4),
        ("tied_embeddings", True),
        ("context_length", 77),
    ],
)
def test_what_is_written_is_read_back(tmp_path: Path, kind: str, key: str, value: Any) -> None:
    model = opened(tmp_path, kind)
    file = Settings(model.container, model.repaired({key: value}), model)
    assert file.write({key: value}) == []
    assert reread(model, file)[key] == value
    assert len(file.changes) == 1
    assert {k: v for k, v in model.config.items() if k not in (key, "rope.type")}.keys() <= reread(
        model, file
    ).config.keys()


@pytest.mark.parametrize("kind", ["apr", "hf", "hf-before-5"])
def test_scaling_is_written_and_taken_out(tmp_path: Path, kind: str) -> None:
    model = opened(tmp_path, kind, LLAMA31)
    assert model["rope.scaling"] is not None
    file = Settings(model.container, model, model)
    file.write({"rope.scaling": None})
    plain = reread(model, file)
    assert plain["rope.scaling"] is None
    assert plain["rope.freq_base"] == model["rope.freq_base"]
    again = Settings(model.container, model, model)
    again.metadata, again.tables = file.metadata, again.tables
    again.tables = again._tables()
    again.write({"rope.scaling": model["rope.scaling"]})
    assert reread(model, again)["rope.scaling"] == model["rope.scaling"]


def test_every_place_that_states_an_apr_field_is_put_right(tmp_path: Path) -> None:
    """Loaders differ in which of them they read."""
    model = opened(tmp_path, "apr")
    trained = json.dumps({"rms_norm_eps": 0.5, "hidden_size": 256})
    metadata = {
        **model.container.metadata,
        "model.rms_norm_eps": 0.5,
        "model_config": trained,
        "rms_norm_eps": 0.5,
    }
    container: Any = SimpleNamespace(kind="apr", metadata=metadata, path=Path("x.apr"))
    file = Settings(container, model, model)
    file.write({"attention.layer_norm_rms_epsilon": 1e-5})
    assert (file.metadata["rms_norm_eps"], file.metadata["model.rms_norm_eps"]) == (1e-5, 1e-5)
    assert json.loads(file.metadata["model_config"]) == {"rms_norm_eps": 1e-5, "hidden_size": 256}
    assert metadata["rms_norm_eps"] == 0.5, "the original is nobody's to change"


def test_a_nested_config_is_where_the_model_reads(tmp_path: Path) -> None:
    model = opened(tmp_path, "hf")
    inner = dict(model.container.metadata)
    outer = {"model_type": "llama", "rms_norm_eps": 9.0, "text_config": inner}
    file = Settings(SimpleNamespace(kind="huggingface", metadata=outer), model, model)  # type: ignore[arg-type]
    file.write({"attention.layer_norm_rms_epsilon": 0.25})
    assert file.metadata["text_config"]["rms_norm_eps"] == 0.25
    assert file.metadata["rms_norm_eps"] == 9.0, "the outer one is another part's"
    assert file.changes == [Change("text_config.rms_norm_eps", "1e-05", "0.25")]


READERS = [
    ("apr", "llama", "attention.scale", 0.5, "attention_multiplier"),
    ("apr", "llama", "rope.dimension_count", 48, "partial_rotary_factor"),
    ("hf", "granite", "attention.scale", 0.125, "attention_multiplier"),
    ("hf", "gemma2", "attention.scale", 0.125, "query_pre_attn_scalar"),
    ("hf", "gpt2", "attention.scale", 1.0, "scale_attn_weights"),
    ("hf", "phi2", "rope.dimension_count", 4, "rope_parameters.partial_rotary_factor"),
]


@pytest.mark.requires_transformers
@pytest.mark.parametrize(("kind", "name", "key", "value", "spelled"), READERS)
def test_a_key_is_written_that_the_loader_asks_for(
    tmp_path: Path, kind: str, name: str, key: str, value: Any, spelled: str
) -> None:
    folder = build_folder(tmp_path / "hf", RECIPES[name]) if name in RECIPES and kind == "hf" else None
    model = open_model(folder) if folder is not None else opened(tmp_path, kind)
    file = Settings(model.container, model.repaired({key: value}), model)
    assert file.write({key: value}) == []
    assert [change.subject for change in file.changes] == [spelled]
    assert reread(model, file)[key] == value


@pytest.mark.parametrize(("key", "value"), [("attention.scale", 0.5), ("rope.dimension_count", 48)])
def test_what_no_class_would_read_is_not_said(tmp_path: Path, key: str, value: Any) -> None:
    model = opened(tmp_path, "hf")
    file = Settings(model.container, model, model)
    assert file.write({key: value}) == [key]
    assert file.changes == []


def test_a_window_that_transformers_would_not_run_is_not_said(tmp_path: Path) -> None:
    model = opened(tmp_path, "hf")
    file = Settings(model.container, model, model)
    assert file.write({"attention.sliding_window": 32}) == ["attention.sliding_window"]
    assert file.changes == []


def test_qwens_window_is_switched_on_for_all_layers(tmp_path: Path) -> None:
    model = opened(tmp_path, "hf", model_spec("qwen2"))
    file = Settings(model.container, model, model)
    assert file.write({"attention.sliding_window": 32}) == []
    assert reread(model, file)["attention.sliding_window"] == 32
    off = Settings(model.container, model, model)
    off.metadata.update(sliding_window=32, use_sliding_window=True, max_window_layers=0)
    off.write({"attention.sliding_window": 0})
    assert reread(model, off)["attention.sliding_window"] == 0


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", ["qwen2", "qwen2moe", "qwen3moe"])
def test_a_window_of_all_layers_is_written_as_the_class_reads_it(tmp_path: Path, name: str) -> None:
    folder = build_tiny(tmp_path / "whole", name)
    config = json.loads((folder / "config.json").read_text())
    for listed in {"layer_types" in config, False}:
        if not listed:
            config.pop("layer_types", None)
        (folder / "config.json").write_text(json.dumps(config))
        model = open_model(folder)
        file = Settings(model.container, model, model)
        assert file.write({"attention.sliding_window": 8}) == []
        written = reread(model, file)
        assert (
            written["attention.sliding_window"],
            "attention.sliding_window_pattern" in written.config,
        ) == (8, False)


def test_the_kind_of_norm_comes_with_the_architecture_or_not_at_all(tmp_path: Path) -> None:
    model = opened(tmp_path, "hf")
    assert Settings(model.container, model, model).write({"norm_type": "layer"}) == ["norm_type"]
    file = Settings(model.container, model, model)
    assert file.write({"norm_type": "layer", "architecture": "gpt2"}) == []


@pytest.mark.parametrize(
    ("factor", "low", "high", "original", "pairs", "theta"),
    [
        (8.0, 1.0, 4.0, 8192, 64, 500000.0),
        (32.0, 1.0, 4.0, 8192, 32, 500000.0),
        (4.0, 1.0, 6.0, 64, 32, 10000.0),
    ],
)
def test_llama3_parameters_are_found_from_factors(
    tmp_path: Path, factor: float, low: float, high: float, original: int, pairs: int, theta: float
) -> None:
    """A GGUF file holds the factors alone."""
    published = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }
    scaling = scaling_from_parameters(published, pairs, theta, 131072)
    assert scaling is not None
    other = opened(tmp_path, "gguf")
    sizes: Any = {"rope.dimension_count": 2 * pairs, "rope.freq_base": theta, "context_length": 131072}
    found = as_parameters(scaling, _Sized(sizes, other), other.container)
    assert found == pytest.approx(published)


class _Sized:
    """A model of given sizes."""

    def __init__(self, sizes: dict[str, Any], model: Model) -> None:
        self._sizes, self.container = sizes, model.container

    def __getitem__(self, key: str) -> Any:
        return self._sizes[key]


def test_scalings_that_a_rule_says_become_the_rule(tmp_path: Path) -> None:
    other = opened(tmp_path, "gguf")
    linear = RopeScaling((4.0,) * 32)
    assert as_parameters(linear, other, other.container) == {"rope_type": "linear", "factor": 4.0}
    stated = as_gguf(linear, other, other.container)
    assert stated.factors == ()
    assert scaling_from_gguf(stated.keys, 32, 10000.0, 256) == linear


def test_yarn_goes_from_a_folder_into_gguf_keys_and_back(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}
    folder = opened(tmp_path, "hf", edit=lambda config: config.update(rope_parameters=yarn))
    scaling = folder["rope.scaling"]
    assert scaling.magnitude > 1
    stated = as_gguf(scaling, folder, folder.container)
    assert stated.keys["rope.scaling.type"] == "yarn"
    assert scaling_from_gguf(stated.keys, 32, 10000.0, 256) == scaling
    assert as_parameters(scaling, folder, folder.container)["rope_type"] == "yarn"


def test_what_else_a_file_says_of_its_scaling_is_kept(tmp_path: Path) -> None:
    """YaRN's two magnitudes have no key of their own in GGUF, nor has what scales the queries."""
    table = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "mscale": 1.0}
    table |= {"mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}
    folder = opened(
        tmp_path, "hf", edit=lambda config: config.update(rope_parameters={**table, "rope_theta": 10000.0})
    )
    right = {**table, "factor": 4.0}
    scaling = scaling_from_parameters(right, folder["rope.dimension_count"] // 2, 10000.0, 256)
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 64,
    }
    other: Any = SimpleNamespace(settings={key: Setting(value, key) for key, value in keys.items()})
    assert scaling is not None
    assert as_parameters(scaling, folder, other) == right


def test_values_are_said_shortly() -> None:
    assert said(1.0000000116860974e-07) == "1e-07"
    assert said(list(range(200))) == "200 items"
    assert said([1, 2]) == "[1, 2]"
    assert said(None) == "null"
    assert said(True) == "true"
    assert len(said("x" * 300)) == 60
    assert str(Change("key", "1", "2", "why")) == "key: 1 -> 2 (why)"
