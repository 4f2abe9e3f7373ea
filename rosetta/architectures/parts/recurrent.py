"""What architectures with recurrent layers share: the blocks of such a layer, how their tensors are read, and which
layers they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rosetta.architectures.parts.builders import HIDDEN, Block
from rosetta.architectures.parts.readings import MINUS_EXP, Reading, Stored
from rosetta.containers.values import WRONG_VALUE
from rosetta.errors import DamagedFileError
from rosetta.graph import Stage
from rosetta.ops.chain import chain
from rosetta.ops.delta_rule import GatedDelta
from rosetta.ops.linear import Linear
from rosetta.ops.op import Op, Settings, Sum
from rosetta.ops.recurrent import (
    FUSED,
    GROUPS,
    HEAD,
    INNER,
    LARGEST,
    MIXED,
    RANK,
    SMALLEST,
    STATE,
    Columns,
    Convolution,
    GatedNorm,
)
from rosetta.ops.state_space import SelectiveScan, StateSpace
from rosetta.setting_values import Config, listed
from rosetta.settings_reader import SettingsReader

RECURRENT = "attention.recurrent_layers"
RECURRENT_KINDS = ("linear_attention", "mamba", "conv", "mamba2", "recurrent")
"""What config.json calls such a layer."""


@dataclass(frozen=True)
class Scan:
    """What a recurrent layer computes between its convolution and its norm and gate.

    Args:
        op: whose first input is the convolution's result.
        inputs: names of its other inputs.
        before: stages between, which read those before them by name.
    """

    op: Op
    inputs: tuple[str, ...] = ()
    before: tuple[Stage, ...] = ()


def mixer(
    *,
    norm: Op | None,
    projections: Mapping[str, Op],
    convolution: Op,
    scan: Scan | None,
    closing: Op,
    gate: str,
    out: str = "ssm_out",
    inner: Any = INNER,
    post_norm: Op | None = None,
) -> Block:
    """A recurrent block: projections in, a convolution, a state, a norm and a gate, the projection out.

    Args:
        norm: of the input; None: it is read as `attn_norm`, the norm that it shares with the block beside it.
        projections: stages' names and operations, all of the normed input; the convolution reads `ssm_in`.
        convolution: of what the state takes.
        scan: None: there is none, the convolution is all.
        closing: the norm and the gate.
        gate: the stage that its gate is read from.
        out, inner: stem and columns of the projection out.
        post_norm: of the result; None: there is none.
    """

    def block(x: str) -> list[Stage]:
        source = x if norm is None else "attn_norm"
        stages = [] if norm is None else [Stage("attn_norm", norm, (x,))]
        stages += [Stage(name, op, (source,)) for name, op in projections.items()]
        stages.append(Stage("ssm_conv", convolution, ("ssm_in",)))
        if scan is not None:
            stages += scan.before
            stages.append(Stage("ssm_scan", scan.op, ("ssm_conv", *scan.inputs)))
        stages.append(Stage("ssm_norm", closing, (stages[-1].name, gate)))
        projection = Linear(out, rows=HIDDEN, columns=inner)
        stages.append(Stage("ssm_out", projection, ("ssm_norm",)))
        return [*stages, *([] if post_norm is None else [Stage("attn_post_norm", post_norm, ("ssm_out",))])]

    return block


def delta_net(norm: Op, epsilon: str, tiled: bool) -> Block:
    """A gated delta net (Qwen3-Next, Qwen3.5).

    Args:
        norm: of the input.
        epsilon: config key of the heads' norm's.
        tiled: see `GatedDelta`.
    """
    gates: dict[str, Op] = {"ssm_ba": Linear("ssm_ba", rows=(2, RANK), columns=HIDDEN)}
    if tiled:
        gates = {name: Linear(name, rows=RANK, columns=HIDDEN) for name in ("ssm_alpha", "ssm_beta")}
    return mixer(
        norm=norm,
        projections={
            "ssm_in": Linear("attn_qkv", rows=MIXED, columns=HIDDEN),
            "attn_gate_in": Linear("attn_gate", rows=INNER, columns=HIDDEN),
            **gates,
        },
        convolution=Convolution(),
        scan=Scan(GatedDelta(tiled), tuple(gates)),
        closing=GatedNorm("ssm_norm", epsilon),
        gate="attn_gate_in",
    )


def mamba2(
    c: Settings,
    norm: Op | None,
    epsilon: str,
    *,
    gate_first: bool = True,
    activation: str | None = "activation",
) -> Block:
    """Mamba-2: gate, what the state takes and time steps out of one projection.

    Args:
        c: settings of the layer.
        norm: of the input, see `mixer`.
        epsilon: config key of the groups' norm's.
        gate_first: whether that norm is of what has passed the gate.
        activation: config key of that of what was convolved; None: it is a SiLU.
    """
    return mixer(
        norm=norm,
        projections={"ssm_in": Linear("ssm_in", rows=FUSED, columns=HIDDEN)},
        convolution=Convolution(first=INNER, activation=activation),
        scan=Scan(StateSpace(), ("ssm_in",)),
        closing=GatedNorm(
            "ssm_norm",
            epsilon,
            width=(GROUPS, c[INNER] // c[GROUPS]),
            gate_first=gate_first,
            optional=True,
        ),
        gate="ssm_in",
    )


def mamba(norm: Op | None, epsilon: str, inner_norm: Callable[[str], Op] | None = None) -> Block:
    """Mamba: time steps, what is written and what is read by are projected from what was convolved.

    Args:
        norm: of the input, see `mixer`.
        epsilon: config key that the closing gate, which has no norm here, would take.
        inner_norm: stem of a norm's name -> the norm of each of the three; None: there is none.
    """
    parts: dict[str, Op] = {
        "dt": Columns(0, RANK),
        "b": Columns(RANK, STATE),
        "c": Columns(Sum((RANK, STATE)), STATE),
    }
    cut = {f"ssm_{part}_in": op for part, op in parts.items()}
    if inner_norm is not None:
        cut = {f"ssm_{part}_norm": chain(op, inner_norm(f"ssm_{part}_norm")) for part, op in parts.items()}
    steps, *others = cut
    before = (
        Stage(
            "ssm_x", Linear("ssm_x", rows=Sum((RANK, (2, STATE))), columns=INNER, bias=False), ("ssm_conv",)
        ),
        *(Stage(name, op, ("ssm_x",)) for name, op in cut.items()),
        Stage("ssm_dt", Linear("ssm_dt", rows=INNER, columns=RANK), (steps,)),
    )
    return mixer(
        norm=norm,
        projections={"ssm_in": Linear("ssm_in", rows=(2, INNER), columns=HIDDEN)},
        convolution=Convolution(channels=INNER, activation="activation"),
        scan=Scan(SelectiveScan(), ("ssm_dt", *others), before),
        closing=GatedNorm(None, epsilon, first=INNER),
        gate="ssm_in",
    )


def rms_epsilon(read: SettingsReader) -> None:
    """The norms' epsilon under a name that elsewhere means LayerNorm's."""
    key, other = read.architecture.epsilon_key, read.raw("attention.layer_norm_epsilon")
    if read.raw(key) is None and other is not None:
        read.by_layer(key, [float(np.float32(other.value))], stated=other.key)


def without_attention(read: SettingsReader) -> None:
    """Take note of keys that have another meaning in a model without attention, or none: they are not unheeded."""
    keys = (
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
    )
    for key in (*keys, "feed_forward_length"):
        read.raw(key)


def time_step_limits(read: SettingsReader, *spellings: str) -> None:
    """Between what time steps are held, which GGUF cannot say.

    Args:
        read: a container's settings.
        spellings: keys of config.json.
    """
    stated = read.spelled(*spellings)
    for which, key in enumerate((SMALLEST, LARGEST)):
        limits = stated.value if stated is not None else None
        limit = limits[which] if isinstance(limits, list | tuple) and len(limits) == 2 else 0.0
        finite = type(limit) in (int, float) and math.isfinite(limit)
        read.by_layer(
            key, [float(limit) if finite else 0.0], "none", stated.key if stated is not None else None
        )


def state_sizes(
    read: SettingsReader, spellings: Mapping[str, Sequence[str]], defaults: Mapping[str, int]
) -> None:
    """Sizes of the state, each from the config's own spellings.

    Args:
        read: a container's settings.
        spellings: canonical key -> keys of config.json whose product it is.
        defaults: what transformers' config class assumes, by key of config.json.
    """
    alone = {factors[0]: key for key, factors in spellings.items() if len(factors) == 1}
    alone["hidden_size"] = "embedding_length"
    for key, factors in spellings.items():
        if read.raw(key) is not None or read.container.kind == "gguf":
            read.count(key, None)
            continue
        found = [(factor, _repaired(read, alone.get(factor)) or read.spelled(factor)) for factor in factors]
        sizes = [_count_of(read, factor, setting, defaults) for factor, setting in found]
        stated = " × ".join(setting.key for _, setting in found if setting is not None)
        read.by_layer(key, [math.prod(sizes)], "default of transformers", stated or None)


def stated_head_size(read: SettingsReader, spelling: str) -> None:
    """The size of a state's heads, which follows from the other sizes: a folder may contradict itself by it.

    Args:
        read: a container's settings, the other sizes among them read.
        spelling: of config.json.
    """
    read.take(
        HEAD,
        "count",
        max(read.size(INNER) // max(read.size(RANK), 1), 1),
        (spelling,),
        note="inner size / heads",
    )


def _repaired(read: SettingsReader, key: str | None) -> Any:
    """A size that a repair puts in place, for the others that are worked out from it."""
    return read.raw(key) if key is not None and key in read.overrides else None


def _count_of(read: SettingsReader, name: str, setting: Any, defaults: Mapping[str, int]) -> int:
    value = defaults.get(name) if setting is None else setting.value
    if value is None:
        raise DamagedFileError(
            f"config.json has no {name}",
            file=read.container.path,
            remedy="export the model again with a complete configuration",
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 < value < 1 << 31:
        raise DamagedFileError(
            f"{name} is {str(value)[:60]}, not a count", file=read.container.path, remedy=WRONG_VALUE
        )
    return value


def recurrent_layers(read: SettingsReader) -> None:
    """Which layers are recurrent: a list of the file's, else all but the last of every so many."""
    layers = read.config["block_count"].value
    stated, kinds = read.raw(RECURRENT), read.spelled("layer_types")
    interval = read.raw("full_attention_interval") or read.spelled("full_attention_interval")
    if stated is not None and isinstance(stated.value, list | tuple) and len(stated.value) >= layers:
        read.by_layer(RECURRENT, [bool(value) for value in stated.value][:layers], stated=stated.key)
    elif kinds is not None and isinstance(kinds.value, list) and len(kinds.value) >= layers:
        read.by_layer(RECURRENT, [kind in RECURRENT_KINDS for kind in kinds.value][:layers], stated=kinds.key)
    else:
        given = interval.value if interval is not None else None
        every = given if type(given) is int and given > 0 else 4
        note = "all but the last of every so many"
        stated_by = interval.key if interval is not None else None
        read.by_layer(RECURRENT, [(n + 1) % every != 0 for n in range(layers)], note, stated_by)


