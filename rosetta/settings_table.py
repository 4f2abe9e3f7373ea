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

ValueKind = Literal["count", "number", "flag", "text", "table", "token"]


class Shows(Enum):
    """At which stages another value of a setting may show."""

    WHERE_READ = "those whose operation reads it"
    ANYWHERE = "any: shapes, or the reading of the file, hang on it"
    IN_DIMS = "those whose weights have other dims than it says"


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
        order_only: whether it names a container's order of rows: canonical weights have one order.
    """

    key: str
    value: ValueKind
    kind: FindingKind | None = None
    shows: Shows = Shows.WHERE_READ
    prompt: Prompt = Prompt.ANY
    published: tuple[Any, ...] = ()
    own_hypothesis: bool = False
    latent: bool = True
    order_only: bool = False


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
    "(rope_freqs) in which GGUF keeps it.",
    repair="The rotation is computed with the reference's factors. Write the scaling, or the tensor of its factors.",
)
ROPE_DIMENSIONS = FindingKind(
    "config.rope_dimensions",
    means="Another number of dimensions of each head is rotated.",
    why="A partial rotary factor is ignored, or the size of a head is worked out wrongly and rotated whole.",
    repair="The rotation is computed over as many dimensions as the reference's. Write rope.dimension_count.",
)
ROTARY_LAYERS = FindingKind(
    "config.layer_pattern",
    means="Other layers have a window, rotary embedding, experts or recurrence.",
    why="The list of layer types is left out of the export, and its reader assumes the pattern of a published model.",
    repair="Each layer is computed as the reference's. Write the pattern, where the container has a place for it.",
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
    means="LayerNorm is computed for RMSNorm, or the reverse.",
    why="One forward pass is used for all models: a mean is subtracted that RMSNorm leaves in, or a LayerNorm's mean "
    "and bias are left out.",
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

EPSILONS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 1e-3, 1e-4)
# Of published models: most, Llama 3, Qwen2, Code Llama and Mixtral, Phi, DeepSeek, Yi, Gemma 3, …
ROPE_BASES = (1e4, 5e5, 1e6, 1e5, 2.5e5, 5e6, 1e7, 8e6, 2e6, 1.5e5, 3e5, 4e4, 6e5, 1e8)

KEYS = (
    ConfigKey("attention.layer_norm_rms_epsilon", "number", NORM_EPSILON, published=EPSILONS, own_hypothesis=True),
    ConfigKey("attention.layer_norm_epsilon", "number", NORM_EPSILON, published=EPSILONS, own_hypothesis=True),
    ConfigKey("rope.freq_base", "number", ROPE_THETA, prompt=Prompt.TWO_TOKENS, published=ROPE_BASES),
    ConfigKey("rope.scaling", "table", ROPE_SCALING, prompt=Prompt.TWO_TOKENS),
    ConfigKey("rope.dimension_count", "count", ROPE_DIMENSIONS, Shows.ANYWHERE, Prompt.TWO_TOKENS),
    ConfigKey("rope.freq_base_swa", "number", ROPE_THETA, prompt=Prompt.TWO_TOKENS, published=ROPE_BASES),
    ConfigKey("rope.dimension_count_swa", "count", ROPE_DIMENSIONS, Shows.ANYWHERE, Prompt.TWO_TOKENS),
    ConfigKey("rope.layers", "flag", ROTARY_LAYERS, prompt=Prompt.TWO_TOKENS),
    ConfigKey("attention.kv_layer", "count", ROTARY_LAYERS, Shows.ANYWHERE, latent=False),
    ConfigKey("attention.keys_are_values", "flag", ROTARY_LAYERS, Shows.ANYWHERE, latent=False),
    ConfigKey("attention.max_alibi_bias", "number", ALIBI, prompt=Prompt.TWO_TOKENS, published=(8.0, 0.0)),
    ConfigKey("attention.clamp_kqv", "number", CLAMP_KQV, published=(0.0, 8.0, 6.0)),
    ConfigKey("attention.temperature_scale", "number", ATTENTION_TEMPERATURE, published=(0.1, 0.0)),
    ConfigKey("attention.temperature_length", "count", ATTENTION_TEMPERATURE, published=(16384, 8192)),
    ConfigKey("xielu.alpha_p", "number", ACTIVATION),
    ConfigKey("xielu.alpha_n", "number", ACTIVATION),
    ConfigKey("xielu.beta", "number", ACTIVATION),
    ConfigKey("xielu.eps", "number", ACTIVATION),
    ConfigKey("activation_sparsity_scale", "number", ACTIVATION),
    ConfigKey("activation_sparsity_of_sample", "flag", ACTIVATION),
    ConfigKey("embedding_length_per_layer_input", "count", EMBEDDING_LENGTH, Shows.IN_DIMS, latent=False),
    ConfigKey("per_layer_vocab_size", "count", VOCAB_SIZE, Shows.IN_DIMS, latent=False),
    ConfigKey("attention.shared_kv_layers", "count"),
    ConfigKey("parallel_norms", "count"),
    ConfigKey("laurel.rank", "count"),
    ConfigKey("altup.num_inputs", "count"),
    ConfigKey("altup.active_idx", "count"),
    ConfigKey("altup.router_scale", "number"),
    ConfigKey("altup.half_power", "number"),
    ConfigKey("router_scale", "number"),
    ConfigKey("per_layer_embedding.rows_scale", "number"),
    ConfigKey("per_layer_embedding.projection_scale", "number"),
    ConfigKey("per_layer_embedding.sum_scale", "number"),
    ConfigKey(
        "rope.type", "count", ROPE_TYPE, prompt=Prompt.TWO_TOKENS,
        own_hypothesis=True, latent=False, order_only=True,
    ),
    ConfigKey("attention.scale", "number", ATTENTION_SCALE, prompt=Prompt.TWO_TOKENS),
    ConfigKey("attention.sliding_window", "count", SLIDING_WINDOW, prompt=Prompt.PAST_WINDOW),
    ConfigKey("activation", "text", ACTIVATION, published=("silu", "gelu", "gelu_tanh", "relu")),
    ConfigKey("norm_type", "text", NORM_TYPE, published=("rms", "layer")),
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
    ConfigKey("context_length", "count"),
    ConfigKey("bos_token_id", "token"),
    ConfigKey("eos_token_id", "token"),
)  # fmt: skip
SETTINGS: Mapping[str, ConfigKey] = {row.key: row for row in KEYS}


def is_order_only(key: str) -> bool:
    """Whether a key names a container's order of rows and nothing of the model."""
    return key in SETTINGS and SETTINGS[key].order_only
