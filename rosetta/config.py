"""A container's settings in canonical form: GGUF keys, float32 values, each missing key by its container's rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rosetta.architectures import INTERLEAVED, SPLIT_HALF, Architecture
from rosetta.containers.container import Container, Setting
from rosetta.containers.huggingface.text_part import tied_unless_stated
from rosetta.containers.values import WRONG_VALUE
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.names import FOREIGN_LAYER
from rosetta.rope_scaling import RopeScaling, UnknownRuleError, scaling_from_gguf, scaling_from_parameters
from rosetta.settings_reader import (
    ACTIVATIONS,
    LARGEST_BLOCK_COUNT,
    NOT_RUN,
    Config,
    PerLayer,
    SettingsReader,
    Value,
    float32,
)

__all__ = ["LARGEST_BLOCK_COUNT", "Config", "Value", "read_config", "rope_scaling_from_tensors"]


def read_config(
    container: Container,
    architecture: Architecture,
    shapes: Mapping[str, tuple[int, ...]],
    overrides: Mapping[str, Any],
) -> tuple[dict[str, Value], tuple[Setting, ...]]:
    """The container's configuration under GGUF keys, and what it states beyond what the architecture computes.

    Args:
        container: an open container.
        architecture: what it holds.
        shapes: stored dims by canonical tensor name, where a default is derived from them.
        overrides: canonical settings that a repair puts in place of the file's.

    Raises:
        DamagedFileError: a key that the container's own loader needs is missing, or no count or number.
        UnsupportedError: a rope scaling rule, an activation or a per-layer size that rosetta does not run.
    """
    read, kind = SettingsReader(container, architecture, overrides), container.kind
    if not architecture.runs:
        return _as_stated(read, shapes), ()
    theirs = f"default of {_loader(kind)}"
    published = architecture.huggingface.defaults if kind == "huggingface" else {}

    read.config["architecture"] = Value(architecture.gguf, "architecture")
    embedding = shapes.get("token_embd.weight", (0, 0))
    read.count("block_count", published.get("block_count"), theirs, LARGEST_BLOCK_COUNT)
    _leave_out_predictors(read)
    read.count("context_length", published.get("context_length", 0 if kind == "apr" else None), theirs)
    hidden = read.count("embedding_length", published.get("embedding_length"), theirs)
    if architecture.feed_forward:
        ffn_default = 4 * hidden if kind == "huggingface" and not architecture.gated else None
        read.counts("feed_forward_length", published.get("feed_forward_length", ffn_default), theirs)
    if architecture.attention:
        _heads(read, shapes, published, theirs)
    if "vocab_size" in published:
        read.count("vocab_size", published["vocab_size"], theirs)
    else:
        read.count("vocab_size", embedding[0] or None, "rows of the embedding")

    read.norm_type(Value(architecture.norm, "architecture"))
    _epsilon(read)
    _activation(read)
    if architecture.rope is not None:
        _rope(read, shapes)
    if architecture.attention:
        key_length = read.size("attention.key_length")
        read.number("attention.scale", 1 / math.sqrt(key_length), "1/√(key length)")
        _refuse_layer_scales(read)
        _sliding_window(read, published)
    _head(read, shapes, published)
    try:
        architecture.settings(read)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise DamagedFileError(
            f"the settings of {architecture.name} cannot be worked out: {error}",
            file=container.path,
            remedy=WRONG_VALUE,
        ) from error
    _refuse_experts(read)
    _refuse_sight_ahead(read)
    _refuse_sizes_of_windows(read)
    _refuse_scaling_of_windows(read)
    read.refuse_others(architecture.huggingface.only_with)
    for key in ("bos_token_id", "eos_token_id"):
        setting = read.raw(key)
        if setting is not None:
            read.config[key] = Value(setting.value, setting.key)
    return read.config, read.unheeded()


def _refuse_experts(read: SettingsReader) -> None:
    """llama.cpp gives experts to some architectures that no published model has with experts."""
    stated = read.container.settings.get("expert_count")
    if read.container.kind != "gguf" or stated is None or "expert_count" in read.config or not stated.value:
        return
    if not read.architecture.llamacpp.computes_by("expert_count"):
        return
    raise UnsupportedError(
        f"{stated.key} is {str(stated.value)[:60]}, and rosetta runs {read.architecture.name} without experts",
        file=read.container.path,
        remedy="ask for it, with the model's name",
    )


def _refuse_sight_ahead(read: SettingsReader) -> None:
    """llama.cpp has tokens see those behind them too, of any architecture, where a file says so (embedding models)."""
    stated = read.raw("attention.causal")
    if read.container.kind == "gguf" and stated is not None and not stated.value:
        raise UnsupportedError(
            f"{stated.key} is false: tokens see those behind them, and rosetta runs models that do not",
            file=read.container.path,
            remedy=NOT_RUN,
        )


def _refuse_sizes_of_windows(read: SettingsReader) -> None:
    """llama.cpp reads sizes of heads in layers with a window of any architecture; few models have others there."""
    if read.container.kind != "gguf" or not read.config.get("attention.sliding_window", Value(0)).value:
        return
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        own, others = f"{key}_swa", read.config.get(key)
        if own not in read.container.settings:  # not asked for: whoever writes a file states what is
            continue
        stated = read.container.settings[own]
        if others is None or read.heeds(own) or not read.architecture.llamacpp.computes_by(own):
            continue
        if stated.value != others.value:
            raise UnsupportedError(
                f"{stated.key} is {str(stated.value)[:60]}, and rosetta runs {read.architecture.name} with "
                f"{others.value} in all layers",
                file=read.container.path,
                remedy=NOT_RUN,
            )


def _refuse_scaling_of_windows(read: SettingsReader) -> None:
    """Rope scaling that llama.cpp has in layers with a window otherwise than is run here: no model is published so."""
    if read.container.kind != "gguf" or not read.config.get("attention.sliding_window", Value(0)).value:
        return
    rule, factor, grown = (
        read.container.settings.get(f"rope.scaling.{key}") for key in ("type", "factor", "attn_factor")
    )
    unscaled = rule is not None and rule.value == "none"
    stated = {"": None, "stretched": factor if unscaled else None, "grown": grown}[
        read.architecture.llamacpp.windows
    ]
    if stated is not None and stated.value not in (0, 1):
        raise UnsupportedError(
            f"{stated.key} is {stated.value:g}, which llama.cpp computes with otherwise in layers with a window, "
            f"and rosetta runs {read.architecture.gguf} without it",
            file=read.container.path,
            remedy=NOT_RUN,
        )


def _as_stated(read: SettingsReader, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Value]:
    """What the file states, key by key, of an architecture that is not run; what it leaves out, by its tensors."""
    for key, setting in read.stated("").items():
        named = read.container.settings[key]
        if key == "activation":
            setting = ACTIVATIONS.get(str(setting), setting)
        if isinstance(setting, int | float | str | list):
            value = float32(setting)
            if isinstance(value, float) and value.is_integer():  # 10000.0, where the other file has 10000
                value = int(value)
            read.config[key] = Value(value, named.key)
    layers = [int(found[1]) + 1 for name in shapes if (found := FOREIGN_LAYER.search(name))]
    counted = {
        "block_count": max(layers, default=0),
        "vocab_size": shapes.get("token_embd.weight", (0,))[0],
        "tied_embeddings": "output.weight" not in shapes,
    }
    for key, value in counted.items():
        if type(read.config.get(key, Value(None)).value) is not type(value):
            read.config[key] = Value(value, None, "by the tensors" if value else "not stated")
    return read.config


def _leave_out_predictors(read: SettingsReader) -> None:
    """A GGUF counts the blocks that predict tokens further on among its blocks; they are not run."""
    found, predictors = read.config["block_count"], read.raw("nextn_predict_layers")
    if read.container.kind != "gguf" or "block_count" in read.overrides or predictors is None:
        return
    if type(predictors.value) is int and 0 < predictors.value < found.value:
        note = f"less the {predictors.value} that predict further tokens"
        read.config["block_count"] = Value(found.value - predictors.value, found.key, note)


def _loader(kind: str) -> str:
    return {"apr": "aprender", "gguf": "llama.cpp", "huggingface": "transformers"}.get(kind, kind)


def _heads(
    read: SettingsReader, shapes: Mapping[str, tuple[int, ...]], published: Mapping[str, Any], theirs: str
) -> None:
    """Heads, those of keys and values, and their sizes."""
    heads = read.counts("attention.head_count", published.get("attention.head_count"), theirs)
    most = max(heads) if isinstance(heads, PerLayer) else heads
    kv_default = (
        most if read.says_null("num_key_value_heads") else published.get("attention.head_count_kv", most)
    )
    read.counts("attention.head_count_kv", kv_default, theirs)
    hidden = read.config["embedding_length"].value
    key_default, key_note = _head_size(read, shapes, hidden, max(most, 1))
    key_length = read.count("attention.key_length", key_default, key_note)
    if read.container.kind == "gguf":  # llama.cpp has one default for both, whatever is stated of keys
        read.count("attention.value_length", max(hidden // max(most, 1), 1), "embedding length / heads")
    else:
        read.count("attention.value_length", key_length, "the key length")


def _head_size(
    read: SettingsReader, shapes: Mapping[str, tuple[int, ...]], hidden: int, heads: int
) -> tuple[int, str]:
    kind, published = read.container.kind, read.architecture.huggingface.defaults
    if kind == "huggingface" and "attention.key_length" in published:
        return int(published["attention.key_length"]), "default of transformers"
    query = shapes.get("blk.0.attn_q.weight")
    if kind == "apr" and query and query[0] % heads == 0 and "attention.head_count" not in read.overrides:
        return query[0] // heads, "rows of q / heads, as aprender infers it"  # GGUFConfig::from_apr, GH-479
    return max(hidden // heads, 1), "embedding length / heads"


def _epsilon(read: SettingsReader) -> None:
    architecture, kind = read.architecture, read.container.kind
    key = architecture.epsilon_key
    spellings = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
    # An `.apr` has one key for either norm; llama.cpp and transformers ask for the architecture's own alone.
    if key not in read.overrides and kind == "apr" and read.raw(key) is None:
        for other in spellings:
            setting = read.raw(other)
            if setting is not None:
                read.overrides = {**read.overrides, key: setting.value}
                read.number(key, None)
                read.config[key] = Value(
                    _not_negative(read, setting.key, read.config[key].value), setting.key
                )
                return
    note = f"default of {_loader(kind)} for {architecture.name}"
    if kind == "gguf":
        note = "llama.cpp refuses a file without this key; the architecture's published value"
    _not_negative(read, key, read.number(key, architecture.norm_epsilon.of(kind), note))


def _not_negative(read: SettingsReader, key: str, epsilon: float) -> float:
    if epsilon < 0:
        raise DamagedFileError(
            f"{key} is {epsilon:.8g}, which is negative", file=read.container.path, remedy=WRONG_VALUE
        )
    return epsilon


def _activation(read: SettingsReader) -> None:
    setting = read.raw("activation")
    if setting is None:
        read.config["activation"] = Value(read.architecture.activation, None, "the architecture's")
        return
    read.activation(setting)


def _rope(read: SettingsReader, shapes: Mapping[str, tuple[int, ...]]) -> None:
    architecture, container = read.architecture, read.container
    read.config["rope.type"] = _row_order(read, shapes)
    note = f"default of {_loader(container.kind)} for {architecture.name}"
    own = read.own_table()
    theta = read.number(
        "rope.freq_base", own.get("rope_theta", architecture.rope_theta.of(container.kind)), note
    )
    if theta <= 0:
        stated = read.config["rope.freq_base"].key or "rope.freq_base"
        raise DamagedFileError(
            f"{stated}, the rope base, is {theta}, not positive", file=container.path, remedy=WRONG_VALUE
        )
    key_length = read.size("attention.key_length")
    # GGUF has no such key.
    share = None if container.kind == "gguf" else read.raw("rope.partial_rotary_factor")
    scaled = read.raw("rope.scaling")
    if scaled and isinstance(scaled.value, Mapping) and scaled.value.get("rope_type") == "proportional":
        share = None  # a part of the frequencies, which the scaling holds
    part = (
        architecture.huggingface.defaults.get("rope.partial_rotary_factor")
        if container.kind == "huggingface"
        else None
    )
    if share is not None and isinstance(share.value, int | float):
        part = share.value
    part = own.get("partial_rotary_factor", part)
    whole = (
        architecture.huggingface.defaults.get("rope.dimension_count")
        if container.kind == "huggingface"
        else None
    )
    rotated = whole or key_length if part is None else int(key_length * part)
    dimensions = read.count("rope.dimension_count", rotated, "the key length")
    if dimensions % 2:
        raise DamagedFileError(
            f"rope.dimension_count is {dimensions}, an odd number", file=container.path, remedy=WRONG_VALUE
        )
    read.config["rope.scaling"] = _scaling(read, dimensions // 2, theta)


def _row_order(read: SettingsReader, shapes: Mapping[str, tuple[int, ...]]) -> Value:
    """In which order this container's Q and K rows lie: 0 interleaved, 2 split-half."""
    architecture, kind = read.architecture, read.container.kind
    assert architecture.rope is not None
    setting = read.raw("rope.type")
    if kind == "gguf" and "rope.type" not in read.overrides:
        return Value(architecture.rope, "architecture")
    if kind == "huggingface" and "rope.type" not in read.overrides:
        return Value(architecture.huggingface.rope, "architecture")
    if setting is not None:
        if setting.value not in (INTERLEAVED, SPLIT_HALF):
            raise DamagedFileError(
                f"{setting.key} is {setting.value!r}, neither 0 nor 2",
                file=read.container.path,
                remedy=WRONG_VALUE,
            )
        return Value(setting.value, setting.key)
    if any(name.startswith("blk.") for name in read.container.tensors):
        return Value(architecture.rope, None, "GGUF names: GGUF's order")
    order = "split-half" if architecture.huggingface.rope == SPLIT_HALF else "interleaved"
    return Value(architecture.huggingface.rope, None, f"Hugging Face names: {order}")