def recurrent_without_heads(
    read: SettingsReader, recurrent: Sequence[bool], stated: str | None = None
) -> None:
    """Which layers are recurrent: in a GGUF file those that have no heads of keys and values.

    Args:
        read: a container's settings.
        recurrent: of a folder's layers, whether they are.
        stated: the folder's own key that says so.
    """
    key, layers = "attention.head_count_kv", range(read.config["block_count"].value)
    read.raw(RECURRENT)
    heads = read.config[key]
    if read.container.kind == "gguf":
        kv_heads = heads.value if isinstance(heads.value, tuple) else [heads.value] * len(layers)
        recurrent, stated = [not kv_heads[n] for n in layers], heads.key
    if len(recurrent) < len(layers):
        raise ValueError(f"{stated} does not name a kind for each of {len(layers)} layers")
    read.by_layer(RECURRENT, recurrent, stated=stated)
    if read.container.kind != "gguf":
        kinds = listed(read.config, RECURRENT)  # a repair's where it has put some in place
        each = [0 if recurs else heads.value for recurs in kinds]
        read.by_layer(key, each, heads.note, heads.key)


def head_size(config: Config) -> int:
    """Columns of the state's input that each of its heads has."""
    return int(config[INNER].value // config[RANK].value)


def stated_limits(config: Config) -> list[float] | None:
    """Between what time steps are held, as config.json has it; None where nothing holds them."""
    limits = [float(config[key].value) for key in (SMALLEST, LARGEST)]
    return limits if any(limits) else None


def layer_kinds(read: SettingsReader, default: Sequence[str]) -> tuple[list[str], str | None]:
    """What a folder's `layer_types` calls its layers, and under which key.

    Args:
        read: a container's settings.
        default: where it says nothing.
    """
    found, layers = read.spelled("layer_types", "layers_block_type"), read.config["block_count"].value
    if found is None:
        return list(default), None
    if not isinstance(found.value, list) or len(found.value) < layers:
        raise DamagedFileError(
            f"{found.key} does not name a kind for each of {layers} layers",
            file=read.container.path,
            remedy=WRONG_VALUE,
        )
    return [str(kind) for kind in found.value[:layers]], found.key


def state_readings(stored: Stored, c: Settings, per_head: bool = False) -> list[Reading] | None:
    """What a Hugging Face folder keeps in another form: A as its logarithm, a convolution's kernels in three dims, the
    norm of all groups as one.

    Args:
        stored: the tensor.
        c: settings of its layer.
        per_head: whether A and D have two dims in GGUF, one number for each head (Mamba-2).
    """
    name = f"{stored.stem}.{stored.suffix}" if stored.suffix else stored.stem
    if stored.stem == "ssm_norm" and per_head and len(stored.dims) == 1:
        groups = c[GROUPS]  # of one group GGUF writers leave the dim out too
        return [Reading(name, dims=(groups, stored.dims[0] // groups))]
    if not stored.foreign:
        return None
    if stored.stem in ("ssm_a", "ssm_d"):
        dims = (*stored.dims, 1) if per_head and len(stored.dims) == 1 else None
        return [Reading(name, dims=dims, edit=MINUS_EXP if stored.stem == "ssm_a" else None)]
    if stored.suffix == "weight" and len(stored.dims) == 3 and "conv" in stored.stem.rpartition(".")[2]:
        return [Reading(name, dims=(stored.dims[0], stored.dims[2]))]
    return None
