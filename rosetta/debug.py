"""A comparison to walk through at the terminal: layers down, stages across, all that is known of each, repairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Header, Static

from rosetta.errors import RosettaError, one_line
from rosetta.report.causes import Cause, causes, diagnosis, explanation, proof, subject
from rosetta.report.summary import verdict_line
from rosetta.report.words import (
    SIDES,
    dims,
    labels,
    number,
    prediction,
    ratio_over_noise,
    stage_place,
    times,
    values,
)

if TYPE_CHECKING:
    from rosetta.compare.results import StageDiff
    from rosetta.report.report import Report

Metric = Literal["noise", "over"]
METRICS: dict[Metric, str] = {
    "noise": "local error / predicted noise",
    "over": "whole difference / threshold",
}
MARKS = {"ok": "✓", "faulty": "✗", "carried": "→", "drift": "~", "skipped": " "}
MOST_PARTS = 8  # heads or experts of a stage that are named
STYLES = {
    "ok": "green",
    "faulty": "bold white on red",
    "carried": "yellow",
    "drift": "cyan",
    "skipped": "dim",
}


class Debugger(App[None]):
    """The program that `rosetta debug` runs.

    Args:
        report: the comparison.
        repair: compares again with all confirmed repairs in the accused file; None where that cannot be done.
    """

    TITLE = "rosetta"
    CSS = """
    #map { width: 2fr; height: 1fr; }
    #side { width: 1fr; min-width: 34; border-left: solid $primary; padding: 0 1; }
    #findings { height: auto; max-height: 10; border-top: solid $primary; }
    #verdict { height: auto; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "next_fault", "Next fault"),
        Binding("m", "metric", "Metric"),
        Binding("r", "repair", "Repair on/off"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, report: Report, repair: Callable[[], Report] | None = None) -> None:
        super().__init__()
        self.stored, self.repaired, self.report = report, None, report
        self.metric: Metric = "noise"
        self._repair = repair
        self._at: dict[tuple[int, int], StageDiff] = {}

    repaired: Report | None

    def compose(self) -> ComposeResult:
        """The verdict, the map, what is known of the stage under the cursor, and the findings."""
        yield Header()
        yield Static(id="verdict", markup=False)
        with Vertical():
            with Horizontal():
                yield DataTable(id="map")
                with VerticalScroll(id="side"):
                    yield Static(id="stage", markup=False)
            yield DataTable(id="findings", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Fill in what is known, and stand at the first fault."""
        self._show(self.report)
        self.action_next_fault()

    def on_data_table_cell_highlighted(self, event: DataTable.CellHighlighted) -> None:
        """Say what is known of the stage under the cursor."""
        if event.data_table.id == "map":
            self._describe(event.coordinate)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Go to the stage at which a finding was found."""
        found = causes(self.report.findings)
        if event.data_table.id == "findings" and event.cursor_row < len(found):
            self._go(found[event.cursor_row].stage)

    def action_next_fault(self) -> None:
        """Go to the next faulty stage, from the last to the first."""
        faulty = [place for place, stage in sorted(self._at.items()) if stage.status == "faulty"]
        here = self._map.cursor_coordinate
        after = [place for place in faulty if place > (here.row, here.column)]
        if faulty:
            self._map.move_cursor(row=(after or faulty)[0][0], column=(after or faulty)[0][1])
            self._map.focus()

    def action_metric(self) -> None:
        """Show the other figure in the map."""
        self.metric = "over" if self.metric == "noise" else "noise"
        self._show(self.report)

    def action_repair(self) -> None:
        """Compare with the confirmed repairs, or as stored again."""
        if self.report is not self.stored:
            self._show(self.stored)
        elif self.repaired is not None:
            self._show(self.repaired)
        elif self._repair is None or not any(f.status == "confirmed" for f in self.stored.findings):
            self.notify("no confirmed repair can be applied here", severity="warning")
        else:
            self.sub_title = "repairing a copy and comparing it …"
            self._run_repair(self._repair)

    @work(thread=True, exclusive=True)
    def _run_repair(self, repair: Callable[[], Report]) -> None:
        try:
            repaired = repair()
        except RosettaError as error:
            self.call_from_thread(self.notify, one_line(str(error)), severity="error")
            self.call_from_thread(self._show, self.stored)
            return
        self.repaired = repaired
        self.call_from_thread(self._show, repaired)

    @property
    def _map(self) -> DataTable[Text]:
        return self.query_one("#map", DataTable)

    def _show(self, report: Report) -> None:
        """Fill everything from a report; the cursor stays where it is."""
        self.report = report
        state = "as stored" if report is self.stored else "with the repairs"
        self.sub_title = f"{state}: {METRICS[self.metric]}"
        self.query_one("#verdict", Static).update(one_line(verdict_line(report)))
        place = self._map.cursor_coordinate
        self._fill_map(report)
        self._map.move_cursor(row=place.row, column=place.column)
        self._describe(place)
        table = self.query_one("#findings", DataTable)
        table.clear(columns=True)
        table.add_columns("finding", "tensor or key", "at", "status", "what is wrong")
        label = labels(report)
        for cause in causes(report.findings):
            where = cause.said_of_all(stage_place(cause.stage)) if cause.stage else "-"
            status = cause.first.status + (", latent" if cause.first.latent else "")
            row = (cause.first.kind, subject(cause) or "-", where, status, diagnosis(cause, label))
            table.add_row(*(Text(one_line(cell)) for cell in row))

    def _fill_map(self, report: Report) -> None:
        self._map.clear(columns=True)
        stages = [stage for stage in report.stages if stage.op != "tokens"]
        ops = list(dict.fromkeys(stage.op for stage in stages if stage.layer is not None))
        rows = list(dict.fromkeys(stage.op if stage.layer is None else str(stage.layer) for stage in stages))
        self._map.add_columns(*(ops or [""]))
        cells = {(row, column): Text("") for row in range(len(rows)) for column in range(max(1, len(ops)))}
        self._at = {}
        for stage in stages:
            row = rows.index(stage.op if stage.layer is None else str(stage.layer))
            column = 0 if stage.layer is None else ops.index(stage.op)
            self._at[row, column] = stage
            cells[row, column] = self._cell(stage)
        for row, name in enumerate(rows):
            self._map.add_row(*(cells[row, column] for column in range(max(1, len(ops)))), label=name)

    def _cell(self, stage: StageDiff) -> Text:
        value: float | None = None
        if self.metric == "noise":
            value = stage.local.worst_ratio if stage.local is not None else None
        elif stage.max_diff is not None:
            limit = self.report.threshold * max(1.0, stage.scale or 0.0)
            value = stage.max_diff / limit if limit else None
        return Text(
            f"{MARKS[stage.status]} {'' if value is None else times(value)}", style=STYLES[stage.status]
        )

    def _go(self, name: str | None) -> None:
        for (row, column), stage in self._at.items():
            if stage.name == name:
                self._map.move_cursor(row=row, column=column)
                self._map.focus()

    def _describe(self, place: Coordinate) -> None:
        stage = self._at.get((place.row, place.column))
        lines = ["There is no such stage here."] if stage is None else list(self._lines(stage))
        self.query_one("#stage", Static).update("\n".join(one_line(line) for line in lines))

    def _lines(self, stage: StageDiff) -> Iterator[str]:
        """All that is known of a stage."""
        label = labels(self.report)
        yield f"{stage_place(stage.name)}: {stage.status}"
        yield f"dims {dims(stage.left_dims)} and {dims(stage.right_dims)}"
        yield f"largest difference {number(stage.max_diff)}, mean {number(stage.mean_diff)}"
        yield f"size {number(stage.scale)}"
        if stage.local is not None:
            yield f"local error {number(stage.local.max_diff)}, predicted {prediction(stage.local.predicted_max_diff)}"
            yield f"  {ratio_over_noise(stage.local.worst_ratio)}"
        for side, why in stage.detail.not_computable.items():
            yield f"{label[side]}: {why}"
        yield from self._parts(stage)
        for name, left, right in stage.detail.weight_dims:
            yield f"{name}: {dims(left)} and {dims(right)}"
        for worst, left_around, right_around in stage.detail.worst:
            yield f"at {worst.index}: {number(worst.left)} and {number(worst.right)}"
            yield f"  {label['left']} {values(left_around)}"
            yield f"  {label['right']} {values(right_around)}"
        for cause in causes(self.report.findings):
            if stage.name in cause.stages:
                yield from ("", *self._cause(cause))
        if stage.op == "logits" and self.report.logits is not None:
            yield ""
            tops = {"left": self.report.logits.left_top, "right": self.report.logits.right_top}
            for side in SIDES:
                yield f"{label[side]}: " + ", ".join(f"{t.id} {t.token!r} {t.logit:.4g}" for t in tops[side])

    def _parts(self, stage: StageDiff) -> Iterator[str]:
        """The heads or experts that differ most, the worst first."""
        if stage.by_head:
            yield "heads: " + ", ".join(f"{i} {number(gap)}" for i, gap in _worst(stage.by_head))
        if stage.by_expert is not None:
            of, label = stage.by_expert, labels(self.report)
            yield f"experts, with the tokens that {label['left']} and {label['right']} send:"
            for i, gap in _worst(of.max_diff):
                mark = "" if of.left[i] == of.right[i] else " ≠"
                yield f"  {i}: {number(gap)}, {of.left[i]} and {of.right[i]}{mark}"

    def _cause(self, cause: Cause) -> Iterator[str]:
        yield f"{cause.first.kind} ({cause.first.status})"
        yield diagnosis(cause, labels(self.report))
        more, proven = explanation(cause), proof(cause)
        if more is not None:
            yield more
        if proven is not None:
            yield f"proof: {proven}"
        yield f"Recommendation: {cause.said_of_all(cause.first.recommendation)}"


def _worst(gaps: list[float]) -> list[tuple[int, float]]:
    """The places of the largest differences, with these."""
    return sorted(enumerate(gaps), key=lambda item: -item[1])[:MOST_PARTS]
