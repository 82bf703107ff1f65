// Draws a chart (dashboards/ink/chart.py, as JSON) as SVG at the width that it has: letters keep their size, and what has
// no room is left out or turned. Names are only ever text: `textContent` and attributes, no markup.
"use strict";

const LETTER = 11, LINE = 15;
const NARROW = 300; // pixels, of a panel
const DASHES = {dash: "7 4", dot: "2 3", dashdot: "8 3 2 3"};

function make(kind, attributes = {}, ...children) {
  const svg = "svg g path line rect text tspan clipPath title".split(" ").includes(kind);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", kind) : document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const pen = document.createElement("canvas").getContext("2d");
function widthOf(text) {
  pen.font = `${LETTER}px system-ui, sans-serif`;
  return Math.max(0, ...text.split("\n").map(line => pen.measureText(line).width));
}
const colour = hue => `var(--${hue})`;
const known = value => value !== null && value !== undefined;
const short = value => Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3)
  ? value.toExponential(1).replace(".0e", "e").replace("e+", "e") : String(Number(value.toPrecision(4)));

// --- marks

function polygon(corners, radius, turn = 0, inner = 1) {
  const at = k => {
    const angle = 2 * Math.PI * (k / corners + turn) - Math.PI / 2, r = inner < 1 && k % 2 ? inner * radius : radius;
    return `${(Math.cos(angle) * r).toFixed(2)},${(Math.sin(angle) * r).toFixed(2)}`;
  };
  return `M${Array.from({length: corners}, (_, k) => at(k)).join("L")}Z`;
}
const SHAPES = {
  "circle": r => `M${-r},0a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0Z`,
  "square": r => polygon(4, 1.25 * r, 1 / 8),
  "diamond": r => polygon(4, 1.25 * r),
  "triangle-up": r => polygon(3, 1.25 * r),
  "triangle-down": r => polygon(3, 1.25 * r, 1 / 2),
  "triangle-left": r => polygon(3, 1.25 * r, 3 / 4),
  "triangle-right": r => polygon(3, 1.25 * r, 1 / 4),
  "pentagon": r => polygon(5, 1.15 * r),
  "hexagon": r => polygon(6, 1.1 * r),
  "octagon": r => polygon(8, 1.1 * r, 1 / 16),
  "star": r => polygon(10, 1.15 * r, 0, 0.42),
  "diamond-tall": r => `M0,${-1.3 * r}L${0.7 * r},0L0,${1.3 * r}L${-0.7 * r},0Z`,
  "bowtie": r => `M${-r},${-r}L${r},${r}L${r},${-r}L${-r},${r}Z`,
  "cross": r => { const a = r / 3; return `M${-a},${-r}H${a}V${-a}H${r}V${a}H${a}V${r}H${-a}V${a}H${-r}V${-a}H${-a}Z`; },
  "x": r => `M${-r},${-r}L${r},${r}M${-r},${r}L${r},${-r}`,
};
function mark(series, x, y) {
  const ring = series.ringed ? "var(--ink)" : colour(series.hue), open = series.symbol === "x";
  return make("path", {
    d: SHAPES[series.symbol](series.size / 2), transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`, class: "mark",
    fill: open ? "none" : colour(series.hue), stroke: ring, "stroke-width": open ? 2 : series.ringed ? 1 : 0.3,
    opacity: series.opacity,
  });
}

// --- axes

function axis(scale, values, from, to) {
  const log = scale.log, place = log ? Math.log10 : value => value;
  let [low, high] = known(scale.low) && known(scale.high) ? [scale.low, scale.high].map(place) : ends(values.map(place));
  if (scale.names.length) [low, high] = [-0.6, scale.names.length - 0.4];
  const at = value => from + (place(value) - low) / (high - low) * (to - from);
  return {at, low, high, log, names: scale.names, given: scale.ticks, from, to};
}
function ends(values) {
  const finite = values.filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  const [low, high] = [Math.min(...finite), Math.max(...finite)], margin = 0.06 * (high - low) || 0.5;
  return [low - margin, high + margin];
}
function ticks(axis, room) { // [value, text], as many as have `room` pixels each, or as their texts need
  const length = Math.abs(axis.to - axis.from);
  if (axis.names.length) return axis.names.map((name, i) => [i, name]);
  let values = axis.given.filter(tick => within(axis, tick));
  if (values.length < 2) values = axis.log ? decades(axis) : steps(axis, Math.max(2, Math.floor(length / Math.max(room, 55))));
  const text = axis.log || axis.given.length ? short : plain(values);
  const needed = value => room || widthOf(text(value)) + 10;
  const widest = Math.max(...values.map(needed), 1);
  const every = Math.ceil(values.length * widest / (length + widest));
  return values.filter((_, i) => i % every === 0).map(value => [value, text(value)]);
}
const within = (axis, value) => {
  const place = axis.log ? Math.log10(value) : value;
  return place >= axis.low - 1e-9 && place <= axis.high + 1e-9;
};
function decades(axis) {
  const finer = axis.high - axis.low < 1.5 ? [1, 2, 5] : [1], values = [];
  for (let power = Math.floor(axis.low); power <= axis.high; power++)
    values.push(...finer.map(digit => digit * 10 ** power).filter(value => within(axis, value)));
  return values;
}
function steps(axis, count) {
  const rough = (axis.high - axis.low) / count, base = 10 ** Math.floor(Math.log10(rough));
  const step = base * [1, 2, 2.5, 5, 10].find(factor => factor * base >= rough * 0.999), values = [];
  for (let k = Math.ceil(axis.low / step - 1e-9); k * step <= axis.high + 1e-9 * step; k++) values.push(k * step);
  return values;
}
function plain(values) {
  const step = values.length > 1 ? Math.abs(values[1] - values[0]) : Math.abs(values[0]) || 1;
  const digits = [0, 1, 2, 3, 4, 5, 6].find(n => Math.abs(step * 10 ** n - Math.round(step * 10 ** n)) < 1e-6) ?? 6;
  return value => value.toFixed(digits);
}

// --- one panel

function clipped(text, letters) {
  return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
}

function drawPanel(panel, width, height, show) {
  const wide = Math.min(width - 60, 900), bars = panel.series.filter(series => series.draw === "bars");
  const names = panel.x.names;
  const flipped = names.length > 0 && names.reduce((sum, name) => sum + widthOf(name) + 10, 0) > wide;
  if (flipped) height = Math.max(120, names.length * Math.max(LINE, 9 * bars.length + 4) + 60);
  const [across, up] = flipped ? [panel.y, panel.x] : [panel.x, panel.y];
  const of = (which, error) => panel.series.flatMap(series => spanned(series, which, error))
    .concat(panel.bands.flatMap(band => which === "x" ? band.x : [...band.low, ...band.high]));
  const values = flipped ? [of("y", "error"), []] : [of("x", "x_error"), of("y", "error")];
  const flat = name => {
    const [first, ...more] = name.split("\n"), rest = more.map(line => `, ${line}`).join("");
    return clipped(first, Math.floor(0.42 * width / 6) - rest.length) + rest;
  };
  const upright = axis(up, values[1], flipped ? 10 : height - 44, flipped ? height - 44 : 26);
  const beside = ticks(upright, LINE + 2).map(([value, text]) => [value, flipped ? flat(text) : text]);
  const left = 26 + Math.max(0, ...beside.map(([, text]) => widthOf(text)));
  const level = axis(across, values[0], left, width - 14);
  const at = (x, y) => flipped ? [level.at(y), upright.at(x)] : [level.at(x), upright.at(y)];
  const svg = make("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": [panel.title, `${panel.y.title} against ${panel.x.title || "what is named below"}`].filter(Boolean).join(": ")});
  const clip = `clip-${drawPanel.count = (drawPanel.count || 0) + 1}`, [top, bottom] = [flipped ? 10 : 26, height - 44];
  svg.append(make("clipPath", {id: clip}, make("rect", {x: left - 1, y: top - 1, width: width - 13 - left + 2, height: bottom - top + 2})));
  const grid = make("g", {class: "grid"}), inside = make("g", {"clip-path": `url(#${clip})`});
  for (const [value, text] of beside) {
    grid.append(make("line", {x1: left, x2: width - 14, y1: upright.at(value), y2: upright.at(value)}));
    grid.append(make("text", {x: left - 6, y: upright.at(value) + 4, "text-anchor": "end"}, text));
  }
  for (const [value, text] of ticks(level, 0)) {
    grid.append(make("line", {x1: level.at(value), x2: level.at(value), y1: top, y2: bottom}));
    text.split("\n").forEach((line, i) =>
      grid.append(make("text", {x: level.at(value), y: bottom + 14 + 12 * i, "text-anchor": "middle"}, line)));
  }
  const below = !flipped && names.some(name => name.includes("\n"));
  grid.append(make("text", {x: (left + width - 14) / 2, y: height - 6, "text-anchor": "middle", class: "title"}, below ? "" : across.title));
  if (up.title) grid.append(make("text", {transform: `translate(12,${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle", class: "title"}, up.title));
  if (panel.title) grid.append(make("text", {x: left, y: 14, class: "panel"}, clipped(panel.title, Math.floor((width - left) / 6.4))));
  svg.append(grid, inside);
  for (const band of panel.bands) inside.append(area(band, at));
  for (const line of panel.lines) inside.append(...reference(line, level, upright, [left, width - 14, top, bottom], flipped));
  const taken = [];
  for (const series of panel.series)
    for (const drawn of draw(series, at, bars.indexOf(series), bars.length, flipped)) {
      if (drawn.text && show) { // set by property: what is under the pointer says what it is
        drawn.element.addEventListener("pointerenter", event => show(drawn, event));
        drawn.element.addEventListener("pointerleave", () => show(null));
      }
      inside.append(drawn.element);
      if (drawn.strokes) taken.push(...drawn.strokes);
      if (drawn.at) taken.push([drawn.at[0] - 6, drawn.at[1] - 6, drawn.at[0] + 6, drawn.at[1] + 6]);
    }
  svg.append(...placed(panel.labels, at, taken, [left, top, width - 14, bottom]));
  return {svg, at};
}

function spanned(series, which, error) {
  const values = series[which], lengths = series[error] || [];
  const base = series.draw === "bars" && which === "y" ? [0] : [];
  return [...base, ...values.flatMap((value, i) => !known(value) ? [] : known(lengths[i])
    ? [value - lengths[i], value + lengths[i]] : [value])];
}

function area(band, at) {
  const edge = values => values.map((value, i) => at(band.x[i], value));
  const stepped = points => points.flatMap(([x, y], i) => i && band.steps ? [[x, points[i - 1][1]], [x, y]] : [[x, y]]);
  const outline = [...stepped(edge(band.low)), ...stepped(edge(band.high)).reverse()];
  return make("path", {d: `M${outline.map(point => point.join(",")).join("L")}Z`, fill: colour(band.hue), opacity: 0.18});
}

function reference(line, level, upright, [left, right, top, bottom], flipped) {
  const upwards = (line.axis === "x") !== flipped, place = (upwards ? level : upright).at(line.value);
  const ends = upwards ? {x1: place, x2: place, y1: top, y2: bottom} : {x1: left, x2: right, y1: place, y2: place};
  const text = upwards ? {x: place - 4, y: top + 11, "text-anchor": "end"} : {x: left + 4, y: place + 12};
  return [make("line", {...ends, stroke: colour(line.hue), "stroke-dasharray": "6 4"}), make("text", {...text, class: "small"}, line.text)];
}

function* draw(series, at, bar, bars, flipped) {
  const paint = {stroke: colour(series.hue), fill: "none"};
  const says = i => series.hover[series.hover.length === 1 ? 0 : i] || "";
  if (series.draw === "bars" || series.draw === "bins") {
    const width = series.draw === "bars" ? 0.8 / bars : series.width, shift = bars ? (bar - (bars - 1) / 2) * 0.8 / bars : 0;
    for (let i = 0; i < series.x.length; i++) {
      if (!known(series.y[i])) continue;
      const base = series.base[i] || 0, x = series.x[i] + shift;
      const [a, b] = [at(x - 0.46 * width, base), at(x + 0.46 * width, base + series.y[i])];
      const box = {x: Math.min(a[0], b[0]), y: Math.min(a[1], b[1]), width: Math.abs(a[0] - b[0]), height: Math.abs(a[1] - b[1])};
      yield {element: make("rect", {...box, fill: colour(series.hue), opacity: series.opacity, class: "mark"}), text: says(i), row: known(series.rows) ? series.rows[i] : null};
      if (known(series.error[i])) yield {element: whisker(at(x, base + series.y[i] - series.error[i]), at(x, base + series.y[i] + series.error[i]), "var(--ink)")};
    }
    return;
  }
  if (series.draw !== "points") {
    let path = "", last = null;
    series.x.forEach((x, i) => {
      if (!known(series.y[i])) { last = null; return; }
      const [u, v] = at(x, series.y[i]);
      path += last === null ? `M${u},${v}` : series.draw === "steps" ? (flipped ? `V${v}H${u}` : `H${u}V${v}`) : `L${u},${v}`;
      last = [u, v];
    });
    const line = make("path", {...paint, d: path || "M0,0", "stroke-width": series.thick, "stroke-dasharray": DASHES[series.dash] || null, opacity: series.opacity});
    const corners = path.split(/[ML]/).slice(1).map(corner => corner.split(",").map(Number));
    const strokes = corners.slice(1).map(([u, v], i) => [corners[i], [u, v]]).filter(([a, b]) => a[0] === b[0] || a[1] === b[1])
      .map(([a, b]) => [Math.min(a[0], b[0]) - 1, Math.min(a[1], b[1]) - 1, Math.max(a[0], b[0]) + 1, Math.max(a[1], b[1]) + 1]);
    yield {element: line, strokes, text: series.hover.length === 1 ? series.hover[0] : series.name};
  }
  for (let i = 0; i < series.x.length; i++) {
    const [x, y] = [series.x[i], series.y[i]];
    if (!known(x) || !known(y) || !series.size) continue;
    if (known(series.x_error[i])) yield {element: whisker(at(x - series.x_error[i], y), at(x + series.x_error[i], y), paint.stroke)};
    if (known(series.error[i])) yield {element: whisker(at(x, y - series.error[i]), at(x, y + series.error[i]), paint.stroke)};
    const spot = at(x, y);
    yield {element: mark(series, ...spot), text: says(i) || `${series.name}\n${short(x)}, ${short(y)}`, at: spot, row: known(series.rows) ? series.rows[i] : null};
  }
}

function whisker([a, b], [c, d], stroke) {
  const cap = Math.abs(c - a) > Math.abs(d - b) ? `M${a},${b - 3}v6M${c},${d - 3}v6` : `M${a - 3},${b}h6M${c - 3},${d}h6`;
  return make("path", {d: `M${a},${b}L${c},${d}${cap}`, stroke, fill: "none", "stroke-width": 1.2, class: "whisker"});
}

// Greedy, so the order of the labels is that of their importance; what finds no room is not written.
function placed(labels, at, taken, [left, top, right, bottom]) {
  const free = box => box[0] >= left && box[2] <= right && box[1] >= top && box[3] <= bottom
    && !taken.some(other => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]);
  return labels.flatMap(label => {
    const [x, y] = at(label.x, label.y), towards = Math.atan2(-label.towards[1], label.towards[0]);
    const turns = Array.from({length: 16}, (_, k) => k * Math.PI / 8).sort((a, b) => Math.cos(b - towards) - Math.cos(a - towards));
    for (const text of label.texts) for (const radius of [14, 24, 36, 50, 66]) for (const turn of turns) {
      const width = widthOf(text) + 4, u = x + Math.cos(turn) * (radius + width / 2), v = y + Math.sin(turn) * radius;
      const box = [u - width / 2, v - 8, u + width / 2, v + 6];
      if (!free(box)) continue;
      taken.push(box);
      const near = [Math.max(box[0], Math.min(x, box[2])), v];
      return [make("line", {x1: x, y1: y, x2: near[0], y2: near[1], class: "leader"}), make("text", {x: u, y: v + 3, "text-anchor": "middle", class: "label"}, text)];
    }
    return [];
  });
}

// --- a whole chart

function swatch(series) {
  const svg = make("svg", {width: 26, height: 14, "aria-hidden": "true"});
  if (series.draw === "bars" || series.draw === "bins") svg.append(make("rect", {x: 6, y: 1, width: 14, height: 12, fill: colour(series.hue), opacity: series.opacity}));
  else {
    if (series.draw !== "points") svg.append(make("line", {x1: 1, x2: 25, y1: 7, y2: 7, stroke: colour(series.hue), "stroke-width": 2, "stroke-dasharray": DASHES[series.dash] || null, opacity: series.opacity}));
    if (series.size) svg.append(mark({...series, size: Math.min(10, series.size)}, 13, 7));
  }
  return svg;
}

const tip = make("div", {class: "tip", role: "status"});
function hint(drawn, event) {
  tip.hidden = !drawn;
  if (!drawn) return;
  tip.textContent = drawn.text;
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
}

function drawChart(host, chart) {
  const width = host.clientWidth;
  if (!width) return; // folded away: drawn when it is opened
  const count = chart.panels.length, fitting = Math.max(1, Math.floor(width / NARROW));
  const columns = Math.min(Math.ceil(count / chart.rows), fitting), each = Math.floor((width - 12 * (columns - 1)) / columns);
  const height = Math.min(chart.height / chart.rows + 70, Math.max(240, each));
  const keys = chart.panels.flatMap(panel => panel.series).filter(series => series.key && series.name);
  const named = [...new Map(keys.map(series => [series.name, series])).values()];
  const legend = make("div", {class: "legend"}, ...named.map(series => make("span", {}, swatch(series), series.name)));
  const grid = make("div", {class: "panels"}, ...chart.panels.map(panel => drawPanel(panel, each, height, hint).svg));
  host.replaceChildren(legend, grid);
}

// Again whenever the width changes; a fold that opens has one for the first time.
function watch(host, drawing) {
  let width = -1;
  const seen = () => { if (host.clientWidth !== width) { width = host.clientWidth; drawing(); } };
  new ResizeObserver(() => requestAnimationFrame(seen)).observe(host);
}
