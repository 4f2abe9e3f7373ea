"""Llama 4: attention in chunks, every fourth layer without rotary and with queries scaled by position, experts whose
inputs are weighed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rosetta.architectures import INTERLEAVED, SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import HEADS, HIDDEN, KEY
from rosetta.architectures.parts.expert_settings import (
    expert_layers,
    expert_settings,
    expert_step,
    layers_with_router,
    of_folder,
    refuse_base_of_windows,
)
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.gguf_counts import Counts, Refused
from rosetta.architectures.parts.mixtures import mixture_layer, router_of
from rosetta.architectures.parts.readings import EXPERTS_GATE_UP, Reading, Stored, experts, standard_readings
from rosetta.graph import Stage
from rosetta.ops.attention import Scores
from rosetta.ops.chain import chain
from rosetta.ops.linear import Linear
from rosetta.ops.norm import Norm
from rosetta.ops.op import Settings
from rosetta.ops.rotary import Rotary
from rosetta.ops.temperature import Temperature
from rosetta.setting_values import listed
from rosetta.settings_reader import SettingsReader

STEP = 4  # of so many layers the last is not turned, where the file does not say
CHUNK, TEMPERATURE, TEMPERATURE_LENGTH = 8192, 0.1, 8192  # which llama.cpp has fixed
CHUNKED = "chunked_attention"
EXPERTS_WITHOUT_NORM = 128  # Maverick, which llama.cpp knows by it


def settings(read: SettingsReader) -> None:
    """The experts; which layers are turned, and see chunks; the scale of queries by position."""
    layers = range(read.config["block_count"].value)
    folder = read.container.kind != "gguf"
    expert_settings(
        read,
        count=of_folder(16, None),
        used=of_folder(1, None),
        width=of_folder(8192, None),
        gating=2,
        normalised=False,
    )
    if folder:
        _widths(read)
    width = read.config["expert_feed_forward_length"].value
    if read.container.kind == "gguf":
        read.fixed("expert_shared_feed_forward_length", width, "as wide as the others, in llama.cpp")
    else:
        read.take("expert_shared_feed_forward_length", "count", width)
    if folder:
        named, step = read.spelled("moe_layers"), read.spelled("interleave_moe_layer_step")
        every = step.value if step else 1
        sparse = named.value if named else [n for n in layers if (n + 1) % every == 0]
        said = named or step
        expert_layers(read, [n in sparse for n in layers], said.key if said else None)
    else:
        layers_with_router(read)
    turned = [bool((n + 1) % STEP) for n in layers]
    chunk, tuned, normed = CHUNK, True, read.config["expert_count"].value != EXPERTS_WITHOUT_NORM
    kinds = read.spelled("layer_types") if folder else None
    if folder:
        unturned, interval = read.spelled("no_rope_layers"), read.spelled("no_rope_layer_interval")
        if unturned is not None and unturned.value:
            turned = [bool(value) for value in unturned.value][: len(layers)]
        elif interval is not None:
            turned = [bool((n + 1) % interval.value) for n in layers]
        stated = read.spelled("attention_chunk_size")
        chunk = 0 if read.says_null("attention_chunk_size") else stated.value if stated else CHUNK
        flag, norm = read.spelled("attn_temperature_tuning"), read.spelled("use_qk_norm")
        tuned, normed = flag is None or bool(flag.value), norm is None or bool(norm.value)
    else:
        window = read.raw("attention.sliding_window")
        if window is not None and window.value == 0:  # no chunks: the smaller models
            turned, chunk, tuned = [True] * len(layers), 0, False
    read.by_layer("rope.layers", turned, "the layers that are turned")
    chunked, where = turned, "in the layers that are turned"
    if kinds is not None:
        chunked, where = [kind == CHUNKED for kind in kinds.value], "in the layers that are chunked"
    chunks = [chunk if one else 0 for one in chunked]
    read.by_layer("attention.chunk_size", chunks, where, None if kinds is None else kinds.key)
    read.take("attention.temperature_scale", "number", TEMPERATURE if tuned else 0.0, ("attn_scale",))
    read.take("attention.temperature_length", "count", TEMPERATURE_LENGTH, ("floor_scale",))
    if not tuned and "attention.temperature_scale" not in read.overrides:
        read.put("attention.temperature_scale", None, 0.0, "attn_temperature_tuning is not set")
    read.take("attention.head_norm", "flag", normed, note="of the turned queries and keys")
    refuse_base_of_windows(read)


def _widths(read: SettingsReader) -> None:
    """A folder's `intermediate_size` is that of an expert."""
    read.take("expert_feed_forward_length", "count", 8192, ("intermediate_size",))
    if "feed_forward_length" not in read.overrides:
        read.put("feed_forward_length", read.spelled("intermediate_size_mlp"), 16384)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention in a chunk, turned; or over all tokens, with queries scaled by position; then experts."""
    norm = Norm(None, a.epsilon_key, kind="rms") if c["attention.head_norm"] else None
    mixer: dict[str, Any] = {"scores": Scores(window=None, chunk="attention.chunk_size")}
    if c["rope.layers"]:
        mixer |= {"rope": Rotary(INTERLEAVED), "after_rope": lambda part: norm}
    else:
        product = Linear("attn_q", rows=(HEADS, KEY), columns=HIDDEN, heads=HEADS)
        mixer |= {"rope": None, "queries": chain(product, Temperature(offset=1))}
    router = router_of(c, by_scores=True)
    return mixture_layer(a, c, n, mixer=mixer, router=router, weigh_inputs=True)


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """A folder stores each expert's matrix `[in, out]`."""
    if stored.foreign and stored.stem == "ffn_gate_up_exps":
        return experts(stored, EXPERTS_GATE_UP, transposed=True)
    if stored.foreign and stored.stem == "ffn_down_exps":
        return experts(stored, transposed=True)
    found = standard_readings(stored, c)
    return None if found is None else list(found)


