"""What is wrong with a tokenizer is proven by encoding again: on the prompt, or on a text that would show it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import assert_clean
from fixtures.comparing import compared, compared_files, tiny
from fixtures.pairs import pair
from fixtures.restating import restated
from fixtures.tokenizer import vocabulary
from fixtures.vocabularies import sentencepiece_model
from rosetta.diagnose.tokenizer_advice import tokenizer_remedy
from rosetta.diagnose.tokenizers import key_of
from rosetta.tokenizer import compare_vocabularies
from rosetta.tokenizer.huggingface import load_folder

SPEC = tiny("llama", layers=1)
TOKENS, MERGES, PRE = "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.pre"
TYPES, ADD_BOS = "tokenizer.ggml.token_type", "tokenizer.ggml.add_bos_token"
PAIRS = [("apr:F16", "gguf:F16"), ("gguf:F16", "hf:F16"), ("apr-gguf:F16", "apr:F16")]
TWO, THREE = (vocabulary().tokens.index(digit) for digit in "23")
# fault, kind, key, a prompt that shows it (as the text spells it), a prompt that does not
SHOWN: list[Any] = [
    (faults.tokens_exchanged(TWO, THREE), "tokenizer.vocabulary", TOKENS, "2+2=", "x+y="),
    (faults.merges_lost(0), "tokenizer.merges", MERGES, "the capital of France", "2+2="),
    (faults.merges_lost(60), "tokenizer.merges", MERGES, "for layer in range", "2+2="),
    (faults.pre_tokenizer("qwen2"), "tokenizer.pre_tokenizer", PRE, "for layer in range(32)", "2+2="),
    (faults.bos_added(), "tokenizer.bos", ADD_BOS, "2+2=", None),
]


def named(report: Any) -> list[tuple[Any, ...]]:
    return [(f.kind, f.key, f.side, f.status, f.latent, f.tensor) for f in report.findings]


@pytest.mark.parametrize("operands", PAIRS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("fault", "kind", "key", "prompt", "_"), SHOWN, ids=lambda value: str(value)[:24])
def test_difference_that_the_prompt_shows_is_proven_by_its_ids(
    tmp_path: Path, operands: Any, side: Any, fault: Any, kind: str, key: str, prompt: str, _: Any
) -> None:
    sides, reference = (operands, "right") if side == "left" else (operands[::-1], "left")
    report = compared(tmp_path, SPEC, *sides, fault, side, reference=reference, tokens=None, prompt=prompt)
    assert report.verdict == "divergent"
    assert report.first_divergence is not None
    assert report.first_divergence.name == "tokens"
    assert named(report) == [(kind, key, side, "confirmed", False, None)]
    evidence = report.findings[0].evidence
    assert evidence is not None
    assert (evidence.stage, evidence.metric, evidence.after) == ("tokens", "mismatched_ids", 0)
    own, believed = (report.tokens.left, report.tokens.right)[:: 1 if side == "left" else -1]
    pairs = zip(own, believed, strict=False)
    assert evidence.before == sum(a != b for a, b in pairs) + abs(len(own) - len(believed))


@pytest.mark.parametrize("operands", PAIRS)
@pytest.mark.parametrize(
    ("fault", "kind", "key", "_", "prompt"), SHOWN[:-1], ids=lambda value: str(value)[:24]
)
def test_difference_that_the_prompt_hides_is_latent_and_a_text_is_given_that_shows_it(
    tmp_path: Path, operands: Any, fault: Any, kind: str, key: str, _: Any, prompt: str
) -> None:
    report = compared(tmp_path, SPEC, *operands, fault, tokens=None, prompt=prompt)
    assert report.verdict in ("match", "drift")
    assert named(report) == [(kind, key, "left", "confirmed", True, None)]
    (found,) = report.findings
    assert "this prompt does not show it" in found.message
    assert found.evidence is not None
    assert (found.evidence.after, found.evidence.before > 0) == (0, True)


SO = " as the reference has it"
EXCHANGED = faults.tokens_exchanged(TWO, THREE)


@pytest.mark.parametrize(
    ("operands", "fault", "advice"),
    [
        (
            ("gguf:F16", "apr:F16"),
            EXCHANGED,
            "write tokenizer.ggml.tokens into the GGUF file {}" + SO,
        ),
        (
            ("apr:F16", "gguf:F16"),
            EXCHANGED,
            "write tokenizer.vocabulary into the APR file {}" + SO,
        ),
        (("hf:F16", "gguf:F16"), EXCHANGED, "write the vocab into {}/tokenizer.json" + SO),
        (
            ("gguf:F16", "apr:F16"),
            faults.bos_added(),
            "write tokenizer.ggml.add_bos_token false into the GGUF file {}",
        ),
    ],
)
def test_what_to_write_goes_by_the_files_own_names(
    tmp_path: Path, operands: Any, fault: Any, advice: str
) -> None:
    (found,) = compared(tmp_path, SPEC, *operands, fault, tokens=None, prompt="2+2=").findings
    broken = next(path for path in sorted(tmp_path.glob("left*")))
    assert found.recommendation == advice.format(broken)


def test_wrong_tokenizer_does_not_hide_a_wrong_weight(tmp_path: Path) -> None:
    """Both sides run the reference's ids: the weights are compared all the same."""
    fault = [faults.tokens_exchanged(TWO, THREE), faults.scaled("blk.0.ffn_up.weight", 2.0)]
    report = compared(tmp_path, SPEC, "gguf:F16", "apr:F16", fault, tokens=None, prompt="2+2=")
    assert [(f.kind, f.status) for f in report.findings] == [
        ("tokenizer.vocabulary", "confirmed"),
        ("value.scaled", "confirmed"),
    ]


