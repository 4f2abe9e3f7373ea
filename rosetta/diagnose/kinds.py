"""The registry of finding kinds: every kind that a finding can have, in the order in which causes are preferred.

A kind of a setting stands in the table of settings, one that a hypothesis proposes in that hypothesis's module, and
here is what has no module of its own. Nothing here needs torch: hypotheses are read, not imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from rosetta.finding_kind import FindingKind
from rosetta.settings_table import SETTINGS

KINDS = (
    FindingKind(
        "tokenizer.vocabulary",
        means="The two vocabularies are of another size, or have other tokens at some ids.",
        why="Another model's tokenizer was embedded, added tokens were dropped, or bytes are spelled in hexadecimal "
        "where GPT-2's alphabet is expected.",
        repair="The prompt is encoded with the reference's tokens. Embed the tokenizer of the model.",
    ),
    FindingKind(
        "tokenizer.merges",
        means="The byte-pair merges are missing, or stand in another order.",
        why="An exporter writes the vocabulary and leaves the merges out, or sorts them: their order is their rank.",
        repair="The prompt is encoded with the reference's merges. Write them in their own order.",
    ),
    FindingKind(
        "tokenizer.pre_tokenizer",
        means="Text is cut into words by another rule before it is encoded.",
        why="tokenizer.ggml.pre is left out or the same for all models ('llama', 'default'), so that digits, "
        "contractions and spaces are cut as another model has them.",
        repair="The prompt is encoded with the reference's rule. Write the name that llama.cpp has for it.",
    ),
    FindingKind(
        "tokenizer.special_tokens",
        means="Other tokens are control tokens, or another one ends the text.",
        why="added_tokens are not exported, so that <|im_start|> is cut in pieces; or the id of EOS is hard-coded.",
        repair="The prompt is encoded with the reference's special tokens. Write their types and ids.",
    ),
    FindingKind(
        "tokenizer.bos",
        means="A token that begins the text is added on one side only, or is another.",
        why="add_bos_token is lost, or BOS is taken to be 1 in a model that has another or none.",
        repair="The prompt is encoded as the reference begins it. Write add_bos_token and bos_token_id.",
    ),
    FindingKind(
        "tokenizer.chat_template",
        means="A conversation is written otherwise before it is encoded.",
        why="A converter embeds an older template, the base model's or none; spaces and line breaks are trimmed on "
        "the way.",
        repair="The conversations are rendered with the reference's template. Embed that one.",
    ),
    FindingKind(
        "runtime.cache",
        means="A runtime says something else token by token than it says of the same tokens at once.",
        why="Keys, values or a recurrent state are written to the wrong place or lost, positions restart, or a window "
        "is cut elsewhere once there is a cache.",
        repair="None is known here: the file is not at fault. Run the text whole, or mend the runtime's cache.",
        title="a cache that forgets",
    ),
    FindingKind(
        "runtime.precision",
        means="A runtime rounds more coarsely than float32 does, as it is meant to: no fault of the file, and no bug.",
        why="What is multiplied by quantised weights is quantised to 8 bits, GELU is read from a table of halves, keys "
        "and values are kept in halves, or weights and activations are in BF16.",
        repair="The stage is computed in that arithmetic, and agrees. Nothing is to be mended.",
    ),
    FindingKind(
        "runtime.crash",
        means="A runtime's process ends while it loads or computes the file.",
        why="An assertion of the runtime fails: a setting that it has no code for, dims that it does not expect.",
        repair="None is known here. The report has what it printed: send that, with the file, to its makers.",
        title="the runtime crashed",
    ),
    FindingKind(
        "value.rotated",
        means="No matrix has anything in common with the other side's, and the logits agree all the same.",
        why="The residual stream of one file was rotated, as SpinQuant and QuaRot do before they quantise: every "
        "matrix is turned into another basis, and the model is the same.",
        repair="None is needed. What lies within the model cannot be compared in two bases, its logits can.",
        order=96,
        title="another basis",
    ),
    FindingKind(
        "unexplained",
        means="The difference is located, and no cause of it is proven.",
        why="No hypothesis knows the cause, or several lie so close together that no repair of some brings the stage "
        "back.",
        repair="None is known. The stage, its weights and what was tried without success are in the report.",
    ),
)


def kind_named(name: str) -> FindingKind:
    """The kind of a name.

    Raises:
        KeyError: there is none.
    """
    return all_kinds()[name]


def headline(name: str) -> str:
    """What a kind is called in the verdict's line; one that a later version reports goes by its name."""
    found = all_kinds().get(name)
    return name if found is None else found.headline


@cache
def all_kinds() -> Mapping[str, FindingKind]:
    """Every kind by its name, those that take least from the reference first."""
    of_settings = [row.kind for row in SETTINGS.values() if row.kind is not None]
    found = {kind.id: kind for kind in (*of_settings, *_of_hypotheses(), *KINDS)}
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: item[1].rank)))


def _of_hypotheses() -> Iterator[FindingKind]:
    """What the modules of `hypotheses` declare as `KINDS`: taken from their text, for they import torch."""
    folder = resources.files(__package__) / "hypotheses"
    for module in sorted(folder.iterdir(), key=lambda file: file.name):
        if module.name.endswith(".py"):
            yield from declared_kinds(module.read_text(encoding="utf-8"))


def declared_kinds(source: str) -> Iterator[FindingKind]:
    """The kinds that a module's text assigns to `KINDS`: a tuple of `FindingKind`s of literals."""
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name("KINDS")], value=ast.Tuple(elements)):
                for call in elements:
                    assert isinstance(call, ast.Call)
                    named = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
                    yield FindingKind(*map(ast.literal_eval, call.args), **named)
