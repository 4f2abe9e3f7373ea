"""Which keys llama.cpp asks for before it loads a model, and of which type each is: facts of its source, no rule.

Keys are those of GGUF without the architecture. Sources: llama.cpp, src/models/*.cpp, the calls of
`load_arch_hparams` that are neither optional nor conditional; gguf-py, gguf_writer.py.
"""

from collections.abc import Iterator, Mapping
from functools import cache

import gguf

from rosetta.containers.gguf.number_keys import COUNTS, FLAGS, NUMBERS

# llama-model.cpp, llama_model_base::load_hparams
ALWAYS = ("block_count", "context_length", "embedding_length")


def _words(text: str) -> list[str]:
    return text.split()


RMS, LAYER = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"

_RMS_EPSILON = _words("""
    afmoe apertus arcee arctic baichuan bailingmoe bailingmoe2 bailingmoe3 bitnet chameleon chatglm
    cogvlm deci deepseek deepseek2 deepseek2-ocr deepseek32 deepseek4 dflash dots1 dots3note dream
    eagle3 ernie4_5 ernie4_5-moe eurobert exaone exaone-moe exaone4 falcon-h1 gemma gemma-embedding
    gemma2 gemma3 gemma3n gemma4 gemma4-assistant glm-dsa glm4 glm4moe glm5-next gpt-oss granite
    granite_swa granitehybrid granitemoe graniteswitch grok grovemoe hrm_text hunyuan-dense hunyuan-moe
    hunyuan_vl hy_v3 hy_v4 internlm2 jamba kimi-k3 kimi-linear laguna lfm2 lfm2moe llada llada-moe llama
    llama-embed llama4 maincoder mamba mamba2 maple mellum mimo2 minicpm minicpm3 minimax-01 minimax-m2
    minimax-m3 mistral3 mistral4 muse-glimmer nanbeige neo-bert olmo2 olmoe openelm paddleocr
    pangu-embedded phi3 phimoe plamo plamo2 plamo3 plm qwen qwen2 qwen2moe qwen3 qwen35 qwen35moe
    qwen3moe qwen3next qwen3tts qwen3vl qwen3vlmoe qwen4exp refact rnd1 seed_oss smallthinker smollm3
    spark2_5 step35 t5 t5encoder talkie xverse
""")

_LAYER_EPSILON = _words("""
    bert bloom codeshell cohere2 command-r dbrx falcon gpt2 gptneox jais jais2 jina-bert-v2 jina-bert-v3
    modern-bert mpt nemotron nemotron_h nemotron_h_moe nomic-bert nomic-bert-moe olmo orion phi2
    pockettts stablelm starcoder starcoder2 wavtokenizer-dec
""")

