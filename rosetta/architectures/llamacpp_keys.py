"""Which keys of a GGUF file llama.cpp asks for, architecture by architecture: what it does not ask for it does not
compute, whatever a file states.

Source: llama.cpp, `load_arch_hparams` of src/models/*.cpp. Keys are without the architecture. Those that it asks for
of every architecture are left out (src/llama-model.cpp, `llama_model_base::load_hparams`), and so are a scale of the
scores and windows: a file of any architecture that states one is held to it, as its folder would be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

_OF_SOME = """
    attention.clamp_kqv: mpt olmo
    attention.indexer.head_count attention.indexer.key_length attention.indexer.top_k: deepseek32
        glm-dsa
    attention.indexer.types: glm-dsa
    attention.key_length_mla attention.value_length_mla: deepseek2 deepseek32 glm-dsa kimi-linear
        mistral4
    attention.kv_lora_rank: deepseek2 deepseek32 glm-dsa kimi-linear minicpm3 mistral4 plm
    attention.max_alibi_bias: mpt
    attention.q_lora_rank: deepseek2 deepseek32 glm-dsa minicpm3 mistral4
    attention.recurrent_layers full_attention_interval: qwen35 qwen35moe qwen3next
    attention.rope_pattern: granite_swa
    attention.shared_kv_layers embedding_length_per_layer_input: gemma4
    attention.temperature_length: deepseek2 mistral4
    attention.temperature_scale: deepseek2 mistral3 mistral4
    attention.value_scale: mimo2
    attn_logit_softcapping: gemma2
    embedding_scale residual_scale: granite granite_swa granitehybrid granitemoe minicpm
    expert_feed_forward_length: afmoe bailingmoe bailingmoe2 cohere2moe deepseek deepseek2 deepseek32
        dots1 ernie4_5 ernie4_5-moe exaone-moe gemma4 glm-dsa glm4moe gpt-oss hunyuan-moe hy_v3
        kimi-linear laguna lfm2moe llama4 mellum mimo2 minimax-m2 mistral4 nemotron_h nemotron_h_moe
        paddleocr qwen2moe qwen35moe qwen3moe qwen3next qwen3vlmoe step35
    expert_gating_func: afmoe bailingmoe2 cohere2moe deepseek2 deepseek32 dots1 exaone-moe glm-dsa
        glm4moe hy_v3 kimi-linear laguna lfm2moe minimax-m2 mistral4 step35
    expert_shared_count: afmoe bailingmoe bailingmoe2 cohere2moe deepseek deepseek2 deepseek32 dots1
        exaone-moe glm-dsa glm4moe kimi-linear laguna mistral4 nemotron_h nemotron_h_moe
    expert_shared_feed_forward_length: bailingmoe2 cohere2moe ernie4_5 ernie4_5-moe exaone-moe granite
        granite_swa granitehybrid granitemoe hunyuan-moe hy_v3 laguna nemotron_h nemotron_h_moe
        paddleocr qwen2moe qwen35moe qwen3next step35
    expert_weights_norm: afmoe bailingmoe bailingmoe2 cohere2moe deepseek2 deepseek32 dots1 exaone-moe
        glm-dsa glm4moe hy_v3 laguna mistral4 nemotron_h nemotron_h_moe step35
    expert_weights_scale: afmoe bailingmoe bailingmoe2 cohere2moe deepseek deepseek2 deepseek32 dots1
        exaone-moe glm-dsa glm4moe hy_v3 kimi-linear laguna mistral4 nemotron_h nemotron_h_moe step35
    final_logit_softcapping: gemma2 gemma3 gemma4 muse-glimmer
    interleave_moe_layer_step: ernie4_5 ernie4_5-moe llama4 paddleocr
    kda.head_dim: kimi-linear
    leading_dense_block_count: afmoe bailingmoe bailingmoe2 cohere2moe deepseek deepseek2 deepseek32
        dots1 ernie4_5 ernie4_5-moe exaone-moe glm-dsa glm4moe kimi-linear laguna lfm2moe mistral4
        paddleocr
    logit_scale: cohere2 cohere2moe command-r granite granite_swa granitehybrid granitemoe minicpm
        muse-glimmer
    moe_latent_size: nemotron_h nemotron_h_moe
    rope.dimension_sections: deepseek32 ernie4_5 ernie4_5-moe glm-dsa glm4 glm4moe hunyuan-dense
        paddleocr qwen2vl qwen35 qwen35moe qwen3vl qwen3vlmoe
    rope.freq_base_swa: afmoe cohere2 cohere2moe exaone-moe exaone4 gemma2 gemma3 gemma3n gemma4 gpt-oss
        laguna llama4 mellum mimo2 muse-glimmer olmo2 step35
    rope.scaling.alpha: hunyuan-dense
    rope.scaling.yarn_beta_fast rope.scaling.yarn_beta_slow: mistral3
    rope.scaling.yarn_log_multiplier: deepseek2 deepseek32 mistral3 mistral4
    shortconv.l_cache: lfm2 lfm2moe
    ssm.conv_kernel: falcon-h1 granitehybrid jamba kimi-linear mamba mamba2 nemotron_h nemotron_h_moe
        qwen35 qwen35moe qwen3next
    ssm.dt_b_c_rms: mamba
    ssm.group_count: falcon-h1 granitehybrid mamba2 nemotron_h nemotron_h_moe qwen35 qwen35moe qwen3next
    ssm.inner_size ssm.state_size ssm.time_step_rank: falcon-h1 granitehybrid jamba mamba mamba2
        nemotron_h nemotron_h_moe qwen35 qwen35moe qwen3next
    swiglu_clamp_exp swiglu_clamp_shexp: step35
    use_parallel_residual: gptneox
"""  # keys: architectures


def _readers() -> Mapping[str, frozenset[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    rows = _OF_SOME.replace("\n        ", " ").strip().splitlines()
    for keys, names in (row.split(": ") for row in rows):
        for key in keys.split():
            found[key].update(names.split())
    return {key: frozenset(names) for key, names in found.items()}


_READERS = _readers()


def asks_for(architecture: str, key: str) -> bool:
    """Whether llama.cpp asks for a key, as far as it is one that it asks for of some architectures only.

    Args:
        architecture: GGUF's name of it.
        key: without the architecture.
    """
    return key not in _READERS or architecture in _READERS[key]
