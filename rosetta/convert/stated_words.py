"""Words of config.json that an `.apr` kept and that say no setting: a folder made of it has them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rosetta.containers.apr.keys import ALIASES, CANONICAL_SPELLING, TYPED_KEYS
from rosetta.containers.huggingface.text_part import NESTING
from rosetta.convert.folder_rotation import ROTATION, SCALING
from rosetta.model import Model

# Keys of the format, and of config.json those that the folder states by itself, or that are of the one that was.
_OF_THE_FORMAT = {
    *(*TYPED_KEYS, *ALIASES, *CANONICAL_SPELLING, *NESTING, ROTATION, SCALING),
    *("custom", "model_config", "tensor_shapes", "head_dim_override", "tie_word_embeddings"),
    *("dtype", "torch_dtype", "architectures", "transformers_version", "_name_or_path"),
}
_WINDOW = (
    "sliding_window",
    "layer_types",
)  # which a class may keep for what it writes, and not for what it reads
_SAYS_ITS_FOLDER = "hf_model_type"


def with_stated_words(
    model: Model, config: Mapping[str, Any], asked: frozenset[str], same: Callable[[Mapping[str, Any]], bool]
) -> dict[str, Any]:
    """config.json with the words that the source states and that change nothing of what is read.

    Args:
        model: from any container; only an `.apr` of a folder has such words.
        config: without them.
        asked: keys that a reader looks for: they say settings, which the config has by now.
        same: whether a reader makes of a config.json what it makes of this one.
    """
    container = model.container
    if container.kind != "apr" or _SAYS_ITS_FOLDER not in container.metadata:
        return dict(config)
    words = {
        key: value
        for key, value in container.metadata.items()
        if value is not None and config.get(key) is None and "." not in key and key not in _OF_THE_FORMAT
        if key not in model.architecture.huggingface.senses and (key not in asked or key in _WINDOW)
    }
    stated = dict(config)
    # All together first: a window, and which layers have none, say the same as before only with each other.
    for some in (words, *({key: value} for key, value in words.items())):
        if some and same({**stated, **some}):
            stated |= some
            if some is words:
                break
    return stated
