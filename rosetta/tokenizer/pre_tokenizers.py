"""The pre-tokenizers that `tokenizer.ggml.pre` can name: every name llama.cpp knows, and what it switches.

The expressions are written for `splitting.words`. llama.cpp reads `\\p{Lu}` and its kin as "any letter"
except where it spells a case out over ASCII, and so does this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from rosetta.tokenizer.splitting import Cut, digits_grouped_from_the_right, thousands, trailing_space


@dataclass(frozen=True)
class PreTokenizer:
    """What a pre-tokenizer's name means.

    Args:
        cuts: the chain of expressions, see `splitting.words`.
        ignore_merges: a word that is a token stays whole.
        add_bos: the default where the file does not say.
        byte_level: tokens are spelt in GPT-2's byte alphabet; else in plain text with `<0xXX>` byte tokens.
        escape_spaces: a space is written ▁ before anything else.
        default_bos: the id of BOS where the file names none; None where there is none.
        whole_newlines: a run of newlines that is a token stays whole.
        force_bos: BOS is added even where the file says no.
    """

    cuts: tuple[str | Cut, ...]
    ignore_merges: bool = False
    add_bos: bool = False
    byte_level: bool = True
    escape_spaces: bool = False
    default_bos: int | None = 11
    whole_newlines: bool = False
    force_bos: bool = False


# llama-vocab.cpp, llm_tokenizer_bpe
_CONTRACTION = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED_WORD = (
    rf"[^\r\n\p{{L}}\p{{N}}]?\p{{NotLower}}*\p{{NotUpper}}+(?:{_CONTRACTION})?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?\p{{NotLower}}+\p{{NotUpper}}*(?:{_CONTRACTION})?"
)
_CASED_OR_MARKED_WORD = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{NotLower}}\p{{M}}]*[\p{{NotUpper}}\p{{M}}]+(?:{_CONTRACTION})?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[\p{{NotLower}}\p{{M}}]+[\p{{NotUpper}}\p{{M}}]*(?:{_CONTRACTION})?"
)
_MARKED_WORD = rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+(?:{_CONTRACTION})?"
_SIGNS_AND_WORD = r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
_SPARK = (
    r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"
    r"|[\r\n]|\s+(?!\S)|\s+"
)
_LINES = r"[^\n]+|\n+"

_GPT2 = r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
_QWEN2 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}"
_QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_JAIS2 = (
    # the look-behind only keeps a long run of spaces from being searched for a newline at every step
    rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|(?<![^\S\r\n])\s*[\r\n]+"
    r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)"
    r"|\s{4}(?!\S)|\s{1,2}(?!\S)|\s"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?\p{NotLower}*\p{NotUpper}+|[^\r\n\p{L}\p{N}]?\p{NotLower}+\p{NotUpper}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_GPT4O = rf"{_CASED_WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_GRANITE_EMBED = rf"{_CASED_OR_MARKED_WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_TINY_AYA = rf"{_MARKED_WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_YOUTU = rf"{_MARKED_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_KIMI = (
    rf"\p{{Han}}+|[^\r\n\p{{L}}\p{{N}}]?\p{{NotHan}}+(?:{_CONTRACTION})?|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
)
_BAILING = rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_SIGNS}|\s*[\r\n]|\s+(?!\S)|\s+"
_SEED = rf"{_CONTRACTION}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
_TURKISH = rf"{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}"
_MINICPM5 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}+|{_SIGNS}|{_SPACES}"
_EXAONE_MOE = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}[\p{{L}}\p{{M}}]*(?: \p{{L}}[\p{{L}}\p{{M}}]*)*+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_DEEPSEEK_LETTERS = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-"
    r"ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ"
    r"-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
)
_DEEPSEEK_PUNCTUATION = r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"
_DEEPSEEK_CJK = r"[一-龥ࠀ-一가-\ud7ff]+"
_CJK = r"[一-龥\u3040-ゟ゠-ヿ]+"
_YOUTU_CJK = r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+"
_AFMOE_CJK = (
    r"[一-鿿㐀-䶿豈-\ufaff\u3040-ゟ゠-ヿ･-ﾟ⼀-\u2fdfเ-\u0e7f\u0e80-\u0effក-\u17ffက-႟ꩠ-ꩿꧠ-\ua9ff가-\ud7afᄀ-ᇿ]+"
)
_FINNISH = r" ?[^(\s|.,!?…。，、।۔،)]+"

_DEFAULT_CUTS = (r"[\p{P}$+<=>^~|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")
_DEEPSEEK3_CUTS = (r"\p{N}{1,3}", _CJK, rf"{_SIGNS_AND_WORD}|{_SPACES}")
_CHAMELEON_CUTS = (
    "<sentinel:[0-9]+>",
    "IMGIMG[A-I]{1,4}Z",
    r"[\t\n]|    |  ",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
    _GPT2,
)
_DEEPSEEK_LLM_CUTS = (
    r"[\r\n]",
    _DEEPSEEK_LETTERS,
    _DEEPSEEK_PUNCTUATION,
    trailing_space,
    _DEEPSEEK_CJK,
    r"\p{N}+",
)

_DIGITS_APART = PreTokenizer((r"\p{N}", _GPT2))
_LIKE_GPT2 = PreTokenizer((_GPT2,))
_LIKE_LLAMA3 = PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True)
_LIKE_QWEN2 = PreTokenizer((_QWEN2,))
_LIKE_DEEPSEEK3 = PreTokenizer(_DEEPSEEK3_CUTS)
_LIKE_GPT4O = PreTokenizer((_GPT4O,))
_LIKE_FINNISH = PreTokenizer((_FINNISH,))
_LIKE_BAILING = PreTokenizer((_BAILING,))
_LIKE_TINY_AYA = PreTokenizer((digits_grouped_from_the_right, _TINY_AYA))
_LIKE_GEMMA4 = PreTokenizer(
    (_LINES,), byte_level=False, escape_spaces=True, whole_newlines=True, force_bos=True
)

# llama-vocab.cpp, llama_vocab::impl::load
PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": PreTokenizer(_DEFAULT_CUTS),
    "minicpm5": PreTokenizer((r"\p{N}{1,3}", _MINICPM5), ignore_merges=True),
    "llama3": _LIKE_LLAMA3,
    "llama-v3": _LIKE_LLAMA3,
    "llama-bpe": _LIKE_LLAMA3,
    "falcon3": _LIKE_LLAMA3,
    "falcon-h1": _LIKE_LLAMA3,
    "pixtral": _LIKE_LLAMA3,
    "midm-2.0": _LIKE_LLAMA3,
    "lfm2": _LIKE_LLAMA3,
    "jina-v5-nano": _LIKE_LLAMA3,
    "deepseek-llm": PreTokenizer(_DEEPSEEK_LLM_CUTS),
    "deepseek-coder": PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _DEEPSEEK_CJK, r"\p{N}")),
    "deepseek-v3": _LIKE_DEEPSEEK3,
    "spark2_5": PreTokenizer((r"\p{N}{1,3}", _CJK, _SPARK, r"\p{N}")),
    "youtu": PreTokenizer((_YOUTU_CJK, _YOUTU), ignore_merges=True),
    "falcon": PreTokenizer((r"[\p{P}$+<=>^~|`]+", _GPT2, "[0-9][0-9][0-9]")),
    "mpt": _LIKE_GPT2,
    "starcoder": _DIGITS_APART,
    "gpt-2": _LIKE_GPT2,
    "phi-2": _LIKE_GPT2,
    "jina-es": _LIKE_GPT2,
    "jina-de": _LIKE_GPT2,
    "gigachat": _LIKE_GPT2,
    "jina-v2-es": _LIKE_GPT2,
    "jina-v2-de": _LIKE_GPT2,
    "a.x-4.0": _LIKE_GPT2,
    "mellum": _LIKE_GPT2,
    "modern-bert": _LIKE_GPT2,
    "jais-2": PreTokenizer((_JAIS2,)),
    "gemma4": _LIKE_GEMMA4,
    "granite-embed-multi-311m": _LIKE_GEMMA4,
    "sarvam-moe": PreTokenizer((_LINES,), byte_level=False, escape_spaces=True),
    "jina-v1-en": _LIKE_GPT2,
    "jina-v2-code": _LIKE_GPT2,
    "roberta-bpe": _LIKE_GPT2,
    "whitespace": PreTokenizer((r"\S+",), byte_level=False),
    "refact": _DIGITS_APART,
    "command-r": _DIGITS_APART,
    "qwen2": _LIKE_QWEN2,
    "deepseek-r1-qwen": _LIKE_QWEN2,
    "kormo": _LIKE_QWEN2,
    "f2llmv2": _LIKE_QWEN2,
    "qwen35": PreTokenizer((_QWEN35,)),
    "stablelm2": _LIKE_QWEN2,
    "olmo": _LIKE_GPT2,
    "dbrx": PreTokenizer((_LLAMA3,)),
    "smaug-bpe": PreTokenizer((_LLAMA3,)),
    "poro-chat": _LIKE_FINNISH,
    "chatglm-bpe": PreTokenizer((_LLAMA3,), default_bos=None),
    "glm4": PreTokenizer((_LLAMA3,), ignore_merges=True, default_bos=None),
    "glm5": PreTokenizer((_LLAMA3,), ignore_merges=True, default_bos=None),
    "viking": PreTokenizer((_FINNISH, r"\p{N}")),
    "jais": _LIKE_GPT2,
    "tekken": PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True),
    "smollm": _DIGITS_APART,
    "codeshell": _DIGITS_APART,
    "bloom": _LIKE_FINNISH,
    "gpt3-finnish": _LIKE_FINNISH,
    "exaone": _DIGITS_APART,
    "exaone4": _LIKE_GPT2,
    "exaone-moe": PreTokenizer((_EXAONE_MOE,)),
    "chameleon": PreTokenizer(_CHAMELEON_CUTS, add_bos=True),
    "minerva-7b": _DIGITS_APART,
    "megrez": _LIKE_QWEN2,
    "gpt-4o": _LIKE_GPT4O,
    "llama4": _LIKE_GPT4O,
    "kanana2": _LIKE_GPT4O,
    "talkie": _LIKE_GPT4O,
    "granite-embed-multi-97m": PreTokenizer((_GRANITE_EMBED,), ignore_merges=True),
    "tiny_aya": _LIKE_TINY_AYA,
    "cohere2moe": _LIKE_TINY_AYA,
    "superbpe": PreTokenizer((r"\p{N}+", thousands)),
    "trillion": _LIKE_GPT2,
    "granite-docling": _LIKE_GPT2,
    "bailingmoe": _LIKE_BAILING,
    "bailingmoe2": _LIKE_BAILING,
    "llada-moe": _LIKE_BAILING,
    "seed-coder": PreTokenizer((_SEED,)),
    "hunyuan": _LIKE_QWEN2,
    "hunyuan-dense": _LIKE_DEEPSEEK3,
    "hy_v4": _LIKE_DEEPSEEK3,
    "joyai-llm": _LIKE_DEEPSEEK3,
    "kimi-k2": PreTokenizer((_KIMI,)),
    "ufakzeka": PreTokenizer((_TURKISH,)),
    "grok-2": _LIKE_QWEN2,
    "afmoe": PreTokenizer((digits_grouped_from_the_right, _AFMOE_CJK, rf"{_SIGNS_AND_WORD}|{_SPACES}")),
    "laguna": PreTokenizer((_LINES, _QWEN2)),
    "minimax-m2": _LIKE_GPT4O,
    "solar-open": _LIKE_QWEN2,
    "mellum2": _DIGITS_APART,
}
COMMON = (
    "gpt-2", "llama-bpe", "qwen2", "qwen35", "smollm", "gpt-4o", "tekken", "deepseek-v3", "deepseek-llm", "default",
)  # fmt: skip
"""Of the names of one behaviour the one that is tried first, where what a tokenizer does must tell."""
