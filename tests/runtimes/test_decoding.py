"""Tokens one after another, in every runtime: what each gives is what it gives all at once, and what transformers and
llama.cpp give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from fixtures import build, model_spec
from fixtures.builders import gguf_contents
from fixtures.observing import IDS
from fixtures.writing import write
from rosetta.errors import UsageError
from rosetta.model import open_model
from rosetta.runtimes.decoding import Decoder, RuntimeFailed, decoder
from rosetta.transformer import Decoding, Transformer

NOISE = 5e-5  # of logits up to 20


def one_by_one(model: Decoder, prompt: int = 3) -> np.ndarray:
    """Logits of `IDS`, [T, V]: a prompt at once, then token by token."""
    model.restart()
    return np.concatenate([model.feed(IDS[:prompt], prompt), *(model.feed([i]) for i in IDS[prompt:])])


@pytest.mark.parametrize(
    "runtime",
    [
        "torch",
        pytest.param("llamacpp", marks=pytest.mark.requires_llamacpp),
        pytest.param("transformers", marks=pytest.mark.requires_transformers),
    ],
)
def test_one_by_one_is_all_at_once_and_is_what_our_whole_pass_gives(tmp_path: Path, runtime: str) -> None:
    folder = build(tmp_path, "llama", "hf:F32")
    path = folder if runtime != "llamacpp" else build(tmp_path, "llama", "gguf:F32")
    model = decoder(runtime, path, len(IDS), {})
    try:
        whole = model.feed(IDS, len(IDS))
        steps = one_by_one(model)
        ours = Transformer(open_model(folder))(IDS).numpy()
        assert steps.shape == whole.shape == ours.shape
        assert np.abs(steps - whole).max() < NOISE
        assert np.abs(steps - ours).max() < NOISE
        assert np.array_equal(one_by_one(model), steps), "what was before a restart is remembered"
    finally:
        model.close()


def test_no_token_is_computed_twice(tmp_path: Path) -> None:
    seen: list[int] = []

    def hear(stage: str, value: Tensor) -> None:
        if stage.endswith(".ffn_out"):
            seen.append(len(value))

    transformer = Transformer(open_model(build(tmp_path, "qwen2", "gguf:F32")))
    transformer.register_hook(hear)
    decoding = Decoding(transformer)
    for chunk in (IDS[:4], IDS[4:5], IDS[5:6]):
        decoding.feed(chunk)
    layers = transformer.model.block_count
    assert seen == [4] * layers + [1] * layers * 2


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    path = build(tmp_path, "gpt2", "gguf:F32")
    with pytest.raises(UsageError, match="positions"):
        decoder("torch", path, open_model(path).position_count + 1, {})


@pytest.mark.requires_llamacpp
def test_a_file_that_llamacpp_refuses_is_a_failure_with_its_words(tmp_path: Path) -> None:
    contents = gguf_contents(model_spec("llama"), "F32")
    contents.metadata.pop("llama.attention.head_count")
    path = tmp_path / "broken.gguf"
    write(contents, path)
    with pytest.raises(RuntimeFailed, match="wrong shape") as caught:
        decoder("llamacpp", path, 8, {})
    assert caught.value.failure.kind == "load"
