"""What llama.cpp's CPU kernels round that float32 does not: activations beside quantised weights, GELU, angles of far
positions, cached halves.

Letters: T = tokens, C = inputs of a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rosetta.dtypes import DTYPES, FLOATS
from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.attention import Scores
from rosetta.ops.edit import OpEdit
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Activation
from rosetta.ops.rotary import Rotary
from rosetta.runtimes.arithmetic import Compute, Imitation

# ggml-cpu, ggml_vec_gelu_f32 and ggml_gelu_f32; llm_graph_context::build_ffn has one GELU for both.
TABLED, TABLE_ENDS = ("gelu", "gelu_tanh"), 10.0  # beyond it GELU is 0, or x
CACHE_STEPS = {"Q8_0": 127, "Q4_0": 8}
"""Of a cache that is no float, how many steps the largest value of a block is."""  # ggml-quants.c
QUERY_TILE = 64  # queries from which on flash attention works in float32  # ggml-cpu, GGML_FA_TILE_Q
TINY = 2.0**-126  # of float32's normal numbers
# Half units of a sum in halves: two roundings that went the other way; one was seen of 5,000.
HALF_ROUNDINGS = 4.0
HALF_UNIT = 2.0**-24  # of float32, in which the table is filled
SMALL_BLOCKS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4", "NVFP4", "Q1_0")
"""Dtypes beside which activations are Q8_0 (or Q8_1, the same with a sum); beside superblocks they are Q8_K."""
# ggml-cpu.c, vec_dot_type
WITH_MINIMUM = ("Q4_1", "Q5_1")
"""Those whose blocks have a minimum, which is multiplied by the sum of a block of activations."""
LEVELS = 127  # of a block of activations  # ggml-quants.c, quantize_row_q8_0_ref and quantize_row_q8_K_ref


def imitations(node: Node, model: Model, facts: Mapping[str, Any]) -> list[Imitation]:
    """See `runtimes.arithmetic`."""
    return [*_products(node, facts), *_activation(node, model), *_rotation(node), *_cache(node, model, facts)]


def input_rounding(dtype: str, facts: Mapping[str, Any]) -> float | None:
    """See `runtimes.arithmetic`. An activation is off by up to half a step, a 127th of the largest one of its block:
    of n of them no less than the largest is there, and n / 12 steps² are the most that is missing."""
    options = facts.get("runtime_options")
    if not isinstance(options, Mapping) or str(options.get("gpu_layers")) != "0":
        return None  # other kernels
    if dtype == "F32":
        return 0.0
    small = dtype in SMALL_BLOCKS
    known = DTYPES.get(dtype)
    bits = 8 if known is None or dtype in FLOATS else 8 * known.type_size / known.block_size
    if bits >= (8 if small else 6):
        return None
    return math.sqrt((32 if small else 256) / 12) / LEVELS


def _products(node: Node, facts: Mapping[str, Any]) -> Iterator[Imitation]:
    """Products with weights that are no float32: what is multiplied is brought to a dtype of their kind."""
    recorded = facts.get("weights")
    recorded = recorded if isinstance(recorded, dict) else {}
    dtypes = [
        str(found["dtype"])
        for name, dims in node.required.items()
        if len(dims) > 1 and isinstance(found := recorded.get(name), dict) and "dtype" in found
    ]
    for dtype in dict.fromkeys(dtypes):
        by = f"with what is multiplied by {dtype} weights"
        if dtype in HALVES:
            yield Imitation(f"{by} rounded to {dtype}", _of_inputs(HALVES[dtype]))
        elif dtype in SMALL_BLOCKS:
            strays = _strays_of_sums if dtype in WITH_MINIMUM else None
            yield Imitation(f"{by} quantised to Q8_0", _of_inputs(q8_0), strays=strays)
        elif dtype not in FLOATS:
            yield Imitation(f"{by} quantised to Q8_K", _of_inputs(q8_k))


def _activation(node: Node, model: Model) -> Iterator[Imitation]:
    op = node.op
    settings = model.settings_of(node.layer)
    if isinstance(op, Activation) and (name := settings[op.key]) in TABLED:
        by = " by its tanh approximation," if name == "gelu" else ""
        words = f"with GELU{by} read from a table of halves"
        yield Imitation(words, _tabled(op, settings, below=True), _tabled(op, settings, below=False))


def _rotation(node: Node) -> Iterator[Imitation]:
    """Angles of far positions, which are some roundings off."""
    if any(isinstance(op, Rotary) for op in node.op.links):
        running = OpEdit(Rotary, (("running", True),))
        words = "with each pair's angle worked out from that of the pair before, in float32"
        yield Imitation(words, lambda plain, inputs: plain(inputs), operations=(running,))


def _cache(node: Node, model: Model, facts: Mapping[str, Any]) -> Iterator[Imitation]:
    """Keys and values that are kept in halves, and what is multiplied by them."""
    options = facts.get("runtime_options")
    options = options if isinstance(options, dict) else {}
    kind, flash = str(options.get("kv")).upper(), options.get("flash_attn") == "on"
    kept = "kept in"
    if flash and kind == "F32":
        kind, kept = "F16", "brought to"  # llama-graph.cpp, build_attn_mha
    if node.stage not in ("attn_scores", "attn_context") or kind not in (*HALVES, *CACHE_STEPS):
        return
    by = f"with keys and values {kept} {kind}"
    if kind in CACHE_STEPS:
        steps = partial(_strays_of_steps, CACHE_STEPS[kind])
        yield Imitation(by, lambda plain, inputs: plain(inputs), certain=True, strays=steps)
        return
    latent = f"blk.{node.layer}.attn_k_b.0.weight" in model.weights
    if latent and not model.architecture.llamacpp.keeps_heads:
        rank = int(model.settings_of(node.layer)["attention.kv_lora_rank"])
        strays = partial(_strays_of_latent, kind, rank)
        yield Imitation(by, lambda plain, inputs: plain(inputs), certain=True, strays=strays)
        return
    rounding = HALVES[kind]
    if isinstance(node.op, Scores):
        first = model.architecture.llamacpp.scales_queries
        scale = float(model.settings_of(node.layer)[node.op.scale]) if first else 1.0
        yield Imitation(by, _rounded_scores(rounding, scale, flash), certain=True)
    elif not flash:
        yield Imitation(by, _of_inputs(rounding), certain=True)
    else:
        yield Imitation(by, _of_second(rounding))
        if kind == "F16":
            words = f"{by}, and summed in it"
            yield Imitation(words, _flash_context(below=True), _flash_context(below=False))


def _rounded_scores(
    rounded: Callable[[Tensor], Tensor], scale: float, flash: bool
) -> Callable[[Compute, Sequence[Tensor]], Tensor]:
    """Scores of keys that are halves; so are queries, unless flash attention has a tile of them.

    Args:
        scale: what queries are multiplied by before they are rounded.
    """

    def compute(plain: Compute, inputs: Sequence[Tensor]) -> Tensor:
        q, k, *more = inputs
        if not flash or len(q) < QUERY_TILE:
            q = rounded(q * scale) / scale
        return plain([q, rounded(k), *more])

    return compute


def _strays_of_latent(kind: str, rank: int, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What rounding latent keys or values, and what is multiplied by them, takes off the heads' own: half a unit of the
    last place of the root mean square of a row, or of the value where that is larger. A product of so many numbers more
    strays by the root of that more.
    """
    unit = torch.finfo(torch.float16 if kind == "F16" else torch.bfloat16).eps / 2

    def stray(x: Tensor) -> Tensor:
        size = torch.maximum(x.square().mean(-1, keepdim=True).sqrt(), x.abs())
        return size * (unit * max(1.0, math.sqrt(rank / x.shape[-1])))

    return [stray(x) for x in inputs]