def _scaling(read: SettingsReader, pairs: int, theta: float) -> Value:
    """Rope scaling as factors: a tensor `rope_freqs` here counts as absent, the model puts it in."""
    if "rope.scaling" in read.overrides:
        return Value(read.overrides["rope.scaling"], "rope.scaling")
    context = read.config["context_length"].value
    setting = read.raw("rope.scaling") or read.scaling_table()
    try:
        if setting is not None and isinstance(setting.value, Mapping):
            name = "original_max_position_embeddings"
            outer = read.spelled(name)  # wins, as transformers has it
            if (
                outer is None
                and read.container.kind == "huggingface"
                and name in read.architecture.huggingface.defaults
            ):
                outer = Setting(read.architecture.huggingface.defaults[name], "")
            if outer is not None:
                stated = {**setting.value, "original_max_position_embeddings": outer.value}
                setting = Setting(stated, setting.key)
            scaling = scaling_from_parameters(setting.value, pairs, theta, context)
            return Value(scaling, setting.key or None, "" if setting.key else "default of transformers")
        scaling = scaling_from_gguf(read.stated("rope.scal"), pairs, theta, context)
        return Value(scaling, "rope.scaling.type" if scaling else None, "" if scaling else "none")
    except UnknownRuleError as error:
        raise UnsupportedError(f"rope scaling: {error}", file=read.container.path, remedy=NOT_RUN) from error
    except (ValueError, ZeroDivisionError) as error:
        raise DamagedFileError(
            f"rope scaling: {error}", file=read.container.path, remedy=WRONG_VALUE
        ) from error


