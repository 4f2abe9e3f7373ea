"""Whatever the container, one model has one canonical form: the same config, the same weights bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures import Llama3Scaling, ModelSpec, build, contents, faults, model_spec
from fixtures.architectures import blueprint
from fixtures.blueprint import interleaved, llama3_factors
from fixtures.contents import FileContents
from fixtures.faults import Fault
from fixtures.memory import MemoryContainer
from fixtures.raw_apr import RawTensor, raw_apr
from fixtures.weights import state_dict
from fixtures.writing import write
from rosetta.compare.settings import agree
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError
from rosetta.model import Model, build_model, open_model

Values = dict[str, NDArray[np.float32]]
NAMES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
CONTAINERS = ("apr:F32", "apr-gguf:F32", "gguf:F32", "hf:F32", "hf-sharded:F32")


def small(architecture: str, **changes: Any) -> ModelSpec:
    """A model of few weights; heads × head size is not hidden, so that no two matrices look alike."""
    ffn = 80 if architecture != "gpt2" else 256
    sizes: dict[str, Any] = {"layers": 2, "hidden": 64, "head_dim": 16, "ffn": ffn}
    return model_spec(architecture, **(sizes | changes))


SPECS = {
    **{name: small(name) for name in NAMES},
    "llama tied": small("llama", tied=True),
    "llama 3.1": small("llama", rope_scaling=Llama3Scaling()),
    "llama padded": small("llama", vocab=391),
    "llama wide heads": small("llama", heads=8),
    "qwen2 untied": small("qwen2", tied=False),
    "gpt2 untied": small("gpt2", tied=False),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@cache
def expected_weights(spec: ModelSpec) -> Values:
    """What a GGUF file should hold, from the Hugging Face state dict: split, turned and interleaved here again."""
    state, plan = state_dict(spec), blueprint(spec.architecture)
    found: Values = {}
    for parameter in plan.parameters(spec):
        values = state[parameter.hf]
        values = np.ascontiguousarray(values.T) if parameter.conv1d else values
        if ".attn_qkv." in parameter.name:
            for part, rows in zip("qkv", np.split(values, 3), strict=True):
                found[parameter.name.replace("qkv", part)] = rows
        elif plan.rope_type == 0 and (".attn_q." in parameter.name or ".attn_k." in parameter.name):
            heads = spec.heads if ".attn_q." in parameter.name else spec.kv_heads
            found[parameter.name] = interleaved(values, heads)
        else:
            found[parameter.name] = values
    if spec.tied:
        found["output.weight"] = found["token_embd.weight"]
    return found


def model_of(tmp_path: Path, spec: ModelSpec, operand: str, fault: Fault | tuple[Fault, ...] = ()) -> Model:
    return open_model(build(tmp_path, spec, operand, fault))


# Canonical form


@every_spec
@pytest.mark.parametrize("operand", CONTAINERS)
def test_every_container_gives_the_same_weights_bit_for_bit(
    tmp_path: Path, spec: ModelSpec, operand: str
) -> None:
    model, expected = model_of(tmp_path, spec, operand), expected_weights(spec)
    assert set(model.weights) - {"rope_freqs.weight"} == set(expected)
    for name, values in expected.items():
        weight = model.weights[name]
        np.testing.assert_array_equal(weight.values().numpy(), values, err_msg=f"{operand} {name}")
        assert weight.values().is_contiguous()
        assert weight.dims == values.shape
        assert model.mismatch(name) is None
    assert model.unknown == ()


@every_spec
def test_every_container_gives_the_same_config(tmp_path: Path, spec: ModelSpec) -> None:
    reference = model_of(tmp_path / "gguf", spec, "gguf:F32").config
    for operand in CONTAINERS:
        config = model_of(tmp_path / operand, spec, operand).config
        keys = (set(config) | set(reference)) - {"rope.type", "tied_embeddings"}
        for key in sorted(keys):
            assert agree(key, config[key].value, reference[key].value), f"{operand} {key}"
    expected = {
        "block_count": spec.layers,
        "embedding_length": spec.hidden,
        "feed_forward_length": spec.ffn,
        "context_length": spec.context,
        "attention.head_count": spec.heads,
        "attention.head_count_kv": spec.kv_heads,
        "attention.key_length": spec.head_dim,
        "vocab_size": spec.vocab,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    assert {key: reference[key].value for key in expected} == expected
    if spec.rope_scaling:
        np.testing.assert_allclose(
            reference["rope.scaling"].value.factors, llama3_factors(spec, spec.rope_scaling), rtol=1e-6
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operand", CONTAINERS)
def test_only_what_the_file_says_counts_as_said(tmp_path: Path, name: str, operand: str) -> None:
    config = model_of(tmp_path, small(name), operand).config
    said = {"block_count", "embedding_length", "attention.head_count", "context_length", "vocab_size"}
    said |= {key for key in config if key.endswith("epsilon")}
    assert not [key for key in said if config[key].defaulted]
    assert config["norm_type"].value == ("layer" if name == "gpt2" else "rms")
    if operand.startswith("gguf"):
        assert config["activation"].defaulted, "a GGUF file names no activation"


# Epsilon


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operand", ["apr:F16", "gguf:F16", "hf:F16"])
def test_epsilon_missing_on_one_side_is_defaulted_per_architecture(
    tmp_path: Path, name: str, operand: str
) -> None:
    spec = small(name, layers=1, epsilon=3e-4)
    without = model_of(tmp_path / "without", spec, operand, faults.norm_epsilon(None))
    with_it = model_of(tmp_path / "with", spec, "gguf:F16")
    key = with_it.architecture.epsilon_key
    assert with_it.config[key].value == float(np.float32(3e-4))
    assert without.config[key].defaulted
    assert without.config[key].value == float(np.float32(PUBLISHED_EPSILON[name][operand.split(":")[0]]))


# aprender's from_apr; the published models' for GGUF; transformers' config classes
PUBLISHED_EPSILON = {
    "llama":   {"apr": 1e-5, "gguf": 1e-5, "hf": 1e-6},
    "mistral": {"apr": 1e-5, "gguf": 1e-5, "hf": 1e-6},
    "qwen2":   {"apr": 1e-6, "gguf": 1e-6, "hf": 1e-6},
    "qwen3":   {"apr": 1e-6, "gguf": 1e-6, "hf": 1e-6},
    "gpt2":    {"apr": 1e-5, "gguf": 1e-5, "hf": 1e-5},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_epsilon_missing_on_both_sides_is_defaulted_and_said(tmp_path: Path, name: str) -> None:
    sides = [
        model_of(tmp_path / operand, small(name, layers=1), operand, faults.norm_epsilon(None))
        for operand in ("apr:F16", "gguf:F16")
    ]
    values = [side.config[side.architecture.epsilon_key] for side in sides]
    assert all(value.defaulted for value in values)
    assert values[0].value == values[1].value == float(np.float32(PUBLISHED_EPSILON[name]["apr"]))
    assert "aprender" in values[0].note
    assert "llama.cpp refuses" in values[1].note


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operand", CONTAINERS)
def test_explicit_epsilon_is_kept_verbatim(tmp_path: Path, name: str, operand: str) -> None:
    """Verbatim but for float32, in which GGUF holds it and every engine computes with it."""
    model = model_of(tmp_path, small(name, layers=1, epsilon=3.7e-4), operand)
    value = model.config[model.architecture.epsilon_key]
    assert value.value == float(np.float32(3.7e-4))
    assert value.key is not None
    assert value.note == ""


def test_each_architecture_has_its_own_epsilon_default(tmp_path: Path) -> None:
    found = {}
    for name in NAMES:
        model = model_of(
            tmp_path / name, small(name, layers=1, epsilon=0.5), "apr:F16", faults.norm_epsilon(None)
        )
        found[name] = model[model.architecture.epsilon_key]
    assert found == {name: float(np.float32(default["apr"])) for name, default in PUBLISHED_EPSILON.items()}
    assert len(set(found.values())) > 1, "one default serves all architectures"


# Heads, placeholders, names, checkpoints


@pytest.mark.parametrize("operand", CONTAINERS)
def test_tied_head_is_the_embedding_stored_or_not(tmp_path: Path, operand: str) -> None:
    model = model_of(tmp_path, small("qwen2"), operand)
    head, embedding = model.weights["output.weight"], model.weights["token_embd.weight"]
    np.testing.assert_array_equal(head.values().numpy(), embedding.values().numpy())
    assert (head.entry is embedding.entry) == (operand != "apr:F32"), "an imported .apr stores a copy"


def test_a_head_that_is_stored_is_used_although_the_config_ties_it(tmp_path: Path) -> None:
    """As transformers does since it compares the two; what differs is then for the comparison to say."""
    other = faults.config_set("tied_embeddings", True)
    model = model_of(tmp_path, small("llama", tied=False), "hf:F32", other)
    assert model.weights["output.weight"].entry.name == "lm_head.weight"


def test_a_missing_head_of_an_untied_folder_is_missing(tmp_path: Path) -> None:
    model = model_of(tmp_path, small("llama", tied=False), "hf:F32", faults.dropped("output.weight"))
    assert "output.weight" not in model.weights


def test_placeholder_of_no_bytes_is_a_tied_head(tmp_path: Path) -> None:
    spec = small("llama", layers=1, tied=True)
    path = tmp_path / "model.apr"
    path.write_bytes(raw_apr(*_raw_parts(contents(spec, "apr:F32"), placeholder="lm_head.weight")))
    model = open_model(path)
    assert model.container.tensors["lm_head.weight"].nbytes == 0
    assert model.weights["output.weight"].entry.name == "model.embed_tokens.weight"
    without_head = sum(
        values.size for name, values in expected_weights(spec).items() if name != "output.weight"
    )
    assert model.parameters == without_head


def _raw_parts(file: FileContents, placeholder: str) -> tuple[dict[str, Any], list[RawTensor]]:
    codes = {"F32": 0}
    return file.metadata, [
        RawTensor(t.name, codes[t.dtype], t.dims, b"" if t.name == placeholder else t.data.tobytes())
        for t in file.tensors.values()
    ]


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_bare_names_are_the_same_tensors(tmp_path: Path, name: str) -> None:
    spec = small(name)
    file = contents(spec, "hf:F32")
    bare = {
        key: replace(tensor, name=tensor.name.removeprefix("model.").removeprefix("transformer."))
        for key, tensor in file.tensors.items()
    }
    write(replace(file, tensors=bare), tmp_path / "model-hf")
    model = open_model(tmp_path / "model-hf")
    for tensor, values in expected_weights(spec).items():
        np.testing.assert_array_equal(model.weights[tensor].values().numpy(), values, err_msg=tensor)


def test_checkpoint_that_says_it_is_turned_is_turned_back(tmp_path: Path) -> None:
    spec = small("llama")
    file = contents(spec, "apr:F32")
    turned = {
        key: replace(tensor, dims=tensor.dims[::-1], data=_turned(file.values(key)))
        if tensor.name.endswith(("_proj.weight", "lm_head.weight"))
        else tensor
        for key, tensor in file.tensors.items()
    }
    write(
        replace(file, tensors=turned, metadata=file.metadata | {"format": "entrenar-checkpoint"}),
        tmp_path / "a.apr",
    )
    model = open_model(tmp_path / "a.apr")
    for name, values in expected_weights(spec).items():
        np.testing.assert_array_equal(model.weights[name].values().numpy(), values, err_msg=name)
        assert model.mismatch(name) is None


def _turned(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values.T).view(np.uint8).reshape(-1)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_turned_weight_of_a_file_that_says_nothing_stays_as_stored(tmp_path: Path, name: str) -> None:
    """Nothing is ever transposed to fit: the dims contradict the config, and the comparison says so."""
    model = model_of(tmp_path, small(name), "apr:F32", faults.transposed("blk.0.ffn_up.weight"))
    ffn, hidden = small(name).ffn, 64
    assert model.weights["blk.0.ffn_up.weight"].dims == (hidden, ffn)
    assert model.mismatch("blk.0.ffn_up.weight") == (ffn, hidden)


def test_conv1d_is_turned_in_a_folder_alone(tmp_path: Path) -> None:
    folder = model_of(tmp_path, small("gpt2"), "hf:F32").weights["blk.0.attn_output.weight"]
    file = model_of(tmp_path, small("gpt2"), "gguf:F32").weights["blk.0.attn_output.weight"]
    assert (folder.transposed, file.transposed) == (True, False)


def test_norms_over_heads_keep_their_order_where_rows_are_never_reordered(tmp_path: Path) -> None:
    spec = small("qwen3")
    for operand in CONTAINERS:
        weight = model_of(tmp_path / operand, spec, operand).weights["blk.1.attn_q_norm.weight"]
        np.testing.assert_array_equal(weight.values().numpy(), expected_weights(spec)[weight.name])


# What is counted, refused, repaired


@every_spec
def test_parameters_count_what_the_file_stores(tmp_path: Path, spec: ModelSpec) -> None:
    stored = sum(values.size for values in state_dict(spec).values())
    assert model_of(tmp_path, spec, "hf:F32").parameters == stored


@pytest.mark.parametrize("count", [1, 3])
def test_wrong_block_count_leaves_no_tensor_without_a_name(tmp_path: Path, count: int) -> None:
    model = model_of(tmp_path, small("llama"), "gguf:F16", faults.layer_count(count))
    assert model.block_count == count
    assert {"blk.0.attn_q.weight", "blk.1.attn_q.weight"} <= set(model.weights)
    assert model.unknown == ()


def test_repairs_are_of_the_copy_and_add_up(tmp_path: Path) -> None:
    model = model_of(tmp_path, small("llama", layers=1), "gguf:F16")
    key = model.architecture.epsilon_key
    first = model.repaired({key: 0.25})
    second = first.repaired(patches={"blk.0.attn_q.weight": lambda weight: replace(weight, dtype="BF16")})
    assert (model[key], first[key], second[key]) == (float(np.float32(1e-5)), 0.25, 0.25)
    assert [m.weights["blk.0.attn_q.weight"].dtype for m in (model, first, second)] == ["F16", "F16", "BF16"]


def test_a_repair_of_weights_alone_leaves_the_forward_pass_as_it_is(tmp_path: Path) -> None:
    model = model_of(tmp_path, small("llama", layers=2), "gguf:F16")
    read_anew = model.repaired(patches={"blk.0.attn_q.weight": lambda weight: weight})
    assert read_anew.graph is model.graph, "it is drawn again for every repair that is tried"
    assert read_anew.graph_of(3) is model.graph_of(3) is not model.graph
    assert len(list(read_anew.repaired({"block_count": 1}).graph)) < len(list(model.graph))
    unchanged: Any = SimpleNamespace(at=lambda stage, layer, operation: operation)
    assert read_anew.computed_otherwise(unchanged).graph is not model.graph


def test_the_other_row_order_of_a_repair_reorders_every_q_and_k(tmp_path: Path) -> None:
    spec = small("llama")
    wrong = model_of(tmp_path, spec, "apr:F32", faults.config_set("rope.type", 0))
    for name in ("blk.0.attn_q.weight", "blk.1.attn_k.weight"):
        expected = expected_weights(spec)[name]
        assert not np.array_equal(wrong.weights[name].values().numpy(), expected)
        np.testing.assert_array_equal(
            wrong.repaired({"rope.type": 2}).weights[name].values().numpy(), expected
        )


def test_tensors_of_no_architecture_are_listed_and_left_alone(tmp_path: Path) -> None:
    file = contents(small("llama", layers=1), "apr:F32")
    extra = replace(file.tensor("output_norm.weight"), name="model.vision_tower.weight")
    write(replace(file, tensors=file.tensors | {"extra": extra}), tmp_path / "a.apr")
    assert open_model(tmp_path / "a.apr").unknown == ("model.vision_tower.weight",)


def test_two_names_of_one_tensor_are_refused(tmp_path: Path) -> None:
    file = contents(small("llama", layers=1), "apr:F32")
    again = replace(file.tensor("output_norm.weight"), name="output_norm.weight")
    write(replace(file, tensors=file.tensors | {"again": again}), tmp_path / "a.apr")
    with pytest.raises(DamagedFileError, match=r"both output_norm\.weight"):
        open_model(tmp_path / "a.apr")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"architecture": "rwkv7", "model_type": "rwkv7"},
            UnsupportedError,
            "rosetta runs afmoe, .*gpt2, .*llama",
        ),
        ({"architecture": None, "model_type": ""}, DamagedFileError, "names no architecture"),
        ({"num_layers": 1 << 30}, RosettaError, "count between"),
        ({"num_heads": 0}, RosettaError, "count between"),
        ({"hidden_size": None}, RosettaError, "embedding_length"),
        ({"rope_theta": -1.0}, RosettaError, "not positive"),
        ({"rope_scaling": {"rope_type": "su", "factor": 2.0}}, UnsupportedError, "su"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": "x"}}, DamagedFileError, "factor"),
        ({"hidden_act": "mish"}, UnsupportedError, "mish"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_config_that_cannot_be_run_is_refused(
    tmp_path: Path, change: dict[str, Any], error: type[RosettaError], words: str
) -> None:
    file = contents(small("llama", layers=1), "apr:F16")
    write(replace(file, metadata=file.metadata | change), tmp_path / "a.apr")
    with pytest.raises(error, match=words) as raised:
        open_model(tmp_path / "a.apr")
    assert "a.apr" in str(raised.value)


def test_weight_whose_dtype_is_no_weights_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    file = contents(small("llama", layers=1), "gguf:F32")
    write(file.with_tensor("blk.0.attn_q.weight", dtype="I32"), path)
    with pytest.raises(UnsupportedError, match=r"attn_q\.weight.*I32 cannot hold weights"):
        open_model(path)


def test_weight_of_a_dtype_that_is_not_decoded_is_refused_by_name() -> None:
    """ggml's Q1_0 holds weights well enough; it is rosetta that has no decoder for it."""
    tensors = {"token_embd.weight": ("Q1_0", (4, 128), np.zeros(72, np.uint8))}
    settings = {"block_count": 1, "embedding_length": 128, "feed_forward_length": 256, "context_length": 64}
    settings["attention.head_count"] = 2
    with pytest.raises(UnsupportedError, match=r"token_embd\.weight.*Q1_0 is not decoded"):
        build_model(MemoryContainer(settings, tensors, architecture="llama"))


