"""F118: tensors that no loader of the model reads."""

import re
from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import GGUF_ARCHITECTURES, Subject
from rosetta.names import LAYER

RULE = Rule(
    "F118",
    "leftover",
    "warning",
    what="The file holds tensors that belong to no model: an optimiser's state, an adapter that was not merged, names "
    "that GGUF does not define.",
    why="A checkpoint was saved with its training state, or a LoRA adapter was saved beside the base weights instead "
    "of being merged into them: the model then answers as if it had not been tuned.",
    fix="Merge the adapter, drop the training state, and rename what has another name in GGUF.",
)
_KINDS = {
    r"(^|\.)(exp_avg|exp_avg_sq|momentum_buffer|master_param)(\.|$)|^optimizer\.": "an optimiser's state",
    r"\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector)(\.|$)|\.base_layer\.": "an adapter that is not merged",
}


def faults(subject: Subject) -> Iterator[Fault]:
    """The first tensor of each kind, and how many there are."""
    left = list(subject.tensors)
    for pattern, kind in _KINDS.items():
        found = [tensor for tensor in left if re.search(pattern, tensor.name)]
        left = [tensor for tensor in left if tensor not in found] if found else left
        if found:
            more = f", as are {len(found) - 1:,} more" if len(found) > 1 else ""
            yield subject.at_tensor(found[0], f"is {kind}{more}")
    spelt = [tensor for tensor in left if LAYER.match(tensor.name)] if subject.folder is not None else []
    if spelt:
        more = f", as have {len(spelt) - 1:,} more" if len(spelt) > 1 else ""
        yield subject.at_tensor(spelt[0], f"has GGUF's name, which no class of transformers has{more}")
    if subject.gguf is None or subject.architecture not in GGUF_ARCHITECTURES:  # whose names cannot be known
        return
    unknown = [tensor for tensor in left if tensor.stem is None]
    if unknown:
        more = f"; {len(unknown) - 1:,} more are unknown as well" if len(unknown) > 1 else ""
        yield subject.at_tensor(unknown[0], f"no architecture of GGUF has a tensor of this name{more}")
