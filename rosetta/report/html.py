"""The report as one page for people: self-contained, without network; of several reports a matrix that links on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from rosetta.errors import one_line
from rosetta.report.causes import Cause, causes, diagnosis, explanation, proof
from rosetta.report.summary import verdict_line, witness_lines
from rosetta.report.words import counted, labels, number, ratio_over_noise, setting, stage_place

if TYPE_CHECKING:
    from rosetta.compare.results import Evidence, Side
    from rosetta.report.report import Report

OPTION = "Write the report as a page for a browser."
FOLDER = "reports"
"""Of the pages that a matrix links to, beside it."""
LIBRARIES = ("vendor/d3.min.js", "vendor/plot.min.js")
SCRIPTS = ("parts.js", "page.js")
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
"""What a page may load: nothing but what stands in it."""
WORDS = {
    # verdict: (symbol, word, what it means in a sentence)
    "match": ("✓", "Match", "Every stage is within the threshold."),
    "drift": ("~", "Drift", "Some stage is over the threshold, and the declared dtypes explain it."),
    "divergent": ("✗", "Divergent", "The two do not compute the same."),
    "inconclusive": ("?", "Inconclusive", "Nothing comparable was compared, which is never a pass."),
    "error": ("!", "Error", "There was no comparison."),
}


def render(report: Report) -> str:
    """One report as a page."""
    from rosetta.report.page_data import (
        page_data,  # imports numpy by way of the report: not at the program's start
    )

    name = f"{_short(report.left.operand)} and {_short(report.right.operand)}"
    body = "".join(_top(report)) + _asset("body.html")
    # `<` is spelled, so that no text in the data can end the element that holds it
    data = json.dumps(page_data(report), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    scripts = [f'<script type="application/json" id="data">{data}</script>']
    scripts += [f"<script>{_asset(name)}</script>" for name in LIBRARIES]
    scripts.append(f"<script>{''.join(map(_asset, SCRIPTS))}</script>")
    return _document(f"rosetta: {name}", body, "\n".join(scripts))


def render_all(reports: Mapping[str, Report]) -> str:
    """Several reports as a matrix: a row a pair, a column a prompt, each cell its verdict and a link."""
    pairs: dict[tuple[str, str], None] = {}
    prompts: dict[str, None] = {}
    cells: dict[tuple[tuple[str, str], str], list[str]] = {}
    for name, report in sorted(reports.items(), key=lambda item: _started(item[1]), reverse=True):
        pair, prompt = (report.left.operand, report.right.operand), _prompt(report)
        pairs.setdefault(pair)
        prompts.setdefault(prompt)
        cells.setdefault((pair, prompt), []).append(_cell(name, report))
    head = "".join(f'<th scope="col"><code>{_text(prompt)}</code></th>' for prompt in prompts)
    rows = "".join(
        f'<tr><th scope="row"><code>{_text(pair[0])}</code><br><code>{_text(pair[1])}</code></th>'
        + "".join(f"<td>{''.join(cells.get((pair, prompt), ['not run']))}</td>" for prompt in prompts)
        + "</tr>"
        for pair in pairs
    )
    said = f"{counted(len(reports), 'report')} of {counted(len(pairs), 'pair')}"
    body = (
        f'<main><h1>rosetta: {said}</h1><div class="scroll" tabindex="0" role="region" aria-label="Matrix">'
        f'<table class="matrix"><caption>Verdicts of pairs by prompt, the latest first</caption>'
        f'<thead><tr><th scope="col">Pair</th>{head}</tr></thead><tbody>{rows}</tbody></table></div></main>'
    )
    return _document(f"rosetta: {said}", body, "")


def beside(reports: Mapping[str, Report]) -> dict[str, str]:
    """The pages that the matrix links to, by their path beside it."""
    return {f"{FOLDER}/{name}.html": render(report) for name, report in reports.items()}


def _document(title: str, body: str, scripts: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<link rel="icon" href="data:,">\n'  # else a browser asks for one
        f"<title>{_text(title)}</title>\n<style>{_asset('page.css')}</style>\n</head>\n"
        f"<body>\n{body}\n{scripts}\n</body>\n</html>\n"
    )


@cache
def _asset(name: str) -> str:
    """A file of the page's own folder."""
    text = resources.files("rosetta.report").joinpath("page", *name.split("/")).read_text("utf-8")
    assert "</script" not in text, name
    return text


def _text(text: str) -> str:
    """Text for HTML; control characters out of names are spelled."""
    return escape(one_line(text))


def _short(operand: str) -> str:
    return operand.rstrip("/\\").replace("\\", "/").rpartition("/")[2] or operand