def _refuse_layer_scales(read: SettingsReader) -> None:
    setting = read.raw("attention.scale_by_inverse_layer")
    if setting is not None and setting.value:
        raise UnsupportedError(
            f"{setting.key} is set: an attention scale for each layer is not supported",
            file=read.container.path,
            remedy=NOT_RUN,
        )


def _sliding_window(read: SettingsReader, published: Mapping[str, Any]) -> None:
    """The window, 0 where there is none: a window that no context fills is none."""
    setting = read.raw("attention.sliding_window")
    if read.container.kind == "huggingface" and "attention.sliding_window" not in read.overrides:
        setting = _heeded_window(read, published, setting)
    window, key = (setting.value, setting.key or None) if setting else (0, None)
    context = read.config["context_length"].value
    if (
        not isinstance(window, int)
        or isinstance(window, bool)
        or window <= 0
        or (context and window >= context)
    ):
        window = 0
    by_layer = read.architecture.full_attention_every > 1  # the pattern may be that of more than the window
    layers = _sliding_layers(read, published) if window or by_layer else []
    if not any(layers):
        window = 0
    if by_layer or not all(layers):
        stated = read.raw("attention.sliding_window_pattern")
        read.config["attention.sliding_window_pattern"] = Value(
            PerLayer(layers), stated.key if stated else None, "the layers that slide"
        )
    note = "" if key else (f"default of {_loader(read.container.kind)}" if window else "none declared")
    read.config["attention.sliding_window"] = Value(window, key, note)


