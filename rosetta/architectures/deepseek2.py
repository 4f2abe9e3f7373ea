"""DeepSeek-V2 and V3, Kimi K2, GLM-4.7 Lite: latent attention, shared experts and many small ones, some in groups."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.deepseek_ocr import DEEPSEEK_OCR
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import (
    latent_attention,
    output_of,
    sequential,
)
from rosetta.architectures.parts.expert_settings import (
    expert_groups,
    expert_settings,
    grown,
    latent_epsilon,
    latent_settings,
    leading_dense,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import LATENT_KEYS, LATENT_QUERIES, SCORE_CORRECTION, gated
from rosetta.architectures.parts.growing_queries import GROWING_QUERIES
from rosetta.architectures.parts.mixtures import network
from rosetta.architectures.parts.readings import Reading, Stored, latent_keys_values, standard_readings
from rosetta.containers.huggingface.text_part import text_config
from rosetta.graph import Stage
from rosetta.ops.indexer import TOP_K, IndexedScores
from rosetta.ops.latent import latent_norm
from rosetta.ops.op import Settings
from rosetta.ops.rotary import INTERLEAVED, SPLIT_HALF, Rotary
from rosetta.ops.temperature import Temperature
from rosetta.rope_scaling import RopeScaling
from rosetta.setting_values import Value
from rosetta.settings_reader import SettingsReader

TEMPERATURE, LENGTH = "attention.temperature_scale", "attention.temperature_length"
# Keys of config.json's table of the rotation.
BETA, ORIGINAL = "llama_4_scaling_beta", "original_max_position_embeddings"
GROUP_LIMITED = "group_limited_greedy"
GLM_LITE = ((47, 48), 154880)  # layers and vocabulary by which llama.cpp knows GLM-4.7 Lite


def v2_settings(read: SettingsReader) -> None:
    """DeepSeek-V2: softmax of all scores, never normalised by transformers, groups only where config.json says so."""
    latent_settings(read, query_rank=1536, rank=512, own=128, value=128)
    gguf = read.container.kind == "gguf"
    expert_settings(
        read,
        count=Default(apr=None, gguf=0, huggingface=64),
        used=Default(apr=None, gguf=0, huggingface=None),
        width=Default(apr=None, gguf=None, huggingface=1407),
        gating=_gguf_gating(read) if gguf else 1,
        normalised=False,
        scale=1.0,
    )
    if not gguf and "expert_weights_norm" not in read.overrides:
        read.put("expert_weights_norm", None, False, "transformers never does")
    shared_expert(read, 2, "n_shared_experts")
    method = read.spelled("topk_method")
    read.spelled("n_group", "topk_group")  # which say nothing where groups are not asked for
    grouped = gguf or (method is not None and method.value == GROUP_LIMITED)
    if grouped or "expert_group_count" in read.overrides:
        expert_groups(read, 0, 0, best=2 if gguf else 1)
    else:
        note = "topk_method is not group_limited_greedy"
        for key, value in (("count", 0), ("used_count", 0), ("best", 1)):
            read.put(f"expert_group_{key}", None, value, note)
    leading_dense(read, 0, "first_k_dense_replace")
    yarn_scales(read)
    _growing_queries(read)


def v3_settings(read: SettingsReader) -> None:
    """DeepSeek-V3: sigmoid of all scores, chosen by more than it is weighed by, from the best groups."""
    latent_settings(read, query_rank=1536, rank=512, own=128, value=128)
    sigmoid_experts(read, count=256, used=8, width=2048, scale=2.5, gating=_gguf_gating(read))
    expert_groups(read, of_folder(8), of_folder(4))
    leading_dense(read, of_folder(3), "first_k_dense_replace")
    yarn_scales(read)
    _growing_queries(read)


def glm_settings(read: SettingsReader) -> None:
    """GLM-4.7 Lite: V3 in other sizes."""
    latent_settings(read, query_rank=768, rank=512, own=192, value=256)
    sigmoid_experts(read, count=64, used=4, width=1536, scale=1.8, gating=_gguf_gating(read))
    expert_groups(read, of_folder(1), of_folder(1))
    leading_dense(read, of_folder(1))
    yarn_scales(read)
    _growing_queries(read)


def mistral4_settings(read: SettingsReader) -> None:
    """Mistral Small 4: softmax experts, and queries scaled by their position, which GGUF files do not say."""
    latent_settings(read, query_rank=1024, rank=256, own=64, value=128)
    expert_settings(
        read,
        count=of_folder(128),
        used=of_folder(4),
        width=of_folder(2048, None),
        normalised=of_folder(True, False),
        scale=1.0,
    )
    expert_groups(read, of_folder(1), of_folder(1))
    shared_expert(read, of_folder(1), "n_shared_experts")
    leading_dense(read, 0, "first_k_dense_replace")
    yarn_scales(read)
    own = read.own_table()
    original = read.raw("rope.scaling.original_context_length")
    whole = own.get(ORIGINAL, read.config["context_length"].value)
    length = whole if original is None else original.value
    _growing_queries(read, own.get(BETA, 0.0), length, spelled=True)


def _growing_queries(
    read: SettingsReader, by: float = 0.0, length: int | None = None, spelled: bool = False
) -> None:
    """By how much queries grow with their position, and after how many positions: of Mistral Small 4, and of a GGUF of
    deepseek2, which Mistral Large 3 is published as.

    Args:
        read: the reader of the container's settings.
        by: how much, where the file does not say.
        length: after how many, likewise; None: it must.
        spelled: whether config.json says by how much.
    """
    tables = ("rope_parameters", "rope_scaling")
    if read.take(TEMPERATURE, "number", by, tuple(f"{table}.{BETA}" for table in tables if spelled)):
        read.take(LENGTH, "count", length, tuple(f"{table}.{ORIGINAL}" for table in tables))
    else:
        read.put(LENGTH, None, 1, "no scale grows with it")


def sigmoid_experts(
    read: SettingsReader, count: int, used: int, width: int, scale: float, gating: int = 1
) -> None:
    """Experts of DeepSeek-V3, beside a shared one.

    Args:
        read: the reader of the container's settings.
        count, used, width, scale: see `expert_settings`, of a folder.
        gating: the function of the scores where a GGUF names none.
    """
    expert_settings(
        read,
        count=of_folder(count),
        used=of_folder(used),
        width=of_folder(width, None),
        gating=of_folder(2, gating),
        normalised=of_folder(True, False),
        scale=of_folder(scale, 1.0),
    )
    if read.container.kind == "huggingface" and "expert_gating_func" not in read.overrides:
        read.put("expert_gating_func", None, 2, "transformers always does")
    shared_expert(read, of_folder(1), "n_shared_experts")


def _gguf_gating(read: SettingsReader) -> int:
    """The gating function that llama.cpp takes where a GGUF names none."""
    layers, vocabulary = GLM_LITE
    glm = read.config["block_count"].value in layers and read.config["vocab_size"].value == vocabulary
    return 2 if glm else 1


def yarn_scales(read: SettingsReader) -> None:
    """The scale of the attention, of which YaRN's magnitude is a part, and the epsilon of the latents' norms."""
    folder = read.container.kind == "huggingface"
    latent_epsilon(read)
    read.take("rope_interleave", "flag", True, ("rope_interleave",))
    magnitude = _from_folder(read) if folder else _from_gguf(read)
    length = read.config["attention.key_length"].value
    read.number(
        "attention.scale", magnitude**2 / math.sqrt(length), "1/√(key length), times YaRN's magnitude twice"
    )


def _from_folder(read: SettingsReader) -> float:
    table = read.scaling_table()  # whatever a repair has put in place of the factors
    parameters = table.value if table is not None and isinstance(table.value, dict) else {}
    by, factor = parameters.get("mscale_all_dim") or 0.0, parameters.get("factor") or 1.0
    return grown(factor, by)


def _from_gguf(read: SettingsReader) -> float:
    """YaRN's magnitude in the scale, and in the rotated values, as llama.cpp works them out (llama-context.cpp,
    deepseek2.cpp): the file has a tenth of `mscale_all_dim`, and `mscale` is taken to be the same in deepseek2."""
    scaling, factor = read.config["rope.scaling"].value, _factor(read)
    stated = read.raw("rope.scaling.yarn_log_multiplier")
    by = 0.0 if stated is None else float(np.float32(stated.value) / np.float32(0.1))
    if not isinstance(scaling, RopeScaling) or factor <= 1:
        return 1.0
    attention = read.raw("rope.scaling.attn_factor")
    turned = 1.0 if attention is None else float(attention.value)
    rule = read.raw("rope.scaling.type")
    if rule is not None and rule.value == "yarn":
        same = read.architecture.gguf == "deepseek2" and by != 1.0
        turned *= grown(factor, by if same else 1.0) / grown(factor, by) if by else grown(factor, 1.0)
    if "rope.scaling" not in read.overrides:
        found = read.config["rope.scaling"]
        read.config["rope.scaling"] = Value(replace(scaling, magnitude=turned), found.key, found.note)
    # The growth that YaRN's own factor cancels stays where there is no YaRN.
    linear = rule is None or rule.value != "yarn"
    return turned * grown(factor, by) * (grown(factor, 1.0) if linear else 1.0)


def _factor(read: SettingsReader) -> float:
    stated = read.raw("rope.scaling.factor")
    return 1.0 if stated is None else float(stated.value)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Latent attention, then experts beside a shared one, or a dense network in the first layers."""
    order = INTERLEAVED if c["rope_interleave"] else SPLIT_HALF
    mixer = latent_attention(
        norm=a.norm_of("attn_norm"),
        rope=Rotary(order, last=True),
        latent_norm=latent_norm,
        low_rank_queries=c["attention.q_lora_rank"] > 0,
        after_rope=Temperature() if TEMPERATURE in c else None,
        scores=IndexedScores(window=None) if TOP_K in c else None,
    )
    return sequential(output_of(n - 1), mixer, network(a, c, norm=a.norm_of("ffn_norm")))


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """Keys and values out of the latent, experts stacked."""
    found = latent_keys_values(stored, c) or standard_readings(stored, c)
    return None if found is None else list(found)