def test_two_faults_of_one_tokenizer_are_both_found(tmp_path: Path) -> None:
    fault = [faults.merges_lost(0), faults.bos_added()]
    report = compared(tmp_path, SPEC, "gguf:F16", "apr:F16", fault, tokens=None, prompt="the capital")
    assert {f[:2] + f[3:5] for f in named(report)} == {
        ("tokenizer.merges", MERGES, "confirmed", False),
        ("tokenizer.bos", ADD_BOS, "confirmed", False),
    }


def test_difference_is_latent_where_token_ids_were_given(tmp_path: Path) -> None:
    report = compared(tmp_path, SPEC, "gguf:F16", "apr:F16", faults.bos_added(), tokens=(17, 10, 17, 28))
    assert report.verdict == "match"
    assert named(report) == [("tokenizer.bos", ADD_BOS, "left", "confirmed", True, None)]


def test_control_token_marked_as_ordinary_is_told_though_no_text_shows_it(tmp_path: Path) -> None:
    """`</s>` is found whole as long as it is the end of a text, whatever its type says."""
    report = compared(
        tmp_path, SPEC, "gguf:F16", "apr:F16", faults.special_token_lost(1), tokens=None, prompt="2+2="
    )
    assert named(report) == [("tokenizer.special_tokens", TYPES, "left", "suspected", True, None)]
    (found,) = report.findings
    assert "first 1, '</s>' (normal) on the left, '</s>' (control) on the right" in found.message
    assert "None" not in found.message + str(found.declared)


@pytest.mark.parametrize(
    "operands",
    [("gguf:F16", "hf:F16"), ("hf:F16", "gguf:F16"), ("apr:F16", "gguf:F16"), ("gguf:F16", "apr-gguf:F16")],
)
def test_control_token_that_users_may_write_is_latent_and_shown_by_plain_text(
    tmp_path: Path, operands: tuple[str, str]
) -> None:
    """llama.cpp writes user-defined tokens out and finds them in what a user types, control tokens it does not."""
    report = compared(tmp_path, SPEC, *operands, faults.special_token_shown(0), tokens=None, prompt="2+2=")
    assert named(report) == [("tokenizer.special_tokens", TYPES, "left", "confirmed", True, None)]
    (found,) = report.findings
    assert "'<s>' (user_defined) on the left, '<s>' (control) on the right" in found.message
    assert "'<s>' would as plain text" in found.message
    assert found.evidence is not None
    assert (found.evidence.before > 0, found.evidence.after) == (True, 0)


def test_token_that_llamacpp_hides_whatever_its_type_is_a_note(tmp_path: Path) -> None:
    """`</s>` ends a text, and is a control token as soon as llama.cpp has loaded the file."""
    fault = faults.special_token_shown(1)
    report = compared(tmp_path, SPEC, "gguf:F16", "apr:F16", fault, tokens=None, prompt="2+2=")
    assert report.findings == []
    assert any("'</s>' (user_defined) on the left" in note for note in report.notes)


@pytest.mark.parametrize("vocab", [384, 448])
@pytest.mark.parametrize("left", ["apr:F16", "apr-gguf:F16", "gguf:F16", "hf:F16"])
@pytest.mark.parametrize("right", ["apr:F16", "gguf:F16", "hf:F16"])
def test_one_tokenizer_in_two_containers_is_no_finding(
    tmp_path: Path, left: str, right: str, vocab: int
) -> None:
    """Padded to the rows of the embedding, or as it was trained."""
    spec = tiny("llama", layers=1, vocab=vocab)
    text = "def fib(n):\n    return 2+2 # the capital of France"
    assert_clean(compared(tmp_path, spec, left, right, tokens=None, prompt=text))


def test_advice_names_no_file_that_a_folder_has_not(tmp_path: Path) -> None:
    """A folder with a SentencePiece model and no tokenizer.json says what begins a text in tokenizer_config.json."""
    pytest.importorskip("sentencepiece")
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model("bpe"))
    own = load_folder(tmp_path)
    assert own is not None
    believed = replace(own.facts, special_ids={**own.facts.special_ids, "bos": 0}, add_bos=True)
    container = SimpleNamespace(label="HF", path=tmp_path)
    advice = [
        tokenizer_remedy(container, own.facts, believed, difference, key_of(difference)[0])  # type: ignore[arg-type]
        for difference in compare_vocabularies(own.facts, believed)
    ]
    assert advice == [
        f'write bos_token "<unk>" into {tmp_path}/tokenizer_config.json',
        f"write add_bos_token true into {tmp_path}/tokenizer_config.json",
    ]


def test_what_begins_a_text_by_the_pre_tokenizer_alone_is_no_second_finding(tmp_path: Path) -> None:
    """llama.cpp begins a text with BOS where the file names `llama-bpe` and says nothing of it."""
    file, folder = pair(tmp_path, SPEC, "gguf:F16", "hf:F16")
    stated = {"tokenizer.ggml.pre": "llama-bpe", ADD_BOS: None}
    broken = restated(file, tmp_path / "broken.gguf", stated)
    (found,) = compared_files(broken, folder, tokens=None, prompt="2+2= 12345").findings
    assert (found.kind, found.key, found.status) == ("tokenizer.pre_tokenizer", PRE, "confirmed")
    assert found.evidence is not None
    assert found.evidence.after == 0
