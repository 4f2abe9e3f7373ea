"""C205: heads and their size contradict the tensors."""

from collections.abc import Iterator

from rosetta.containers.huggingface.text_part import text_config
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import StoredTensor, Subject

RULE = Rule(
    "C205",
    "heads",
    "error",
    what="The numbers of heads, or their size, are not those of the projections of queries, keys and values.",
    why="The number of key-value heads was left out and taken for that of heads, or the size of a head worked out as "
    "hidden size over heads where the model says another (Qwen3: 128).",
    fix="Write head_count, head_count_kv and key_length as the model's config has them.",
    contradiction=True,
)
# Rows of q that are no heads of queries: a gate beside each head, as Qwen3.5 and Qwen3-Next have it.
_GATED = 2
# Of folders: keys and values out of a latent vector, and heads that differ by layer in keys of their own.
_OTHERWISE = (
    *("kv_lora_rank", "num_attention_heads_per_layer", "num_sliding_attention_heads", "global_head_dim"),
    *("per_layer_config", "attention_other_setting"),
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first layer of each contradiction."""
    config = subject.container.metadata
    if any(key in table for table in (config, text_config(config)) for key in _OTHERWISE):
        return
    said: set[str] = set()
    for stem, key in (("attn_q", "attention.head_count"), ("attn_k", "attention.head_count_kv")):
        for tensor in subject.by_stem(f"{stem}.weight"):
            message = _contradiction(subject, tensor, key)
            if message is not None and key not in said:
                said.add(key)
                yield subject.at_tensor(tensor, message)
    if not said:
        yield from _between_queries_and_keys(subject)
    heads, kv = subject.count("attention.head_count"), subject.count("attention.head_count_kv")
    if heads and kv and heads % kv:
        yield subject.at_key("attention.head_count_kv", f"is {kv}, and does not divide the {heads} heads")


def _between_queries_and_keys(subject: Subject) -> Iterator[Fault]:
    """The first layer whose queries and keys have heads of two sizes, where the file says none."""
    keys = {tensor.layer: tensor for tensor in subject.by_stem("attn_k.weight")}
    for q in subject.by_stem("attn_q.weight"):
        heads, kv = (subject.count(f"attention.{key}", q.layer) for key in ("head_count", "head_count_kv"))
        k = keys.get(q.layer)
        if not heads or _head_sizes(subject, q.layer) or len(q.dims) != 2:
            continue
        if q.dims[0] % heads:
            yield subject.at_tensor(q, f"has {q.dims[0]:,} rows, which are not those of {heads} heads")
            return
        size = q.dims[0] // heads
        if (
            k is not None
            and kv
            and len(k.dims) == 2
            and k.dims[0] * _GATED not in (kv * size, kv * size * _GATED)
        ):
            said = f"has {k.dims[0]:,} rows, and the config says {kv} heads, each of {size} as those of {q.name!r}"
            yield subject.at_tensor(k, said)
            return


def _contradiction(subject: Subject, tensor: StoredTensor, key: str) -> str | None:
    heads = subject.count(key, tensor.layer)
    if heads is None and key == "attention.head_count_kv":
        heads = subject.count("attention.head_count", tensor.layer)
    sizes = _head_sizes(subject, tensor.layer)
    if not heads or len(tensor.dims) != 2 or not sizes:
        return None
    rows = tensor.dims[0]
    # A folder may say the keys' heads of layers with a window in a key of its own (MiMo 2: twice as many).
    exact = key == "attention.head_count_kv" and subject.gguf is not None
    fitting = {heads * size * parts for size in sizes for parts in ((1,) if exact else (1, _GATED))}
    if rows in fitting:
        return None
    size = min(sizes)
    return f"has {rows:,} rows, and the config says {heads} heads of {size}, which are {heads * size:,}"


def _head_sizes(subject: Subject, layer: int | None) -> set[int]:
    """The sizes that a head may have by the file's own word; layers with a window may have another."""
    keys = ("attention.key_length", "attention.key_length_swa", "attention.key_length_mla", "kda.head_dim")
    stated = {size for key in keys if (size := subject.count(key, layer))}
    if stated:
        return stated
    if subject.gguf is None:  # an architecture's own default is no business of a header
        return set()
    hidden, heads = subject.count("embedding_length"), subject.count("attention.head_count", layer)
    return {hidden // heads} if hidden and heads else set()
