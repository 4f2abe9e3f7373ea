"""What to do about a tokenizer that differs: the file, the key as that file spells it, the value."""

from __future__ import annotations

import json
from typing import Any

from rosetta.containers.container import Container
from rosetta.tokenizer import Vocabulary, VocabularyDifference

SETTINGS = ("add_bos", "add_eos", "pre")
ID = "_token_id"


def tokenizer_remedy(
    container: Container, own: Vocabulary, believed: Vocabulary, difference: VocabularyDifference, key: str
) -> str:
    """Advice to bring one fact of a tokenizer to what the reference has.

    Args:
        container: of the side that differs.
        own, believed: its vocabulary and the reference's.
        difference: what differs.
        key: what it is called in a GGUF file.
    """
    place, _, file = own.places.get(key, key).partition(" of ")
    where = f"the {container.label} {'folder' if container.path.is_dir() else 'file'} {container.path}"
    if file:
        where = f"{container.path}/{file}"
    if difference.key in SETTINGS:
        right: Any = believed.pre if difference.key == "pre" else getattr(believed, difference.key)
    else:
        right = believed.special_ids.get(difference.key.removesuffix(ID))
    if right is None or difference.examples or (file and difference.key == "pre"):
        return f"write {place} into {where} as the reference has it"
    if place == "the post_processor":
        return f"let {place} of {where} {'add' if right else 'not add'} {difference.key[4:].upper()}"
    if file and difference.key.endswith(ID):
        return f"write {place} {json.dumps(believed.tokens[right], ensure_ascii=False)} into {where}"
    return f"write {place} {json.dumps(right) if isinstance(right, bool) else right} into {where}"
