// Trials as points beside their table (dashboards/ink/explorer.py, as JSON): either axis may be any number, methods and
// rows are filtered in both at once, and the row under the pointer or the keyboard is told in words.
const KINDS = { // in the order of drawing: the least important first
  infeasible: {size: 9, opacity: 0.6, symbol: "x"}, dominated: {size: 8, opacity: 0.5},
  tuned: {size: 9, opacity: 0.35, symbol: "star"}, baseline: {size: 16, symbol: "star", strong: true},
  front: {size: 11, strong: true, ringed: true}, "baseline on the front": {size: 17, symbol: "star", strong: true, ringed: true},
};

function explorer(host, data) {
  const state = {x: data.x, y: data.y, hidden: new Set(), words: [], front: false, whole: false, row: null};
  const rows = data.rows.map((row, i) => i), picture = make("div", {class: "picture"});
  const facts = make("p", {class: "facts", "aria-live": "polite"});
  const table = tableOf(data), lines = [...table.tBodies[0].rows];
  const choose = (which, label) => {
    const list = make("select", {"aria-label": `${label} axis`});
    data.columns.forEach((column, i) => { if (column.axis) list.append(make("option", {value: i}, column.title + (column.log ? ", log" : ""))); });
    list.value = state[which];
    list.addEventListener("change", () => { state[which] = Number(list.value); redraw(); });
    return make("label", {}, `${label} `, list);
  };
  const check = (which, label) => {
    const box = make("input", {type: "checkbox"});
    box.addEventListener("change", () => { state[which] = box.checked; redraw(); });
    return make("label", {}, box, ` ${label}`);
  };
  const filter = make("input", {type: "search", placeholder: "filter: fairlora rank>8", "aria-label": "Filter trials by words and numbers, such as fairlora rank>8"});
  filter.addEventListener("input", () => { state.words = filter.value.toLowerCase().split(/\s+/).filter(Boolean); redraw(); });
  const methods = Object.entries(data.looks).map(([method, look]) => {
    const button = make("button", {type: "button", class: "method", "aria-pressed": "true"}, swatch({...look, draw: "points", size: 10, opacity: 1}), method);
    button.addEventListener("click", () => {
      state.hidden.delete(method) || state.hidden.add(method);
      button.setAttribute("aria-pressed", String(!state.hidden.has(method)));
      redraw();
    });
    return button;
  });
  const shown = make("span", {class: "count", role: "status"});
  const star = data.place.some(place => /baseline|tuned/.test(place))
    ? [make("span", {class: "key"}, swatch({hue: "muted", symbol: "star", draw: "points", size: 10, opacity: 1}), "baseline")] : [];
  const key = make("span", {class: "key"}, swatch({hue: "ink", draw: "line", size: 0, opacity: 1}), "front");
  host.replaceChildren(
    make("div", {class: "explorer"},
      make("div", {class: "side"}, make("div", {class: "controls"}, ...methods, ...star, ...(data.front.length ? [key] : [])), picture, facts,
        make("div", {class: "controls"}, choose("x", "across"), choose("y", "up"), ...(data.far ? [check("whole", "show what lies far off")] : []))),
      make("div", {class: "side"}, make("div", {class: "controls"}, filter, check("front", "front alone"), shown),
        make("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Trials"}, table))));
  sortable(table);

  const fits = i => !state.hidden.has(data.method[i]) && (!state.front || /front/.test(data.place[i]))
    && state.words.every(word => holds(data, i, lines[i].textContent.toLowerCase(), word));
  const drawn = i => known(data.rows[i][state.x]) && known(data.rows[i][state.y]) && data.place[i];

  function redraw() {
    const visible = rows.filter(fits), width = picture.clientWidth;
    lines.forEach(line => { line.hidden = true; });
    visible.forEach(i => { lines[i].hidden = false; });
    shown.textContent = `${visible.length} of ${rows.length} trials`;
    if (!width) return;
    const points = visible.filter(drawn);
    const panel = panelOf(data, state, points);
    const {svg, at} = drawPanel(panel, width, Math.max(260, Math.min(data.height, 0.72 * width + 60)), told => tell(told ? told.row : null));
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("aria-label", `${points.length} trials, ${panel.y.title} against ${panel.x.title}. Arrow keys go from point to point; the table has the same numbers.`);
    const halo = make("path", {class: "halo", d: SHAPES.circle(12), visibility: "hidden"});
    svg.append(halo);
    state.halo = i => {
      const on = i !== null && points.includes(i);
      halo.setAttribute("visibility", on ? "visible" : "hidden");
      if (on) halo.setAttribute("transform", `translate(${at(data.rows[i][state.x], data.rows[i][state.y]).join(",")})`);
    };
    const order = [...points].sort((a, b) => data.rows[a][state.x] - data.rows[b][state.x]);
    svg.addEventListener("keydown", event => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (!step || !order.length) return;
      event.preventDefault();
      const now = order.indexOf(state.row);
      tell(order[now < 0 ? 0 : Math.max(0, Math.min(order.length - 1, now + step))], true);
    });
    svg.addEventListener("click", event => { if (state.row !== null && event.target.classList.contains("mark")) lines[state.row].scrollIntoView({block: "nearest"}); });
    picture.replaceChildren(svg);
    tell(state.row);
  }
  function tell(i, scroll = false) {
    if (i === undefined) return;
    lines.forEach((line, k) => line.classList.toggle("told", k === i));
    state.row = i ?? state.row;
    state.halo?.(i);
    facts.textContent = i === null ? data.hint : sentence(data, i);
    if (scroll) lines[i].scrollIntoView({block: "nearest"});
  }
  lines.forEach((line, i) => {
    line.tabIndex = i ? -1 : 0;
    line.addEventListener("pointerenter", () => tell(i));
    line.addEventListener("pointerleave", () => tell(null));
    line.addEventListener("focus", () => tell(i));
    line.addEventListener("keydown", event => {
      let next = line;
      do next = {ArrowDown: next.nextElementSibling, ArrowUp: next.previousElementSibling}[event.key]; while (next?.hidden);
      if (next) { event.preventDefault(); next.focus(); }
    });
  });
  facts.textContent = data.hint;
  watch(picture, redraw);
  redraw();
}

