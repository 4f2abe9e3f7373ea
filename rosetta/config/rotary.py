"""The rotation of queries and keys: base, dims, order of the rows, and scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rosetta.architectures import INTERLEAVED, SPLIT_HALF
from rosetta.containers.container import Setting
from rosetta.containers.values import WRONG_VALUE
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.rope_scaling import RopeScaling, UnknownRuleError, scaling_from_gguf, scaling_from_parameters
from rosetta.setting_values import Value, listed
from rosetta.settings_reader import NOT_RUN, SettingsReader, loader_of


def read_rotary(read: SettingsReader, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Read base, rotated dims, order of the rows and scaling.

    Args:
        read: a container's settings, the size of a head among them.
        shapes: stored dims by canonical tensor name.

    Raises:
        DamagedFileError: a base that is not positive, an odd number of dims, a share of more than a head, an order that
            is none.
        UnsupportedError: a rule of scaling that rosetta does not know.
    """
    architecture, container = read.architecture, read.container
    read.config["rope.type"] = _row_order(read, shapes)
    note = f"default of {loader_of(container.kind)} for {architecture.name}"
    own = read.own_table()
    theta = read.number(
        "rope.freq_base", own.get("rope_theta", architecture.rope_theta.of(container.kind)), note
    )
    _refuse_no_base(read, "rope.freq_base", theta)
    key = "rope.dimension_count"
    if read.overrides.get(key) == 0:  # a repair's: what a share of none of a head comes to
        dimensions = int(read.put(key, read.raw(key), None))
    else:
        dimensions = read.count(key, *_rotated(read, own))
    if dimensions % 2:
        raise DamagedFileError(
            f"rope.dimension_count is {dimensions}, an odd number", file=container.path, remedy=WRONG_VALUE
        )
    read.config["rope.scaling"] = _scaling(read, dimensions // 2, theta)


def refuse_windows_without_base(read: SettingsReader) -> None:
    """Hold the base of layers with a window, which an architecture's own settings have read, to sense.

    Raises:
        DamagedFileError: it is not positive.
    """
    if "rope.freq_base_swa" in read.config:
        for base in listed(read.config, "rope.freq_base_swa"):
            _refuse_no_base(read, "rope.freq_base_swa", base)


def _refuse_no_base(read: SettingsReader, key: str, base: float) -> None:
    if base <= 0:
        raise DamagedFileError(
            f"{read.config[key].key or key}, the rope base, is {base}, not positive",
            file=read.container.path,
            remedy=WRONG_VALUE,
        )


def _rotated(read: SettingsReader, own: Mapping[str, Any]) -> tuple[int, str]:
    """How many dims of a head are rotated where no key says it as a number, and why: its share, or the whole head."""
    kind, key_length = read.container.kind, read.size("attention.key_length")
    said = read.architecture.huggingface
    published = said.defaults if kind == "huggingface" else {}
    turned = read.aside(said.turned_by) if kind == "huggingface" and said.turned_by else None
    if turned is not None:
        key_length = int(turned.value)
    # GGUF has no such key.
    share = None if kind == "gguf" else read.raw("rope.partial_rotary_factor")
    part = published.get("rope.partial_rotary_factor")
    if share is not None and isinstance(share.value, int | float):
        _deny_another_share(read, share)
        if not 0 <= share.value <= 1:
            raise DamagedFileError(
                f"{share.key}, the share of a head that is rotated, is {share.value:g}, not between 0 and 1",
                file=read.container.path,
                remedy=WRONG_VALUE,
            )
        part = share.value
    part = own.get("partial_rotary_factor", part)
    scaled = read.raw("rope.scaling") or read.scaling_table()
    if scaled and isinstance(scaled.value, Mapping) and scaled.value.get("rope_type") == "proportional":
        # The share is of frequencies: the scaling holds it.
        part = published.get("rope.partial_rotary_factor")
    if part is not None:
        return int(key_length * part), f"{part:g} of the key length"
    return published.get("rope.dimension_count") or key_length, "the key length"


def _deny_another_share(read: SettingsReader, share: Setting) -> None:
    """Note a share of the head at the top of config.json that the table of the rotation denies."""
    if read.container.kind != "huggingface" or "rope_" not in share.key:
        return
    top = read.spelled("partial_rotary_factor")
    if top is not None and top.value != share.value:
        read.deny(top)


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
            published = read.architecture.huggingface.defaults
            if outer is None and read.container.kind == "huggingface" and name in published:
                outer = Setting(published[name], "")
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
