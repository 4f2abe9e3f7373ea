"""ggml's decoders are used where they give the bits of ours, and never else."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from rosetta import blocks
from rosetta.blocks import ggml, superblock
from rosetta.dtypes import DTYPES, FLOATS

QUANTISED = sorted(
    name
    for name, block in blocks.FORMATS.items()
    if DTYPES[name].code is not None and name not in FLOATS and block.write_sigma is not None
)


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("dtype", QUANTISED)
def test_every_quantised_dtype_of_ggml_is_decoded_by_it_to_our_bits(dtype: str) -> None:
    pytest.importorskip("llama_cpp")
    block = blocks.block_format(dtype)
    fast = ggml.writer_of(block)
    assert (fast is block.write_values) == block.quick, f"{dtype} is decoded by the slower of two"
    fast = ggml.decoder_of(block) or fast
    raw = np.random.default_rng(3).integers(0, 256, (2000, block.type_size), dtype=np.uint8)
    data = torch.from_numpy(raw)
    ours, theirs = (torch.empty(len(raw), block.block_size) for _ in range(2))
    block.write_values(data, ours)
    fast(data, theirs)
    assert torch.equal(ours.isnan(), theirs.isnan())
    finite = ~ours.isnan()
    assert torch.equal(ours[finite].view(torch.int32), theirs[finite].view(torch.int32))


def test_a_decoder_that_is_off_by_a_bit_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    block = blocks.block_format("Q4_K")

    def off_by_one(data: torch.Tensor, out: torch.Tensor) -> None:
        block.write_values(data, out)
        row, column = out.isfinite().nonzero()[-1].tolist()  # random scales are NaN now and then
        out[row, column] = torch.nextafter(out[row, column], torch.tensor(torch.inf))

    assert ggml.agrees(block.write_values, block)
    assert not ggml.agrees(off_by_one, block)
    monkeypatch.setattr(ggml, "agrees", lambda *_: False)
    assert ggml.writer_of.__wrapped__(block) is block.write_values


def test_blocks_that_do_not_lie_in_a_row_are_decoded_all_the_same() -> None:
    block = blocks.block_format("Q8_0")
    raw = torch.from_numpy(np.random.default_rng(4).integers(0, 64, (8, 2 * block.type_size), dtype=np.uint8))
    apart, out = raw[:, : block.type_size], torch.empty(8, block.block_size)
    ggml.writer_of(block)(apart, out)
    assert torch.equal(
        out.flatten(), blocks.decode("Q8_0", apart.contiguous().flatten(), (8 * block.block_size,))
    )


def test_without_the_library_our_own_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ggml, "find_spec", lambda name: None if name == "llama_cpp" else find_spec(name))
    assert ggml._library.__wrapped__() is None
    monkeypatch.setattr(ggml, "_library", lambda: None)
    block = blocks.block_format("Q5_K")
    assert ggml.writer_of.__wrapped__(block) is block.write_values


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("dtype", ["Q2_K", "Q3_K", "Q4_K", "Q5_K"])
def test_the_levels_of_superblocks_are_those_of_its_decoder(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of blocks without a scale, which σ is made of; by our own passes it is the same."""
    pytest.importorskip("llama_cpp")
    block = blocks.block_format(dtype)
    raw = np.random.default_rng(5).integers(0, 256, 1000 * block.type_size, dtype=np.uint8)
    data, dims = torch.from_numpy(raw), (1000 * block.block_size,)
    asked = []
    monkeypatch.setattr(superblock, "decoder_of", lambda block: asked.append(block) or ggml.decoder_of(block))
    quick = blocks.sigma(dtype, data, dims)
    assert asked, "the levels were unpacked by our own passes"
    assert torch.equal(data, torch.from_numpy(raw)), "the file's bytes were written to"
    monkeypatch.setattr(superblock, "decoder_of", lambda _: None)
    own = blocks.sigma(dtype, data, dims)
    assert torch.equal(quick.nan_to_num(), own.nan_to_num())
    assert torch.equal(quick.isnan(), own.isnan())