def _prompt(report: Report) -> str:
    return report.prompt if report.prompt is not None else f"ids {report.tokens.left}"


def _started(report: Report) -> str:
    return report.run.started if report.run is not None else ""


def _badge(report: Report) -> str:
    symbol, word, _ = WORDS[report.verdict]
    return f'<span class="badge {report.verdict}"><span aria-hidden="true">{symbol}</span> {word}</span>'


def _cell(name: str, report: Report) -> str:
    first = report.first_divergence
    where = f" at {_text(stage_place(first.name))}" if first else ""
    when = _started(report)[:16].replace("T", " ")
    date = f' <time datetime="{_text(_started(report))}">{_text(when)}</time>' if when else ""
    return f'<p><a href="{FOLDER}/{_text(name)}.html">{_badge(report)}{where}</a>{date}</p>'


def _top(report: Report) -> Iterator[str]:
    """The verdict, its causes and their proofs: readable without a script."""
    label = labels(report)
    yield f'<main><header><h1>{_badge(report)} <span class="line">{_text(verdict_line(report))}</span></h1>'
    yield f"<p>{WORDS[report.verdict][2]} {_text(_sentence(report.reason))}</p>"
    yield '<dl class="sides">'
    for side in ("left", "right"):
        facts = getattr(report, side)
        dtypes = ", ".join(f"{dtype} {count}" for dtype, count in facts.dtypes.items())
        believed = " (believed)" if side == report.reference else ""
        about = " · ".join(part for part in (facts.architecture, dtypes, facts.runtime, facts.device) if part)
        yield (
            f"<div><dt>{_text(label[side])}{believed}</dt>"
            f"<dd><code>{_text(facts.operand)}</code><br>{_text(about)}</dd></div>"
        )
    yield f"<div><dt>Prompt</dt><dd><code>{_text(_prompt(report))}</code></dd></div></dl>"
    yield "".join(f'<p class="note">{_text(_sentence(note))}</p>' for note in report.notes)
    yield (
        "".join(f'<p class="witness">{_text(line.strip())}</p>' for line in witness_lines(report, label))
        + "</header>"
    )
    found = causes(report.findings)
    yield '<section aria-labelledby="causes"><h2 id="causes">Cause and proof</h2>'
    if not found:
        nothing = "The cause was not found." if report.verdict == "divergent" else "Nothing to report."
        yield f"<p>{nothing}</p>"
    for cause in found:
        yield _cause(cause, label)
    yield "</section>"


def _cause(cause: Cause, label: dict[Side, str]) -> str:
    finding, proven, more = cause.first, proof(cause), explanation(cause)
    status = finding.status + (", latent" if finding.latent else "")
    # a link that needs no script to say where it leads; with one it selects the stage
    where = ""
    if cause.stage:
        place = cause.said_of_all(stage_place(cause.stage))
        where = f' at <a class="stage" href="#stage={escape(cause.stage)}">{_text(place)}</a>'
    parts = [f"<h3><code>{_text(finding.kind)}</code>{where} <small>{status}</small></h3>"]
    parts.append(f"<p>{_text(_sentence(diagnosis(cause, label)))}</p>")
    parts += [] if more is None else [f"<p>{_text(_sentence(more))}</p>"]
    parts += [] if proven is None else [f"<p><strong>Proof:</strong> {_text(proven)}.</p>"]
    parts.append(_before_and_after(finding.evidence) if finding.evidence else "")
    parts.append(
        f"<p><strong>Repair:</strong> {_text(_sentence(cause.said_of_all(finding.recommendation)))}</p>"
    )
    if finding.declared is not None and finding.actual is not None:
        said = (f"<code>{_text(setting(value))}</code>" for value in (finding.declared, finding.actual))
        parts.append("<p>Declared {}, in truth {}.</p>".format(*said))
    return f'<article class="cause {finding.status}">{"".join(parts)}</article>'


def _before_and_after(evidence: Evidence) -> str:
    rows = [(evidence.metric.replace("_", " "), number(evidence.before), number(evidence.after))]
    if evidence.ratio_after is not None:
        before = (
            "not computable" if evidence.ratio_before is None else ratio_over_noise(evidence.ratio_before)
        )
        rows.append(("against the prediction", before, ratio_over_noise(evidence.ratio_after)))
    body = "".join(f'<tr><th scope="row">{name}</th><td>{a}</td><td>{b}</td></tr>' for name, a, b in rows)
    return (
        '<table class="evidence"><thead><tr><td></td><th scope="col">as stored</th>'
        f'<th scope="col">with the repair</th></tr></thead><tbody>{body}</tbody></table>'
    )


def _sentence(text: str) -> str:
    text = one_line(text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
