"""The page: what stands in it without a script, and what a browser makes of it at three widths and by keyboard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fixtures import reports
from fixtures.browser import FLAGS, chromium, opened
from rosetta.compare.results import BlockMap, ByExpert, ConfigDiff, Refuted, TopToken, WeightDiff, WeightsDiff
from rosetta.report import html
from rosetta.report.page_data import TOKEN_VALUES, page_data
from rosetta.report.report import Asked, Report

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "rosetta" / "report" / "page"
OPS = (
    "attn_norm", "q", "k", "v", "q_rope", "k_rope", "attn_scores", "attn_context", "attn_out", "attn_residual",
    "ffn_norm", "ffn_gate", "ffn_up", "ffn_act", "ffn_out", "residual",
)  # fmt: skip
OF_HEADS = OPS[1:8]
WIDTHS = (390, 1280, 1920)
EVIL = '</script><script>document.title="owned"</script><img src=x onerror=document.title="owned">'


def deep(layers: int = 32, tokens: int = 4) -> Report:
    """A fault at k of layer 3, carried by all that follows."""
    stages = [reports.stage("embedding", "drift", 2e-3, local=reports.local(2e-3, 4e-3))]
    for n in range(layers):
        for op in OPS:
            status = "faulty" if (n, op) == (3, "k") else "carried" if n > 3 else "ok"
            difference = 1e-4 * (n + 1) if n < 3 else 0.3 * (n + 1)
            local = reports.local(2.0 if status == "faulty" else 1e-4, 2e-4)
            heads = [difference / (i + 1) for i in range(32)] if n > 2 and op in OF_HEADS else None
            stage = reports.stage(
                f"layers.{n}.{op}",
                status,
                difference,
                local=local,
                by_token=[difference] * tokens,
                by_head=heads,
            )
            stages.append(stage)
    stages += [reports.stage("final_norm", "carried", 1.0), reports.stage("logits", "carried", 1.0)]
    config = [ConfigDiff(key=f"key.{i}", left=i, right=i, status="same") for i in range(30)]
    config.append(
        ConfigDiff(key="rope.freq_base", left=1e4, right=1e6, status="differs", note="left: default")
    )
    weight = WeightDiff(
        name="blk.3.attn_k.weight", left_name="k", right_name="k", left_dtype="F16", right_dtype="F16",
        left_dims=[2, 4], right_dims=[4, 2],
    )  # fmt: skip
    blocks = BlockMap(
        rows=48, columns=64, row_step=2, column_step=2,
        values=[[0.5 if (i, j) == (5, 7) else 0.0 for j in range(32)] for i in range(24)],
    )  # fmt: skip
    measured = [
        weight.model_copy(
            update={"name": f"blk.{n}.attn_v.weight", "spectrum": spectrum, "block_map": blocks}
        )
        for n, spectrum in enumerate([[5.0, 4.0, 3.0, *[0.01] * 21], [1.0 - i / 100 for i in range(24)]])
    ]
    return reports.dims_swapped(
        stages=stages,
        findings=[reports.finding(layer=3)],
        first_divergence={"name": "layers.3.k", "layer": 3, "op": "k", "token": 0, "index": [0, 0]},
        config=config,
        weights=WeightsDiff(
            compared=300, identical_bytes=299, differing=3, differing_tensors=[weight, *measured]
        ),
        refuted=[
            Refuted(kind="value.scaled", tensor="blk.3.attn_k", stage="layers.3.k", before=None, after=3.0)
        ],
    )


class Reader(HTMLParser):
    """Collects tags with their attributes, and text outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_the_verdict_its_cause_and_its_proof_are_there_without_a_script() -> None:
    said = read(html.render(deep())).text
    assert "FAILED: layout mismatch at Layer 3 k" in said
    assert "needs transpose" in said
    assert "Proof: k computed with the transpose, local difference 0.00e+00 (predicted 0)." in said
    assert "Repair: Write blk.3.attn_k.weight with dims [256, 1536]" in said


def test_a_report_of_32_layers_is_under_one_and_a_half_megabytes() -> None:
    assert len(html.render(deep()).encode()) < 1_500_000


def test_a_prompt_of_any_length_leaves_it_there() -> None:
    report = deep(32, tokens=2000)
    assert len(html.render(report).encode()) < 1_500_000
    data = page_data(report)
    kept = [stage for stage in data["stages"] if "by_token" in stage]
    assert sum(len(stage["by_token"]) for stage in kept) <= TOKEN_VALUES + len(kept)
    assert {stage["op"] for stage in kept} >= {"residual", "logits"}
    assert data["token_step"] > 1


