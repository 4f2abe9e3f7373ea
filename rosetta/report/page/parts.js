// Draws what is said of the worst alone: heads and experts of stages, spectrum and map of regions of weights. Each plot
// has its figures beside it in words or as a table, for whoever does not see it.
"use strict";
const partsOf = ({ plotted, data, find, make, said, title, asNumber, isDark, legendTicks, layers }) => {
  const measured = data.stages.filter((stage) => stage.layer !== undefined && (stage.by_head || stage.by_expert));
  const ops = [...new Set(measured.map((stage) => stage.op))];
  const weights = data.weights_measured;
  const valuesOf = (stage) => stage.by_head ?? stage.by_expert;
  const what = (stage) => (stage.by_head ? "head" : "expert");
  const finite = (values) => values.filter((value) => Number.isFinite(value) && value > 0);
  const quiet = () => (isDark() ? "#555b66" : "#c9ced6"); // exactly 0
  const style = { background: "transparent", fontSize: "12px" };

  // Where nothing is chosen: the operation whose fault is first, else the one that is told of most.
  function usual() {
    const faulty = measured.find((stage) => stage.status === "faulty");
    const count = (op) => measured.filter((stage) => stage.op === op).length;
    return faulty?.op ?? ops.reduce((a, b) => (count(b) > count(a) ? b : a), ops[0]);
  }
  function sequential(values, options) {
    const low = Math.min(...values), high = Math.max(...values);
    const domain = [Math.max(low, high * 1e-6), Math.max(high, low * 1.01)];
    return { type: "log", domain, scheme: "viridis", unknown: quiet(), clamp: true, legend: true, marginLeft: 26, marginRight: 26,
             tickFormat: said, ticks: legendTicks({ type: "log", domain }), ...options };
  }
  const shade = (value) => (Number.isNaN(value) ? Infinity : value > 0 ? value : undefined);
  function put(place, plot, label) {
    const svg = plot.tagName === "svg" ? plot : [...plot.querySelectorAll("svg")].at(-1);
    svg.setAttribute("role", "img"); // one picture: its parts are read from what stands beside it
    svg.setAttribute("aria-label", label);
    place.replaceChildren(plot);
  }

  // Layers across, heads or experts down, of one operation.
  function drawMap(op) {
    const place = find("parts-map"), of = measured.filter((stage) => stage.op === op);
    if (!of.length) {
      find("parts-section").hidden = true;
      return;
    }
    const one = what(of[0]), count = Math.max(...of.map((stage) => valuesOf(stage).length));
    const cells = of.flatMap((stage) => valuesOf(stage).map((value, part) => ({ stage, part, value: asNumber(value) })));
    const worst = cells.reduce((a, b) => (b.value > a.value ? b : a), cells[0]);
    const otherwise = cells.filter(({ stage, part }) => stage.sent && stage.sent.left[part] !== stage.sent.right[part]);
    const everywhere = of.length === layers.length ? "" : ` It is told of ${of.length} of ${layers.length} layers, those that differ most.`;
    const sent = !of[0].sent ? "" : otherwise.length ? " ≠: the sides send it other numbers of tokens." : " Both sides send every expert as many tokens.";
    find("parts-means").textContent = `The largest difference of each ${one} of ${op}, two whole runs. The worst is ${one} ${worst.part} of layer ${worst.stage.layer}, ${said(worst.value)}.${sent}${everywhere}`;
    const values = finite(cells.map((cell) => cell.value));
    if (!values.length) return place.replaceChildren(make("p", {}, `Every difference of ${op} is exactly 0.`));
    const width = Math.max(place.clientWidth - 4, 60 + 4 * layers.length), cellWidth = (width - 76) / layers.length;
    const height = Math.max(4, Math.min(22, 420 / count));
    put(place, plotted({
      width, height: 46 + height * count, marginLeft: 76, marginTop: 24, marginBottom: 22, marginRight: 4, style,
      x: { type: "band", axis: "top", label: "layer", labelAnchor: "left", domain: layers, tickSize: 0, padding: 0.04, ticks: layers.filter((_, i) => i % Math.ceil(24 / cellWidth) === 0) },
      y: { type: "band", label: null, domain: d3.range(count), tickSize: 0, padding: height > 8 ? 0.04 : 0, tickFormat: (i) => `${one} ${i}`, ticks: d3.range(count).filter((i) => i % Math.ceil(14 / height) === 0) },
      color: sequential(values, { label: `largest difference of ${op}; grey: exactly 0` }),
      marks: [
        Plot.cell(cells, { x: (d) => d.stage.layer, y: "part", fill: (d) => shade(d.value), title: (d) => `layer ${d.stage.layer}, ${one} ${d.part}: ${said(d.value)}${d.stage.sent ? `; tokens: ${sentTo(d.stage, d.part)}` : ""}` }),
        Plot.text(otherwise, { x: (d) => d.stage.layer, y: "part", text: () => "≠", fill: "#fff", stroke: "#111", strokeWidth: 3, fontWeight: 700, fontSize: Math.min(13, height) }),
      ],
    }), `Largest difference of each ${one} of ${op} by layer. ${find("parts-means").textContent}`);
  }
  const sentTo = (stage, part) => `${data.label.left} ${stage.sent.left[part]}, ${data.label.right} ${stage.sent.right[part]}`;

  // Of the selected stage, as bars and as a table.
  function ofStage(stage) {
    if (!stage.by_head && !stage.by_expert) return [];
    const one = what(stage), bars = valuesOf(stage).map((value, part) => ({ part, value: asNumber(value) }));
    const label = `Largest difference of each ${one}`, parts = [make("h4", {}, label)];
    const plot = plotted({
      width: 290, height: 130, marginLeft: 52, style: { background: "transparent" },
      x: { label: one, type: "band", padding: bars.length > 60 ? 0 : 0.1, ticks: bars.map((b) => b.part).filter((_, i) => i % Math.ceil(bars.length / 8) === 0) },
      y: { label: null, grid: true, ticks: 4, tickFormat: said },
      marks: [Plot.barY(bars.filter((bar) => Number.isFinite(bar.value)), { x: "part", y: "value", fill: "currentColor", fillOpacity: 0.6 }), Plot.ruleY([0])],
    });
    const box = make("div");
    put(box, plot, label);
    const heads = [one, "difference", ...(stage.sent ? [data.label.left, data.label.right] : [])];
    const rows = bars.map(({ part, value }) => make("tr", { class: stage.sent && stage.sent.left[part] !== stage.sent.right[part] ? "differs" : "" },
      ...[String(part), said(value), ...(stage.sent ? [stage.sent.left[part], stage.sent.right[part]].map(String) : [])].map((cell) => make("td", { class: "number" }, cell))));
    parts.push(box, make("details", { open: Boolean(stage.sent) && bars.length <= 16 }, make("summary", {}, "as a table"),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, make("table", {}, make("caption", {}, stage.sent ? `${label}, and how many tokens each side sends to it` : label), make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...rows)))));
    return parts;
  }

  // ---- one weight -------------------------------------------------------------------------------------------

  function drawWeight(name) {
    const weight = weights.find((one) => one.name === name) ?? weights[0], place = find("measured");
    find("measured-title").hidden = find("measured-controls").hidden = !weight;
    if (!weight) return place.replaceChildren();
    place.replaceChildren(...[weight.map && regions(weight), weight.spectrum && spectrum(weight)].filter(Boolean));
  }
  function figure(text, plot, label) {
    const box = make("div"), said = make("p", {}, text);
    put(box, plot, `${label}. ${text}`);
    return make("figure", {}, make("figcaption", {}, make("strong", {}, label)), said, box);
  }
  const room = () => Math.max(280, Math.min(620, find("measured").clientWidth - 8));
  function regions({ name, map }) {
    const cells = map.values.flatMap((row, i) => row.map((value, j) => ({ i, j, value: asNumber(value) })));
    const span = (at, step, size) => `${at * step}–${Math.min(size, (at + 1) * step) - 1}`;
    const place = ({ i, j }) => `rows ${span(i, map.row_step, map.rows)}, columns ${span(j, map.column_step, map.columns)}`;
    const worst = cells.reduce((a, b) => (b.value > a.value ? b : a), cells[0]), values = finite(cells.map((cell) => cell.value));
    const text = `${values.length} of ${cells.length} regions differ; most ${place(worst)}, by ${said(worst.value)} of the weight's own size.`;
    const high = map.values.length, wide = map.values[0].length, width = room();
    const every = (count, step) => d3.range(count).filter((i) => i % Math.ceil(count / step) === 0);
    return figure(text, plotted({
      width, height: Math.max(120, Math.min(380, 46 + high * 13)), marginLeft: 62, marginTop: 26, marginBottom: 16, marginRight: 4, style,
      x: { type: "band", axis: "top", label: "column", labelAnchor: "left", domain: d3.range(wide), tickSize: 0, padding: 0, ticks: every(wide, Math.floor(width / 90)), tickFormat: (j) => String(j * map.column_step) },
      y: { type: "band", label: null, domain: d3.range(high), tickSize: 0, padding: 0, ticks: every(high, 8), tickFormat: (i) => `row ${i * map.row_step}` },
      color: sequential(values.length ? values : [1], { label: "rms of the difference / rms of the weight; grey: equal", width: Math.min(320, width) }),
      marks: [Plot.cell(cells, { x: "j", y: "i", fill: (d) => shade(d.value), inset: 0.25, title: (d) => `${place(d)}: ${said(d.value)}` })],
    }), `Where ${name} differs`);
  }
  function spectrum({ name, spectrum }) {
    const points = spectrum.map((value, i) => ({ i: i + 1, value: asNumber(value) })), above = points.filter((point) => point.value > 1.1).length;
    const steep = points.find((point, i) => i && point.value < points[i - 1].value / 10);
    const text = steep
      ? `It falls steeply after ${steep.i - 1}: a difference of rank ${steep.i - 1}, as an adapter leaves or a few damaged rows.`
      : above === 0 ? "None is beyond what errors without any structure give." : `${above === points.length ? `All ${above} shown` : `${above} of ${points.length} shown`} are beyond what errors without any structure give; the largest is ${said(points[0].value)} times it.`;
    const colour = isDark() ? "#79b8ff" : "#0550ae", log = points.at(-1).value > 0 && points[0].value > 10 * points.at(-1).value;
    return figure(text, plotted({
      width: room(), height: 306, marginLeft: 62, marginBottom: 40, style,
      x: { label: "singular value of the difference, the largest first", domain: [1, Math.max(2, points.length)], tickFormat: "d" },
      y: { type: log ? "log" : "linear", zero: !log, grid: true, label: null, tickFormat: said, ticks: 5 },
      marks: [
        Plot.ruleY([1], { stroke: "currentColor", strokeDasharray: "6 4", strokeWidth: 1.5 }),
        Plot.text([{ i: points.length, value: 1 }], { x: "i", y: "value", text: () => "1: the edge of noise", textAnchor: "end", dy: points.at(-1).value > 0.7 ? 10 : -8 }),
        Plot.line(points, { x: "i", y: "value", stroke: colour, strokeWidth: 2 }),
        Plot.dot(points, { x: "i", y: "value", fill: colour, r: 3, tip: true }),
      ],
    }), `Spectrum of the difference of ${name}`);
  }

  return { ops, usual, weights, drawMap, ofStage, drawWeight };
};
