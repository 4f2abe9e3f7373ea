"""F122: a text of a header is no UTF-8."""

import struct
from collections.abc import Iterator

from rosetta.containers.gguf.values import ARRAY, STRING
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F122",
    "not-utf8",
    "error",
    what="A key, a tensor's name or a text of the header is no UTF-8, as both formats want it.",
    why="A writer cut a text within a letter, wrote it in another encoding, or bytes were changed on the way. "
    "llama.cpp takes such bytes as they are; gguf-py and most other readers stop at them, and a token's bytes are lost "
    "in what they read.",
    fix="Write the text again in UTF-8, a GGUF's tokens in the spelling of its tokenizer.ggml.model.",
)
REPLACED = (
    "\ufffd"  # what reading puts in the place of bytes that are no UTF-8; a text may also hold it by itself
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each such key, value and name."""
    if subject.gguf is not None:
        for key, pair in subject.gguf.pairs().items():
            if REPLACED in key or _holds_replaced(subject.gguf.metadata[key]):
                yield from _in_pair(subject, key, pair, subject.gguf.header.order)
    container = subject.gguf or subject.apr  # of a folder all is JSON, whose reader stops at such bytes
    doubtful = [tensor for tensor in subject.tensors if REPLACED in tensor.name]
    if container is not None and doubtful:
        headers = dict(container.headers())
        for tensor in doubtful:
            if tensor.name.encode() not in headers[tensor.file]:
                yield subject.at_tensor(tensor, "its name is no UTF-8")


def _holds_replaced(value: object) -> bool:
    texts = value if isinstance(value, list) else [value]
    return any(isinstance(text, str) and REPLACED in text for text in texts)


def _in_pair(subject: Subject, key: str, pair: bytes, order: str) -> Iterator[Fault]:
    """What is no UTF-8 of a key and its value, as they stand in the file."""
    name, *texts = _texts(pair, order)
    listed = subject.container.metadata[key]
    if not _is_utf8(name):
        yield subject.at_file_key(key, "its name is no UTF-8")
    wrong = [place for place, text in enumerate(texts) if not _is_utf8(text)]
    if wrong:
        which = f"item {wrong[0]:,}, " if isinstance(listed, list) else ""
        more = f", as are {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        yield subject.at_file_key(key, f"{which}{texts[wrong[0]][:40]!r}, is no UTF-8{more}")


def _texts(pair: bytes, order: str) -> Iterator[bytes]:
    """The key, and the texts of its value."""
    name, at = _text(pair, 0, order)
    yield name
    (kind,) = struct.unpack_from(f"{order}I", pair, at)
    at, count = at + 4, 1
    if kind == ARRAY:
        kind, count = struct.unpack_from(f"{order}IQ", pair, at)
        at += 12
    for _ in range(count if kind == STRING else 0):
        text, at = _text(pair, at, order)
        yield text


def _text(pair: bytes, at: int, order: str) -> tuple[bytes, int]:
    """The text that begins at a byte, and where the next thing does."""
    (length,) = struct.unpack_from(f"{order}Q", pair, at)
    return pair[at + 8 : at + 8 + length], at + 8 + length


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