_MORE = {
    "apertus": "xielu.alpha_n xielu.alpha_p xielu.beta xielu.eps",
    "afmoe bailingmoe deepseek deepseek2-ocr dots1 glm4moe": (
        "expert_feed_forward_length expert_shared_count"
    ),
    "arwkv7 rwkv7": (
        "attention.decay_lora_rank attention.iclr_lora_rank attention.value_residual_mix_lora_rank "
        "wkv.head_size"
    ),
    "bailingmoe2": "expert_feed_forward_length expert_gating_func expert_shared_count",
    "bailingmoe3": (
        "attention.key_length_mla attention.kv_lora_rank attention.value_length_mla "
        "expert_feed_forward_length expert_gating_func expert_shared_count kda.gate_lower_bound "
        "kda.head_dim leading_dense_block_count ssm.conv_kernel"
    ),
    "cohere2 muse-glimmer": "attention.sliding_window logit_scale",
    "cohere2moe": (
        "attention.sliding_window expert_feed_forward_length leading_dense_block_count logit_scale"
    ),
    "dbrx": "attention.clamp_kqv",
    "deepseek2 mistral4": "attention.kv_lora_rank expert_feed_forward_length expert_shared_count",
    "deepseek32": (
        "attention.indexer.head_count attention.indexer.key_length attention.indexer.top_k "
        "attention.kv_lora_rank attention.q_lora_rank expert_feed_forward_length expert_gating_func "
        "expert_shared_count"
    ),
    "deepseek4": (
        "attention.compress_ratios attention.compress_rope_freq_base attention.indexer.head_count "
        "attention.indexer.key_length attention.indexer.top_k attention.output_group_count "
        "attention.output_lora_rank attention.q_lora_rank attention.sliding_window "
        "expert_feed_forward_length expert_gating_func expert_shared_count expert_weights_norm "
        "expert_weights_scale hash_layer_count hyper_connection.count hyper_connection.epsilon "
        "hyper_connection.sinkhorn_iterations swiglu_clamp_exp"
    ),
    "dots3note": (
        "attention.indexer.head_count attention.indexer.key_length attention.indexer.top_k "
        "attention.indexer.types attention.key_length_mla attention.key_length_mla_swa "
        "attention.kv_lora_rank attention.kv_lora_rank_swa attention.q_lora_rank attention.sliding_window "
        "attention.sliding_window_pattern attention.value_length_mla attention.value_length_mla_swa "
        "expert_feed_forward_length expert_gating_func expert_shared_count leading_dense_block_count "
        "rope.freq_base_swa"
    ),
    "eagle3": "target_hidden_size",
    "ernie4_5-moe": "expert_feed_forward_length interleave_moe_layer_step",
    "exaone-moe": "attention.sliding_window expert_feed_forward_length expert_gating_func",
    "falcon-h1 granitehybrid mamba2 nemotron_h nemotron_h_moe plamo2 qwen3next": (
        "ssm.conv_kernel ssm.group_count ssm.inner_size ssm.state_size ssm.time_step_rank"
    ),
    "gemma-embedding gemma3n": "attention.sliding_window",
    "gemma4": (
        "attention.key_length_swa attention.sliding_window attention.sliding_window_pattern "
        "attention.value_length_swa embedding_length_per_layer_input"
    ),
    "gemma4-assistant": (
        "attention.key_length_swa attention.sliding_window attention.sliding_window_pattern "
        "attention.value_length_swa"
    ),
    "glm-dsa": (
        "attention.indexer.head_count attention.indexer.key_length attention.indexer.top_k "
        "attention.kv_lora_rank attention.q_lora_rank expert_feed_forward_length expert_shared_count"
    ),
    "glm5-next": (
        "attention.indexer.head_count attention.indexer.key_length attention.indexer.kpool "
        "attention.indexer.top_k attention.key_length_mla attention.kv_lora_rank attention.q_lora_rank "
        "attention.value_length_mla expert_feed_forward_length expert_shared_count hyper_connection.count "
        "hyper_connection.epsilon hyper_connection.sinkhorn_iterations kda.head_dim ssm.conv_kernel"
    ),
    "gpt-oss": "attention.sliding_window expert_feed_forward_length",
    "gptneox": "use_parallel_residual",
    "granite granitemoe talkie": "logit_scale",
    "granite_swa": "attention.sliding_window attention.sliding_window_pattern logit_scale",
    "graniteswitch": (
        "adapters.count adapters.lora_rank adapters.token_ids_activate adapters.token_ids_substitute "
        "logit_scale"
    ),
    "grovemoe": "expert_feed_forward_length expert_group_scale experts_per_group",
    "hrm_text": "hrm.h_cycles hrm.l_cycles hrm.layers_per_stack",
    "hunyuan-moe hy_v3 mellum minimax-m2": "expert_feed_forward_length",
    "hy_v4": (
        "attention.key_length_mla attention.kv_lora_rank attention.q_lora_rank attention.value_length_mla "
        "expert_feed_forward_length expert_shared_count hyper_connection.count hyper_connection.epsilon "
        "hyper_connection.magnitude"
    ),
    "jamba mamba": "ssm.conv_kernel ssm.inner_size ssm.state_size ssm.time_step_rank",
    "kimi-k3": (
        "activation.situ_beta activation.situ_linear_beta attention.key_length_mla attention.kv_lora_rank "
        "attention.value_length_mla attn_res.block_size expert_feed_forward_length expert_gating_func "
        "expert_shared_count kda.head_dim ssm.conv_kernel"
    ),
    "kimi-linear": (
        "attention.key_length_mla attention.kv_lora_rank attention.value_length_mla "
        "expert_feed_forward_length expert_gating_func expert_shared_count kda.head_dim ssm.conv_kernel"
    ),
    "laguna": "expert_feed_forward_length leading_dense_block_count",
    "lfm2": "shortconv.l_cache",
    "lfm2moe": "expert_feed_forward_length expert_gating_func shortconv.l_cache",
    "llama4": "expert_feed_forward_length interleave_moe_layer_step",
    "maple": (
        "attention.sliding_window attention.sliding_window_pattern expert_feed_forward_length "
        "swiglu_clamp_exp"
    ),
    "mimo2 step35": "attention.sliding_window attention.sliding_window_pattern expert_feed_forward_length",
    "minicpm3": "attention.kv_lora_rank attention.q_lora_rank",
    "minimax-m2": "expert_gating_func",  # optional, but its graph aborts without it
    "minimax-01": "residual_scale",
    "minimax-m3": (
        "attention.indexer.block_size attention.indexer.head_count attention.indexer.key_length "
        "attention.indexer.local_blocks attention.indexer.top_k expert_feed_forward_length "
        "expert_gating_func expert_shared_count"
    ),
    "nomic-bert-moe": "moe_every_n_layers",
    "plm": "attention.kv_lora_rank",
    "qwen2vl qwen3vl qwen3vlmoe": "rope.dimension_sections",
    "qwen35 qwen35moe": (
        "rope.dimension_sections ssm.conv_kernel ssm.group_count ssm.inner_size ssm.state_size "
        "ssm.time_step_rank"
    ),
    "qwen4exp": (
        "attention.indexer.head_count attention.indexer.key_length attention.indexer.top_k "
        "hyper_connection.count hyper_connection.low_rank rope.dimension_sections ssm.conv_kernel "
        "ssm.group_count ssm.inner_size ssm.state_size ssm.time_step_rank"
    ),
    "rwkv6 rwkv6qwen2": "time_decay_extra_dim time_mix_extra_dim wkv.head_size",
    "spark2_5": "attention.sliding_window attention.sliding_window_pattern",
    "t5 t5encoder": "attention.relative_buckets_count",
    "wavtokenizer-dec": "attention.group_norm_epsilon attention.group_norm_groups",
}