def _strays_of_sums(inputs: Sequence[Tensor]) -> list[Tensor]:
    """What rounding the sum of a block to F16 takes off it, of each of its values: a block's minimum, which the sum is
    multiplied by, is no larger than the root of the sum of the squares of its weights.

    Source: ggml-quants.c, quantize_row_q8_1_ref, whose sum is of steps that are not rounded themselves.
    """

    def stray(x: Tensor) -> Tensor:
        steps, step = _in_steps(x)
        total = steps.sum(-1, keepdim=True)
        return (half(total * step) - total * half(step)).abs().expand_as(steps).reshape(x.shape)

    return [stray(x) if x.is_floating_point() else torch.zeros(x.shape) for x in inputs]


def _strays_of_steps(levels: int, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What rounding to steps takes off inputs: of the last one to so many levels, of a query to Q8_0's, and nothing of
    scores."""

    def stray(x: Tensor, count: int) -> Tensor:
        return (x.abs().amax(-1, keepdim=True) / count / math.sqrt(12)).expand_as(x)

    first, last = inputs[0], inputs[-1]
    of_queries = first.shape[-1] == last.shape[-1] and first.shape[0] == last.shape[0]
    return [stray(first, LEVELS) if of_queries else torch.zeros_like(first), stray(last, levels)]


def _of_second(rounded: Callable[[Tensor], Tensor]) -> Callable[[Compute, Sequence[Tensor]], Tensor]:
    """A stage computed from its second input rounded."""

    def compute(plain: Compute, inputs: Sequence[Tensor]) -> Tensor:
        first, second, *more = inputs
        return plain([first, rounded(second), *more])

    return compute


def _flash_context(*, below: bool) -> Callable[[Compute, Sequence[Tensor]], Tensor]:
    """Values summed in halves, key after key, each weighted beside the largest score so far.

    Source: ggml-cpu, ggml_compute_forward_flash_attn_ext_f16_one_chunk. The runtime's expf is exact to a unit or two,
    and a sum that lies between two halves is the one or the other.

    Args:
        below: whether such a sum is less by what that makes.
    """

    def compute(_: Compute, inputs: Sequence[Tensor]) -> Tensor:
        scores, v = inputs  # [N, T, T or more], [T, K, D]
        shares = scores[..., : len(v)]
        values = half(v).repeat_interleave(len(scores) // v.shape[1], dim=1)  # [T, N, D]
        largest = torch.zeros_like(shares[..., 0])
        total = torch.zeros(*shares.shape[:2], v.shape[2]).to(v)
        size = torch.zeros_like(total)
        for key in range(len(v)):
            share = shares[..., key]
            new = torch.maximum(largest, share)
            shrunk = torch.where(new > 0, largest / new.clamp(min=TINY), torch.ones_like(new))
            weight = torch.where(new > 0, share / new.clamp(min=TINY), torch.zeros_like(new))
            total = half(total * shrunk[..., None])
            total = half(total + weight[..., None] * values[key][:, None])
            size = torch.maximum(size * shrunk[..., None], total.abs())
            largest = new
        stray = HALF_ROUNDINGS * torch.finfo(torch.float16).eps / 2 * size
        y = (total - stray if below else total + stray) * largest[..., None]
        return y.transpose(0, 1).flatten(1)

    return compute


def _of_inputs(rounded: Callable[[Tensor], Tensor]) -> Callable[[Compute, Sequence[Tensor]], Tensor]:
    """A stage computed from rounded inputs."""

    def compute(plain: Compute, inputs: Sequence[Tensor]) -> Tensor:
        return plain([rounded(x) if x.is_floating_point() else x for x in inputs])

    return compute


def _tabled(op: Activation, c: Settings, *, below: bool) -> Callable[[Compute, Sequence[Tensor]], Tensor]:
    """act(gate) · up, or act(up), the activation by its table.

    An entry that lies between two halves is the one or the other: which, the runtime's tanhf decides, that is exact to
    a unit or two of 1, to which a unit may be much of 1 + tanh.

    Args:
        op: of the stage.
        c: settings of its layer.
        below: whether such an entry is the half below, as is what the activation is taken of.
    """

    def compute(_: Compute, inputs: Sequence[Tensor]) -> Tensor:
        (gate, rounding), up = op.entering(c, inputs[0]), op.factor(*inputs)
        gate = torch.where(gate > 0, (gate - rounding if below else gate + rounding).clamp(min=0), gate)
        exact = half(gate).double()
        y = F.gelu(exact, approximate="tanh")
        stray = HALF_UNIT * (2 * exact.abs() + 4 * y.abs())
        y = (y - stray if below else y + stray).half().to(gate.dtype)
        y = torch.where(gate <= -TABLE_ENDS, torch.zeros_like(y), torch.where(gate >= TABLE_ENDS, gate, y))
        return y if up is None else y * up

    return compute


def half(x: Tensor) -> Tensor:
    """Rounded to F16."""
    return x.half().to(x.dtype)


def brain_half(x: Tensor) -> Tensor:
    """Rounded to BF16."""
    return x.bfloat16().to(x.dtype)


HALVES: Mapping[str, Callable[[Tensor], Tensor]] = {"F16": half, "BF16": brain_half}


def q8_0(x: Tensor) -> Tensor:
    """Quantised and back: blocks of 32 of a row, a step of the largest over 127, itself rounded to F16.

    Source: ggml-quants.c, quantize_row_q8_0_ref.
    """
    steps, step = _in_steps(x)
    return (steps * half(step)).reshape(x.shape)


def _in_steps(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whole steps [blocks, 32], and the step of each block [blocks, 1]."""
    blocks = _blocks(x, 32)
    step = blocks.abs().amax(-1, keepdim=True) / 127
    scaled = _over(blocks, step)
    return torch.sign(scaled) * (scaled.abs() + 0.5).floor(), step  # roundf: halves away from zero


def q8_k(x: Tensor) -> Tensor:
    """Quantised and back: superblocks of 256, a step of the value that is largest in size over −127.

    Source: ggml-quants.c, quantize_row_q8_K_ref.
    """
    blocks = _blocks(x, 256)
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    step = largest / -127
    return (_over(blocks, step).round().clamp(max=127) * step).reshape(x.shape)


def _blocks(x: Tensor, size: int) -> Tensor:
    """[blocks, size] of the rows; a stage whose rows are no whole blocks is one block a row."""
    width = x[0].numel() if len(x) else size
    return x.reshape(-1, size if width % size == 0 else width)


def _over(blocks: Tensor, step: Tensor) -> Tensor:
    """Values in steps; of a block of zeros 0."""
    return blocks * torch.where(step == 0, torch.zeros_like(step), 1 / step)
