"""T307: merges are missing, or join what are no tokens."""

from collections.abc import Iterator, Sequence, Set
from itertools import repeat

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

RULE = Rule(
    "T307",
    "merges",
    "error",
    what="The merges of a byte-pair vocabulary are missing, or join parts that are no tokens, or to none; or scores "
    "of SentencePiece's are missing.",
    why="Merges of another vocabulary were written, or joined by a character that tokens hold themselves. Texts are "
    "then cut into single letters where the model has whole words.",
    fix="Write the merges that belong to the tokens: both parts and their sum are tokens.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first merge that cannot be done, and how many cannot."""
    vocabulary = subject.vocabulary
    scores = "tokenizer.ggml.scores"
    if subject.gguf is not None and vocabulary is not None and vocabulary.kind in ("spm", "unigram"):
        if scores not in subject.container.metadata:
            yield Fault("is missing: parts are joined, or texts cut, as they come", key=scores)
        return
    if subject.folder is not None and vocabulary is not None and vocabulary.kind == "huggingface":
        yield from _none_in_folder(subject, vocabulary)
        return
    if vocabulary is None or vocabulary.kind not in ("bpe", "hex"):
        return
    for finding in vocabulary.findings:
        if finding.kind == "tokenizer.merges":
            yield Fault("is missing; llama.cpp refuses the file", key=finding.key)
    wrong = _undone(vocabulary.merges, vocabulary.tokens, subject.token_set)
    if wrong:
        key = "tokenizer.ggml.merges" if subject.gguf is not None else "tokenizer.merges"
        yield subject.at_file_key(key, f"{wrong[0]!r:.60} joins what are no tokens; {len(wrong):,} merges do")


def _none_in_folder(subject: Subject, vocabulary: Vocabulary) -> Iterator[Fault]:
    """That a folder's vocabulary has words, and no merges that make them; the library refuses all other faults."""
    if vocabulary.model != "BPE" or vocabulary.merges:
        return
    words = [
        token
        for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
        if kind == TokenType.NORMAL and len(token) > 1
    ]
    if words:
        said = f"are none, and {len(words):,} tokens are longer than a letter, as {words[0]!r:.40}"
        yield Fault(said, key="merges", file=subject.path / "tokenizer.json")


def _undone(merges: Sequence[str], tokens: Sequence[str], known: frozenset[str]) -> list[str]:
    """The merges whose parts or whose sum are no tokens."""
    if not merges:
        return []
    parts = " ".join(merges).split(" ")  # of 300,000 merges at once: one by one they take half a second
    of_two_parts = set(map(str.count, merges, repeat(" "))) == {1}
    in_order = of_two_parts and _follow(parts[0] + parts[1], merges, tokens)
    sums = () if in_order else (merge.replace(" ", "", 1) for merge in merges)
    if known.issuperset(parts) and known.issuperset(sums):
        return []
    return [merge for merge in merges if not _is_done(merge, known)]


def _follow(first: str, merges: Sequence[str], tokens: Sequence[str]) -> bool:
    """Whether the sums of merges of two parts, of which one is the first, stand in the vocabulary one after another, as
    trainers put them."""
    start = tokens.index(first) if first in tokens else 0
    made, lines = tokens[start : start + len(merges)], "\n".join(merges)
    one_a_line = lines.count("\n") == len(merges) - 1  # none of them holds a line break itself
    return one_a_line and len(made) == len(merges) and lines.replace(" ", "") == "\n".join(made)


def _is_done(merge: str, ids: Set[str]) -> bool:
    """Whether both parts of a merge and their sum are tokens; a part may be a space itself."""
    left, _, right = merge.partition(" ")
    if left in ids and right in ids and left + right in ids:
        return True
    cuts = (at for at, sign in enumerate(merge) if sign == " ")
    return any(
        merge[:at] in ids and merge[at + 1 :] in ids and merge[:at] + merge[at + 1 :] in ids for at in cuts
    )
