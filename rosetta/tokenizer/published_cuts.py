"""How published tokenizer.json files cut a text, and what llama.cpp calls each way.

llama.cpp writes most expressions otherwise than they were published; its names are told by these, compared without what
makes no difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Expressions as tokenizer.json files have them (llama-vocab.cpp quotes them beside its own: "original regex").
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD, _SIGNS = r"[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_PATHS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*")

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
_QWEN2 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}"
_GPT4O = rf"{_CASED[0]}{_CONTRACTION}?|{_CASED[1]}{_CONTRACTION}?|\p{{N}}{{1,3}}|{_PATHS}|{_SPACES}"
_CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
_DEEPSEEK_CJK = "[一-龥ࠀ-一가-\ud7ff]+"
_DEEPSEEK_SIGNS = "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"
_DEEPSEEK_LETTERS = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-"
    "ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ"
    "-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
)
_ASIAN = (
    "[一-鿿㐀-䶿豈-\ufaff\u3040-ゟ゠-ヿ･-ﾟ⼀-\u2fdfเ-\u0e7f\u0e80-\u0effក-\u17ffက-႟ꩠ-ꩿꧠ-\ua9ff가-\ud7afᄀ-ᇿ]+"
)
_SIGNS_AND_WORD = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^" + "\r\n" + r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["
    + "\r\n" + rf"]*|{_SPACES}"
)  # fmt: skip
_GROUPED = r"\d{1,3}(?=(?:\d{3})*\b)"
_NO_STOPS = r" ?[^(\s|[.,!?…。，、।۔،])]+"
PUNCTUATION = r"[\p{P}!-/:-@\[-`{-~]"  # what the library's step of that name parts from the rest
# Letters that are no Chinese characters (unicode.cpp, beside its own way of cutting so).
_KIMI_UPPER, _KIMI_LOWER = (f"{part[:-1]}&&[^\\p{{Han}}]]" for part in (_UPPER, _LOWER))
_TAIL = r"\s+(?!\S)|\s+"

# The chain of expressions -> llama.cpp's name of it; of several names one that llama.cpp treats alike.
CHAINS: dict[str, tuple[str, ...]] = {
    "gpt-2": (GPT2,),
    "starcoder": (r"\p{N}", GPT2),
    "llama-bpe": (_LLAMA3,),
    "qwen2": (_QWEN2,),
    "qwen35": (
        _QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+", 1).replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]"),
    ),
    "jais-2": (
        rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|\s*[\r\n]+|"
        + "|".join(rf"\s{{{size}}}(?!\S)" for size in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2"))
        + r"|\s{1}",
    ),
    "tekken": (rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_PATHS}|{_SPACES}",),
    "gpt-4o": (_GPT4O,),
    "tiny_aya": (_GROUPED, _GPT4O),
    "bailingmoe": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|" + _TAIL,
    ),
    "seed-coder": (
        rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}" + "\r\n" + r"]+|\s*[" + "\r\n" + rf"]+|{_TAIL}",
    ),
    "exaone-moe": (
        rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|{_TAIL}",
    ),
    "ufakzeka": (rf"{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}",),
    "minicpm5": (r"\p{N}{1,3}", _LLAMA3.replace("{1,3}", "+")),
    "deepseek-v3": (r"\p{N}{1,3}", _CJK, _SIGNS_AND_WORD),
    "deepseek-coder": ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _DEEPSEEK_CJK, r"\p{N}"),
    "afmoe": (_GROUPED, _ASIAN, _SIGNS_AND_WORD),
    "bloom": (_NO_STOPS,),
    "viking": (_NO_STOPS, r"\p{N}"),
    "laguna": (r"[^\n]+|[\n]+", _QWEN2),
    "superbpe": (r"\p{N}+", r"(?=(\d{3})+(?!\d))"),
    "youtu": (
        "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+",
        _GPT4O.replace("{1,3}", ""),
    ),
    "spark2_5": (
        r"\p{N}{1,3}",
        _CJK,
        _SIGNS_AND_WORD.replace("[\r\n]*|\\s*[\\r\\n]+", "|[\r\n]"),
        r"\p{N}",
    ),
    "kimi-k2": (
        rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?{_KIMI_UPPER}*{_KIMI_LOWER}+{_CONTRACTION}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{_KIMI_UPPER}+{_KIMI_LOWER}*{_CONTRACTION}?|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}",
    ),
    "chameleon": (
        "<sentinel:[0-9]+>",
        "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
        "([\t\n]|    |  )",
        r"\p{N}",
        PUNCTUATION,
        GPT2,
    ),
    "default": (r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),  # llama.cpp's own: nobody published it
    "deepseek-llm": ("[\r\n]", _DEEPSEEK_LETTERS, _DEEPSEEK_SIGNS, r"\s+$", _DEEPSEEK_CJK, r"\p{N}"),
}  # fmt: skip
# Cuts that are no chain of expressions, as they were published.
PUNCTUATION_FIRST = {
    "falcon": (
        {"type": "Punctuation", "behavior": "Contiguous"},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        {"type": "Digits", "individual_digits": False},
        {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated", "invert": False},
    )
}
BETWEEN_SPACES = {"type": "WhitespaceSplit"}  # llama.cpp's `whitespace`, which spells no bytes
# Names that mean the chain of another.
_ALIKE = {
    **dict.fromkeys(("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "dbrx", "smaug-bpe",
                     "chatglm-bpe", "glm4", "glm5", "jina-v5-nano"), "llama-bpe"),
    **dict.fromkeys(("mpt", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum",
                     "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe", "olmo", "jais", "exaone4", "trillion",
                     "granite-docling"), "gpt-2"),
    **dict.fromkeys(("refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"), "starcoder"),
    **dict.fromkeys(("deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "megrez", "hunyuan", "grok-2",
                     "solar-open"), "qwen2"),
    **dict.fromkeys(("llama4", "kanana2", "talkie", "minimax-m2", "granite-embed-multi-97m"), "gpt-4o"),
    **dict.fromkeys(("hunyuan-dense", "hy_v4", "joyai-llm"), "deepseek-v3"),
    **dict.fromkeys(("bailingmoe2", "llada-moe"), "bailingmoe"),
    **dict.fromkeys(("poro-chat", "gpt3-finnish"), "bloom"),
    "cohere2moe": "tiny_aya",
}  # fmt: skip


def chain_of(pre: str) -> tuple[str, ...] | None:
    """The expressions by which a published tokenizer cuts that GGUF gives this name; None where they are not known."""
    return CHAINS.get(_ALIKE.get(pre, pre))


def names_alike(pre: str) -> list[str]:
    """All names that llama.cpp has for what was published as the cuts of this one, this one first."""
    published = _ALIKE.get(pre, pre)
    names = dict.fromkeys((pre, published, *(name for name, other in _ALIKE.items() if other == published)))
    return list(names)


def name_of(steps: object) -> str | None:
    """llama.cpp's name of what a tokenizer.json cuts by (its `pre_tokenizer`); None where it is none that is known."""
    parts = steps.get("pretokenizers") if isinstance(steps, Mapping) else None
    if steps == BETWEEN_SPACES:
        return "whitespace"
    for known, published in PUNCTUATION_FIRST.items():
        if parts == list(published):
            return known
    chain = _chain(steps)
    return _NAMES.get(tuple(map(_plain, chain))) if chain else None


