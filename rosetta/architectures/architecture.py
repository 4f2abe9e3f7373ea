"""What an architecture is: data, and the stages of its layers. Nothing else in the program names a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rosetta.architectures import factors
from rosetta.architectures.builders import (
    attention,
    embedding,
    feed_forward,
    head,
    output_of,
    rotary_of,
    scores_of,
    sequential,
)
from rosetta.architectures.gguf_counts import Counts, Refused
from rosetta.architectures.llamacpp_keys import OF_SOME
from rosetta.architectures.readings import Readings, standard_readings
from rosetta.graph import Graph, SettingsOf, Stage, build_graph
from rosetta.ops.norm import Norm
from rosetta.ops.op import Settings
from rosetta.ops.rotary import INTERLEAVED, SPLIT_HALF

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
        folder_rope: the same of the rows in a Hugging Face folder.
        rope_theta: where the key is missing, by container.
        learned_positions: whether a position table is added to the embedding.
        qk_norm: an RMSNorm over each head of q and k.
        attention: whether any layer has attention of queries, keys and values.
        feed_forward: whether any layer has a dense feed-forward network.
        full_attention_every: of so many layers the last sees all tokens and the others a window, where the file does
            not say which; 1: all layers are alike.
        conv1d: tensors that a Hugging Face folder stores as `[in, out]` (transformers' Conv1D).
        huggingface: what transformers' config class assumes where config.json lacks a key, under GGUF keys
            (under its own where GGUF has none).
        settings: reads the settings that not every architecture has, with the `SettingsReader` that it is given.
        readings: how stored tensors are read, see `readings.Readings`.
        names: Hugging Face name of a module, with `{bid}` for the layer and `{eid}` for an expert -> canonical stem of
            its weight and bias. Where gguf-py's tables say otherwise or nothing it is read so; where several names
            mean one tensor, folders are written with the first of these, with llama's where there is none.
        parameters: the same of tensors that are no module's weight or bias, by their whole names.
        only_beside: names of modules -> the canonical stem without which a folder has no module of that name.
        folder_dims: stems, without the layer -> dims in which a folder keeps the tensor, where they are none that
            follow from the weight (-1: as many as are left), and those of a setting that a folder keeps as a tensor.
        gguf_keys: keys that llama.cpp's loader asks for, and neither the forward pass nor a folder's config says ->
            what they say, of the canonical settings.
        gguf_sight: keys that llama.cpp reads for the part that sees, and that say nothing to a text -> what they say,
            of a folder's whole config.json (None: nothing).
        gguf_vectors: stems of vectors that each layer has in a GGUF in place of a setting that has no key there ->
            that setting's canonical key, and what they hold, of the canonical settings.
        gguf_placeholders: stems of tensors that llama.cpp asks for in each layer, also in those that do not compute by
            them -> their dims, of a layer's settings: zeros are written where a model has none.
        gguf_reads: keys that llama.cpp asks for of this architecture, of those that it does not ask for of every one
            (`llamacpp_keys.py`).
        gguf_unread: keys that it asks for too, and does not compute by.
        gguf_factors: stems of matrices that llama.cpp multiplies with the factor that a file keeps beside them
            (src/models/*.cpp); that of any other it loads and leaves alone.
        gguf_idle: tensors, without the layer, that llama.cpp loads of such a file and does not compute by
            (src/models/*.cpp).
        gguf_instead: tensors, without the layer, that it reads where a file has them -> the one that it leaves alone
            then.
        gguf_bare: stems of a layer's tensors that llama.cpp asks for without a suffix.
        gguf_padded: stems of a layer's matrices that llama.cpp asks for with a dim of one between rows and columns.
        gguf_windows: what llama.cpp does in layers with a window to a rotation that a file scales: divides its
            frequencies by the factor whatever the type is (`stretched`, src/models/*.cpp,
            `rope_freq_scale_train_swa = rope_freq_scale_train`), or multiplies what is turned by the factor of
            attention and no more (`grown`); empty: the same as in the other layers, or nothing.
        gguf_keeps_heads: whether its cache keeps the keys and values of all heads where these are made of a latent.
        gguf_drops_one_expert: whether it counts a single expert as none.
        gguf_refuses: counts that do not go with each other in its eyes, beside those of every architecture
            (`gguf_counts.py`).
        gguf_scales_queries: whether its graph multiplies queries, and not scores, by the scale of attention.
        gguf_tiles_heads: whether a GGUF has the value heads of linear attention that share a key apart, one a key
            (conversion/qwen.py).
        folded: stages behind whose product transformers multiplies by a factor that a GGUF has in the weight.
        text_part: the architecture that computes the same of a text, where this one is the part of a model that also
            sees, and transformers has no class of it alone.
        in_transformers: whether transformers has a class of it; else its code lies beside published weights.
        model_type: what config.json calls it; empty where that is its name.
        spellings: keys of config.json that its class has of its own -> by canonical keys; elsewhere the usual ones.
        folder_keys: keys of config.json that its class asks for, of which no canonical setting has the form -> what
            they say, of the canonical settings (None: nothing). `rope_parameters.NAME` stands in the rotation's table.
        folder_flags: keys of config.json that say whether layers have a tensor (see `tensor_flags`) -> what its
            class takes them to say where they are missing.
        only_with: keys of config.json that have its class compute otherwise -> the values with which it is run; another
            one is refused by name.
        idle_keys: keys of config.json that its class states, and that say nothing of a text, or what others say.
        says_anyway: keys of published config.json's that its class does not read -> the value that says what it
            computes anyway; of another one a note says that it is not computed.
        rotation_by_kind: whether config.json has a table of the rotation for each kind of layer.
        senses: keys of config.json beside its `text_config`, where transformers has the architecture only as a part
            of a model that also sees; what is written has no part that does. Empty: nothing is nested.
        text_names: what then stands before names of the text part instead of `model.`.
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
    folder_rope: int = SPLIT_HALF
    rope_theta: Default = Default(apr=10000.0, gguf=10000.0, huggingface=10000.0)
    learned_positions: bool = False
    qk_norm: bool = False
    attention: bool = True
    feed_forward: bool = True
    full_attention_every: int = 1
    conv1d: frozenset[str] = frozenset()
    huggingface: Mapping[str, Any] = field(default_factory=dict, hash=False)
    settings: Callable[[Any], None] = lambda read: None
    readings: Readings = standard_readings
    names: Mapping[str, str] = field(default_factory=dict, hash=False)
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    only_beside: Mapping[str, str] = field(default_factory=dict, hash=False)
    folder_dims: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    gguf_keys: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict, hash=False)
    gguf_sight: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict, hash=False)
    gguf_vectors: Mapping[str, tuple[str, Callable[[Any], list[float]]]] = field(
        default_factory=dict, hash=False
    )
    gguf_placeholders: Mapping[str, Callable[[Any], tuple[int, ...]]] = field(
        default_factory=dict, hash=False
    )
    gguf_reads: frozenset[str] = frozenset()
    gguf_unread: frozenset[str] = frozenset()
    gguf_factors: frozenset[str] = factors.ATTENTION
    gguf_idle: frozenset[str] = frozenset()
    gguf_instead: Mapping[str, str] = field(default_factory=dict, hash=False)
    gguf_bare: tuple[str, ...] = ()
    gguf_padded: tuple[str, ...] = ()
    gguf_windows: Literal["", "stretched", "grown"] = ""
    gguf_keeps_heads: bool = False
    gguf_drops_one_expert: bool = False
    gguf_refuses: Callable[[Counts], Iterable[Refused]] = lambda counts: ()
    gguf_scales_queries: bool = False
    gguf_tiles_heads: bool = False
    folded: frozenset[str] = frozenset()
    text_part: str = ""
    in_transformers: bool = True
    model_type: str = ""
    spellings: Mapping[str, str] = field(default_factory=dict, hash=False)
    folder_keys: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict, hash=False)
    folder_flags: Mapping[str, bool] = field(default_factory=dict, hash=False)
    only_with: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False)
    idle_keys: frozenset[str] = frozenset()
    says_anyway: Mapping[str, Any] = field(default_factory=dict, hash=False)
    rotation_by_kind: bool = False
    senses: Mapping[str, Any] = field(default_factory=dict, hash=False)
    text_names: str = "model."
    variant: Callable[[Mapping[str, Any]], Architecture | None] = lambda metadata: None
    before: Callable[[Architecture, Settings], list[Stage]] = lambda a, c: embedding(
        positions=a.learned_positions
    )
    layer: Callable[[Architecture, Settings, int], list[Stage]] = lambda a, c, n: decoder_layer(a, c, n)
    after: Callable[[Architecture, int], list[Stage]] = lambda a, layers: head(
        output_of(layers - 1), norm=a.norm_of("output_norm")
    )

    @property
    def epsilon_key(self) -> str:
        """GGUF's key of the norm epsilon, without the architecture."""
        return "attention.layer_norm_rms_epsilon" if self.norm == "rms" else "attention.layer_norm_epsilon"

    def reads_of_gguf(self, key: str) -> bool:
        """Whether llama.cpp reads a key of such a file, and computes by it; the key without the architecture."""
        return key not in self.gguf_unread and (key in self.gguf_reads or key not in OF_SOME)

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
