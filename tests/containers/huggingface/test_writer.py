"""What pack_folder writes is a folder that other people's readers open."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open

from rosetta.containers import open_container
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.containers.huggingface.writer import INDEX, Part, WeightFile, pack_folder, packed_index
from rosetta.containers.spool import Spool

CONFIG = {"model_type": "llama", "hidden_size": 4}
TENSORS = [
    TensorInput(name, "F32", (2, 3), np.random.default_rng(n).integers(0, 256, 24, np.uint8))
    for n, name in enumerate(("b", "a", "c"))
]


def test_shards_an_index_and_other_files(tmp_path: Path) -> None:
    card = tmp_path / "card"
    card.write_text("a card")
    told: list[str] = []
    with Spool(tmp_path / "out", tmp_path, iter(TENSORS)) as spool:
        shards = {"one.safetensors": spool.tensors[:2], "two.safetensors": spool.tensors[2:]}
        entries = {name: [source.entry for source in sources] for name, sources in shards.items()}
        old = {"metadata": {"total_size": 1, "kept": True}, "weight_map": {"a": "x", "gone": "x"}}
        parts: dict[str, Part] = {
            "config.json": json.dumps(CONFIG).encode(),
            "README.md": card,
            **{name: WeightFile(sources, {"format": "pt"}) for name, sources in shards.items()},
            INDEX: packed_index(entries, old),
        }
        pack_folder(tmp_path / "out", parts, lambda name, done, total: told.append(f"{name} {done}/{total}"))
    assert (tmp_path / "out" / "README.md").read_text() == "a card"
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["metadata"] == {"total_size": 72, "kept": True}
    assert list(index["weight_map"].items()) == [
        ("a", "one.safetensors"),
        ("b", "one.safetensors"),
        ("c", "two.safetensors"),
    ]
    assert told[0] == "config.json 0/5"
    assert len(told) == 5
    container = open_container(tmp_path / "out")
    assert dict(container.metadata) == CONFIG
    for tensor in TENSORS:
        holder = tmp_path / "out" / index["weight_map"][tensor.name]
        with safe_open(holder, "np") as file:
            assert file.metadata() == {"format": "pt"}
            assert file.get_tensor(tensor.name).tobytes() == tensor.data.tobytes()
        assert container.read(tensor.name).tobytes() == tensor.data.tobytes()


def test_an_index_without_a_size_gets_none() -> None:
    entries = {"w.safetensors": [TensorEntry("a", "F32", (1,), 4)]}
    table = json.loads(packed_index(entries, {"weight_map": {}}))
    assert table == {"weight_map": {"a": "w.safetensors"}}
