"""llama.cpp takes what is special in the vocabulary of Phi-3 by the model's name, and refuses a file of that name
without it (llama-vocab.cpp, attributes by model name)."""

from __future__ import annotations

from collections.abc import Collection

SPELLED = ("phi-3", "phi3")
SPECIAL = ("</s>", "<unk>", "<s>", "<|endoftext|>")


def lacking_of_phi3(name: object, tokens: Collection[str]) -> list[str]:
    """The tokens without which llama.cpp refuses a GGUF file of a name; none where the name is none of Phi-3's.

    >>> lacking_of_phi3("My Phi-3 tuned", ["<s>", "</s>", "<|endoftext|>"])
    ['<unk>']
    >>> lacking_of_phi3("My Phi-4 tuned", [])
    []
    """
    if not isinstance(name, str) or not any(spelled in name.lower() for spelled in SPELLED):
        return []
    return [token for token in SPECIAL if token not in tokens]
