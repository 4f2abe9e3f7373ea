"""GPT-2's byte alphabet: one printable character for each byte, so that a JSON vocabulary can hold bytes."""

from __future__ import annotations

_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}  # Radford et al. 2019, encoder.py
_SHIFTED = [byte for byte in range(256) if byte not in _PRINTABLE]
_CHARACTERS = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(256 + n) for n, byte in enumerate(_SHIFTED)
}
_BYTES = {ord(character): byte for byte, character in _CHARACTERS.items()}

ALPHABET = frozenset(_CHARACTERS.values())


def spelt(data: bytes) -> str:
    """The bytes, one character each."""
    return data.decode("latin-1").translate(_CHARACTERS)


def unspelt(text: str) -> bytes:
    """The bytes that a text in the alphabet spells; a character outside it stands for its own UTF-8.

    >>> unspelt(spelt("né".encode()))
    b'n\\xc3\\xa9'
    """
    return b"".join(
        bytes((_BYTES[ord(c)],)) if ord(c) in _BYTES else c.encode("utf-8", "replace") for c in text
    )
