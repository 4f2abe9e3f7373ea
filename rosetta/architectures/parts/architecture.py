"""What an architecture is: data, and the stages of its layers. Nothing else in the program names a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rosetta.architectures.parts.builders import (
    attention,
    embedding,
    feed_forward,
    head,
    output_of,
    rotary_of,
    scores_of,
    sequential,
)
from rosetta.architectures.parts.huggingface import HuggingFace
from rosetta.architectures.parts.llamacpp import LlamaCpp
from rosetta.architectures.parts.readings import Readings, standard_readings
from rosetta.graph import Graph, SettingsOf, Stage, build_graph
from rosetta.ops.norm import Norm
from rosetta.ops.op import Settings
from rosetta.ops.rotary import INTERLEAVED, SPLIT_HALF

if TYPE_CHECKING:
    from rosetta.settings_reader import SettingsReader

__all__ = ["INTERLEAVED", "SPLIT_HALF", "Activation", "Architecture", "Default"]

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu_squared", "xielu"]


@dataclass(frozen=True)
class Default:
    """What each container's own loader assumes where a key is missing.

    Args:
        apr: aprender's `GGUFConfig::from_apr`.
        gguf: llama.cpp's, or the published value where llama.cpp refuses a file without the key.
        huggingface: the default of transformers' config class.
    """

    apr: Any
    gguf: Any
    huggingface: Any

    def of(self, container: str) -> Any:
        return getattr(self, container)


@dataclass(frozen=True)
class Architecture:
    """One family of models, as data.

    Args:
        name: the name that model files declare, lower case.
        gguf: the name that GGUF files the architecture under.
        classes: transformers' class names.
        runs: whether its forward pass is known; else no more than names and settings are compared.
        seen: whether its stages are no more than what a run of it shows, see `runtimes/as_observed.py`.
        norm: RMSNorm (`rms`) or LayerNorm (`layer`).
        norm_epsilon: where the key is missing, by container.
        activation: of the feed-forward network.
        gated: whether the network is `act(gate(x)) * up(x)` or `act(up(x))`.
        rope: order of the rotary pairs in GGUF's Q and K rows; None: no rotary embedding.
        halves_with: the setting of a model whose rows GGUF has by halves, though `rope` says otherwise.
        rope_theta: where the key is missing, by container.
        tokens_beyond: how many tokens the embedding has rows of, and the head has none.
        learned_positions: whether a position table is added to the embedding.
        always: tensors that a stage can do without and that every model of it has, of a layer without its number.
        qk_norm: an RMSNorm over each head of q and k.
        attention: whether any layer has attention of queries, keys and values.
        feed_forward: whether any layer has a dense feed-forward network.
        full_attention_every: of so many layers the last sees all tokens and the others a window, where the file does
            not say which; 1: all layers are alike.
        settings: reads the settings that not every architecture has, with the `SettingsReader` that it is given.
        readings: how stored tensors are read, see `readings.Readings`.
        text_part: the architecture that computes the same of a text, where this one is the part of a model that also
            sees, and transformers has no class of it alone.
        huggingface: what transformers' class and folders say of it.
        llamacpp: what llama.cpp does of it, and not of every architecture.
        variant: a container's metadata -> the architecture that it really holds, where several go by one name.
        before, layer, after: the stages before the layers with the settings outside them, of layer n with its
            settings, after so many layers.
    """

    name: str
    gguf: str
    classes: tuple[str, ...]
    runs: bool = True
    seen: bool = False
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: Default = Default(apr=1e-5, gguf=1e-5, huggingface=1e-6)
    activation: Activation = "silu"
    gated: bool = True
    rope: int | None = SPLIT_HALF
    halves_with: str = ""
    rope_theta: Default = Default(apr=10000.0, gguf=10000.0, huggingface=10000.0)
    tokens_beyond: int = 0
    learned_positions: bool = False
    always: frozenset[str] = frozenset()
    qk_norm: bool = False
    attention: bool = True
    feed_forward: bool = True
    full_attention_every: int = 1
    settings: Callable[[SettingsReader], None] = lambda read: None
    readings: Readings = standard_readings
    text_part: str = ""
    huggingface: HuggingFace = field(default_factory=HuggingFace)
    llamacpp: LlamaCpp = field(default_factory=LlamaCpp)
    variant: Callable[[Mapping[str, Any]], Architecture | None] = lambda metadata: None
    before: Callable[[Architecture, Settings], list[Stage]] = lambda a, c: embedding(
        positions=a.learned_positions, beyond=a.tokens_beyond
    )
    layer: Callable[[Architecture, Settings, int], list[Stage]] = lambda a, c, n: decoder_layer(a, c, n)
    after: Callable[[Architecture, int], list[Stage]] = lambda a, layers: head(
        output_of(layers - 1), norm=a.norm_of("output_norm")
    )

    @property
    def epsilon_key(self) -> str:
        """GGUF's key of the norm epsilon, without the architecture."""
        return "attention.layer_norm_rms_epsilon" if self.norm == "rms" else "attention.layer_norm_epsilon"

    def gguf_rope(self, c: Settings) -> int | None:
        """Order of the rotary pairs in GGUF's Q and K rows of a model with such settings."""
        stated = c.get(self.halves_with)
        return SPLIT_HALF if isinstance(stated, Sequence) and any(stated) else self.rope

    def norm_of(self, stem: str) -> Norm:
        """The norm of a stage, whose tensors are named so."""
        return Norm(stem, self.epsilon_key)

    def head_norm(self, stem: str, optional: bool = True) -> Norm:
        """The norm over each head of queries or keys, where the file has one."""
        return Norm(
            stem, self.epsilon_key, width=("attention.key_length",), kind="rms", optional=optional, bias=False
        )

    def graph(self, settings_of: SettingsOf, layers: int) -> Graph:
        """The forward pass of a model of this architecture.

        Args:
            settings_of: its settings, layer by layer.
            layers: how many.
        """
        return build_graph(
            self.before(self, settings_of(None)),
            (self.layer(self, settings_of(n), n) for n in range(layers)),
            self.after(self, layers),
            settings_of,
        )


def decoder_layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family: attention, then a feed-forward network."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=None if a.rope is None else rotary_of(c, a.rope),
            head_norm=a.head_norm if a.qk_norm else None,
            scores=scores_of(c),
        ),
        feed_forward(norm=a.norm_of("ffn_norm"), gated=a.gated),
    )