function tableOf(data) {
  const heads = data.columns.map(column => make("th", column.word ? {class: "text", scope: "col"} : {scope: "col"}, column.title));
  const cell = (i, c) => {
    const made = make("td", data.columns[c].word ? {class: "text"} : {}, written(data, i, c));
    return made;
  };
  const rows = data.rows.map((row, i) => make("tr", {class: /front/.test(data.place[i]) ? "front" : null}, ...row.map((_, c) => cell(i, c))));
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

function written(data, i, c) {
  const value = data.rows[i][c], column = data.columns[c], spread = data.spread[c]?.[i];
  if (!known(value)) return column.word ? "" : "–";
  if (typeof value !== "number") return value;
  if (column.whole) return String(value);
  return column.digits ? value.toFixed(column.digits) + (known(spread) ? ` ± ${spread.toFixed(column.digits)}` : "") : short(value);
}

function sentence(data, i) {
  const parts = data.columns.map((column, c) => [column.title, written(data, i, c)]).filter(([, text]) => text && text !== "–");
  return parts.map(([title, text]) => `${title} ${text}`).join(" · ");
}

const SIGNS = {">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b, "=": (a, b) => a === b};
function holds(data, i, text, word) {
  const asked = word.match(/^([^<>=]+)(>=|<=|>|<|=)(.*)$/);
  const c = asked ? data.columns.findIndex(column => column.name.toLowerCase() === asked[1]) : -1;
  if (c < 0) return text.includes(word);
  const value = data.rows[i][c], other = Number(asked[3]);
  if (asked[3] === "") return true; // still being typed
  return known(value) && (typeof value === "number" ? SIGNS[asked[2]](value, other) : String(value).toLowerCase() === asked[3]);
}

function panelOf(data, state, points) {
  const home = state.x === data.x && state.y === data.y, near = home && !state.whole;
  const scale = (which, range) => ({title: data.columns[which].title, log: data.columns[which].log, ticks: [], names: [],
    low: near ? range[0] : null, high: near ? range[1] : null});
  const value = (i, c) => data.rows[i][c], series = [];
  if (home && data.front.length) series.push({...BLANK, draw: "line", name: "front", hue: "ink", size: 0, thick: 2, hover: [""],
    x: data.front.map(point => point[0]), y: data.front.map(point => point[1])});
  for (const [kind, style] of Object.entries(KINDS)) for (const [method, look] of Object.entries(data.looks)) {
    const own = points.filter(i => data.place[i] === kind && data.method[i] === method);
    const bars = c => style.strong ? own.map(i => data.spread[c]?.[i] ?? null) : [];
    if (own.length) series.push({...BLANK, ...look, ...style, symbol: style.symbol || look.symbol, name: method, draw: "points", rows: own,
      x: own.map(i => value(i, state.x)), y: own.map(i => value(i, state.y)), x_error: bars(state.x), error: bars(state.y), hover: own.map(() => method)});
  }
  const chosen = points.find(i => i === data.chosen);
  if (chosen !== undefined) series.push({...BLANK, draw: "points", symbol: "circle", hue: "ink", size: 24, opacity: 0.22, rows: [chosen],
    x: [value(chosen, state.x)], y: [value(chosen, state.y)], hover: [""]});
  const labels = home ? data.labels.filter(label => points.includes(label.row)).map(label => ({texts: label.texts, towards: data.towards,
    x: value(label.row, state.x), y: value(label.row, state.y)})) : [];
  return {title: "", x: scale(state.x, data.view[0]), y: scale(state.y, data.view[1]), series, bands: [], lines: home ? data.lines : [], labels};
}
const BLANK = {name: "", hue: "ink", symbol: "circle", dash: "solid", size: 8, opacity: 1, thick: 1.6, ringed: false, key: false,
  x: [], y: [], error: [], x_error: [], base: [], hover: [], width: 1};