def _heeded_window(
    read: SettingsReader, published: Mapping[str, Any], stated: Setting | None
) -> Setting | None:
    """The window that transformers runs: none in some architectures, in others behind a switch."""
    if "attention.sliding_window" not in published or read.says_null("sliding_window"):
        return None
    switch = read.spelled("use_sliding_window")
    if "use_sliding_window" in published and not (
        switch.value if switch else published["use_sliding_window"]
    ):
        return None
    return stated or Setting(published["attention.sliding_window"], "")


def _sliding_layers(read: SettingsReader, published: Mapping[str, Any]) -> list[bool]:
    """Which layers the window is for."""
    layers, pattern = read.config["block_count"].value, read.raw("attention.sliding_window_pattern")
    first = published.get("max_window_layers", 0)
    if "max_window_layers" in published:
        stated = read.spelled("max_window_layers")
        first = stated.value if stated is not None and isinstance(stated.value, int) else first
    elif read.container.kind == "huggingface" and read.architecture.full_attention_every <= 1:
        pattern = None  # transformers reads it where it reads max_window_layers
    number = read.spelled("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers")
    if pattern is not None and isinstance(pattern.value, list | tuple):
        stated_layers = [bool(slides) for slides in pattern.value][:layers]
        return stated_layers + stated_layers[-1:] * (int(layers) - len(stated_layers))
    every = read.architecture.full_attention_every
    if pattern is None and every > 1:  # an older config says it as a number
        pattern = number
    if pattern is not None and type(pattern.value) is int:
        every = pattern.value
    if every > 1:  # llama.cpp, llama_hparams::set_swa_pattern: the last of every so many sees all
        return [layer % every < every - 1 for layer in range(layers)]
    return [layer >= first for layer in range(layers)]