def _required() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for epsilon, names in ((RMS, _RMS_EPSILON), (LAYER, _LAYER_EPSILON)):
        for name in names:
            found[name] = (*found.get(name, ()), epsilon)
    for names_of, keys in _MORE.items():
        for name in names_of.split():
            found[name] = (*found.get(name, ()), *keys.split())
    return found


REQUIRED: Mapping[str, tuple[str, ...]] = _required()
"""By architecture, beyond `ALWAYS`."""
EITHER: Mapping[str, tuple[tuple[str, ...], ...]] = {"cohere2moe": ((LAYER, RMS),)}
"""By architecture: keys of which it asks for one."""


def spelled(architecture: str, key: str) -> str:
    """A key as a file of an architecture has it: those of Apertus' activation have no architecture before them."""
    return key if key.startswith("xielu.") else f"{architecture}.{key}"


UINT32, FLOAT32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9  # gguf.h, enum gguf_type
TYPE_NAMES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64",
    "float64",
)  # fmt: skip

KEY_TYPES: Mapping[str, int] = {
    **dict.fromkeys(COUNTS, UINT32),
    **dict.fromkeys(NUMBERS, FLOAT32),
    **dict.fromkeys(FLAGS, BOOL),
    "rope.scaling.type": STRING,
}
"""Of the keys of an architecture; a list in place of one value has its own rules."""

NEWER = ("attention.recurrent_layers", "attention.value_scale")  # llama-arch.cpp; gguf-py has none of them

WHOLE_KEY_TYPES: Mapping[str, int] = {
    **dict.fromkeys(("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre"), STRING),
    "tokenizer.chat_template": STRING,
    "general.file_type": UINT32,
    "general.alignment": UINT32,
    **{
        f"tokenizer.ggml.{role}_token_id": UINT32
        for role in ("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask")
    },
    **{
        f"tokenizer.ggml.{name}": BOOL
        for name in (
            "add_bos_token",
            "add_eos_token",
            "add_sep_token",
            "add_space_prefix",
            "remove_extra_whitespaces",
        )
    },
}
"""Of keys that are the same for all architectures."""


def is_key(key: str) -> bool:
    """Whether there is such a key, without the architecture: whether gguf-py or llama.cpp has a name for it."""
    return key in _names()


@cache
def _names() -> frozenset[str]:
    asked = (key for keys in REQUIRED.values() for key in keys)
    named = (name.removeprefix("{arch}.") for name in _texts(gguf.Keys))
    return frozenset((*named, *asked, *KEY_TYPES, *NEWER))


def _texts(names: type) -> Iterator[str]:
    """All texts of a class and of the classes in it."""
    for attribute, value in vars(names).items():
        if isinstance(value, type):
            yield from _texts(value)
        elif isinstance(value, str) and not attribute.startswith("__"):
            yield value
