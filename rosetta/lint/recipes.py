"""What people call a quantised file, and the tensor dtypes that such a file holds.

A recipe is no dtype: Q4_K_M files hold Q6_K too, and rows that are no whole superblocks fall back to other types.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from math import prod

from rosetta.containers import TensorEntry

NAME_OF_RECIPE = (
    r"(?i)(?:^|[-_.])(IQ[1-4]_(?:XXS|XS|S|M|NL)|Q[2-8]_K(?:_(?:XS|S|M|L|XL))?|Q[458]_[01]|TQ[12]_0|MXFP4(?:_MOE)?|"
    r"F16|FP16|BF16|F32|FP32)(?=$|[-_.])"
)
"""The end of a name like `Model-7B-Q4_K_M`."""

# llama.h, enum llama_ftype
FILE_TYPES: dict[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
    39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip

# llama-quant.cpp: what a row that is no whole superblock falls back to.
_FALLBACK = {"Q4_0", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"}
_SUPERBLOCK = 256  # weights; ggml-common.h, QK_K
_FAMILIES = {
    "Q2_K": {"Q2_K", "Q3_K", "Q4_K", "IQ3_XXS"},
    "Q3_K": {"Q3_K", "Q2_K", "Q4_K", "Q5_K"},
    "Q4_K": {"Q4_K", "Q5_K", "Q6_K"},
    "Q5_K": {"Q5_K", "Q6_K"},
    "Q6_K": {"Q6_K", "Q8_0"},
    "Q8_K": {"Q8_0", "Q8_K"},
    "IQ1": {"IQ1_S", "IQ1_M", "IQ2_XXS", "Q2_K"},
    "IQ2": {"IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_S", "IQ3_XXS", "Q2_K"},
    "IQ3": {"IQ3_XXS", "IQ3_S", "Q3_K", "IQ4_XS", "Q4_K"},
    "IQ4": {"IQ4_NL", "IQ4_XS", "Q4_K", "Q5_K"},
}


def weights_by_dtype(tensors: Iterable[TensorEntry]) -> Counter[str]:
    """How many weights of matrices are of each dtype."""
    weights = Counter[str]()
    for tensor in tensors:
        if len(tensor.dims) > 1:
            weights[tensor.dtype] += prod(tensor.dims)
    return weights


def is_of_recipe(recipe: str, tensors: Collection[TensorEntry]) -> bool:
    """Whether a file of such tensors may go by a recipe's name; where it has no matrix, by any."""
    weights = weights_by_dtype(tensors)
    matrices = (tensor for tensor in tensors if len(tensor.dims) > 1)
    # Whether a row of whole superblocks is of a type to which others fall back.
    whole = any(m.dtype in _FALLBACK and m.dims[-1] % _SUPERBLOCK == 0 for m in matrices)
    plain = {"FP16": "F16", "FP32": "F32", "MXFP4_MOE": "MXFP4"}.get(recipe, recipe)
    if plain == "F32":  # routers are F32 in every file; experts stay MXFP4 in an F32 one of gpt-oss
        return not weights or weights.most_common(1)[0][0] in ("F32", "MXFP4")
    family = next((dtypes for name, dtypes in _FAMILIES.items() if plain.startswith(name)), None)
    fallen = set() if family is None or whole else _FALLBACK
    return not weights or not ((family or {plain}) | fallen).isdisjoint(weights)