def _chain(steps: object) -> tuple[str, ...] | None:
    """The expressions of a byte-level pre-tokenizer one after another; None where a step is no such cut."""
    parts = steps.get("pretokenizers", [steps]) if isinstance(steps, Mapping) else []
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        return None
    kinds = [part.get("type") for part in parts]
    if "ByteLevel" not in kinds[-1:] or "ByteLevel" in kinds[:-1]:
        return None
    chain = [_expression(part) for part in parts]
    known = [expression for expression in chain if expression is not None]
    return tuple(filter(None, known)) if len(known) == len(chain) else None


def _expression(part: Mapping[str, Any]) -> str | None:
    """What one step cuts by: an empty text where it cuts nothing, None where it is no expression."""
    kind, pattern = part.get("type"), part.get("pattern")
    if kind == "ByteLevel":
        return GPT2 if part.get("use_regex", True) is True else ""
    if kind == "Digits":
        return r"\p{N}" if part.get("individual_digits") is True else r"\p{N}+"
    if kind == "Punctuation":
        return PUNCTUATION if part.get("behavior", "Isolated") == "Isolated" else None
    way = part.get("behavior"), part.get("invert") is True
    text = pattern.get("Regex") if isinstance(pattern, Mapping) else None
    # apart, or all that is between removed: of expressions that match everything the same
    known = kind == "Split" and way in (("Isolated", False), ("Removed", True)) and isinstance(text, str)
    return str(text) if known else None


# A group of endings, in either case or not.
_ENDINGS = re.compile(r"\(\?i:([^()]*)\)|\(\?:((?:'\[?\w[\w\]\[]*\|?)+)\)")


def _plain(expression: str) -> str:
    """An expression without what makes no difference: how line breaks are spelt, groups, order of contractions,
    quantifiers that never give back."""
    text = expression.replace("\r", r"\r").replace("\n", r"\n").replace("{1}", "")
    text = re.sub(r"(?<=[?*+}])\+", "", text)
    return _ENDINGS.sub(lambda found: _contractions(found[1] or found[2]), text)


def _contractions(text: str) -> str:
    """Endings behind an apostrophe, in one order and one spelling; as they are where they are no such."""
    endings = [re.sub(r"\[(\w)\w\]", r"\1", ending).lower() for ending in text.split("|")]
    plain: list[str] = []
    for ending in endings:
        letters = re.fullmatch(r"('?)\[(\w+)\]", ending)
        plain += [letters[1] + letter for letter in letters[2]] if letters else [ending]
    return "(?i:" + "|".join(sorted(plain)) + ")"


_NAMES = {tuple(map(_plain, chain)): name for name, chain in CHAINS.items()}