def test_it_says_what_was_asked_for_and_nothing_of_what_was_not() -> None:
    plain = Asked(
        threshold_is_explicit=True, stop_at_first=False, diagnose=True, left_device="cpu", right_device="cpu",
        dtype="float32", detail="stages",
    )  # fmt: skip
    given = plain.model_copy(update={"runtime_options": {"kv": "f16", "flash_attn": "on"}, "run_as": "llama"})
    run, other = (page_data(deep().model_copy(update={"options": asked}))["run"] for asked in (given, plain))
    assert run["option runtime options"] == "kv=f16, flash_attn=on"
    assert run["option run as"] == "llama"
    assert (run["option threshold is explicit"], run["option stop at first"]) == ("yes", "no")
    assert run.keys() - other.keys() == {"option runtime options", "option run as"}


def test_the_page_loads_nothing() -> None:
    reader = read(html.render(deep()))
    for tag, attributes in reader.tags:
        for name in ("src", "href", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": html.POLICY}) in reader.tags


@pytest.mark.parametrize(
    "report",
    [
        reports.report(prompt=EVIL, left=reports.side(operand=EVIL), notes=[EVIL]),
        reports.report(config=[ConfigDiff(key=EVIL, left=EVIL, status="differs", note=EVIL)]),
        reports.dims_swapped(findings=[reports.finding(message=EVIL, recommendation=EVIL, tensor=EVIL)]),
        reports.report(verdict="error", reason=EVIL, error=EVIL, stages=[], logits=None),
    ],
)
def test_nothing_in_a_name_becomes_markup(report: Report) -> None:
    tags = [tag for tag, _ in read(html.render(report)).tags]
    assert tags.count("script") == 4  # the data, two libraries, ours
    assert "img" not in tags


def test_several_reports_are_a_matrix_whose_cells_link_to_their_pages() -> None:
    several = {"a": reports.report(), "b b": deep(2), "c": reports.report(prompt="x"), "d": reports.drift()}
    reader = read(html.render_all(several))
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert sorted(map(str, links)) == sorted(f"reports/{name}.html" for name in several)
    assert set(html.beside(several)) == set(map(str, links))
    assert sum(tag == "tr" for tag, _ in reader.tags) == 2  # a head, and one pair
    assert "Divergent at Layer 3 k" in " ".join(reader.text.split())


def test_the_libraries_are_those_of_the_lock_file_with_their_licences() -> None:
    lock = json.loads((PAGE / "vendor" / "lock.json").read_text("utf-8"))
    assert {f"vendor/{name}" for name in lock} == set(html.LIBRARIES)
    for name, entry in lock.items():
        content = (PAGE / "vendor" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert f"v{entry['version']}" in content[:100].decode()
        assert "Permission to use, copy" in (PAGE / "vendor" / name.replace(".min.js", ".LICENSE")).read_text(
            "utf-8"
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip)")
    with playwright.sync_playwright() as driver:
        program = chromium(driver)
        if program is None:
            pytest.skip("Chromium is not installed")
        running = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.render(deep()), "utf-8")
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_the_map_has_a_cell_a_stage_and_a_click_shows_it(browser: Any, page: Path, width: int) -> None:
    with opened(browser, page, width) as at:
        assert at.page.locator("rect.cell").count() == 32 * len(OPS)
        at.page.locator('rect[data-stage="layers.5.ffn_up"]').click()
        assert "Layer 5 ffn_up" in at.page.locator("#stage").inner_text()
        assert at.page.evaluate("location.hash") == "#stage=layers.5.ffn_up"
        assert at.page.evaluate("document.documentElement.scrollWidth") <= width
        assert (at.trouble, at.requests) == ([], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_hash_is_the_state(browser: Any, page: Path, scheme: str) -> None:
    given = "stage=layers.3.k&metric=over&scale=linear&op=k&config.find=rope&stages.sort=-2"
    with opened(browser, page, hash_=given, scheme=scheme) as at:
        assert (
            "value" in at.page.locator("#stage").inner_text()
            or "faulty" in at.page.locator("#stage").inner_text()
        )
        assert at.page.locator('input[name="metric"]:checked').get_attribute("value") == "over"
        assert at.page.locator('input[name="scale"]:checked').get_attribute("value") == "linear"
        assert at.page.locator("#op").input_value() == "k"
        assert at.page.locator("#config-table tbody tr").count() == 1
        assert (
            at.page.locator('#stages-table th[aria-sort="descending"]').inner_text() == "largest difference"
        )
        at.page.locator('input[value="l2"]').check()
        at.page.reload()
        assert at.page.locator('input[name="metric"]:checked').get_attribute("value") == "l2"
        assert (at.trouble, at.requests) == ([], [])


def test_the_keyboard_reaches_every_cell_and_selects(browser: Any, page: Path) -> None:
    with opened(browser, page) as at:
        at.page.locator('input[name="scale"]').first.focus()
        at.page.keyboard.press("Tab")  # the map is one stop, at the first fault
        focused = "document.activeElement.dataset.stage ?? document.activeElement.id"
        if at.page.evaluate(focused) == "map":  # a box that scrolls is a stop by itself
            at.page.keyboard.press("Tab")
        assert at.page.evaluate(focused) == "layers.3.k"
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            at.page.keyboard.press(key)
        assert at.page.evaluate(focused) == "layers.4.v"
        assert "Layer 4 v" in at.page.locator("#stage").inner_text()
        label = at.page.locator('rect[data-stage="layers.3.k"]').get_attribute("aria-label")
        assert label.startswith("Layer 3 k, faulty, local error 1.00e+4 of its predicted noise")
        at.page.go_back()
        assert "Select a cell" in at.page.locator("#stage").inner_text()


def test_tables_sort_and_filter(browser: Any, page: Path) -> None:
    with opened(browser, page) as at:
        rows = at.page.locator("#config-table tbody tr")
        assert rows.count() == 1  # those that differ
        at.page.get_by_label("also keys that agree").check()
        assert rows.count() == 31
        at.page.get_by_role("button", name="key", exact=True).click()
        at.page.get_by_role("button", name="key", exact=True).click()
        assert rows.first.inner_text().startswith("rope.freq_base")
        at.page.get_by_label("Filter: Configuration keys").fill("key.29")
        assert rows.count() == 1


def test_a_link_in_a_finding_selects_its_stage(browser: Any, page: Path) -> None:
    with opened(browser, page) as at:
        at.page.locator("a.stage").click()
        assert "layout.dims_swapped" in at.page.locator("#stage").inner_text()


def test_heads_are_shown_of_the_stage_and_by_layer(browser: Any, page: Path) -> None:
    with opened(browser, page, 390, "stage=layers.3.k") as at:
        assert at.page.locator("#parts").input_value() == "k"  # where the first fault is
        assert "The worst is head 0 of layer 31" in at.page.locator("#parts-means").inner_text()
        assert at.page.locator('#parts-map svg[role="img"][aria-label*="each head of k"]').count() == 1
        at.page.locator("#stage summary").focus()
        at.page.keyboard.press("Enter")
        rows = at.page.locator("#stage details tbody tr")
        assert rows.count() == 32
        assert rows.nth(1).inner_text().split() == ["1", "0.6"]
        at.page.locator("#parts").select_option("attn_context")
        at.page.reload()
        assert at.page.locator("#parts").input_value() == "attn_context"
        assert (at.trouble, at.requests) == ([], [])


def test_experts_are_shown_with_the_tokens_sent_to_them(browser: Any, tmp_path: Path) -> None:
    sent = ByExpert(left=[3, 1, 0], right=[2, 1, 1], max_diff=[0.5, 0.0, 0.25])
    stage = reports.stage("layers.0.ffn_router", "faulty", 0.5, by_expert=sent)
    (tmp_path / "page.html").write_text(html.render(reports.report(stages=[stage])), "utf-8")
    with opened(browser, tmp_path / "page.html", hash_="stage=layers.0.ffn_router") as at:
        said = at.page.locator("#parts-means").inner_text()
        assert "The worst is expert 0 of layer 0, 0.5. ≠: the sides send it other numbers of tokens." in said
        assert at.page.locator("#parts-map svg").last.inner_html().count("≠") == 2
        rows = at.page.locator("#stage details[open] tbody tr").all()
        assert [row.inner_text().split() for row in rows] == [
            ["0", "0.5", "3", "2"], ["1", "0", "1", "1"], ["2", "0.25", "0", "1"],
        ]  # fmt: skip
        assert (at.trouble, at.requests) == ([], [])


@pytest.mark.parametrize("width", WIDTHS)
def test_a_weight_has_its_spectrum_and_its_map(browser: Any, page: Path, width: int) -> None:
    with opened(browser, page, width) as at:
        figures = at.page.locator("#measured > figure")
        assert figures.count() == 2
        assert (
            "1 of 768 regions differ; most rows 10–11, columns 14–15, by 0.5" in figures.nth(0).inner_text()
        )
        assert "It falls steeply after 3: a difference of rank 3" in figures.nth(1).inner_text()
        at.page.locator("#weight").select_option("blk.1.attn_v.weight")
        assert "None is beyond what errors without any structure give." in figures.nth(1).inner_text()
        assert "weight=blk.1.attn_v.weight" in at.page.evaluate("location.hash")
        assert (
            at.page.locator(
                '#measured svg[role="img"][aria-label*="Spectrum of the difference of blk.1"]'
            ).count()
            == 1
        )
        assert at.page.evaluate("document.documentElement.scrollWidth") <= width
        assert (at.trouble, at.requests) == ([], [])


def test_what_nothing_is_said_of_is_not_there(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html.render(reports.report()), "utf-8")
    with opened(browser, tmp_path / "page.html") as at:
        assert not at.page.locator("#parts-section").is_visible()
        assert not at.page.locator("#measured-controls").is_visible()


@pytest.mark.parametrize(
    "report",
    [
        reports.report(),
        reports.drift(),
        reports.dims_swapped(),
        reports.report(verdict="error", reason="no", error="no", stages=[], logits=None),
        reports.report(
            stages=[reports.stage("layers.0.q", "faulty", float("nan"), local=reports.local(float("inf"), 1))]
        ),
        reports.report(stages=[reports.stage("layers.0.q", "faulty", None), reports.stage("layers.1.ssm_in")]),
        reports.report(
            prompt=EVIL, logits={"left_top": [TopToken(id=1, token=EVIL, logit=1)], "right_top": []},
            config=[ConfigDiff(key=EVIL, left=EVIL, status="differs", note=EVIL)], left=reports.side(operand=EVIL),
            options=Asked(
                threshold_is_explicit=False, stop_at_first=False, diagnose=True, left_device="cpu", right_device="cpu",
                dtype="float32", detail="stages",
            ),
        ),
    ],
    ids=["match", "drift", "divergent", "error", "nan", "mixed", "evil"],
)  # fmt: skip
def test_any_report_is_drawn_without_an_error(browser: Any, tmp_path: Path, report: Report) -> None:
    (tmp_path / "page.html").write_text(html.render(report), "utf-8")
    with opened(browser, tmp_path / "page.html", 390) as at:
        assert at.page.evaluate("document.title") != "owned"
        assert at.page.locator("#run dt").count() > 3
        assert (at.trouble, at.requests) == ([], [])


@pytest.fixture(scope="module")
def axe() -> Any:
    """Deque's rules for pages that everyone can use."""
    return pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs axe-playwright-python (pip)"
    ).Axe()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_axe_finds_nothing_that_shuts_anyone_out(
    browser: Any, axe: Any, page: Path, width: int, scheme: str
) -> None:
    with opened(browser, page, width, scheme=scheme) as at:
        at.page.locator("rect.cell").first.wait_for(state="attached")
        at.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        found = axe.run(at.page).response
        assert found["violations"] == []
        assert len(found["passes"]) > 30


def test_axe_finds_nothing_in_a_matrix(browser: Any, axe: Any, tmp_path: Path) -> None:
    several = {"a": reports.report(), "b": deep(2)}
    (tmp_path / "index.html").write_text(html.render_all(several), "utf-8")
    with opened(browser, tmp_path / "index.html", 390) as at:
        assert axe.run(at.page).response["violations"] == []


def test_a_matrix_leads_to_a_page(browser: Any, tmp_path: Path) -> None:
    several = {"a": reports.report(), "b": deep(2)}
    (tmp_path / "reports").mkdir()
    for path, text in html.beside(several).items():
        (tmp_path / path).write_text(text, "utf-8")
    (tmp_path / "index.html").write_text(html.render_all(several), "utf-8")
    with opened(browser, tmp_path / "index.html", 390) as at:
        assert at.trouble == []
        at.page.get_by_role("link", name="Divergent").click()
        at.page.locator("rect.cell").first.wait_for(
            state="attached"
        )  # a click does not wait for the next page
        assert at.page.locator("rect.cell").count() == 2 * len(OPS)
