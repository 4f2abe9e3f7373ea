"""C208: the number of layers contradicts the tensors."""

from collections.abc import Iterator

from rosetta.containers.huggingface.text_part import tables
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C208",
    "layer-count",
    "error",
    what="The file has tensors, or a list of settings, of another number of layers than it declares.",
    why="A shard is missing, an export broke off, or the number was copied from another size of the model. A loader "
    "refuses it, or leaves the last layers out.",
    fix="Write the number of layers that there are, or export the missing ones.",
    contradiction=True,
)


_LISTS = (  # llama.cpp, get_key_or_arr(…, n_layer_all): a list of another length stops it
    *("attention.head_count", "attention.head_count_kv", "attention.recurrent_layers"),
    *("feed_forward_length", "expert_feed_forward_length", "expert_used_count"),
    *("swiglu_clamp_exp", "swiglu_clamp_shexp"),
)
_LISTS_OF_FOLDERS = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")


def faults(subject: Subject) -> Iterator[Fault]:
    """Layers that are missing, layers beyond the declared number, and lists that have no entry for each."""
    declared = subject.count("block_count")
    in_folder = _LISTS_OF_FOLDERS if subject.folder is not None else ()
    for key in _LISTS if subject.gguf is not None else in_folder:
        listed = subject.setting(key)
        if isinstance(listed, list) and declared and len(listed) != declared:
            yield subject.at_key(key, f"has {len(listed)} entries, and there are {declared} layers")
    if subject.folder is not None:
        yield from _listed_kinds(subject)
    if declared is None or not subject.layers:
        return
    predictors = subject.count("nextn_predict_layers") or 0
    for key in ("num_nextn_predict_layers", "mtp_num_hidden_layers"):  # a folder counts them apart
        stated = subject.container.metadata.get(key)
        predictors = max(predictors, stated if isinstance(stated, int) else 0)
    beyond = sorted(n for n in subject.layers if n >= declared + predictors)
    missing = sorted(set(range(min(declared, 1 << 16))) - subject.layers)
    if beyond:
        first = next(tensor for tensor in subject.tensors if tensor.layer == beyond[0])
        yield subject.at_tensor(
            first, f"is of layer {beyond[0]}, and {declared} layers (from 0) are declared"
        )
    if missing:
        some = ", ".join(map(str, missing[:4])) + (" …" if len(missing) > 4 else "")
        yield subject.at_key("block_count", f"is {declared}, and no tensor is of layer {some}")


def _listed_kinds(subject: Subject) -> Iterator[Fault]:
    """Lists of the kinds of layers in config.json: transformers refuses one of another length."""
    for table, prefix in tables(subject.container.metadata):
        declared = table.get("num_hidden_layers")
        for key in ("layer_types", "mlp_layer_types"):
            listed = table.get(key)
            if type(declared) is int and isinstance(listed, list) and len(listed) != declared:
                yield subject.at_file_key(
                    f"{prefix}{key}", f"has {len(listed)} entries, and there are {declared} layers"
                )