DEEPSEEK2 = Architecture(
    "deepseek2",
    gguf="deepseek2",
    classes=("DeepseekV2ForCausalLM", "deepseek_v2"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=SPLIT_HALF,  # the rows that are rotated lie interleaved in every container
    settings=v2_settings,
    readings=readings,
    layer=layer,
    variant=lambda metadata: DEEPSEEK_OCR if text_config(metadata).get("use_mla") is False else None,
    huggingface=HuggingFace(
        model_type="deepseek_v2",
        defaults={  # transformers, DeepseekV2Config
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "rope.dimension_count": 64,
            "vocab_size": 102400,
            "tied_embeddings": False,
        },
        spellings={
            "rope.dimension_count": "qk_rope_head_dim",
            "expert_count": "n_routed_experts",
        },
        keys={"topk_method": lambda c: GROUP_LIMITED if c["expert_group_count"].value > 1 else "greedy"},
        flags={"attention_bias": False, "mlp_bias": False},
        names={
            **LATENT_KEYS,
            **LATENT_QUERIES,
            **gated("mlp.shared_experts", "_shexp"),
        },
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.EXPERTS
        | llamacpp_keys.LATENT
        | {"attention.temperature_length", "attention.temperature_scale", "rope.scaling.yarn_log_multiplier"},
    ),
)
DEEPSEEK_V3 = replace(
    DEEPSEEK2,
    name="deepseek_v3",
    classes=("DeepseekV3ForCausalLM", "kimi_k2", "KimiK2ForCausalLM"),
    settings=v3_settings,
    huggingface=replace(
        DEEPSEEK2.huggingface,
        model_type="",
        defaults={  # transformers, DeepseekV3Config
            "block_count": 61,
            "context_length": 4096,
            "embedding_length": 7168,
            "feed_forward_length": 18432,
            "attention.head_count": 128,
            "attention.head_count_kv": 128,
            "rope.dimension_count": 64,
            "vocab_size": 129280,
            "tied_embeddings": False,
        },
        keys={},
        says_anyway={"topk_method": "noaux_tc"},
        parameters=SCORE_CORRECTION,
    ),
)
GLM4_MOE_LITE = replace(
    DEEPSEEK2,
    name="glm4_moe_lite",
    classes=("Glm4MoeLiteForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=glm_settings,
    huggingface=replace(
        DEEPSEEK2.huggingface,
        reads=frozenset({"partial_rotary_factor"}),
        model_type="",
        defaults={  # transformers, Glm4MoeLiteConfig
            "block_count": 47,
            "context_length": 202752,
            "embedding_length": 2048,
            "feed_forward_length": 10240,
            "attention.head_count": 20,
            "attention.head_count_kv": 20,
            "rope.dimension_count": 64,
            "vocab_size": 154880,
            "tied_embeddings": False,
        },
        keys={},
        parameters=SCORE_CORRECTION,
    ),
)
MISTRAL4 = replace(
    DEEPSEEK2,
    name="mistral4",
    gguf="mistral4",
    classes=("Mistral4ForCausalLM",),
    settings=mistral4_settings,
    huggingface=replace(
        DEEPSEEK2.huggingface,
        reads=frozenset({"partial_rotary_factor"}),
        model_type="",
        defaults={  # transformers, Mistral4Config
            "block_count": 36,
            "context_length": 1048576,
            "embedding_length": 4096,
            "feed_forward_length": 12288,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "rope.dimension_count": 64,
            "rope.scaling": {
                "rope_type": "yarn",
                "factor": 128.0,
                "original_max_position_embeddings": 8192,
                "mscale_all_dim": 1.0,
                "mscale": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
            "vocab_size": 131072,
            "tied_embeddings": False,
        },
        keys={
            **GROWING_QUERIES,
            "rope_parameters.partial_rotary_factor": lambda c: (
                c["rope.dimension_count"].value / c["attention.key_length"].value
            ),
        },
        parameters={
            "model.layers.{bid}.mlp.experts.down_proj": "blk.{bid}.ffn_down_exps",
            "model.layers.{bid}.mlp.experts.gate_up_proj": "blk.{bid}.ffn_gate_up_exps",
        },
    ),
    llamacpp=replace(
        DEEPSEEK2.llamacpp,
        reads=llamacpp_keys.EXPERTS
        | llamacpp_keys.LATENT
        | {"attention.temperature_length", "attention.temperature_scale", "rope.scaling.yarn_log_multiplier"},
    ),
)
