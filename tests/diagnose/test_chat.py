"""Chat templates, special ids and generation settings: what no forward pass over a text shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures import build
from fixtures.faults import config_set
from rosetta.compare.options import Options
from rosetta.compare.results import Finding
from rosetta.containers import open_container
from rosetta.diagnose import Comparison, compare_operands
from rosetta.tokenizer.chat_template import CONVERSATIONS, chat_template, rendered

KEY = "tokenizer.chat_template"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
UNTRIMMED = CHATML.replace(" | trim", "")


def compared(left: Path, right: Path) -> Comparison:
    return compare_operands(left, right, Options(tokens=(1, 2, 3)))


def templates(found: Comparison) -> list[Finding]:
    return [finding for finding in found.findings if finding.kind == KEY]


def folder(tmp_path: Path, template: str | None, own_file: bool = True) -> Path:
    path = build(tmp_path, "qwen2", "hf:F16")
    if template is not None and own_file:
        (path / "chat_template.jinja").write_text(template)
    elif template is not None:
        config = (
            json.loads((path / "tokenizer_config.json").read_text())
            if (path / "tokenizer_config.json").is_file()
            else {}
        )
        (path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    return path


@pytest.mark.parametrize("own_file", [True, False])
@pytest.mark.parametrize("text", [CHATML, UNTRIMMED])
def test_a_template_that_writes_conversations_otherwise_is_a_latent_finding(
    tmp_path: Path, text: str, own_file: bool
) -> None:
    left = build(tmp_path, "qwen2", "gguf:F16", config_set(KEY, text))
    found = compared(left, folder(tmp_path, CHATML, own_file))
    if text == CHATML:
        assert templates(found) == []
        return
    (finding,) = templates(found)
    assert (finding.side, finding.latent, finding.status, finding.key) == ("left", True, "confirmed", KEY)
    assert "writes 2 of 3 conversations otherwise: number 2 from character" in finding.message
    assert finding.recommendation.startswith(f"write {KEY} into {left} as ")
    assert finding.evidence is not None
    assert (finding.evidence.before, finding.evidence.after) == (2, 0)
    assert found.verdict in ("match", "drift"), "no stage depends on it"


def test_templates_that_write_the_same_are_no_finding(tmp_path: Path) -> None:
    left = build(tmp_path, "qwen2", "gguf:F16", config_set(KEY, CHATML + "{# a remark #}"))
    assert templates(compared(left, folder(tmp_path, CHATML))) == []


def test_a_template_on_one_side_only_is_a_note(tmp_path: Path) -> None:
    left = build(tmp_path, "qwen2", "gguf:F16")
    found = compared(left, folder(tmp_path, CHATML))
    assert templates(found) == []
    assert f"{left}: no chat template, where the other side has one" in found.notes


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    "template", [CHATML, UNTRIMMED, "{{ bos_token }}{{ messages | tojson }}", "{% if x %}\n  y\n{% endif %}z"]
)
def test_conversations_are_rendered_as_transformers_does(template: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    for talk in CONVERSATIONS:
        asked = talk[-1]["role"] != "assistant"
        ours = rendered(template, talk, {"bos_token": "<s>"})
        (theirs,), _ = render_jinja_template(
            [list(talk)], chat_template=template, add_generation_prompt=asked, bos_token="<s>"
        )
        assert ours == theirs


@pytest.mark.parametrize(
    "template",
    [
        "{% broken",
        "{{ messages[9].x.y }}",
        "{{ raise_exception('no') }}",
        "{{ ''.__class__.__mro__ }}{{ 1/0 }}",
    ],
)
def test_a_template_that_cannot_be_rendered_is_text_and_no_error(template: str) -> None:
    assert rendered(template, CONVERSATIONS[0], {}).startswith("(cannot be rendered: ")


def test_the_trained_models_template_is_read_and_names_the_roles(smollm2: Path) -> None:
    container = open_container(smollm2)
    template = chat_template(container)
    container.close()
    assert template is not None
    text = rendered(template, CONVERSATIONS[1], {})
    assert "<|im_start|>user\nName a colour.<|im_end|>" in text
    assert text.endswith("<|im_start|>assistant\n")


def test_another_end_of_text_in_the_config_is_a_finding(tmp_path: Path) -> None:
    right = build(tmp_path, "qwen2", "gguf:F16")
    left = build(tmp_path, "qwen2", "hf:F16", config_set("eos_token_id", 5))
    found = [
        f
        for f in compared(left, right).findings
        if f.kind == "tokenizer.special_tokens" and f.key == "eos_token_id"
    ]
    own = next(row for row in compared(left, right).config if row.key == "eos_token_id")
    assert own.status == "differs"
    (finding,) = found
    assert finding.latent
    assert finding.recommendation == f"write eos_token_id {own.right} into {left}/config.json instead of 5"


def test_generation_settings_that_differ_are_noted(tmp_path: Path) -> None:
    left = folder(tmp_path, None)
    (left / "generation_config.json").write_text('{"temperature": 0.7, "top_p": 0.8, "eos_token_id": [1, 2]}')
    right = build(tmp_path, "qwen2", "gguf:F16", config_set("general.sampling.temp", 0.5))
    notes = compared(left, right).notes
    assert "generation settings differ: HF temperature 0.7, top_p 0.8; GGUF temperature 0.5" in notes
