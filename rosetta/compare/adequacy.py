"""What a prompt can show: which settings need how many tokens before they make any difference at all."""

from __future__ import annotations

from rosetta.compare.settings import agree
from rosetta.model import Model
from rosetta.settings_table import KEYS, Prompt


def tokens_needed(left: Model, right: Model) -> dict[str, int]:
    """For each setting in which two models differ and that needs more than one token, how many it needs."""
    needed = {}
    for row in KEYS:
        held = row.key in left.config and row.key in right.config
        if row.prompt is Prompt.ANY or not held or agree(row.key, left[row.key], right[row.key]):
            continue
        needed[row.key] = 2
        if row.prompt is Prompt.PAST_WINDOW:
            needed[row.key] = min(width for width in (left[row.key], right[row.key]) if width) + 1
    return needed


def hidden_from(count: int, left: Model, right: Model) -> list[str]:
    """What a prompt of so many tokens cannot have shown, one sentence each."""
    said = []
    if count == 1:
        said.append(
            "a prompt of one token hides every rotary and attention-scale fault: it stands at position 0 and attends "
            "to itself alone; give two or more, or --prompt auto"
        )
    for key, needed in tokens_needed(left, right).items():
        if count < needed and count > 1:
            said.append(
                f"{key} differs, and shows from {needed} tokens on; this prompt has {count}: --prompt auto has enough"
            )
    return said


def shortest_ids(left: Model, right: Model) -> list[int]:
    """The shortest run of token ids that can show every difference between two configs.

    Distinct ids where the vocabulary has enough, spread over it, the same for the same vocabulary; at least two.
    """
    count = max(2, *tokens_needed(left, right).values(), 2)
    vocabulary = min(model["vocab_size"] for model in (left, right))
    stride = max(1, vocabulary // (count + 1))
    return [(stride * (i + 1)) % vocabulary for i in range(count)]