def test_metadata_without_tensors_is_no_model(tmp_path: Path) -> None:
    write(replace(contents(small("llama", layers=1), "gguf:F16"), tensors={}), tmp_path / "a.gguf")
    with pytest.raises(UnsupportedError, match="only metadata"):
        open_model(tmp_path / "a.gguf")


@pytest.mark.requires_samples
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("sample", ["model-f16.gguf", "from-hf-f16.apr", "from-gguf-f16.apr"])
def test_other_peoples_converters_give_the_folders_weights(samples: Path, name: str, sample: str) -> None:
    """All but float16's rounding of the F32 folder, bit for bit."""
    source = open_model(samples / "models" / name / "hf")
    copy = open_model(samples / "models" / name / sample)
    assert set(source.weights) == set(copy.weights)
    for tensor, weight in source.weights.items():
        ours = weight.values().numpy()
        if copy.weights[tensor].dtype == "F16":
            ours = ours.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(copy.weights[tensor].values().numpy(), ours, err_msg=tensor)


def test_building_twice_opens_nothing_twice(tmp_path: Path) -> None:
    model = model_of(tmp_path, small("llama", layers=1), "gguf:F16")
    again = build_model(model.container)
    assert again.container is model.container
    assert again.weights == model.weights


def test_a_setting_that_was_not_read_is_asked_for_in_vain(tmp_path: Path) -> None:
    path = build(tmp_path, "llama", "gguf:F32")
    model = open_model(path)
    for layer in (None, 1):
        with pytest.raises(DamagedFileError, match=f"{path.name}: the config says nothing of ssm.state_size"):
            model.settings_of(layer)["ssm.state_size"]
