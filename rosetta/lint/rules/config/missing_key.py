"""C202: a key that the architecture's loader asks for is missing."""

from collections.abc import Iterator

from rosetta.containers.huggingface.settings import HUGGINGFACE_FACTS
from rosetta.lint.gguf_keys import ALWAYS, EITHER, LAYER, REQUIRED, RMS, spelled
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C202",
    "missing-key",
    "error",
    what="A key is missing without which the architecture's own loader refuses the file or guesses.",
    why="One list of keys was used for all architectures (GPT-2 has layer_norm_epsilon where Llama has "
    "layer_norm_rms_epsilon), or a setting of the source was dropped.",
    fix="Write the key, with the value of the model's own config.",
    contradiction=True,
)
_OF_OTHERS = ("block_count", "embedding_length")  # of .apr: GGUFConfig::from_apr has no default for them


# What a folder's class has a default for, and the tensor that says it; of layers their numbers do.
_SIZES = {
    "block_count": "",
    "embedding_length": "token_embd.weight",
    "feed_forward_length": "ffn_down.weight",
    "vocab_size": "token_embd.weight",
}
_FOLDER_NAMES = {fact.key: fact.spellings[0] for fact in HUGGINGFACE_FACTS}


def faults(subject: Subject) -> Iterator[Fault]:
    """Each missing key."""
    if not subject.tensors or not subject.architecture:
        return
    if subject.gguf is not None:
        prefix = f"{subject.architecture}."
        for key in dict.fromkeys(
            (*ALWAYS, *REQUIRED.get(subject.architecture, ()), *_asked_by_tensors(subject))
        ):
            name = spelled(subject.architecture, key)
            if name not in subject.gguf.metadata:
                other = {RMS: LAYER, LAYER: RMS}.get(key)
                hint = f"; it has {prefix}{other}" if other and subject.setting(other) is not None else ""
                yield Fault(f"is missing, and llama.cpp asks for it{hint}", key=name)
        for keys in EITHER.get(subject.architecture, ()):
            if all(subject.setting(key) is None for key in keys):
                yield Fault(
                    f"is missing, and llama.cpp asks for it or {prefix}{keys[1]}", key=prefix + keys[0]
                )
    elif subject.apr is not None:
        for key in (*_OF_OTHERS, *_asked_by_tensors(subject)):
            if subject.setting(key) is None:
                yield Fault(
                    "is missing, and its readers have no default for it", key=_APR_NAMES.get(key, key)
                )
    else:
        yield from _of_a_folder(subject)


def _of_a_folder(subject: Subject) -> Iterator[Fault]:
    """Sizes that config.json leaves out though its class has others than the tensors."""
    for key, stem in _SIZES.items():
        found = (
            None
            if subject.setting(key) is not None or subject.model is None
            else subject.model.config.get(key)
        )
        if found is None or not found.defaulted or not isinstance(found.value, int):
            continue
        tensor = next(subject.by_stem(stem), None) if stem else None
        held = set(tensor.dims) if tensor is not None else {max(subject.layers, default=found.value - 1) + 1}
        if found.value not in held:
            sizes = " or ".join(map(str, sorted(held)))
            said = f"is missing, its class takes {found.value:,}, and the tensors say {sizes}"
            yield subject.at_file_key(_FOLDER_NAMES[key], said)


_APR_NAMES = {
    "block_count": "num_layers",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_heads",
    "feed_forward_length": "intermediate_size",
}


def _asked_by_tensors(subject: Subject) -> Iterator[str]:
    """Sizes without which tensors of the file have no dims."""
    if any(next(subject.by_stem(f"{stem}.weight"), None) for stem in ("attn_q", "attn_qkv")):
        yield "attention.head_count"
    if next(subject.by_stem("ffn_down.weight"), None):
        yield "feed_forward_length"
