"""Tokens as files spell them -> the bytes that they stand for."""

from __future__ import annotations

from rosetta.tokenizer.byte_alphabet import unspelt
from rosetta.tokenizer.vocabulary import Spelling


def token_bytes(token: str, spelling: Spelling) -> bytes:
    """The bytes that an ordinary token stands for."""
    if spelling == "bytes":
        return unspelt(token)
    if spelling == "hex" and (data := from_hex(token)) is not None:
        return data
    return token.replace("▁", " ").encode("utf-8", "replace")


def byte_of(token: str) -> bytes | None:
    """The byte of a `<0xXX>` token; None for any other."""
    if len(token) != 6 or not token.startswith("<0x") or not token.endswith(">"):
        return None
    return from_hex(token[3:5])


def from_hex(digits: str) -> bytes | None:
    """The bytes that hex digits spell; None for any other text."""
    if len(digits) % 2 or not digits.isalnum():
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None