def experts_by_step(counts: Counts) -> Iterator[Refused]:
    """A step that is not that of the layers with experts: llama.cpp loads those of the last of so many layers, whatever
    tensors there are (src/models/llama4.cpp)."""
    step = counts.get("interleave_moe_layer_step")
    if step is None:
        return
    routed = sorted(
        int(name.split(".")[1]) for name in counts.tensors if name.endswith(".ffn_gate_inp.weight")
    )
    if routed != [n for n in range(counts.of("block_count")) if step and (n + 1) % step == 0]:
        why = f"for experts in layers {', '.join(map(str, routed))}"
        yield Refused("interleave_moe_layer_step", step, why)


LLAMA4 = Architecture(
    "llama4",
    gguf="llama4",
    classes=("Llama4ForCausalLM", "Llama4ForConditionalGeneration", "llama4_text"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=SPLIT_HALF,  # no rows are reordered: pairs lie beside each other in every container
    rope_theta=Default(apr=5e5, gguf=10000.0, huggingface=5e5),
    settings=settings,
    readings=readings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="llama4_text",
        defaults={  # transformers, Llama4TextConfig
            "block_count": 48,
            "context_length": 131072,
            "embedding_length": 5120,
            "feed_forward_length": 16384,
            "attention.head_count": 40,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "vocab_size": 202048,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "num_local_experts",
            "expert_feed_forward_length": "intermediate_size",
            "feed_forward_length": "intermediate_size_mlp",
            "attention.temperature_scale": "attn_scale",
            "attention.temperature_length": "floor_scale",
        },
        keys={
            "attention_chunk_size": lambda c: max(listed(c, "attention.chunk_size")) or None,
            "layer_types": lambda c: [
                CHUNKED if size else "full_attention" for size in listed(c, "attention.chunk_size")
            ],
            "attn_temperature_tuning": lambda c: c["attention.temperature_scale"].value != 0,
            "no_rope_layers": lambda c: [int(on) for on in listed(c, "rope.layers")],
            "use_qk_norm": lambda c: c["attention.head_norm"].value,
        },
        flags={"attention_bias": False},
        names={
            **gated("feed_forward"),
            **gated("feed_forward.shared_expert", "_shexp"),
            "model.layers.{bid}.feed_forward.router": "blk.{bid}.ffn_gate_inp",
        },
        parameters={
            "model.layers.{bid}.feed_forward.experts.down_proj": "blk.{bid}.ffn_down_exps",
            "model.layers.{bid}.feed_forward.experts.gate_up_proj": "blk.{bid}.ffn_gate_up_exps",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"expert_feed_forward_length", "interleave_moe_layer_step", "rope.freq_base_swa"}),
        keys={"interleave_moe_layer_step": expert_step},
        windows="stretched",
        refuses=experts_by_step,
    ),
)
