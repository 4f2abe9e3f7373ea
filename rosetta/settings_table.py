"""All canonical settings, one row each: what is known of a key beside the value that a file gives it.

A new setting is a row here, read where files are opened and by the operation that needs it; where it is wrong, the
reference's value is tried in its place. Only what needs more than that is a hypothesis of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from rosetta.finding_kind import FindingKind
from rosetta.tensor_flags import LEFT_OUT

ValueKind = Literal["count", "number", "flag", "text", "table", "token"]


class Shows(Enum):
    """At which stages another value of a setting may show."""

    WHERE_READ = "those whose operation reads it"
    ANYWHERE = "any: shapes, or the reading of the file, hang on it"
    IN_DIMS = "those whose weights have other dims than it says, or that are computed from other stages"


class Prompt(Enum):
    """What a prompt must have for another value of a setting to make any difference."""

    ANY = "one token"
    TWO_TOKENS = (
        "two tokens: the first stands at position 0, which no rotation turns, and attends to itself alone"
    )
    PAST_WINDOW = "one token more than the smaller window"


@dataclass(frozen=True)
class ConfigKey:
    """A canonical setting.

    Args:
        key: GGUF's key without the architecture.
        value: what kind of value it has.
        kind: what a wrong value is called; None: none is wrong, as far as a forward pass is concerned.
        shows: at which stages a wrong value may show.
        prompt: what it takes to show it.
        published: values to try against a recorded run that does not say with which it was computed.
        own_hypothesis: whether a module of `diagnose/hypotheses` proposes what is to be tried; else the reference's
            value and the published ones are.
        latent: whether a difference is a finding where no stage shows it.
        in_code: whether a loader's code decides it, whatever a file says: no finding where it puts no stage over the
            threshold.
        order_only: whether it names a container's order of rows: canonical weights have one order.
        in_weights: whether it is a factor that is multiplied into weights, as a file of another container holds them.
    """

    key: str
    value: ValueKind
    kind: FindingKind | None = None
    shows: Shows = Shows.WHERE_READ
    prompt: Prompt = Prompt.ANY
    published: tuple[Any, ...] = ()
    own_hypothesis: bool = False
    latent: bool = True
    in_code: bool = False
    order_only: bool = False
    in_weights: bool = False


NORM_EPSILON = FindingKind(
    "config.norm_epsilon",
    means="The normalisations add another epsilon than the model was trained with.",
    why="A converter or loader hard-codes 1e-5 where the model has 1e-6, looks under the key of the other norm "
    "(layer_norm_epsilon for layer_norm_rms_epsilon), or leaves the key out, so that its reader assumes a default. "
    "It shows where activations are small, and tokens flip late.",
    repair="The norm is computed with the reference's epsilon. Write that value under the key that the norm has.",
)
ROPE_THETA = FindingKind(
    "config.rope_theta",
    means="Queries and keys are rotated with frequencies of another base.",
    why="The key is left out and 10000 is assumed, where Qwen has 1000000 and Llama 3 has 500000. The error grows "
    "with the position; at position 0 there is none.",
    repair="The rotation is computed with the reference's base. Write it as rope_theta (rope.freq_base).",
)
ROPE_SCALING = FindingKind(
    "config.rope_scaling",
    means="Rope scaling is lost, invented, or of other factors.",
    why="A converter does not know the rule (Llama 3.1's above all) and drops it, or leaves out the tensor of factors "
    "(rope_freqs) in which GGUF keeps it. Or a runtime counts positions from another number than 0.",
    repair="The rotation is computed with the reference's factors. Write the scaling, or the tensor of its factors.",
)
ROPE_DIMENSIONS = FindingKind(
    "config.rope_dimensions",
    means="Another number of dimensions of each head is rotated.",
    why="A partial rotary factor is ignored, or the size of a head is worked out wrongly and rotated whole.",
    repair="The rotation is computed over as many dimensions as the reference's. Write rope.dimension_count.",
)
ALIBI = FindingKind(
    "config.alibi",
    means="Scores fall with distance by another slope, or not at all.",
    why="ALiBi is left out of the export, or its reader tells the models that have it from those that are rotated by "
    "something else, as llama.cpp does Baichuan's by the number of layers.",
    repair="The scores are computed with the reference's slopes. Write alibi_bias_max (attention.max_alibi_bias), "
    "where the runtime reads it.",
)
CLAMP_KQV = FindingKind(
    "config.clamp_kqv",
    means="Queries, keys and values are held within other bounds, or within none.",
    why="clip_qkv is left out of the export.",
    repair="The stage is computed within the reference's bounds. Write clip_qkv (attention.clamp_kqv).",
)
ATTENTION_TEMPERATURE = FindingKind(
    "config.attention_temperature",
    means="Queries are scaled by their position otherwise.",
    why="llama_4_scaling_beta is left out of the export, or another length than the original context's is taken for "
    "where it begins.",
    repair="The queries are scaled as the reference's. Write attention.temperature_scale, and the original context "
    "length.",
)
ROPE_TYPE = FindingKind(
    "config.rope_type",
    means="The file says that all rows of q and k lie in one rotary order, and they lie in the other.",
    why="rope_type is missing and interleaved is assumed for a split-half model (Qwen2), or an importer permutes the "
    "rows as llama.cpp's converter does and does not say so.",
    repair="All rows are read in the other order. Write the rope_type that the rows have, or permute them on export.",
)
ATTENTION_SCALE = FindingKind(
    "config.attention_scale",
    means="The products of queries and keys are scaled by another factor.",
    why="1/√(head size) is taken of the wrong size, or a model's own scale (query_pre_attn_scalar, an attention "
    "multiplier) is not read.",
    repair="The scores are computed with the reference's scale. Write it, or read it.",
)
SLIDING_WINDOW = FindingKind(
    "config.sliding_window",
    means="Tokens see another number of tokens before them.",
    why="A window is read where the model has it switched off, or is lost on the way to a container that has a key "
    "for it. It shows only on prompts longer than the window.",
    repair="The scores are computed with the reference's window. Write it, or take it out.",
)
ACTIVATION = FindingKind(
    "config.activation",
    means="The feed-forward network has another activation.",
    why="Every model is run as llama is, with SiLU, where Gemma and GPT-2 have GELU; or the exact GELU is taken for "
    "its tanh approximation.",
    repair="The activation is computed as the reference's. Write its name (hidden_act).",
)
NORM_TYPE = FindingKind(
    "config.norm_type",
    means="LayerNorm is computed for RMSNorm, or the reverse; or a norm behind a gate for one before it.",
    why="One forward pass is used for all models: a mean is subtracted that RMSNorm leaves in, or a LayerNorm's mean "
    "and bias are left out. Or a recurrent state's queries and keys are not brought to unit length.",
    repair="The norm is computed as the reference's. It follows from the architecture: write that rightly.",
)
HEAD_COUNT = FindingKind(
    "config.head_count",
    means="The queries are cut into another number of heads.",
    why="num_attention_heads is missing and guessed from the hidden size, or worked out with a head size that the "
    "model does not have.",
    repair="The stage is computed with the reference's number of heads. Write it.",
)
HEAD_COUNT_KV = FindingKind(
    "config.head_count_kv",
    means="The keys and values are cut into another number of heads.",
    why="num_key_value_heads is read under an alias that the file does not use, and as many as there are query heads "
    "are assumed.",
    repair="The stage is computed with the reference's number of key/value heads. Write it.",
)
HEAD_DIM = FindingKind(
    "config.head_dim",
    means="A head has another size.",
    why="It is taken for hidden size / heads in a model that states its own (Qwen3 has 128, whatever that gives).",
    repair="The stage is computed with the reference's sizes of keys and values. Write head_dim (attention.key_length "
    "and attention.value_length).",
)
LAYER_COUNT = FindingKind(
    "config.layer_count",
    means="The config counts other layers than there are, or a layer is absent as a whole.",
    why="The number of layers is inferred from a list of tensors that was cut short, or an export lost a layer and "
    "numbered those behind it as if they followed.",
    repair="The model is run with the reference's layers, and one that the file lacks is taken from it. Write the "
    "number of layers, or export the layer.",
)
EMBEDDING_LENGTH = FindingKind(
    "config.embedding_length",
    means="The config gives the hidden state another size than the tensors have.",
    why="An exporter writes 0 or a default, or infers the size from the wrong axis of a matrix; what is worked out "
    "from it (the size of a head) is then wrong as well.",
    repair="The tensors are read with the reference's size. Write hidden_size (embedding_length).",
)
FEED_FORWARD_LENGTH = FindingKind(
    "config.feed_forward_length",
    means="The config gives the feed-forward network another width than the tensors have.",
    why="It is inferred from the wrong axis of a matrix that is stored [in, out] (GPT-2's Conv1D), or the key is left "
    "out and a multiple of the hidden size assumed.",
    repair="The tensors are read with the reference's width. Write intermediate_size (feed_forward_length).",
)
VOCAB_SIZE = FindingKind(
    "config.vocab_size",
    means="The config counts another number of tokens than the embedding has rows.",
    why="The tokenizer's tokens are counted where the embedding is padded to a round number of rows, or the size is "
    "that of the model that this one was made from.",
    repair="The embedding and the head are read with the reference's number of rows. Write vocab_size.",
)
CONTEXT_LENGTH = FindingKind(
    "config.context_length",
    means="The config counts another number of positions than the table of them has rows.",
    why="The context is shortened or stretched in the config of a model that learned its positions, whose table stays "
    "as it was.",
    repair="Nothing computes otherwise, and loaders refuse the file. Write as many as the table has rows.",
)
TIED_EMBEDDINGS = FindingKind(
    "config.tied_embeddings",
    means="The head is taken for the embedding where it is another matrix, or the reverse.",
    why="A head is left out of the export, and its reader falls back to the embedding; or tie_word_embeddings is "
    "copied from another config.",
    repair="The logits are computed with the head that the reference has. Export the head, or say that it is tied.",
)
ARCHITECTURE = FindingKind(
    "config.architecture",
    means="The file goes by the name of another architecture.",
    why="The architecture is guessed from what a model happens to have (biases on q, k and v) or from a part of its "
    "name, as qwen3 for qwen2.",
    repair="The file is read as the reference's architecture. Write its name.",
)
EXPERTS_USED = FindingKind(
    "config.experts_used",
    means="Each token is given to another number of experts.",
    why="num_experts_per_tok is left out, or the number of another size of the model is taken.",
    repair="The router chooses as many experts as the reference's. Write num_experts_per_tok (expert_used_count).",
)
EXPERT_GATING = FindingKind(
    "config.expert_gating",
    means="The scores of experts go through another function: softmax, sigmoid, softmax of the chosen ones.",
    why="transformers writes no scoring_func for a model whose class has but one, so that a converter leaves "
    "expert_gating_func out and llama.cpp falls back to the softmax of DeepSeek-V2.",
    repair="The experts are weighed by the reference's function. Write expert_gating_func.",
    order=1,  # the softmax of the chosen is also what a softmax of all is once it is normalised
)
EXPERT_WEIGHTS = FindingKind(
    "config.expert_weights",
    means="The weights of the chosen experts are normalised on one side only, multiplied with another factor, or the "
    "shared expert is lost.",
    why="llama.cpp always normalises in most architectures, whatever norm_topk_prob says; the factor "
    "(routed_scaling_factor) is left out of the export.",
    repair="The experts are weighed as the reference's are. Write expert_weights_norm and expert_weights_scale, where "
    "the runtime reads them.",
)
EXPERT_GROUPS = FindingKind(
    "config.expert_groups",
    means="Experts are chosen from other groups of them, or groups are judged by something else.",
    why="n_group and topk_group are left out, or read by a model whose router has no groups (topk_method is greedy); "
    "llama.cpp judges a group by its two best experts where DeepSeek-V2 does by the best one.",
    repair="The experts are chosen from the reference's groups. Write expert_group_count and expert_group_used_count.",
)
LAYER_PATTERN = FindingKind(
    "config.layer_pattern",
    means="Other layers have a window, rotary embedding, experts or recurrence.",
    why="The list of layer types is left out of the export, and its reader assumes the pattern of a published model.",
    repair="Each layer is computed as the reference's. Write the pattern, where the container has a place for it.",
)

EPSILONS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 1e-3, 1e-4)
# Of published models: most, Llama 3, Qwen2, Code Llama and Mixtral, Phi, DeepSeek, Yi, Gemma 3, …
ROPE_BASES = (1e4, 5e5, 1e6, 1e5, 2.5e5, 5e6, 1e7, 8e6, 2e6, 1.5e5, 3e5, 4e4, 6e5, 1e8)

SOFTCAP = FindingKind(
    "config.softcap",
    means="Scores or logits are held within another bound, or within none.",
    why="The key is left out: llama.cpp then caps the logits of Gemma 2 and 4 at 30 and their scores at 50, whatever "
    "the folder says, and other readers cap nothing.",
    repair="The stage is computed with the reference's cap. Write attn_logit_softcapping and final_logit_softcapping.",
)
EMBEDDING_SCALE = FindingKind(
    "config.embedding_scale",
    means="The embedding is multiplied with another factor.",
    why="Gemma's √(embedding length), or embedding_multiplier of Granite and MiniCPM, is left out or applied twice.",
    repair="The embedding is computed with the reference's factor. Write it, or apply it once.",
)
RESIDUAL_SCALE = FindingKind(
    "config.residual_scale",
    means="What a block gives is multiplied with another factor before it is added.",
    why="residual_multiplier (scale_depth / √layers in MiniCPM) is left out of the export.",
    repair="The sums are computed with the reference's factor. Write residual_scale.",
)
LOGIT_SCALE = FindingKind(
    "config.logit_scale",
    means="The logits are multiplied or divided by another factor.",
    why="logits_scaling divides in Granite and logit_scale multiplies in Cohere, and one is taken for the other.",
    repair="The logits are computed with the reference's factor. Write logit_scale.",
)
PARALLEL_RESIDUAL = FindingKind(
    "config.parallel_residual",
    means="Attention and network are computed one after the other instead of side by side, or the reverse; or they "
    "are added to the norm of what they read instead of to that itself.",
    why="use_parallel_residual is left out of the export, and its reader assumes the published model's; a loader knows "
    "one form alone (apply_residual_connection_post_layernorm of BLOOM).",
    repair="The layers are computed as the reference's. Write use_parallel_residual.",
)
STATE_SIZE = FindingKind(
    "config.state_size",
    means="A recurrent layer's state, its heads, groups, time steps or convolution have another size.",
    why="The key is left out or copied from another model of the family, or a count of heads is taken for their size.",
    repair="The stages of the layer are computed with the reference's sizes. Write the ssm.* keys.",
)
TIME_STEPS = FindingKind(
    "config.time_steps",
    means="The time steps of a recurrent layer are held between other limits.",
    why="time_step_limit has no place in GGUF, and llama.cpp holds them between none.",
    repair="The state is computed with the reference's limits.",
)
ROPE_SECTIONS = FindingKind(
    "config.rope_sections",
    means="The rotary pairs are shared out among time, height and width in other numbers.",
    why="mrope_section is left out of the export. In a text all three are one; llama.cpp turns none of a fourth.",
    repair="The model is read with the reference's sections. Write rope.dimension_sections.",
)

KEYS = (
    ConfigKey("attention.layer_norm_rms_epsilon", "number", NORM_EPSILON, published=EPSILONS, own_hypothesis=True),
    ConfigKey("attention.layer_norm_epsilon", "number", NORM_EPSILON, published=EPSILONS, own_hypothesis=True),
    ConfigKey("rope.freq_base", "number", ROPE_THETA, prompt=Prompt.TWO_TOKENS, published=ROPE_BASES),
    ConfigKey("rope.scaling", "table", ROPE_SCALING, prompt=Prompt.TWO_TOKENS),
    ConfigKey("rope.dimension_count", "count", ROPE_DIMENSIONS, Shows.ANYWHERE, Prompt.TWO_TOKENS),
    ConfigKey("rope.freq_base_swa", "number", ROPE_THETA, prompt=Prompt.TWO_TOKENS, published=ROPE_BASES),
    ConfigKey("rope.dimension_count_swa", "count", ROPE_DIMENSIONS, Shows.ANYWHERE, Prompt.TWO_TOKENS),
    ConfigKey("rope.layers", "flag", LAYER_PATTERN, Shows.ANYWHERE, Prompt.TWO_TOKENS),
    ConfigKey("attention.kv_layer", "count", LAYER_PATTERN, Shows.ANYWHERE, latent=False),
    ConfigKey("attention.cross_layers", "flag", LAYER_PATTERN, Shows.ANYWHERE),
    ConfigKey("attention.keys_are_values", "flag", LAYER_PATTERN, Shows.ANYWHERE, latent=False),
    ConfigKey("attention.max_alibi_bias", "number", ALIBI, prompt=Prompt.TWO_TOKENS, published=(8.0, 0.0)),
    ConfigKey("attention.clamp_kqv", "number", CLAMP_KQV, published=(0.0, 8.0, 6.0)),
    ConfigKey("attention.temperature_scale", "number", ATTENTION_TEMPERATURE, published=(0.1, 0.0)),
    ConfigKey("attention.temperature_length", "count", ATTENTION_TEMPERATURE, latent=False),
    ConfigKey("activation_sparsity_scale", "number", ACTIVATION),
    ConfigKey("activation_sparsity_of_sample", "flag", ACTIVATION),
    ConfigKey("embedding_length_per_layer_input", "count", EMBEDDING_LENGTH, Shows.ANYWHERE, latent=False),
    ConfigKey("per_layer_vocab_size", "count", VOCAB_SIZE, Shows.IN_DIMS, latent=False),
    ConfigKey("attention.shared_kv_layers", "count", LAYER_PATTERN, Shows.ANYWHERE, latent=False),
    ConfigKey("parallel_norms", "count", PARALLEL_RESIDUAL, Shows.ANYWHERE, latent=False),
    ConfigKey("laurel.rank", "count", FEED_FORWARD_LENGTH, Shows.IN_DIMS, latent=False),
    ConfigKey("router_scale", "number", EXPERT_WEIGHTS),
    ConfigKey(
        "rope.type", "count", ROPE_TYPE, prompt=Prompt.TWO_TOKENS,
        own_hypothesis=True, latent=False, order_only=True,
    ),
    ConfigKey("attention.scale", "number", ATTENTION_SCALE, prompt=Prompt.TWO_TOKENS),
    ConfigKey("attention.sliding_window", "count", SLIDING_WINDOW, prompt=Prompt.PAST_WINDOW),
    ConfigKey("activation", "text", ACTIVATION, published=(
        "silu", "gelu", "gelu_tanh", "relu", "relu_squared", "quick_gelu", "sigmoid", "linear",
    )),
    ConfigKey("norm_type", "text", NORM_TYPE, published=("rms", "layer")),
    ConfigKey("attention.post_norm_epsilon", "number", NORM_EPSILON, published=EPSILONS),
    ConfigKey("attention.query_scale", "number", ATTENTION_SCALE, latent=False),
    ConfigKey("attention.indexer.top_k", "count", SLIDING_WINDOW, prompt=Prompt.PAST_WINDOW),
    ConfigKey("attention.indexer.block_size", "count", SLIDING_WINDOW, prompt=Prompt.PAST_WINDOW),
    ConfigKey("attention.indexer.local_blocks", "count", SLIDING_WINDOW, Shows.ANYWHERE),
    ConfigKey("attention.indexer.head_count", "count", HEAD_COUNT, Shows.ANYWHERE),
    ConfigKey("attention.indexer.key_length", "count", HEAD_DIM, Shows.ANYWHERE),
    ConfigKey("attention.indexer.types", "flag", LAYER_PATTERN, Shows.ANYWHERE),
    ConfigKey("attention.gate_per_head", "flag", LAYER_PATTERN, Shows.ANYWHERE, latent=False),
    ConfigKey("swiglu_clamp_exp", "number", ACTIVATION),
    ConfigKey("swiglu_clamp_shexp", "number", ACTIVATION),
    ConfigKey("attention.latent_norm_epsilon", "number", NORM_EPSILON, published=EPSILONS),
    ConfigKey("rope_interleave", "flag", ROPE_TYPE, Shows.ANYWHERE, Prompt.TWO_TOKENS),
    ConfigKey("expert_used_count", "count", EXPERTS_USED),
    ConfigKey("expert_gating_func", "count", EXPERT_GATING, published=(1, 2, 3, 4)),
    ConfigKey("expert_weights_norm", "flag", EXPERT_WEIGHTS, published=(True, False)),
    ConfigKey("expert_weights_scale", "number", EXPERT_WEIGHTS, published=(1.0, 2.5, 1.8, 16.0)),
    ConfigKey("expert_group_count", "count", EXPERT_GROUPS),
    ConfigKey("expert_group_used_count", "count", EXPERT_GROUPS),
    ConfigKey("expert_group_best", "count", EXPERT_GROUPS),
    ConfigKey("expert_layers", "flag", LAYER_PATTERN, Shows.ANYWHERE),
    ConfigKey("expert_count", "count", EXPERTS_USED, Shows.ANYWHERE, latent=False),
    ConfigKey("expert_feed_forward_length", "count", FEED_FORWARD_LENGTH, Shows.IN_DIMS, latent=False),
    ConfigKey("expert_shared_feed_forward_length", "count", EXPERT_WEIGHTS, Shows.ANYWHERE, latent=False),
    ConfigKey("attention.chunk_size", "count", SLIDING_WINDOW),
    ConfigKey("attention.value_scale", "number", ATTENTION_SCALE),
    ConfigKey("attention.head_norm", "flag", NORM_TYPE, Shows.ANYWHERE, Prompt.TWO_TOKENS),
    ConfigKey("expert_softcap", "number", EXPERT_GATING),
    ConfigKey("expert_output_scale", "number", EXPERT_WEIGHTS),
    ConfigKey("router_jitter_noise", "number", EXPERT_WEIGHTS),
    ConfigKey("swiglu_alpha", "number", ACTIVATION, published=(1.702,)),
    ConfigKey("swiglu_limit", "number", ACTIVATION, published=(7.0,)),
    ConfigKey("attention.q_lora_rank", "count", HEAD_DIM, Shows.ANYWHERE, latent=False),
    ConfigKey("attention.kv_lora_rank", "count", HEAD_DIM, Shows.ANYWHERE, latent=False),
    ConfigKey("attention.head_count", "count", HEAD_COUNT, Shows.ANYWHERE),
    ConfigKey("attention.head_count_kv", "count", HEAD_COUNT_KV, Shows.ANYWHERE),
    ConfigKey("attention.key_length", "count", HEAD_DIM, Shows.ANYWHERE, own_hypothesis=True),
    ConfigKey("attention.value_length", "count", HEAD_DIM, Shows.ANYWHERE, own_hypothesis=True, latent=False),
    ConfigKey("block_count", "count", LAYER_COUNT, Shows.ANYWHERE, own_hypothesis=True),
    ConfigKey("embedding_length", "count", EMBEDDING_LENGTH, Shows.IN_DIMS, latent=False),
    ConfigKey("feed_forward_length", "count", FEED_FORWARD_LENGTH, Shows.IN_DIMS, latent=False),
    ConfigKey("vocab_size", "count", VOCAB_SIZE, Shows.IN_DIMS, latent=False),
    ConfigKey("tied_embeddings", "flag", TIED_EMBEDDINGS, Shows.ANYWHERE, own_hypothesis=True, latent=False),
    ConfigKey("architecture", "text", ARCHITECTURE, Shows.ANYWHERE),
    ConfigKey("context_length", "count", CONTEXT_LENGTH, Shows.IN_DIMS, latent=False),
    ConfigKey("bos_token_id", "token"),
    ConfigKey("eos_token_id", "token"),
    ConfigKey("attention.key_length_nope", "count", HEAD_DIM, Shows.ANYWHERE, latent=False),
    ConfigKey("attention.kv_a_length", "count", HEAD_DIM, Shows.ANYWHERE, latent=False),
    *(ConfigKey(f"xielu.{part}", "number", ACTIVATION) for part in ("alpha_p", "alpha_n", "beta", "eps")),
    *(ConfigKey(f"altup.{part}", "number", RESIDUAL_SCALE) for part in ("router_scale", "half_power")),
    *(
        ConfigKey(f"altup.{part}", "count", LAYER_PATTERN, Shows.ANYWHERE)
        for part in ("num_inputs", "active_idx")
    ),
    *(
        ConfigKey(f"per_layer_embedding.{part}_scale", "number", EMBEDDING_SCALE)
        for part in ("projection", "sum", "rows")
    ),
    ConfigKey("rope.dimension_sections", "table", ROPE_SECTIONS, prompt=Prompt.TWO_TOKENS),
    ConfigKey(
        "rope.still_pairs", "table", ROPE_SECTIONS, prompt=Prompt.TWO_TOKENS, own_hypothesis=True, latent=False,
        in_code=True,
    ),
    ConfigKey("attention.recurrent_layers", "flag", LAYER_PATTERN, Shows.ANYWHERE),
    *(
        ConfigKey(f"ssm.{name}", "count", STATE_SIZE, Shows.ANYWHERE)
        for name in ("conv_kernel", "inner_size", "state_size", "group_count", "time_step_rank")
    ),
    ConfigKey("ssm.head_dim", "count", STATE_SIZE, Shows.ANYWHERE),
    ConfigKey("ssm.time_step_min", "number", TIME_STEPS),
    ConfigKey("ssm.time_step_max", "number", TIME_STEPS),
    ConfigKey("ssm.dt_b_c_rms", "flag", NORM_TYPE, Shows.ANYWHERE),
    ConfigKey("ssm.dt_b_c_epsilon", "number", NORM_EPSILON, published=EPSILONS),
    ConfigKey("rope.scaling.finetuned", "flag", LAYER_PATTERN, Shows.ANYWHERE, Prompt.TWO_TOKENS),
    ConfigKey("moe_latent_size", "count", FEED_FORWARD_LENGTH, Shows.ANYWHERE, latent=False),
    ConfigKey("ssm.norm_before_gate", "flag", NORM_TYPE, Shows.ANYWHERE),
    ConfigKey("kda.head_dim", "count", STATE_SIZE, Shows.ANYWHERE),
    ConfigKey("kda.head_count", "count", STATE_SIZE, Shows.ANYWHERE),
    ConfigKey("shortconv.l_cache", "count", STATE_SIZE, Shows.ANYWHERE),
    ConfigKey("ssm.l2_epsilon", "number", NORM_EPSILON, published=EPSILONS),
    ConfigKey(
        "attn_logit_softcapping", "number", SOFTCAP, prompt=Prompt.TWO_TOKENS, published=(0.0, 50.0, 30.0)
    ),
    ConfigKey("final_logit_softcapping", "number", SOFTCAP, published=(0.0, 30.0, 15.0)),
    ConfigKey("embedding_scale", "number", EMBEDDING_SCALE),
    ConfigKey("residual_scale", "number", RESIDUAL_SCALE),
    ConfigKey("logit_scale", "number", LOGIT_SCALE),
    *(
        ConfigKey(name, "number", kind, own_hypothesis=True, latent=False, in_weights=True)
        for kind, names in (
            (EMBEDDING_SCALE, ("embedding_multiplier",)),
            (LOGIT_SCALE, ("lm_head_multiplier",)),
            (ATTENTION_SCALE, ("attention_in_multiplier", "key_multiplier")),
            (RESIDUAL_SCALE, ("attention_out_multiplier", "ssm_in_multiplier", "ssm_out_multiplier")),
            (RESIDUAL_SCALE, tuple(f"mlp_multipliers.{place}" for place in range(2))),
            (RESIDUAL_SCALE, tuple(f"ssm_multipliers.{place}" for place in range(5))),
        )
        for name in names
    ),
    *(ConfigKey(flag, "flag") for flag in LEFT_OUT),  # what one denies is missing: `value.missing`
    ConfigKey("use_parallel_residual", "flag", PARALLEL_RESIDUAL, Shows.ANYWHERE),
    ConfigKey("residual_of_norm", "flag", PARALLEL_RESIDUAL, Shows.ANYWHERE),
    ConfigKey("attention.sliding_window_pattern", "flag", LAYER_PATTERN, Shows.ANYWHERE, Prompt.PAST_WINDOW),
)  # fmt: skip
SETTINGS: Mapping[str, ConfigKey] = {row.key: row for row in KEYS}


def is_order_only(key: str) -> bool:
    """Whether a key names a container's order of rows and nothing of the model."""
    return key in SETTINGS and SETTINGS[key].order_only
