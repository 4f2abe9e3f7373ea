"""Two vocabularies of one model, brought to the rows that they have in common: converters pad them differently."""

from __future__ import annotations

from dataclasses import replace

from rosetta.compare.prompt import Tokenized
from rosetta.compare.results import Side
from rosetta.model import Model
from rosetta.row_order import Part
from rosetta.weight import Weight


def without_padding(models: dict[Side, Model], tokenized: Tokenized) -> tuple[dict[Side, Model], list[str]]:
    """Both models with as many rows of embedding and head as they have in common, where the rest is padding.

    A row is padding where no tokenizer has a token of its number. Where one of them has, the rows that both models
    have are compared all the same, and `lacking_rows` says what the smaller one lacks. Where both have, or the run asks
    for such a row, the models stay as they are, and the stages say that their dims differ.
    """
    if not all(model.weights for model in models.values()):
        return models, []
    if any(
        "token_embd.weight" in m.weights and m["vocab_size"] not in m.weights["token_embd.weight"].dims
        for m in models.values()
    ):
        return models, []  # a config that denies the embedding is wrong, and its stage says so
    rows = {side: model["vocab_size"] for side, model in models.items()}
    common = min(rows.values())
    tokens = [len(t.vocabulary) for t in tokenized.tokenizers.values() if t is not None]
    asked_for = max(tokenized.run, default=0) >= common  # cut off, the side that has it would be accused
    if len(set(rows.values())) == 1 or asked_for or (tokens and min(tokens) > common):
        return models, []
    larger: Side = "left" if rows["left"] > common else "right"

    def shorter(weight: Weight | None) -> Weight | None:
        total = weight.dims[0] if weight is not None and weight.dims else 0
        if weight is None:
            return None
        return replace(weight, part=Part(0, (common, total - common))) if total == rows[larger] else weight

    patches = {"token_embd.weight": shorter, "output.weight": shorter}
    path, padding = models[larger].container.path, rows[larger] - common
    what = "that the other side lacks"
    if not tokens:
        what += ", and no tokenizer says whether they are padding,"
    elif max(tokens) <= common:
        what = "of padding behind the vocabulary"
    note = f"{path}: {padding} rows {what} are left out"
    return {**models, larger: models[larger].repaired({"vocab_size": common}, patches)}, [note]
