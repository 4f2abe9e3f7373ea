"""How well a tokenizer copes with a text: unknown tokens, the bits that its ids carry, whether the text comes back.

Letters: V = tokens of the vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rosetta.errors import UsageError, unreadable
from rosetta.tokenizer.byte_alphabet import ALPHABET
from rosetta.tokenizer.embedded import has_hex_bytes
from rosetta.tokenizer.loading import open_tokenizer
from rosetta.tokenizer.tokenizer import Tokenizer

MOST_BYTES = 1 << 22  # of a text: 4 MiB take the slowest encoder some seconds


@dataclass(frozen=True)
class Health:
    """What a tokenizer made of a text.

    Args:
        text_bytes: of the text, in UTF-8.
        tokens: ids that it became.
        distinct: different ones among them.
        unknown: ids of the unknown token.
        entropy: of the ids' frequencies, in bits a token.
        most_entropy: what it would be if the ids were spread evenly over the vocabulary, or all different.
        vocabulary: V.
        spelling: how the vocabulary spells bytes, by counting: `byte-level`, `hex`, `<0xXX>`, `plain`.
        spelled: how many of the 256 bytes it spells so.
        round_trip: whether decoding gives the text back.
        differs_at: the first character that does not come back; None where all do.
        comes_back_as: what stands there instead, and what follows it.
    """

    text_bytes: int
    tokens: int
    distinct: int
    unknown: int
    entropy: float
    most_entropy: float
    vocabulary: int
    spelling: str
    spelled: int
    round_trip: bool
    differs_at: int | None = None
    comes_back_as: str | None = None

    @property
    def unknown_share(self) -> float:
        """Of all tokens."""
        return self.unknown / self.tokens if self.tokens else 0.0

    def lines(self, name: str) -> Iterator[str]:
        """This in words."""
        back = "the text comes back"
        if not self.round_trip:
            back = f"the text does not come back (character {self.differs_at:,})"
        made = f"{self.tokens:,} tokens, {self.distinct:,} different ones of {self.vocabulary:,}"
        yield f"{name}: {self.text_bytes:,} bytes are {made}"
        yield (
            f"  {self.tokens / max(self.text_bytes, 1):.3f} tokens a byte, {self.unknown_share:.1%} unknown, "
            f"{self.entropy:.2f} of at most {self.most_entropy:.2f} bits a token"
        )
        yield f"  spelling {self.spelling} ({self.spelled} of 256 bytes), {back}"


def tokenizer_health(path: str | Path, text: str | Path) -> Health | None:
    """What the tokenizer of a file or folder makes of a text.

    Args:
        path: of a model, or of a vocabulary alone.
        text: a file in UTF-8; its first 4 MiB are taken.

    Returns:
        None where the model has no tokenizer.

    Raises:
        UsageError: there is no such text, or it is none.
        RosettaError: the tokenizer cannot be read.
    """
    words = _text(Path(text))
    try:
        tokenizer = open_tokenizer(path)
    except UsageError as error:
        if error.message == "has no tokenizer":
            return None
        raise
    return health_of(tokenizer, words)


def health_of(tokenizer: Tokenizer, text: str) -> Health:
    """The same of an open tokenizer."""
    ids = tokenizer.encode(text, special=False)
    counts = Counter(ids)
    total = max(len(ids), 1)
    entropy = -sum(n / total * math.log2(n / total) for n in counts.values())
    unknown = tokenizer.facts.special_ids.get("unknown")
    back = tokenizer.decode(ids)
    same = text == back
    at = None if same else _first_difference(text, back)
    spelling, spelled = _spelling(tokenizer)
    return Health(
        text_bytes=len(text.encode()),
        tokens=len(ids),
        distinct=len(counts),
        unknown=0 if unknown is None else counts[unknown],
        entropy=entropy,
        most_entropy=math.log2(max(min(tokenizer.size, len(ids)), 1)),
        vocabulary=tokenizer.size,
        spelling=spelling,
        spelled=spelled,
        round_trip=same,
        differs_at=at,
        comes_back_as=None if at is None else back[at : at + 20],
    )


def _first_difference(text: str, other: str) -> int:
    pairs = enumerate(zip(text, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(text), len(other)))


def _spelling(tokenizer: Tokenizer) -> tuple[str, int]:
    """How bytes are spelled, and how many of the 256 are: counted, for names and classes say it wrongly."""
    tokens = set(tokenizer.vocabulary)
    hexed = len(tokens & {f"{byte:02x}" for byte in range(256)})
    fallback = len(tokens & {f"<0x{byte:02X}>" for byte in range(256)})
    letters = len(tokens & ALPHABET)
    if has_hex_bytes(tokens):
        return "hex", hexed
    if fallback >= 200:
        return "<0xXX>", fallback
    # ordinary letters are in both; only a byte-level vocabulary has the letters that stand for control characters
    if letters >= 200 or tokenizer.facts.spelling == "bytes":
        return "byte-level", letters
    return "plain", 0


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()[:MOST_BYTES]
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start >= MOST_BYTES - 4:  # a letter cut by the limit
            return raw[: error.start].decode("utf-8")
        raise UsageError(
            "is not UTF-8 text", file=path, where=f"byte {error.start}", remedy="save it as UTF-8"
        ) from error
