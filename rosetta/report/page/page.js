// Draws the report that stands in the element #data. What is selected stands in the URL's hash, so that it can be
// linked to: #stage=layers.3.k&metric=over&scale=log&op=residual. All text is set as text, never as HTML.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const METRICS = {
    noise: {
      means: "Both sides are given the reference's inputs: above 1 (red) a stage itself computes something else than its dtypes explain. This says where a fault is.",
      label: "local error / predicted noise", pivot: 1,
    },
    over: {
      means: "Two whole runs, each side on its own inputs: above 1 (red) the difference is over the threshold. This says what a fault does.",
      label: "difference / threshold", pivot: 1,
    },
    l2: {
      means: "Two whole runs, each side on its own inputs: how large the difference is beside the stage itself (norm over norm).",
      label: "difference / size", pivot: null,
    },
  };
  const MARKS = { faulty: "✗", carried: "→", drift: "~", ok: "", skipped: "" };
  const DEFAULTS = { stage: "", metric: "noise", scale: "log", op: "", parts: "", weight: "" };
  const byName = new Map(data.stages.map((stage) => [stage.name, stage]));
  const inLayers = data.stages.filter((stage) => stage.layer !== undefined);
  const layers = [...new Set(inLayers.map((stage) => stage.layer))];
  const ops = orderedOps();
  const lastOp = ops.includes("residual") ? "residual" : ops.at(-1) ?? "";
  const state = { ...DEFAULTS };

  // The operations in the order in which some layer computes them: layers of other kinds have others.
  function orderedOps() {
    const known = [];
    for (const layer of layers) {
      let place = 0;
      for (const stage of inLayers) {
        if (stage.layer !== layer) continue;
        const found = known.indexOf(stage.op);
        if (found >= 0) place = found + 1;
        else known.splice(place++, 0, stage.op);
      }
    }
    return known;
  }

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") element.className = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  // Plot names each group by the kind of its marks, "rule" or "text": nothing to a listener, and a group may have no name.
  function plotted(options) {
    const plot = Plot.plot(options);
    plot.querySelectorAll("g[aria-label]").forEach((group) => group.removeAttribute("aria-label"));
    return plot;
  }

  // JSON holds NaN and Inf as words.
  const asNumber = (value) => (typeof value === "string" ? { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity }[value] : value);
  function said(value) {
    if (value === undefined || value === null) return "not computable";
    const number = asNumber(value);
    if (!Number.isFinite(number)) return String(number);
    if (number === 0) return "0";
    return Math.abs(number) >= 1e-3 && Math.abs(number) < 1e4 ? String(Number(number.toPrecision(3))) : number.toExponential(2);
  }
  function title(name) {
    const parts = name.split(".");
    return parts.length === 3 && parts[0] === "layers" ? `Layer ${parts[1]} ${parts[2]}` : name.replaceAll("_", " ");
  }
  const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

  const of = partsOf({ plotted, data, find, make, said, title, asNumber, isDark, legendTicks, layers });

  // ---- the map ----------------------------------------------------------------------------------------------

  // A cell's value for the colour: NaN and Inf are as bad as it gets, exactly 0 as good as it gets.
  function colours(metric, scale) {
    const values = data.stages.map((stage) => asNumber(stage[metric])).filter((value) => value > 0 && Number.isFinite(value));
    const low = values.length ? Math.min(...values) : 0.1;
    const high = values.length ? Math.max(...values) : 1;
    const pivot = METRICS[metric].pivot;
    const unknown = isDark() ? "#555b66" : "#c9ced6";
    if (pivot === null) {
      const domain = scale === "log" ? [Math.max(low, high * 1e-9), Math.max(high, low * 1.01)] : [0, high];
      return { type: scale, domain, scheme: "viridis", unknown, clamp: true };
    }
    // The same room on both sides of 1, so that white is always the border between right and wrong.
    const far = Math.min(1e6, Math.max(high / pivot, pivot / Math.max(low, high * 1e-9), 10));
    return scale === "log"
      ? { type: "diverging-log", domain: [pivot / far, pivot * far], pivot, scheme: "RdBu", reverse: true, unknown, clamp: true }
      : { type: "diverging", domain: [0, Math.max(2, high)], pivot, scheme: "RdBu", reverse: true, unknown, clamp: true };
  }
  function shade(stage, metric, options) {
    const value = asNumber(stage[metric]);
    if (value === undefined || value === null) return stage.status === "faulty" ? options.domain[1] : null; // not computable
    if (Number.isNaN(value) || value > options.domain[1]) return options.domain[1];
    return Math.max(value, options.domain[0]);
  }
  function describe(stage) {
    const parts = [title(stage.name), stage.status];
    if (stage.noise !== undefined) parts.push(`local error ${said(stage.noise)} of its predicted noise`);
    if (stage.over !== undefined) parts.push(`difference ${said(stage.over)} of the threshold`);
    if (stage.max === undefined && stage.status !== "skipped") parts.push("not computable");
    if (data.at[stage.name]) parts.push(`cause: ${data.at[stage.name]}`);
    return parts.join(", ");
  }

  let fills = null; // a value -> its colour, of the map as it is drawn
  function drawMap() {
    const metric = state.metric;
    find("map-means").textContent = METRICS[metric].means;
    const options = colours(metric, state.scale);
    fills = Plot.scale({ color: options });
    const place = find("map");
    place.replaceChildren();
    if (!inLayers.length) {
      place.append(make("p", {}, "No stage of a layer was compared, or the report was written without stages."));
      find("outside").replaceChildren();
      return;
    }
    const left = 96;
    const room = Math.max(280, place.clientWidth - 4);
    const width = Math.max(room, left + 13 * layers.length);
    const cellWidth = (width - left) / layers.length;
    const cells = inLayers.map((stage) => ({ stage, value: shade(stage, metric, options) }));
    const every = Math.ceil(24 / cellWidth);
    const plot = plotted({
      width, height: 46 + 21 * ops.length, marginLeft: left, marginTop: 24, marginBottom: 22, marginRight: 4,
      style: { fontSize: "12px", background: "transparent", overflow: "visible" },
      x: { type: "band", domain: layers, axis: "top", label: "layer", labelAnchor: "left", tickSize: 0, padding: 0.06,
           ticks: layers.filter((_, i) => i % every === 0) },
      y: { type: "band", domain: ops, label: null, tickSize: 0, padding: 0.06 },
      color: options,
      marks: [
        Plot.cell(cells, { className: "cells", x: (d) => d.stage.layer, y: (d) => d.stage.op, fill: "value", ariaLabel: (d) => describe(d.stage) }),
        Plot.text(cells, { x: (d) => d.stage.layer, y: (d) => d.stage.op, text: (d) => MARKS[d.stage.status], className: "mark",
                           fontSize: Math.min(13, cellWidth * 0.9), filter: (d) => MARKS[d.stage.status] !== "" }),
      ],
    });
    plot.removeAttribute("role");
    const rects = [...plot.querySelectorAll("g.cells rect")];
    // Plot gives each mark the index of its datum.
    rects.forEach((rect) => {
      const { stage, value } = cells[rect.__data__];
      rect.classList.add("cell");
      rect.dataset.stage = stage.name;
      rect.setAttribute("role", "button");
      rect.setAttribute("tabindex", "-1");
      rect.append(Object.assign(document.createElementNS("http://www.w3.org/2000/svg", "title"), { textContent: describe(stage) }));
      rect.addEventListener("click", () => select(stage.name));
      rect.addEventListener("keydown", (event) => move(event, stage));
      if (value === null) rect.setAttribute("fill", options.unknown);
    });
    // A mark is dark on a pale cell and pale on a dark one.
    const marked = cells.filter((cell) => MARKS[cell.stage.status] !== "");
    plot.querySelectorAll("g.mark text").forEach((text) => {
      const cell = cells[text.__data__] ?? marked[0];
      text.classList.add("mark");
      text.setAttribute("aria-hidden", "true");
      text.style.fill = ink(cell.value === null ? options.unknown : fills.apply(cell.value));
    });
    place.append(Plot.legend({ color: { ...options, label: METRICS[metric].label }, width: Math.min(320, room), marginLeft: 16, marginRight: 20, ticks: legendTicks(options), tickFormat: said }), plot);
    const start = rects.find((rect) => rect.dataset.stage === (state.stage || data.first)) ?? rects[0];
    start.setAttribute("tabindex", "0");
    drawOutside(options);
    markSelected();
  }
  function legendTicks({ type, domain, pivot }) {
    const [low, high] = domain;
    if (!type.endsWith("log")) return [low, pivot ?? (low + high) / 2, high];
    const middle = pivot ?? Math.sqrt(low * high);
    return [low, Math.sqrt(low * middle), middle, Math.sqrt(middle * high), high].map((x) => Number(x.toPrecision(3)));
  }
  function ink(colour) {
    const { l } = d3.lab(colour);
    return l > 55 ? "#111" : "#fff";
  }
  function drawOutside(options) {
    const buttons = data.stages.filter((stage) => stage.layer === undefined).map((stage) => {
      const value = shade(stage, state.metric, options);
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = value === null ? options.unknown : fills.apply(value);
      return make("button", { type: "button", "data-stage": stage.name, "aria-label": describe(stage), onclick: () => select(stage.name) },
        swatch, `${MARKS[stage.status]} ${title(stage.name)}`.trim());
    });
    find("outside").replaceChildren(...buttons);
  }
  function move(event, stage) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Enter" || event.key === " ") select(stage.name);
    else if (!dx && !dy) return;
    event.preventDefault();
    let x = layers.indexOf(stage.layer), y = ops.indexOf(stage.op);
    // Layers of another kind lack some operations: go on until there is a cell.
    while (dx || dy) {
      x += dx; y += dy;
      if (x < 0 || y < 0 || x >= layers.length || y >= ops.length) return;
      const next = document.querySelector(`rect[data-stage="layers.${layers[x]}.${ops[y]}"]`);
      if (next) {
        document.querySelectorAll("rect.cell[tabindex='0']").forEach((rect) => rect.setAttribute("tabindex", "-1"));
        next.setAttribute("tabindex", "0");
        next.focus();
        return;
      }
    }
  }
  function markSelected() {
    document.querySelectorAll("[data-stage]").forEach((element) => {
      const chosen = element.dataset.stage === state.stage;
      element.classList.toggle("selected", chosen);
      if (element.tagName === "BUTTON" || element.tagName === "rect") element.setAttribute("aria-pressed", String(chosen));
      if (chosen && element.tagName === "rect") {
        const focused = document.activeElement === element;
        element.parentNode.append(element); // its border lies over its neighbours
        if (focused) element.focus(); // an element that moves loses the focus
      }
    });
  }

  // ---- the selected stage -----------------------------------------------------------------------------------

  function select(name) {
    state.stage = state.stage === name ? "" : name;
    remember(true);
    markSelected();
    drawStage();
    if (matchMedia("(max-width: 900px)").matches && state.stage) find("stage").scrollIntoView({ block: "nearest" });
  }
  function drawStage() {
    const place = find("stage"), stage = byName.get(state.stage);
    if (!stage) {
      place.replaceChildren(make("p", {}, state.stage ? `This report has no stage ${state.stage}.` : "Select a cell to see its stage."));
      return;
    }
    const facts = make("dl", { class: "facts" });
    const fact = (name, value) => value !== undefined && facts.append(make("dt", {}, name), make("dd", { class: "mono" }, String(value)));
    fact("status", stage.status);
    if (data.at[stage.name]) fact("cause", data.at[stage.name]);
    fact("dims", stage.dims);
    if (stage.other_dims) fact(`dims, ${data.label.left}`, stage.other_dims);
    fact("largest difference", said(stage.max));
    fact("threshold here", said(stage.limit));
    fact("mean difference", said(stage.mean));
    fact("size (rms)", said(stage.size));
    fact("difference / size", said(stage.l2));
    if (stage.cosine !== undefined) fact("cosine", stage.cosine);
    fact("local error", said(stage.local));
    fact("predicted noise", said(stage.predicted));
    fact("local / noise", said(stage.noise));
    if (stage.witness) fact("witness agrees with", data.label[stage.witness] || stage.witness);
    if (stage.worst) {
      fact("worst position", `[${stage.worst.index.join(", ")}]`);
      fact(`${data.label.left} there`, said(stage.worst.left));
      fact(`${data.label.right} there`, said(stage.worst.right));
    }
    if (stage.nonfinite) fact("NaN or Inf", `${data.label.left} ${stage.nonfinite.left}, ${data.label.right} ${stage.nonfinite.right}`);
    const parts = [make("h3", {}, title(stage.name)), facts];
    if (stage.by_token) {
      const bars = stage.by_token.map((value, i) => ({ token: i * data.token_step, value: asNumber(value) }));
      parts.push(make("h4", {}, "Largest difference of each token"), plotted({
        width: 290, height: 130, marginLeft: 52, style: { background: "transparent" }, ariaLabel: "Largest difference of each token",
        x: { label: "token", type: "band", ticks: bars.map((b) => b.token).filter((_, i) => i % Math.ceil(bars.length / 8) === 0) },
        y: { label: null, grid: true, ticks: 4, tickFormat: said },
        marks: [Plot.barY(bars, { x: "token", y: "value", fill: "currentColor", fillOpacity: 0.6 }), Plot.ruleY([0])],
      }));
    }
    place.replaceChildren(...parts, ...of.ofStage(stage));
  }

  // ---- along the depth, and token by token ------------------------------------------------------------------

  const WORST = "";
  const dark = { difference: "#ff8580", threshold: "#9aa5b4", "local error": "#79b8ff", "predicted noise": "#5fce7f" };
  const light = { difference: "#b3121d", threshold: "#57606a", "local error": "#0550ae", "predicted noise": "#116329" };

  // Of each layer the worst stage: differences of unlike stages compare only beside what each is allowed.
  function drawWorst() {
    const place = find("depth");
    const points = layers.flatMap((layer) => [["over", "difference / threshold"], ["noise", "local error / predicted noise"]].flatMap(([key, name]) => {
      const of = inLayers.filter((stage) => stage.layer === layer && Number.isFinite(asNumber(stage[key])));
      const worst = of.reduce((a, b) => (a && asNumber(a[key]) >= asNumber(b[key]) ? a : b), null);
      return worst && asNumber(worst[key]) > 0 ? [{ layer, name, value: asNumber(worst[key]), stage: worst.op }] : [];
    }));
    if (!points.length) return place.replaceChildren(make("p", {}, inLayers.length ? "Every difference is exactly 0." : "No stage of a layer was compared."));
    const colour = isDark() ? dark : light;
    const names = [...new Set(points.map((point) => point.name))];
    place.replaceChildren(plotted({
      width: Math.max(320, place.clientWidth - 4), height: 280, marginLeft: 62, marginBottom: 34, style: { background: "transparent", fontSize: "12px" },
      ariaLabel: "Worst stage of each layer along the depth: difference over the threshold, local error over its predicted noise; 1 is what is allowed",
      color: { domain: ["difference / threshold", "local error / predicted noise"], range: [colour.difference, colour["local error"]], legend: true },
      x: { label: "layer", tickFormat: "d", domain: [layers[0], Math.max(layers.at(-1), layers[0] + 1)] },
      y: { type: "log", grid: true, label: null, tickFormat: said, ticks: 5 },
      marks: [
        Plot.ruleY([1], { stroke: "currentColor", strokeDasharray: "6 4", strokeWidth: 1.5 }),
        Plot.text([{ layer: layers[0], value: 1 }], { x: "layer", y: "value", text: () => "1: what is allowed", textAnchor: "start", dy: -8 }),
        ...names.map((name, i) => Plot.line(points.filter((point) => point.name === name), { x: "layer", y: "value", stroke: "name", strokeWidth: 2, strokeDasharray: i ? "4 2" : "none" })),
        Plot.dot(points, { x: "layer", y: "value", fill: "name", symbol: "name", r: 3, tip: true, channels: { stage: "stage" } }),
      ],
    }));
  }
  function drawDepth() {
    if (state.op === WORST) return drawWorst();
    const place = find("depth"), chosen = inLayers.filter((stage) => stage.op === state.op);
    if (!chosen.length) return place.replaceChildren(make("p", {}, "No stage of a layer was compared."));
    const lines = [["max", "difference"], ["limit", "threshold"], ["local", "local error"], ["predicted", "predicted noise"]];
    const points = lines.flatMap(([key, name]) => chosen.map((stage) => ({ layer: stage.layer, name, value: asNumber(stage[key]), status: stage.status })))
      .filter((point) => Number.isFinite(point.value) && point.value > 0);
    const names = lines.map(([, name]) => name).filter((name) => points.some((point) => point.name === name));
    const colour = isDark() ? dark : light;
    const dashes = { threshold: "6 4", "predicted noise": "2 3" };
    if (!points.length) return place.replaceChildren(make("p", {}, `Every difference of ${state.op} is exactly 0.`));
    const width = Math.max(320, place.clientWidth - 4);
    const last = (name) => points.filter((point) => point.name === name).at(-1);
    place.replaceChildren(plotted({
      width, height: 280, marginLeft: 62, marginBottom: 34, style: { background: "transparent", fontSize: "12px" },
      ariaLabel: `Error of ${state.op} along the depth, against threshold and predicted noise`,
      color: { domain: names, range: names.map((name) => colour[name]), legend: true },
      x: { label: "layer", tickFormat: "d", domain: [layers[0], Math.max(layers.at(-1), layers[0] + 1)] },
      y: { type: "log", grid: true, label: null, tickFormat: said, ticks: 6 },
      marks: [
        ...names.map((name) => Plot.line(points.filter((point) => point.name === name), { x: "layer", y: "value", stroke: "name", strokeWidth: 2, strokeDasharray: dashes[name] ?? "none" })),
        Plot.dot(points.filter((point) => point.name === "difference" || point.name === "local error"), { x: "layer", y: "value", fill: "name", r: 3, tip: true, channels: { status: "status" } }),
        Plot.text(names.map(last), { x: "layer", y: "value", text: "name", textAnchor: "end", dy: -9, fontWeight: 600 }),
      ],
    }));
  }
  function drawTokens() {
    const op = state.op || lastOp, place = find("tokens-map"), chosen = inLayers.filter((stage) => stage.op === op && stage.by_token);
    find("tokens-title").textContent = `Each token: largest difference of ${op || "each layer"}`;
    if (!chosen.length) {
      place.replaceChildren(make("p", { class: "note" }, "This report holds no single tokens of this stage; --detail tokens keeps them, as a page that is written with the comparison does."));
      return;
    }
    const cells = chosen.flatMap((stage) => stage.by_token.map((value, i) => ({ layer: stage.layer, token: i * data.token_step, value: asNumber(value) })));
    const count = chosen[0].by_token.length, positive = cells.map((cell) => cell.value).filter((value) => value > 0 && Number.isFinite(value));
    if (!positive.length) return place.replaceChildren(make("p", {}, `Every difference of ${op} is exactly 0 at every token.`));
    const width = Math.max(place.clientWidth - 4, 60 + 4 * layers.length);
    const low = Math.min(...positive), high = Math.max(...positive);
    place.replaceChildren(plotted({
      width, height: Math.min(600, 60 + Math.max(6, Math.min(22, 400 / count)) * count), marginLeft: 62, marginTop: 24,
      style: { background: "transparent", fontSize: "12px" }, ariaLabel: `Largest difference of ${op} at each token, by layer`,
      x: { type: "band", axis: "top", label: null, domain: layers, ticks: layers.filter((_, i) => i % Math.ceil(24 / ((width - 62) / layers.length)) === 0), tickSize: 0 },
      y: { type: "band", label: null, tickFormat: (i) => `token ${i}`, tickSize: 0, ticks: d3.range(count).filter((i) => i % Math.ceil(count / 20) === 0).map((i) => i * data.token_step) },
      color: { type: "log", domain: [low, Math.max(high, low * 1.01)], scheme: "viridis", legend: true, marginLeft: 16, label: "largest difference, layers from left to right", tickFormat: said, ticks: legendTicks({ type: "log", domain: [low, high] }) },
      marks: [Plot.cell(cells, { x: "layer", y: "token", fill: "value", inset: 0.3, title: (d) => `layer ${d.layer}, token ${d.token}: ${said(d.value)}` })],
    }));
  }

  // ---- tables that sort and filter --------------------------------------------------------------------------

  // `key` names the table in the hash: its order is `key.sort=column` (`-column` descending), its filter `key.find`.
  function table(place, key, caption, columns, rows, { only = null, empty = "None." } = {}) {
    if (!rows.length) return place.replaceChildren(make("p", {}, empty));
    state[`${key}.sort`] ??= ""; state[`${key}.find`] ??= ""; DEFAULTS[`${key}.sort`] = ""; DEFAULTS[`${key}.find`] = "";
    if (only) { state[`${key}.all`] ??= ""; DEFAULTS[`${key}.all`] = ""; }
    const filter = make("input", { type: "search", "aria-label": `Filter: ${caption}`, placeholder: "filter", value: state[`${key}.find`], oninput: () => { state[`${key}.find`] = filter.value; redraw(); } });
    const all = only && make("input", { type: "checkbox", onchange: () => { state[`${key}.all`] = all.checked ? "1" : ""; redraw(); } });
    if (all) all.checked = state[`${key}.all`] === "1";
    const heads = columns.map((name, i) => make("th", { scope: "col" }, make("button", { type: "button", onclick: () => sortBy(i) }, name)));
    const body = make("tbody"), count = make("span", { class: "note", role: "status" });
    function sortBy(i) {
      state[`${key}.sort`] = state[`${key}.sort`] === String(i) ? `-${i}` : String(i);
      redraw();
    }
    function draw() {
      const wanted = state[`${key}.find`].toLowerCase(), order = state[`${key}.sort`];
      const shown = rows.filter((row) => (!only || state[`${key}.all`] === "1" || only.keeps(row)) && (!wanted || row.some((cell) => String(cell ?? "").toLowerCase().includes(wanted))));
      if (order !== "") {
        const i = Math.abs(parseInt(order.replace("-", ""), 10)), turn = order.startsWith("-") ? -1 : 1;
        shown.sort((a, b) => turn * compare(a[i], b[i]));
      }
      heads.forEach((head, i) => head.setAttribute("aria-sort", order === String(i) ? "ascending" : order === `-${i}` ? "descending" : "none"));
      body.replaceChildren(...shown.map((row) => make("tr", { class: row.find((cell) => cell === "differs" || cell === "faulty") ?? "" },
        ...row.map((cell) => typeof cell === "number" ? make("td", { class: "number" }, said(cell)) : cell instanceof Function ? make("td", {}, cell()) : make("td", {}, cell ?? "–")))));
      count.textContent = `${shown.length} of ${rows.length}`;
    }
    function redraw() { remember(false); draw(); }
    const controls = make("div", { class: "controls" }, filter, all && make("label", {}, all, only.label), count);
    const drawn = make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...heads)), body);
    place.replaceChildren(controls, make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, drawn));
    draw();
  }
  function compare(a, b) {
    const missing = (value) => value === null || value === undefined;
    if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
    const [x, y] = [Number(asNumber(a)), Number(asNumber(b))];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }
  function drawTables() {
    const { left, right } = data.label;
    const numeric = (value) => (value === undefined ? null : asNumber(value));
    table(find("stages-table"), "stages", "Every stage, in order", ["stage", "status", "largest difference", "size", "difference / threshold", "local error", "predicted noise", "local / noise"],
      data.stages.map((s) => [s.name, s.status, numeric(s.max), numeric(s.size), numeric(s.over), numeric(s.local), numeric(s.predicted), numeric(s.noise)]),
      { only: { label: "all stages", keeps: (row) => row[1] === "faulty" || row[1] === "drift" }, empty: "The report was written without stages." });
    table(find("config-table"), "config", "Configuration keys", ["key", left, right, "status", "note"], data.config,
      { only: { label: "also keys that agree", keeps: (row) => row[3] !== "same" }, empty: "No key was compared." });
    const ids = Array.from({ length: Math.max(data.tokens.left.length, data.tokens.right.length) }, (_, i) =>
      [i, String(data.tokens.left[i] ?? "–"), String(data.tokens.right[i] ?? "–"), data.tokens.left[i] === data.tokens.right[i] ? "same" : "differs"]);
    table(find("ids-table"), "ids", "Token IDs of the prompt", ["position", left, right, "status"], ids, { empty: "There are none." });
    const w = data.weights_compared;
    find("weights-compared").textContent = `${w.identical_bytes + w.within_noise + w.differing} compared: ${w.identical_bytes} with identical bytes, ${w.within_noise} within the noise of their dtypes, ${w.differing} differing.`;
    table(find("weights-table"), "weights", "Weights that differ or are missing", ["weight", `${left} dtype`, `${right} dtype`, `${left} dims`, `${right} dims`, "rel rmse", "predicted", "cosine", "note"], data.weights, { empty: "No weight differs by more than its dtypes explain." });
    table(find("refuted-table"), "refuted", "Repairs that did not bring the stage back", ["kind", "tensor or key", "stage", "before", "after"], data.refuted, { empty: "Nothing was." });
  }
  function drawLogits() {
    const logits = data.logits, place = find("logits");
    if (!logits || !logits.left_top.length) return place.replaceChildren(make("p", {}, "The logits could not be compared."));
    const sides = ["left", "right"].map((side) => {
      const top = logits[`${side}_top`], values = top.map((t) => asNumber(t.logit)), low = Math.min(...values), high = Math.max(...values);
      const rows = top.map((t) => {
        const bar = make("span", { class: "bar", "aria-hidden": "true" });
        bar.style.width = `${1 + 5 * (high > low ? (asNumber(t.logit) - low) / (high - low) : 1)}em`;
        return make("tr", {}, make("td", { class: "number" }, String(t.id)), make("td", {}, make("code", {}, t.token === null ? "–" : JSON.stringify(t.token))), make("td", { class: "number" }, said(t.logit)), make("td", {}, bar));
      });
      return make("table", {}, make("caption", {}, data.label[side]), make("thead", {}, make("tr", {}, ...["id", "token", "logit", ""].map((name) => name ? make("th", { scope: "col" }, name) : make("td")))), make("tbody", {}, ...rows));
    });
    const same = logits.argmax_match === null ? "" : logits.argmax_match ? "Both would say the same token next. " : "They would say different tokens next. ";
    const nll = logits.nll ? ` The prompt's own tokens cost ${data.label.left} ${said(logits.nll.left)} and ${data.label.right} ${said(logits.nll.right)} nats each; guessing costs ${said(logits.nll.uniform)}.` : "";
    place.replaceChildren(make("p", {}, `${same}KL ${said(logits.kl)} nats.${nll}`), make("div", { class: "logits" }, ...sides));
  }
  function drawRun() {
    find("run").replaceChildren(...Object.entries(data.run).flatMap(([name, value]) => [make("dt", {}, name), make("dd", { class: "mono" }, String(value))]));
  }

  // ---- the hash ---------------------------------------------------------------------------------------------

  function remember(step) {
    const changed = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
    const hash = new URLSearchParams(changed).toString();
    history[step ? "pushState" : "replaceState"](null, "", hash ? `#${hash}` : location.pathname + location.search);
  }
  function recall() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const key of Object.keys(state)) state[key] = DEFAULTS[key] ?? "";
    for (const [key, value] of given) state[key] = value;
    if (!METRICS[state.metric]) state.metric = DEFAULTS.metric;
    if (state.scale !== "linear") state.scale = "log";
    if (!ops.includes(state.op)) state.op = WORST;
    if (!of.ops.includes(state.parts)) state.parts = "";
    if (!of.weights.some((weight) => weight.name === state.weight)) state.weight = "";
    for (const input of find("map-controls").elements) if (input.name) input.checked = state[input.name] === input.value;
    find("op").value = state.op;
    find("parts").value = state.parts || of.usual();
    find("weight").value = state.weight || of.weights[0]?.name;
  }
  function drawParts() { of.drawMap(state.parts || of.usual()); }
  function drawPlots() { drawMap(); drawDepth(); drawTokens(); drawParts(); of.drawWeight(state.weight); }
  function drawAll() { recall(); drawPlots(); drawStage(); drawTables(); }

  find("op").append(make("option", { value: WORST }, "the worst of the layer"), ...ops.map((op) => make("option", { value: op }, op)));
  find("op").addEventListener("change", (event) => { state.op = event.target.value; remember(false); drawDepth(); drawTokens(); });
  find("parts").append(...of.ops.map((op) => make("option", { value: op }, op)));
  find("parts").addEventListener("change", (event) => { state.parts = event.target.value; remember(false); drawParts(); });
  find("weight").append(...of.weights.map(({ name }) => make("option", { value: name }, name)));
  find("weight").addEventListener("change", (event) => { state.weight = event.target.value; remember(false); of.drawWeight(state.weight); });
  find("map-controls").addEventListener("change", (event) => { state[event.target.name] = event.target.value; remember(false); drawMap(); });
  window.addEventListener("hashchange", drawAll);
  window.addEventListener("popstate", drawAll);
  let width = document.documentElement.clientWidth;
  window.addEventListener("resize", () => {
    if (document.documentElement.clientWidth === width) return; // a phone's address bar comes and goes
    width = document.documentElement.clientWidth;
    drawPlots();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPlots);
  drawAll();
  drawLogits();
  drawRun();
})();
