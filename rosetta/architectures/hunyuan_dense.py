"""Hunyuan (dense): llama with an RMSNorm over each head of q and k after they are rotated."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, rotary_of, sequential
from rosetta.containers.container import Setting
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF
from rosetta.setting_values import float32
from rosetta.settings_reader import SettingsReader


def raised_base(read: SettingsReader) -> None:
    """A rotary base that a factor α has raised once and for all, whatever the length, where a folder calls its scaling
    dynamic and states one (transformers, compute_ntk_alpha_rope_parameters; llama.cpp's converter writes the raised
    base), or a GGUF has a key for it."""
    if read.container.kind == "gguf":
        _raise_by_key(read)
        return
    table = read.raw("rope.scaling")
    if table is None or not isinstance(table.value, dict):
        return
    alpha, rule = table.value.get("alpha"), table.value.get("rope_type", table.value.get("type"))
    if rule not in ("dynamic", "xdrope") or not isinstance(alpha, int | float) or alpha <= 0:
        return
    if not _states_raised_base(read, table):
        _raise(read, alpha, f"{table.key}.alpha")
    read.fixed("rope.scaling", None, "the base is raised instead")


def _states_raised_base(read: SettingsReader, table: Setting) -> bool:
    """Whether the base is an `.apr`'s own, beside that of a table which was taken over from config.json: aprender reads
    no table, so that its own is the one to compute by."""
    own = read.config["rope.freq_base"].key or table.key
    return read.container.kind == "apr" and "rope_theta" in table.value and not own.startswith(table.key)


def _raise_by_key(read: SettingsReader) -> None:
    """llama.cpp raises the base by a key of a GGUF too (models/hunyuan-vl.cpp), of the dense models alone."""
    alpha = read.raw("rope.scaling.alpha")
    if alpha is not None and isinstance(alpha.value, int | float) and alpha.value > 0:
        _raise(read, alpha.value, alpha.key)


def _raise(read: SettingsReader, alpha: float, key: str) -> None:
    size, theta = read.config["attention.key_length"].value, read.config["rope.freq_base"].value
    if "rope.freq_base" not in read.overrides:
        read.put("rope.freq_base", Setting(float32(theta * alpha ** (size / max(size - 2, 1))), key), None)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family, its rotated queries and keys normed."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=rotary_of(c, SPLIT_HALF),
            after_rope=lambda part: a.head_norm(f"attn_{part}_norm"),
        ),
        feed_forward(norm=a.norm_of("ffn_norm")),
    )


HUNYUAN_DENSE = Architecture(
    "hunyuan-dense",
    gguf="hunyuan-dense",
    classes=("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=raised_base,
    layer=layer,
    huggingface=HuggingFace(
        model_type="hunyuan_v1_dense",
        defaults={  # transformers, HunYuanDenseV1Config
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "vocab_size": 290943,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False},
        names={
            "model.layers.{bid}.self_attn.key_layernorm": "blk.{bid}.attn_k_norm",
            "model.layers.{bid}.self_attn.query_layernorm": "blk.{bid}.attn_q_norm",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"rope.dimension_sections", "rope.scaling.alpha"}),
        drops_one_expert=True,
    ),
)
