"""What transformers' class and published folders say of an architecture, and how they say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rosetta.ops.rotary import SPLIT_HALF

__all__ = ["MULTIPLIERS", "HuggingFace"]

SHARE = "partial_rotary_factor"
OF_SOME = frozenset(
    {
        *("attention_multiplier", "attention_scale", "query_pre_attn_scalar", "scale_attn_weights"),
        *(SHARE, "rotary_pct", "rope_pct", "rotary_dim"),
        *("embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale"),
        *("kv_channels", "n_inner"),
    }
)
"""Keys of config.json that only some classes ask for, and that say how attention scales its scores, which part of
a head is rotated, by what embeddings, blocks and logits are multiplied, and sizes: the others compute as if they were
not there."""

MULTIPLIERS = frozenset({"embedding_multiplier", "residual_multiplier", "logits_scaling"})
"""Of them, what the Granite family and what is made of it ask for."""


@dataclass(frozen=True)
class HuggingFace:
    """An architecture in Hugging Face folders, as data.

    Args:
        model_type: what config.json calls it; empty where that is its name.
        in_transformers: whether transformers has a class of it; else its code lies beside published weights.
        run_by: the class of another architecture by which transformers runs it, and that it names in what it saves;
            llama.cpp's converter then makes a file of that one. Empty: it has a class of its own.
        defaults: what transformers' config class assumes where config.json lacks a key, under GGUF keys (under its own
            where GGUF has none).
        spellings: keys of config.json that its class has of its own -> by canonical keys; elsewhere the usual ones.
        keys: keys of config.json that its class asks for, of which no canonical setting has the form -> what they say,
            of the canonical settings (None: nothing). `rope_parameters.NAME` stands in the rotation's table.
        flags: keys of config.json that say whether layers have a tensor (see `tensor_flags`) -> what its class takes
            them to say where they are missing.
        only_with: keys of config.json that have its class compute otherwise -> the values with which it is run; another
            one is refused by name.
        reads: keys of config.json that it asks for, of those that only some classes do (`OF_SOME`); its own spellings,
            and a share that it has a default for, need not be named.
        unread: settings that its class has no key of, whatever config.json says under a usual one.
        turned_by: an `unread` setting by whose usual key its class works out, where it is stated, how many dims of a
            head are rotated; empty: by the size of its heads.
        idle: keys of config.json that its class states, and that say nothing of a text, or what others say.
        says_anyway: keys of published config.json's that its class does not read -> the value that says what it
            computes anyway; of another one a note says that it is not computed.
        windows: a layer and `max_window_layers` -> whether its class gives the layer a window where no list says; of a
            class that asks for that key.
        rotation_by_kind: whether config.json has a table of the rotation for each kind of layer.
        senses: keys of config.json beside its `text_config`, where transformers has the architecture only as a part
            of a model that also sees; what is written has no part that does. Empty: nothing is nested.
        text_names: what then stands before names of the text part instead of `model.`.
        names: Hugging Face name of a module, with `{bid}` for the layer and `{eid}` for an expert -> canonical stem of
            its weight and bias. Where gguf-py's tables say otherwise or nothing it is read so; where several names
            mean one tensor, folders are written with the first of these, with llama's where there is none.
        parameters: the same of tensors that are no module's weight or bias, by their whole names.
        taken_apart: canonical stems of `parameters` that the class takes apart when it saves: no folder is written with
            them.
        only_beside: names of modules -> the canonical stem without which a folder has no module of that name.
        dims: stems, without the layer -> dims in which a folder keeps the tensor, where they are none that follow from
            the weight (-1: as many as are left), and those of a setting that a folder keeps as a tensor.
        conv1d: tensors that a folder stores as `[in, out]` (transformers' Conv1D).
        rope: order of the rotary pairs in a folder's Q and K rows.
        folded: stages behind whose product its class multiplies by a factor that a GGUF has in the weight.
    """

    model_type: str = ""
    in_transformers: bool = True
    run_by: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)
    spellings: Mapping[str, str] = field(default_factory=dict, hash=False)
    keys: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict, hash=False)
    flags: Mapping[str, bool] = field(default_factory=dict, hash=False)
    only_with: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False)
    reads: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    turned_by: str = ""
    idle: frozenset[str] = frozenset()
    says_anyway: Mapping[str, Any] = field(default_factory=dict, hash=False)
    windows: Callable[[int, int], bool] = lambda layer, first: layer >= first
    rotation_by_kind: bool = False
    senses: Mapping[str, Any] = field(default_factory=dict, hash=False)
    text_names: str = "model."
    names: Mapping[str, str] = field(default_factory=dict, hash=False)
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    taken_apart: frozenset[str] = frozenset()
    only_beside: Mapping[str, str] = field(default_factory=dict, hash=False)
    dims: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    conv1d: frozenset[str] = frozenset()
    rope: int = SPLIT_HALF
    folded: frozenset[str] = frozenset()

    def asks_for(self, name: str) -> bool:
        """Whether its class asks for a key of config.json; any that code beside the weights may read is taken for
        one that it does."""
        if name not in OF_SOME or not self.in_transformers:
            return True
        shared = name == SHARE and f"rope.{SHARE}" in self.defaults
        return shared or name in self.reads or name in self.spellings.values()