def _head(read: SettingsReader, shapes: Mapping[str, tuple[int, ...]], published: Mapping[str, Any]) -> None:
    """Whether the head is the embedding: what the file says, else whether it holds a head."""
    setting = read.raw("tied_embeddings")
    whole = read.container.metadata
    unheld = "output.weight" not in shapes and "tied_embeddings" not in read.overrides
    if unheld and tied_unless_stated(whole):
        read.config["tied_embeddings"] = Value(
            True, None, f"default of transformers for {whole['model_type']}"
        )
    elif setting is not None and isinstance(setting.value, bool):
        read.config["tied_embeddings"] = Value(setting.value, setting.key)
    elif "tied_embeddings" in published:
        read.config["tied_embeddings"] = Value(published["tied_embeddings"], None, "default of transformers")
    else:
        stored = "output.weight" in shapes
        read.config["tied_embeddings"] = Value(
            not stored, None, "a head is stored" if stored else "no head is stored"
        )


def rope_scaling_from_tensors(
    tensors: Mapping[str, Sequence[float]], keys: RopeScaling | None, original: int
) -> RopeScaling | None:
    """The scaling that a GGUF's tensors of factors hold, whose values are divisors, with what its keys say besides:
    llama.cpp computes both. None where there are no such tensors.

    Args:
        tensors: values by name: `rope_freqs`, or `rope_factors_short` and `rope_factors_long`.
        keys: the scaling that keys state.
        original: the context length from which the long factors hold.
    """
    whole, short, long = (
        tuple(tensors.get(f"rope_{name}.weight", ())) for name in ("freqs", "factors_short", "factors_long")
    )
    whole = whole or (long if short and not original else ())  # from the first token on
    found = RopeScaling(whole) if whole else RopeScaling(short, 1.0, original, long)
    if not whole and not (short and long):
        return None
    if keys is None:
        return found
    lists = [
        tuple(divisor * more for divisor, more in zip(divisors, keys.factors, strict=True))
        for divisors in (found.factors, found.long)
        if divisors
    ]
    return RopeScaling(lists[0], keys.magnitude, found.beyond, lists[1] if found.long else ())
