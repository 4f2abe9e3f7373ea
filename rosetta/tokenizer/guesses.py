"""Which pre-tokenizer a file likely means where it names none or one that does not exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS

# The names that gguf-py's converter gives the tokenizers that these tokens identify: (tokens all present,
# smallest vocabulary, name); the first row that fits counts.
_FINGERPRINTS = (
    (("<|begin_of_text|>", "<|eot|>"), 200_000, "llama4"),
    (("<|begin_of_text|>", "<|eot_id|>"), 128_000, "llama-bpe"),
    (("<|begin_of_text|>", "<|end_of_text|>"), 128_000, "llama-bpe"),
    (("<|endoftext|>", "<|im_start|>", "<|im_end|>"), 151_000, "qwen2"),
    (("<|endofprompt|>",), 199_000, "gpt-4o"),
    (("<|startoftext|>", "<|return|>"), 199_000, "gpt-4o"),
    (("[INST]", "[/INST]"), 131_000, "tekken"),
    (("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), 128_000, "deepseek-v3"),
    (("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), 100_000, "deepseek-llm"),
    (("<｜begin▁of▁sentence｜>", "<｜fim▁hole｜>"), 32_000, "deepseek-coder"),
    (("[gMASK]", "<sop>"), 150_000, "glm4"),
    (("<|START_OF_TURN_TOKEN|>",), 255_000, "command-r"),
    ((">>TITLE<<", ">>ABSTRACT<<"), 65_000, "falcon"),
    (("<fim_prefix>", "<reponame>"), 49_000, "starcoder"),
)

# architecture (GGUF's, Hugging Face's class or slug, lower case) -> name
_ARCHITECTURES = {
    "bloom": "bloom", "chatglm": "chatglm-bpe", "codeshell": "codeshell", "cohere2": "command-r",
    "command-r": "command-r", "dbrx": "dbrx", "deepseek2": "deepseek-v3", "exaone": "exaone",
    "exaone4": "exaone4", "falcon": "falcon", "gemma4": "gemma4", "glm4": "glm4", "gpt2": "gpt-2",
    "gpt-oss": "gpt-4o", "gptneox": "olmo", "granite": "refact", "grok": "grok-2", "jais": "jais",
    "llama": "llama-bpe", "llama4": "llama4", "mistral": "tekken", "mpt": "mpt", "olmo": "olmo",
    "olmo2": "dbrx",
    "phi2": "phi-2", "phi3": "gpt-4o", "qwen": "qwen2", "qwen2": "qwen2", "qwen2moe": "qwen2",
    "qwen2vl": "qwen2",
    "qwen3": "qwen2", "qwen3moe": "qwen2", "qwen35": "qwen35", "qwen35moe": "qwen35", "refact": "refact",
    "smollm3": "smaug-bpe", "stablelm": "stablelm2", "starcoder": "starcoder", "starcoder2": "starcoder",
}  # fmt: skip

# what people write for a name that exists
_MISSPELLINGS = {
    "gpt2": "gpt-2", "gpt_2": "gpt-2", "phi2": "phi-2", "qwen": "qwen2", "qwen2.5": "qwen2", "qwen3": "qwen2",
    "qwen3.5": "qwen35", "llama-3": "llama-bpe", "llama_bpe": "llama-bpe", "llama3.1": "llama-bpe",
    "llama3.2": "llama-bpe", "llama-4": "llama4", "gpt4o": "gpt-4o", "gpt-4": "gpt-4o", "mistral": "tekken",
    "starcoder2": "starcoder", "stablelm": "stablelm2", "deepseek": "deepseek-llm", "commandr": "command-r",
    "smollm2": "smollm", "dbrx-instruct": "dbrx", "chatglm": "chatglm-bpe", "o200k": "gpt-4o",
}  # fmt: skip


def likely_pre_tokenizer(
    declared: str | None, ids: Mapping[str, int], tokens: Sequence[str], architecture: str
) -> tuple[str, str] | None:
    """The pre-tokenizer that a vocabulary most likely wants.

    Args:
        declared: the name that the file gives, if any.
        ids: token -> id.
        tokens: `[V]`.
        architecture: as the file spells it.

    Returns:
        Its name and what it was told by, or None where nothing tells.
    """
    for present, smallest, name in _FINGERPRINTS:
        if len(tokens) >= smallest and all(token in ids for token in present):
            return name, f"the vocabulary holds {present[0]} and {len(tokens):,} tokens"
    if ids.get("<|endoftext|>") == 50_256:
        return "gpt-2", "<|endoftext|> is token 50256"
    meant = None if declared is None else _close_to(declared)
    if meant is not None:
        return meant, f"'{declared}' is close to it"
    slug = architecture.lower().removesuffix("forcausallm").removesuffix("lmheadmodel").replace("_", "")
    if slug in _ARCHITECTURES:
        return _ARCHITECTURES[slug], f"the architecture is {architecture}"
    return None


def _close_to(declared: str) -> str | None:
    """The name that exists and differs from what is declared by case, spaces or marks alone, or is often called so."""
    spelled = {_letters(name): name for name in PRE_TOKENIZERS}
    spelled |= {_letters(name): meant for name, meant in _MISSPELLINGS.items()}
    return spelled.get(_letters(declared))


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
