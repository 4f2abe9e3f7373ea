"""Settings that are not the model's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from numpy.random import Generator

from fixtures.architectures import blueprint
from fixtures.blueprint import llama3_factors
from fixtures.faults import dropped
from fixtures.forward import effect
from fixtures.spec import Llama3Scaling
from rosetta.bench.case import Cause, NotHere, Plant, Shown, Subject
from rosetta.bench.expectation import beside_clean
from rosetta.bench.kinds._choosing import one

HEAD = "output.weight"


def norm_epsilon(rng: Generator, subject: Subject) -> Plant:
    """Another epsilon, from a tenth to a thousand times as large."""
    key = f"attention.layer_norm_{'' if subject.spec.architecture == 'gpt2' else 'rms_'}epsilon"
    value = one(rng, [v for v in (1e-12, 1e-6, 1e-5, 1e-4, 1e-3) if v != subject.spec.epsilon])
    return _setting("norm_epsilon", f"norm_epsilon:{value}", "layers.0.attn_norm", key, epsilon=value)


def rope_theta(rng: Generator, subject: Subject) -> Plant:
    """Another base of the rotary frequencies."""
    _needs_rope(subject)
    value = one(rng, [v for v in (1e4, 2e4, 5e5, 1e6, 8e6) if v != subject.spec.theta])
    return _setting("rope_theta", f"rope_theta:{value}", "layers.0.q_rope", "rope.freq_base", theta=value)


def rope_type(rng: Generator, subject: Subject) -> Plant:
    """An `.apr` that names the other order of q and k rows."""
    _needs_rope(subject)
    if subject.container != "apr":
        raise NotHere
    other = 2 if subject.file.interleaved else 0
    return _setting(
        "rope_type", f"rope_type:{other}", "layers.0.q", "rope.type", combines=False, shown=Shown.yes
    )


def rope_scaling(rng: Generator, subject: Subject) -> Plant:
    """Rope scaling lost, of another factor, or where there is none."""
    _needs_rope(subject)
    scaling, stage, key = subject.spec.rope_scaling, "layers.0.q_rope", "rope.scaling"
    if scaling is None:
        factor = one(rng, (2.0, 4.0, 8.0))
        factors = subject.spec.head_dim // 2 * [factor]
        return _setting("rope_scaling", f"rope_scaling_added:{factor}", stage, key, factors=tuple(factors))
    if rng.random() < 0.5:
        plain = subject.spec.head_dim // 2 * (1.0,)
        return _setting("rope_scaling", "rope_scaling_lost", stage, key, factors=plain)
    if subject.container == "gguf" or "apr-gguf" in subject.operand:
        raise NotHere  # its factors are a tensor: another one is a fault of values
    factor = one(rng, (4.0, 16.0, 32.0))
    factors = llama3_factors(subject.spec, Llama3Scaling(factor=factor)).astype(float).tolist()
    return _setting("rope_scaling", f"rope_scaling_factor:{factor}", stage, key, factors=tuple(factors))


def rope_dimensions(rng: Generator, subject: Subject) -> Plant:
    """Half or a quarter of each head rotated. An interleaved model keeps the order of rows only in its own file."""
    _needs_rope(subject)
    order_kept = subject.container == "gguf" or subject.spec.architecture in ("qwen2", "qwen3")
    if not order_kept or subject.container == "hf" or subject.spec.rope_scaling:
        raise NotHere
    count = subject.spec.head_dim // one(rng, (2, 4))
    return _setting(
        "rope_dimensions",
        f"rope_dimensions:{count}",
        "layers.0.q_rope",
        "rope.dimension_count",
        rotated=count,
    )


def head_count(rng: Generator, subject: Subject) -> Plant:
    """Twice or half as many heads: q cannot have the size that the config says, or has another shape."""
    value = subject.spec.heads * 2 if rng.random() < 0.5 else subject.spec.heads // 2
    if value < subject.spec.kv_heads or value % subject.spec.kv_heads or subject.spec.hidden % value:
        raise NotHere
    bound = ("attention.head_count_kv", "attention.key_length", "attention.value_length")
    return _setting(
        "head_count", f"head_count:{value}", "layers.0.q", "attention.head_count",
        combines=False, shown=Shown.yes, tolerated=bound[1:] if subject.spec.architecture != "gpt2" else bound,
    )  # fmt: skip


def head_count_kv(rng: Generator, subject: Subject) -> Plant:
    """Another number of key/value heads."""
    if subject.spec.architecture == "gpt2":
        raise NotHere
    value = one(rng, [n for n in (1, 2, 4, 8) if subject.spec.heads % n == 0 and n != subject.spec.kv_heads])
    return _setting(
        "head_count_kv",
        f"head_count_kv:{value}",
        "layers.0.k",
        "attention.head_count_kv",
        combines=False,
        shown=Shown.yes,
    )


def head_dim(rng: Generator, subject: Subject) -> Plant:
    """Another size of a head, where the file states it."""
    _needs_rope(subject)
    key = "attention.key_length"
    if subject.file.own_key(key) not in subject.file.metadata:
        raise NotHere
    value = subject.spec.head_dim * 2 if rng.random() < 0.5 else subject.spec.head_dim // 2
    faults: tuple[str, ...] = (f"config_set:{key}:{value}",)
    # An `.apr` and a folder have one key for both sizes; of a GGUF file both are changed.
    if subject.container == "gguf":
        faults = (*faults, f"config_set:attention.value_length:{value}")
    made = _setting(
        "head_dim", faults[0], "layers.0.q", key,
        combines=False, shown=Shown.yes, tolerated=("attention.value_length",),
    )  # fmt: skip
    return replace(made, faults=faults)


def attention_scale(rng: Generator, subject: Subject) -> Plant:
    """The scores scaled by something else than 1/√(head size)."""
    if subject.container == "hf":
        raise NotHere
    value = one(rng, (0.5, 0.9, 1.1, 2.0)) / math.sqrt(subject.spec.head_dim)
    return _setting(
        "attention_scale",
        f"attention_scale:{value:.8g}",
        "layers.0.attn_scores",
        "attention.scale",
        scale=value,
    )


def activation(rng: Generator, subject: Subject) -> Plant:
    """Another activation."""
    if subject.container == "gguf":
        raise NotHere
    own = "gelu_tanh" if subject.spec.architecture == "gpt2" else "silu"
    name = one(rng, [name for name in ("silu", "gelu", "gelu_tanh", "relu") if name != own])
    spelled = {"gelu_tanh": "gelu_new"}.get(name, name)
    return _setting("activation", f"activation:{spelled}", "layers.0.ffn_act", "activation", activation=name)


def tied_embeddings(rng: Generator, subject: Subject) -> Plant:
    """A head of its own that is left out or overruled: the embedding is taken for it."""
    fault, shown = f"dropped:{HEAD}", Shown.yes
    if subject.spec.tied or (subject.container == "hf" and rng.random() < 0.3):
        if subject.container != "hf":
            raise NotHere
        # transformers 5 uses a head that is stored, whatever config.json says
        shown = Shown.yes if subject.spec.tied else Shown.latent
        fault = f"config_set:tied_embeddings:{not subject.spec.tied}"
    elif subject.container == "hf":
        raise NotHere  # config.json says rightly that there is a head: its absence is value.missing
    made = _setting("tied_embeddings", fault, "logits", "tied_embeddings", shown=shown, tolerated=(HEAD,))
    if subject.container == "apr" and fault.startswith(
        "dropped"
    ):  # what the file says of it is right as well
        causes = (Cause(("config.tied_embeddings", "value.missing"), ("tied_embeddings", HEAD)),)
        return replace(made, causes=causes)
    return made


def sliding_window(rng: Generator, subject: Subject) -> Plant:
    """A window that the model does not have."""
    if subject.spec.architecture == "gpt2" or (
        subject.container == "hf" and subject.spec.architecture != "mistral"
    ):
        raise NotHere
    value = one(rng, (2, 3, 4, 32))
    return _setting(
        "sliding_window",
        f"sliding_window:{value}",
        "layers.0.attn_scores",
        "attention.sliding_window",
        window=value,
    )


def layer_count(rng: Generator, subject: Subject) -> Plant:
    """One layer more or less than there are, or a layer absent, with the others in place or moved up."""
    layers = subject.spec.layers
    lost = int(rng.integers(layers))
    fault, first = one(
        rng,
        (
            (f"layer_count:{layers - 1}", layers - 1),
            (f"layer_count:{layers + 1}", layers),
            (f"layer_dropped:{lost}", lost),
            (f"layer_lost:{lost}", lost),
        ),
    )
    return _setting(
        "layer_count", fault, f"layers.{first}.attn_norm", "block_count", combines=False, shown=Shown.yes
    )


def architecture(rng: Generator, subject: Subject) -> Plant:
    """A GGUF file that goes by another architecture's name, keys and all."""
    own = blueprint(subject.spec.architecture).gguf_name
    if subject.container != "gguf" or own == "gpt2":
        raise NotHere
    other, stage = {"llama": ("qwen2", "q_rope"), "qwen2": ("llama", "q_rope"), "qwen3": ("qwen2", "q")}[own]
    if stage == "q_rope" and len(subject.ids) < 2:
        raise NotHere
    shown = _without_head_norms(subject) if own == "qwen3" else Shown.yes
    fault = f"architecture:{other}"
    made = _setting("architecture", fault, f"layers.0.{stage}", "architecture", combines=False, shown=shown)
    names = {f"blk.{n}.attn_{part}_norm.weight" for n in range(subject.spec.layers) for part in "qk"}
    return replace(made, tolerated=made.tolerated | (names if own == "qwen3" else set()))


