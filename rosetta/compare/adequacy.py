"""What a prompt can show: which settings need how many tokens before they make any difference at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rosetta.compare.settings import alike
from rosetta.model import Model
from rosetta.rope_scaling import RopeScaling
from rosetta.settings_table import SETTINGS, Prompt

WINDOW, SCALING = "attention.sliding_window", "rope.scaling"
LONGEST = 8192
"""Tokens that nobody is made to wait for unasked. Some models state windows of 262,144 tokens; at this length the
scores of one attention head are 256 MiB, and the logits over 150,000 tokens 5 GB."""


def tokens_needed(left: Model, right: Model) -> dict[str, int]:
    """For each setting in which two models differ and that needs more than one token, how many it needs."""
    needed = {}
    for row in SETTINGS.values():
        held = row.key in left.config and row.key in right.config
        if row.prompt is Prompt.ANY or not held or alike(row.key, left, right):
            continue
        needed[row.key] = 2
        if row.prompt is Prompt.PAST_WINDOW:
            widths = [model[WINDOW] for model in (left, right) if model[WINDOW]]
            needed[row.key] = min(widths, default=1) + 1
        if row.key == SCALING:
            needed[row.key] = max(2, _alike_up_to(left[SCALING], right[SCALING]) + 1)
    return needed


def _alike_up_to(*scalings: RopeScaling | None) -> int:
    """Tokens up to which two scalings divide by the same numbers, where longer runs have others; 0: they never do."""
    pairs = max(len(scaling.factors) for scaling in scalings if scaling is not None)
    a, b = (scaling or RopeScaling((1.0,) * pairs) for scaling in scalings)
    ends = sorted({scaling.beyond for scaling in (a, b) if scaling.beyond})
    alike = 0
    for end in ends:  # up to each end both have one list
        if a.magnitude != b.magnitude or a.at(end) != b.at(end):
            break
        alike = end
    return alike


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
            advice = "--prompt auto has enough"
            if needed > LONGEST:
                advice = f"give as many by --prompt-file or --tokens, --prompt auto stops at {LONGEST:,}"
            said.append(
                f"{key} differs, and shows from {needed} tokens on; this prompt has {count}: {advice}"
            )
    return said


def beyond_context(count: int, model: Model) -> str | None:
    """A note where a prompt is longer than the context that a model's config states; None where it is not."""
    most = model["context_length"] if "context_length" in model.config else None
    if not isinstance(most, int) or count <= most:
        return None
    return (
        f"{model.container.path}: the prompt has {count:,} tokens, and the config a context of {most:,}: the model was "
        "not trained to go so far"
    )


def shown_by_auto(count: int, differing: Iterable[str], shown: Collection[str], *, asked: bool) -> str:
    """What `--prompt auto` has shown of two configs, and what it has not, in one sentence.

    Args:
        count: tokens that were run.
        differing: keys in which the configs differ.
        shown: keys that a cause found on this prompt names.
        asked: whether causes were looked for at all.
    """
    keys = list(differing)
    start = f"--prompt auto: {counted_tokens(count)}"
    if not keys:
        return f"{start}; the two configs do not differ"
    if not asked:
        return f"{start} for {', '.join(keys)}; whether they show is only known with a diagnosis"
    seen, hidden = [k for k in keys if k in shown], [k for k in keys if k not in shown]
    parts = [f"shown: {', '.join(seen)}"] * bool(seen)
    parts += [f"could not be shown, by its size or by the noise of the dtypes: {', '.join(hidden)}"] * bool(
        hidden
    )
    return f"{start}; {'; '.join(parts)}"


def counted_tokens(count: int) -> str:
    """`1 token`, `2 tokens`."""
    return f"{count} token" if count == 1 else f"{count} tokens"


def shortest_ids(left: Model, right: Model) -> list[int]:
    """The shortest run of token ids that can show every difference between two configs, `LONGEST` at most.

    Distinct ids where the vocabulary has enough, spread over it, the same for the same vocabulary; at least two.
    """
    count = min(max(2, *tokens_needed(left, right).values(), 2), LONGEST)
    vocabulary = min(model["vocab_size"] for model in (left, right))
    stride = max(1, vocabulary // (count + 1))
    return [(stride * (i + 1)) % vocabulary for i in range(count)]