def _without_head_norms(subject: Subject) -> Shown:
    """What it does to q that its norm is not applied, beside what the coarser dtype does to it."""
    bare = dropped("blk.0.attn_q_norm.weight")(subject.file)
    moved, size = effect("layers.0.q", subject.ids, subject.file, bare)
    clean, _ = effect("layers.0.q", subject.ids, subject.file, subject.other)
    return beside_clean(moved, size, clean)


def _setting(
    kind: str,
    fault: str,
    stage: str,
    key: str,
    *,
    combines: bool = True,
    shown: Shown | None = None,
    tolerated: tuple[str, ...] = (),
    **changes: Any,
) -> Plant:
    """A fault of one key; `shown`: what it does, None where `changes` say how to work that out."""
    full = f"config.{kind}"
    touches = frozenset({key})
    return Plant(
        full, (fault,), (Cause((full,), (key,)),), stage, touches,
        changes=changes, shown=shown, tolerated=touches | set(tolerated), combines=combines,
    )  # fmt: skip


def _needs_rope(subject: Subject) -> None:
    if subject.spec.architecture == "gpt2":
        raise NotHere


KINDS = {
    "config.norm_epsilon": norm_epsilon,
    "config.rope_theta": rope_theta,
    "config.rope_type": rope_type,
    "config.rope_scaling": rope_scaling,
    "config.rope_dimensions": rope_dimensions,
    "config.head_count": head_count,
    "config.head_count_kv": head_count_kv,
    "config.head_dim": head_dim,
    "config.attention_scale": attention_scale,
    "config.activation": activation,
    "config.tied_embeddings": tied_embeddings,
    "config.sliding_window": sliding_window,
    "config.layer_count": layer_count,
    "config.architecture": architecture,
}
