"use strict";

// ---- data and place in the training -----------------------------------------------------------

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const last = data.frames.length - 1;
let position = Math.max(0, last); // a moment, or a place between two
const drawings = []; // functions that draw again when the position changes
const everything = []; // ... and those that do when size or colours change

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
  const kinds = { u8: Uint8Array, u16: Uint16Array, f32: Float32Array };
  const raw = new kinds[packed.type](bytes.buffer);
  const steps = { u8: 255, u16: 65535 }[packed.type];
  const values = steps
    ? Float32Array.from(raw, (q) => packed.low + ((packed.high - packed.low) * q) / steps)
    : raw;
  const size = packed.shape.slice(1).reduce((a, b) => a * b, 1);
  return { values, size, shape: packed.shape, at: packed.at || data.frames.map((_, k) => k) };
}

// The values at the position: those of a moment, or between two the weighted mean of both.
function blended(series, exact) {
  const { at, values, size } = series;
  let k = 0;
  while (k < at.length - 2 && at[k + 1] <= position) k++;
  const next = Math.min(k + 1, at.length - 1);
  let share = next > k ? Math.min(1, (position - at[k]) / (at[next] - at[k])) : 0;
  if (exact) share = Math.round(share);
  const a = values.subarray(k * size, (k + 1) * size);
  const b = values.subarray(next * size, (next + 1) * size);
  return share === 0 ? a : share === 1 ? b : a.map((v, i) => v + share * (b[i] - v));
}

function epochAt(place) {
  const k = Math.min(Math.floor(place), last);
  const next = Math.min(k + 1, last);
  return data.frames[k] + (place - k) * (data.frames[next] - data.frames[k]);
}

// ---- elements ---------------------------------------------------------------------------------

function element(name, parent, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  parent.append(made);
  return made;
}

function card(title, wide) {
  const section = element("section", main, { className: wide ? "card wide" : "card" });
  element("h2", section, { textContent: title });
  return section;
}

// A canvas that is as wide as its parent, with a height in proportion.
function canvas(parent, label, proportion, draw, least = 0) {
  const made = element("canvas", parent);
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  const context = made.getContext("2d");
  const size = { width: 0, height: 0 };
  const again = () => {
    if (!size.width) return;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, size.width, size.height);
    context.font = "12px system-ui, sans-serif";
    draw(context, size.width, size.height);
  };
  const fit = () => {
    size.width = parent.clientWidth;
    const style = getComputedStyle(parent);
    size.width -= parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
    size.height = Math.max(least, Math.round(size.width * proportion));
    made.style.height = size.height + "px";
    made.width = Math.round(size.width * devicePixelRatio);
    made.height = Math.round(size.height * devicePixelRatio);
    again();
  };
  new ResizeObserver(fit).observe(parent);
  everything.push(fit);
  made.redraw = again;
  return made;
}

// A canvas that the slider moves.
function moving(...options) {
  const made = canvas(...options);
  drawings.push(made.redraw);
  return made;
}

// Each entry has a line, or the shape of a point: "circle" or "square".
function legend(parent, entries) {
  const box = element("div", parent, { className: "legend" });
  for (const { name, colour: c, dash, shape } of entries) {
    const entry = element("span", box);
    const stroke = `stroke:var(--${c});stroke-width:2.5;stroke-dasharray:${(dash || []).join(" ")}`;
    entry.innerHTML = {
      circle: `<svg width="12" height="12"><circle cx="6" cy="6" r="5" style="fill:var(--${c})"/></svg>`,
      square: `<svg width="12" height="12"><path d="M1 1h10v10h-10z" style="fill:var(--${c})"/></svg>`,
    }[shape] || `<svg width="28" height="10"><path d="M0 5H28" style="${stroke}"/></svg>`;
    entry.append(name);
  }
}

// ---- numbers and axes -------------------------------------------------------------------------

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";

function power(k) {
  const digits = [...String(Math.abs(k))].map((d) => SUPERSCRIPT[d]).join("");
  return "10" + (k < 0 ? "⁻" : "") + digits;
}

function short(v) {
  const far = v !== 0 && (Math.abs(v) < 1e-4 || Math.abs(v) >= 1e6);
  return far ? v.toExponential(2) : String(+v.toPrecision(4));
}

function linearTicks(low, high, number) {
  const raw = (high - low) / number;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * unit >= raw) * unit;
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) ticks.push(k * step);
  return ticks.map((v) => [v, short(Math.abs(v) < step / 1e6 ? 0 : v)]);
}

function logTicks(low, high) {
  const from = Math.ceil(Math.log10(low) - 1e-9);
  const to = Math.floor(Math.log10(high) + 1e-9);
  const within = [from - 1, from, to + 1]
    .flatMap((k) => [1, 2, 3, 5, 7].map((m) => m * 10 ** k))
    .filter((v, k, all) => v >= low && v <= high && all.indexOf(v) === k);
  if (to - from < 1 && within.length < 3) return linearTicks(low, high, 4);
  if (to - from < 1) return within.map((v) => [v, short(+v.toPrecision(3))]);
  const step = Math.ceil((to - from) / 6);
  const ticks = [];
  for (let k = from; k <= to; k += step) ticks.push([10 ** k, power(k)]);
  return ticks;
}

// Draws the frame of a picture and returns how numbers become places.
function axes(g, width, height, { x, y, xlabel, ylabel, log, grid = true }) {
  const box = { left: 52, right: width - 14, top: 10, bottom: height - 40 };
  const f = log ? Math.log10 : (v) => v;
  const sx = (v) => box.left + ((v - x[0]) / (x[1] - x[0])) * (box.right - box.left);
  const sy = (v) => box.bottom - ((f(v) - f(y[0])) / (f(y[1]) - f(y[0]))) * (box.bottom - box.top);
  g.strokeStyle = colour("line");
  g.fillStyle = colour("soft");
  g.lineWidth = 1;
  g.textAlign = "right";
  g.textBaseline = "middle";
  for (const [v, text] of log ? logTicks(...y) : linearTicks(...y, Math.max(3, height / 70))) {
    line(g, [[box.left - 4, sy(v)], [grid ? box.right : box.left, sy(v)]]);
    g.fillText(text, box.left - 7, sy(v));
  }
  g.textAlign = "center";
  g.textBaseline = "top";
  for (const [v, text] of linearTicks(...x, Math.max(4, width / 90))) {
    line(g, [[sx(v), box.bottom], [sx(v), box.bottom + 4]]);
    const half = g.measureText(text).width / 2;
    g.fillText(text, Math.min(sx(v), width - half - 1), box.bottom + 7);
  }
  line(g, [[box.left, box.top], [box.left, box.bottom], [box.right, box.bottom]]);
  g.fillText(xlabel, (box.left + box.right) / 2, box.bottom + 23);
  g.save();
  g.translate(12, (box.top + box.bottom) / 2);
  g.rotate(-Math.PI / 2);
  g.fillText(ylabel, 0, -8);
  g.restore();
  return { sx, sy, box };
}

function line(g, points) {
  g.beginPath();
  points.forEach(([a, b], k) => (k ? g.lineTo(a, b) : g.moveTo(a, b)));
  g.stroke();
}

function ends(values, margin = 0) {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  const more = margin * (high - low) || (low === high ? Math.abs(low) / 2 || 0.5 : 0);
  return [low - more, high + more];
}

// ---- lines over the epochs --------------------------------------------------------------------

function lines(section, { series, ylabel, log }) {
  const all = series.flatMap((s) => s.y);
  log = log && all.every((v) => v > 0);
  const y = log ? ends(all).map((v, k) => v * (k ? 1.15 : 0.87)) : ends(all, 0.05);
  const end = Math.max(...series.map((s) => s.x[s.x.length - 1]), last < 0 ? 1 : data.frames[last]);
  const start = Math.min(...series.map((s) => s.x[0]), end - 1);
  let hovered = null;
  legend(section, series);
  const label = `${ylabel} over the epochs`;
  const made = moving(section, label, 0.55, (g, width, height) => {
    const a = axes(g, width, height, { x: [start, end], y, xlabel: "epoch", ylabel, log });
    g.lineWidth = 2;
    for (const s of series) {
      g.strokeStyle = g.fillStyle = colour(s.colour);
      g.setLineDash(s.dash || []);
      line(g, thinned(s, width).map((k) => [a.sx(s.x[k]), a.sy(s.y[k])]));
      g.setLineDash([]);
      if (s.x.length <= 12) s.x.forEach((x, k) => disc(g, a.sx(x), a.sy(s.y[k]), 3));
    }
    g.lineWidth = 1;
    if (last > 0) marker(g, a, epochAt(position), colour("ink"), [4, 3]);
    if (hovered !== null) tip(g, a, width, series, hovered);
  }, 220);
  made.addEventListener("pointermove", (event) => {
    const part = (event.offsetX - 52) / (made.clientWidth - 66);
    hovered = start + Math.min(1, Math.max(0, part)) * (end - start);
    made.redraw();
  });
  made.addEventListener("pointerleave", () => {
    hovered = null;
    made.redraw();
  });
}

// The points that can be seen: of each pixel's the smallest and the largest.
function thinned(s, width) {
  const n = s.x.length;
  if (n <= 2 * width) return s.x.map((_, k) => k);
  const chosen = [];
  const each = n / width;
  for (let bucket = 0; bucket < width; bucket++) {
    let low = Math.floor(bucket * each);
    let high = low;
    for (let k = low; k < Math.min(n, Math.floor((bucket + 1) * each)); k++) {
      if (s.y[k] < s.y[low]) low = k;
      if (s.y[k] > s.y[high]) high = k;
    }
    chosen.push(Math.min(low, high), Math.max(low, high));
  }
  return [...chosen, n - 1];
}

function disc(g, x, y, radius) {
  g.beginPath();
  g.arc(x, y, radius, 0, 7);
  g.fill();
}

function marker(g, a, epoch, stroke, dash) {
  g.strokeStyle = stroke;
  g.setLineDash(dash);
  line(g, [[a.sx(epoch), a.box.top], [a.sx(epoch), a.box.bottom]]);
  g.setLineDash([]);
}

function nearest(xs, x) {
  let best = 0;
  xs.forEach((v, k) => {
    if (Math.abs(v - x) < Math.abs(xs[best] - x)) best = k;
  });
  return best;
}

function tip(g, a, width, series, x) {
  const at = series[0].x[nearest(series[0].x, x)];
  const rows = [`epoch ${short(at)}`];
  for (const s of series) rows.push(`${s.name} ${short(s.y[nearest(s.x, at)])}`);
  marker(g, a, at, colour("soft"), []);
  const wide = Math.max(...rows.map((row) => g.measureText(row).width)) + 16;
  const left = a.sx(at) + wide + 12 < width ? a.sx(at) + 8 : a.sx(at) - wide - 8;
  g.fillStyle = colour("card");
  g.strokeStyle = colour("line");
  g.beginPath();
  g.roundRect(left, a.box.top, wide, 17 * rows.length + 8, 5);
  g.fill();
  g.stroke();
  g.fillStyle = colour("ink");
  g.textAlign = "left";
  g.textBaseline = "top";
  rows.forEach((row, k) => g.fillText(row, left + 8, a.box.top + 6 + 17 * k));
}

function curves() {
  const log = data.log;
  const loss = `Loss, ${data.config.loss.replaceAll("_", " ")}`;
  for (const [metric, title] of [["loss", loss], ["accuracy", "Accuracy"], ["rmse", "RMSE"]]) {
    const series = [];
    if (log[metric]) series.push({ name: "training", x: log.epoch, y: log[metric] });
    else if (data.training && data.training[metric]) series.push(training(data.training, metric));
    if (log[`val_${metric}`])
      series.push({ name: "validation", x: log.epoch, y: log[`val_${metric}`], dash: [7, 4] });
    series.forEach((s) => (s.colour = s.dash ? "c1" : "c0"));
    const ylabel = metric === "rmse" ? "RMSE" : metric;
    if (series.length) lines(card(title), { series, ylabel, log: metric !== "accuracy" });
  }
}

// What the log does not have: computed for the report, at some moments.
function training({ at, samples, ...values }, metric) {
  const name = samples < data.config.samples[0] ? `first ${samples.toLocaleString("en")} of training` : "training";
  return { name, x: at.map((k) => data.frames[k]), y: values[metric] };
}

function norms() {
  const titles = {
    gradients: ["Norm of each layer's gradient", "√ Σ g²"],
    activations: ["Size of each layer's outputs", "√ mean y²"],
  };
  for (const [kind, [title, ylabel]] of Object.entries(titles)) {
    const series = data.norms.names.map((name, k) => ({
      name, x: data.frames, y: data.norms[kind][k], colour: "c" + (k % 6),
      dash: [[], [7, 4], [2, 3]][k % 3],
    }));
    if (last > 0) lines(card(title), { series, ylabel, log: true });
  }
}

// ---- a decision boundary ----------------------------------------------------------------------

function rgb(text) {
  const n = parseInt(text.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

function mixed(a, b, share) {
  return a.map((v, k) => Math.round(v + share * (b[k] - v)));
}

// 256 colours: from one over the neutral one to the other.
function between(low, high) {
  const [a, n, b] = [low, "neutral", high].map((name) => rgb(colour(name)));
  return Array.from({ length: 256 }, (_, k) =>
    k < 128 ? mixed(a, n, k / 128) : mixed(n, b, (k - 128) / 127));
}

// Values of a grid, row 0 at the bottom, as a picture; `place` gives each value a number to 255.
function picture(values, columns, rows, colours, place) {
  const made = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  const context = made.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) {
      const c = colours[Math.max(0, Math.min(255, Math.round(place(values[i * columns + j]))))];
      image.data.set([...c, 255], 4 * ((rows - 1 - i) * columns + j));
    }
  context.putImageData(image, 0, 0);
  return made;
}

// Where the values of a grid are 0, by marching squares, as pieces of straight lines.
function zeros(values, side) {
  const pieces = [];
  for (let i = 0; i + 1 < side; i++)
    for (let j = 0; j + 1 < side; j++) {
      const corners = [[i, j], [i, j + 1], [i + 1, j + 1], [i + 1, j]];
      const v = corners.map(([a, b]) => values[a * side + b]);
      const found = [];
      for (let k = 0; k < 4; k++) {
        const [p, q] = [v[k], v[(k + 1) % 4]];
        if (p < 0 === q < 0) continue;
        const [a, b] = [corners[k], corners[(k + 1) % 4]];
        const share = p / (p - q);
        found.push([a[1] + share * (b[1] - a[1]), a[0] + share * (b[0] - a[0])]);
      }
      for (let k = 0; k + 1 < found.length; k += 2) pieces.push([found[k], found[k + 1]]);
    }
  return pieces;
}

function plane(view) {
  const section = card("Decision boundary", true);
  const box = element("div", section, { className: "narrow" });
  const scores = unpack(view.scores);
  const side = scores.shape[1];
  legend(box, [
    { name: "class 0", colour: "c0", shape: "circle" },
    { name: "class 1", colour: "c1", shape: "square" },
    { name: "probability ½", colour: "ink" },
  ]);
  moving(box, "decision boundary with the training data", 0.95, (g, width, height) => {
    const a = axes(g, width, height, { x: view.x1, y: view.x2, xlabel: "x₁", ylabel: "x₂", grid: false });
    const values = blended(scores);
    const { left, right, top, bottom } = a.box;
    const field = picture(values, side, side, between("c0", "c1"), (s) => 255 / (1 + Math.exp(-s)));
    g.globalAlpha = 0.55;
    g.drawImage(field, left, top, right - left, bottom - top);
    g.globalAlpha = 1;
    g.strokeStyle = colour("ink");
    g.lineWidth = 1.6;
    g.beginPath();
    for (const [[p, q], [r, s]] of zeros(values, side)) {
      const place = (j, i) => [left + (j / (side - 1)) * (right - left), bottom - (i / (side - 1)) * (bottom - top)];
      g.moveTo(...place(p, q));
      g.lineTo(...place(r, s));
    }
    g.stroke();
    const radius = view.points.length < 20 ? 8 : 3.6;
    g.lineWidth = 1;
    g.strokeStyle = colour("card");
    view.points.forEach(([x, y], k) => {
      g.fillStyle = colour("c" + view.labels[k]);
      g.beginPath();
      if (view.labels[k]) g.rect(a.sx(x) - radius * 0.9, a.sy(y) - radius * 0.9, 1.8 * radius, 1.8 * radius);
      else g.arc(a.sx(x), a.sy(y), radius, 0, 7);
      g.fill();
      g.stroke();
    });
  });
}

// ---- a fitted curve ---------------------------------------------------------------------------

function curve(view) {
  const section = card("The curve, as it forms", true);
  const fit = unpack(view.fit);
  const y = ends([...view.points.map((p) => p[1]), ...view.truth.map((p) => p[1])], 0.08);
  const x = [view.x[0], view.x[view.x.length - 1]];
  legend(section, [
    { name: "network", colour: "c0" },
    { name: "truth", colour: "c1", dash: [7, 4] },
    { name: "training data", colour: "soft", shape: "circle" },
  ]);
  moving(section, "fitted curve over the data and the truth", 0.5, (g, width, height) => {
    const a = axes(g, width, height, { x, y, xlabel: "x", ylabel: "y" });
    g.save();
    g.beginPath();
    g.rect(a.box.left, a.box.top, a.box.right - a.box.left, a.box.bottom - a.box.top);
    g.clip();
    g.fillStyle = colour("soft");
    g.globalAlpha = 0.6;
    for (const [p, q] of view.points) disc(g, a.sx(p), a.sy(q), 2.6);
    g.globalAlpha = 1;
    g.lineWidth = 2;
    g.strokeStyle = colour("c1");
    g.setLineDash([7, 4]);
    line(g, view.truth.map(([p, q]) => [a.sx(p), a.sy(q)]));
    g.setLineDash([]);
    g.lineWidth = 2.6;
    g.strokeStyle = colour("c0");
    line(g, [...blended(fit)].map((v, k) => [a.sx(view.x[k]), a.sy(v)]));
    g.restore();
  }, 280);
}

// ---- surfaces ---------------------------------------------------------------------------------

// Points of viridis (Smith and van der Walt, 2015), from which the rest is mixed.
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"].map(rgb);

function viridis(part) {
  const place = Math.max(0, Math.min(1, part)) * (VIRIDIS.length - 1);
  const k = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return `rgb(${mixed(VIRIDIS[k], VIRIDIS[k + 1], place - k).join()})`;
}

const turn = { around: 0.9, above: 0.5 }; // where all surfaces are seen from, in radians

function space(width, height) {
  const [ca, sa, ce, se] = [Math.cos(turn.around), Math.sin(turn.around), Math.cos(turn.above), Math.sin(turn.above)];
  const scale = Math.min(width, height * 1.15) * 0.29;
  return ([x, y, z]) => {
    const [u, v] = [x * ca - y * sa, x * sa + y * ca];
    return [width / 2 + scale * u, height * 0.47 - scale * (0.8 * z * ce - v * se), v * ce + z * se];
  };
}

function drawSurface(g, width, height, values, side, z, view) {
  const place = space(width, height);
  const unit = (v) => (2 * (v - z[0])) / (z[1] - z[0]) - 1;
  drawBox(g, place, view, z);
  const seen = Array.from(values, (v, k) =>
    place([(2 * (k % side)) / (side - 1) - 1, (2 * Math.floor(k / side)) / (side - 1) - 1, unit(v)]));
  const quads = [];
  for (let i = 0; i + 1 < side; i++)
    for (let j = 0; j + 1 < side; j++) {
      const corners = [i * side + j, i * side + j + 1, (i + 1) * side + j + 1, (i + 1) * side + j];
      quads.push([corners.reduce((sum, k) => sum + seen[k][2], 0), corners]);
    }
  quads.sort((a, b) => a[0] - b[0]); // what is far is drawn first
  g.lineWidth = 0.7;
  for (const [, corners] of quads) {
    const mean = corners.reduce((sum, k) => sum + values[k], 0) / 4;
    g.fillStyle = g.strokeStyle = viridis((mean - z[0]) / (z[1] - z[0]));
    g.beginPath();
    corners.forEach((k, n) => (n ? g.lineTo(seen[k][0], seen[k][1]) : g.moveTo(seen[k][0], seen[k][1])));
    g.closePath();
    g.fill();
    g.stroke();
  }
}

function drawBox(g, place, view, z) {
  const floor = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) => place([x, y, -1]));
  g.strokeStyle = colour("line");
  g.fillStyle = colour("soft");
  g.lineWidth = 1;
  g.textAlign = "center";
  g.textBaseline = "middle";
  line(g, [...floor, floor[0]]);
  const outward = (x, y, text) => {
    const [a, b] = place([x, y, -1]);
    g.fillText(text, a, b);
  };
  const [near, side] = [nearEdge("x"), nearEdge("y")];
  for (const [v, text] of linearTicks(...view.x1, 3)) outward(spread(v, view.x1), near * 1.25, text);
  for (const [v, text] of linearTicks(...view.x2, 3)) outward(side * 1.25, spread(v, view.x2), text);
  outward(0, near * 1.55, "x₁");
  outward(side * 1.55, 0, "x₂");
  const pole = [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    .map(([x, y]) => [place([x, y, -1]), place([x, y, 1])])
    .sort((a, b) => a[0][0] - b[0][0])[0];
  line(g, pole);
  g.textAlign = "right";
  for (const [v, text] of linearTicks(...z, 3)) {
    const part = (v - z[0]) / (z[1] - z[0]);
    g.fillText(text, pole[0][0] - 6, pole[0][1] + part * (pole[1][1] - pole[0][1]));
  }
}

function spread(v, [low, high]) {
  return (2 * (v - low)) / (high - low) - 1;
}

// The edge of the floor that is nearer to the eye, -1 or 1, along which an axis is written.
function nearEdge(axis) {
  return (axis === "x" ? Math.cos(turn.around) : Math.sin(turn.around)) > 0 ? 1 : -1;
}

function surface(view) {
  const section = card("Network, truth and their difference", true);
  const row = element("div", section, { className: "row" });
  const fit = unpack(view.fit);
  const side = fit.shape[1];
  const truth = unpack({ ...view.truth, at: [0] }).values;
  const z = ends([...truth, ...fit.values.subarray(last * fit.size)], 0.05);
  const turning = [];
  const solid = (make, caption, values) => {
    const figure = element("figure", row);
    const made = make(figure, caption + ", in three dimensions", 0.85, (g, width, height) =>
      drawSurface(g, width, height, values(), side, z, view));
    made.className = "turns";
    turnable(made, turning);
    element("figcaption", figure, { textContent: caption });
  };
  solid(moving, "network", () => blended(fit));
  solid(canvas, "truth", () => truth);
  difference(row, view, fit, truth, side);
  element("p", section, { className: "hint", textContent: "Drag a surface to turn both." });
}

function turnable(made, turning) {
  turning.push(made);
  let from = null;
  made.addEventListener("pointerdown", (event) => {
    from = [event.clientX, event.clientY];
    made.setPointerCapture(event.pointerId);
  });
  made.addEventListener("pointermove", (event) => {
    if (!from) return;
    turn.around -= (event.clientX - from[0]) / 120;
    turn.above = Math.max(0.05, Math.min(1.5, turn.above + (event.clientY - from[1]) / 120));
    from = [event.clientX, event.clientY];
    turning.forEach((other) => other.redraw());
  });
  for (const end of ["pointerup", "pointercancel"]) made.addEventListener(end, () => (from = null));
}

function difference(row, view, fit, truth, side) {
  const figure = element("figure", row);
  const caption = { textContent: "network - truth" };
  let text;
  moving(figure, "difference of network and truth", 0.85, (g, width, height) => {
    const values = blended(fit).map((v, k) => v - truth[k]);
    const size = Math.max(...values.map(Math.abs)) || 1;
    const a = axes(g, width - 60, height, { x: view.x1, y: view.x2, xlabel: "x₁", ylabel: "x₂", grid: false });
    const { left, right, top, bottom } = a.box;
    const colours = between("c0", "c1");
    const field = picture(values, side, side, colours, (v) => 127.5 * (1 + v / size));
    g.drawImage(field, left, top, right - left, bottom - top);
    scaleBar(g, right + 12, top, bottom, colours, size);
    const mean = Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
    if (text) text.textContent = `network - truth: RMSE ${short(mean)}`;
  });
  text = element("figcaption", figure, caption);
}

function scaleBar(g, left, top, bottom, colours, size) {
  colours.forEach((c, k) => {
    g.fillStyle = `rgb(${c.join()})`;
    g.fillRect(left, bottom - ((k + 1) / 256) * (bottom - top), 12, (bottom - top) / 256 + 0.6);
  });
  g.fillStyle = colour("soft");
  g.textAlign = "left";
  g.textBaseline = "middle";
  for (const part of [-1, 0, 1])
    g.fillText(part ? (+(part * size).toPrecision(2)).toString() : "0", left + 16, bottom - ((part + 1) / 2) * (bottom - top));
}

// ---- images -----------------------------------------------------------------------------------

function weights() {
  const section = card("Weights of the first layer");
  const W = unpack(data.weights);
  const [, units, height, width] = W.shape;
  const columns = Math.ceil(Math.sqrt(units));
  const rows = Math.ceil(units / columns);
  moving(section, "weights of the first layer as images", rows / columns, (g, wide) => {
    const values = blended(W);
    const colours = between("c0", "c1");
    const step = wide / columns;
    g.imageSmoothingEnabled = false;
    for (let unit = 0; unit < units; unit++) {
      const from = unit * height * width;
      const tile = upright(values.subarray(from, from + height * width), width, height);
      const image = picture(tile, width, height, colours, (v) => 127.5 * (1 + v));
      g.drawImage(image, (unit % columns) * step, Math.floor(unit / columns) * step, step - 2, step - 2);
    }
  });
  legend(section, [
    { name: "negative", colour: "c0", shape: "square" },
    { name: "positive", colour: "c1", shape: "square" },
  ]);
  element("p", section, { className: "hint", textContent: `The ${units === data.network[1].units ? "" : "first "}${units} units; each has a scale of its own.` });
}

// An image has its first row at the top, a grid at the bottom.
function upright(values, width, height) {
  const turned = new Float32Array(values.length);
  for (let i = 0; i < height; i++)
    turned.set(values.subarray((height - 1 - i) * width, (height - i) * width), i * width);
  return turned;
}

function confusion() {
  const { classes, which } = data.confusion;
  const section = card(`Confusion matrix, test data${which ? `: ${which}` : ""}`);
  const matrix = unpack(data.confusion);
  const n = matrix.shape[1];
  moving(section, "confusion matrix of the test data", 1, (g, width, height) => {
    const counts = blended(matrix, true);
    const [left, top] = [46, 6];
    const [wide, high] = [(width - left - 4) / n, (height - top - 46) / n];
    const page = rgb(colour("card"));
    const wrong = Math.max(1, ...counts.filter((_, k) => k % (n + 1)));
    g.textAlign = "center";
    g.textBaseline = "middle";
    g.font = `${Math.max(8, Math.min(13, wide / 2.6))}px system-ui, sans-serif`;
    counts.forEach((count, k) => {
      const [i, j] = [Math.floor(k / n), k % n];
      const right = i === j;
      const of = right ? counts.slice(i * n, i * n + n).reduce((a, b) => a + b, 0) || 1 : wrong;
      const share = count ? 0.12 + (0.75 * count) / of : 0;
      g.fillStyle = `rgb(${mixed(page, rgb(colour(right ? "c0" : "c1")), share).join()})`;
      g.fillRect(left + j * wide, top + i * high, wide - 1, high - 1);
      g.fillStyle = colour(share > 0.55 ? "card" : "ink");
      if (count && n <= 20) g.fillText(count, left + (j + 0.5) * wide, top + (i + 0.5) * high);
    });
    g.fillStyle = colour("soft");
    for (let k = 0; k < n; k += Math.ceil(n / Math.floor(40 / `${classes[n - 1]}`.length))) {
      g.fillText(classes[k], left - 14, top + (k + 0.5) * high);
      g.fillText(classes[k], left + (k + 0.5) * wide, top + n * high + 12);
    }
    g.font = "12px system-ui, sans-serif";
    g.fillText("predicted", left + (n * wide) / 2, height - 10);
    g.translate(12, top + (n * high) / 2);
    g.rotate(-Math.PI / 2);
    g.fillText("true", 0, 0);
  });
  legend(section, [
    { name: "right", colour: "c0", shape: "square" },
    { name: "wrong", colour: "c1", shape: "square" },
  ]);
}

function mistakes() {
  const { list, number, of } = data.mistakes;
  const section = card(`Mistakes on the test data: ${number.toLocaleString("en")} of ${of.toLocaleString("en")}`, true);
  if (!number) return;
  const images = unpack({ ...data.mistakes.images, at: [0] });
  const [, height, width] = images.shape;
  const box = element("div", section, { className: "mistakes" });
  list.forEach((mistake, k) => {
    const figure = element("figure", box);
    const tile = upright(images.values.slice(k * width * height, (k + 1) * width * height), width, height);
    canvas(figure, `a ${mistake.true}, taken for ${mistake.predicted}`, height / width, (g, wide, high) => {
      const [paper, ink] = [rgb(colour("card")), rgb(colour("ink"))];
      const colours = Array.from({ length: 256 }, (_, v) => mixed(paper, ink, v / 255));
      g.imageSmoothingEnabled = false;
      const scale = 255 / data.mistakes.images.high;
      g.drawImage(picture(tile, width, height, colours, (v) => scale * v), 0, 0, wide, high);
    });
    const caption = element("figcaption", figure);
    element("b", caption, { textContent: mistake.predicted });
    caption.append(`, not ${mistake.true}`);
    element("br", caption);
    caption.append(`${(100 * mistake.confidence).toFixed(1)} %`);
  });
  element("p", section, { className: "hint", textContent: "The most confident ones: what the network took the image for, and the probability that it gave." });
}

// ---- the network ------------------------------------------------------------------------------

const SHOWN = 9; // units of a column; of more, the middle is left out

function network() {
  const section = card(`Network, ${data.config.parameters.toLocaleString("en")} parameters`, true);
  const columns = data.network;
  const all = data.parameters && unpack(data.parameters);
  const below = 18 + 16 * Math.max(...columns.map((c) => written(c).length));
  const tall = 24 * Math.min(SHOWN, Math.max(...columns.map((c) => c.units))) + 40;
  moving(section, "the network, with shapes and parameters", 0, (g, width, height) => {
    const step = width / columns.length;
    const places = columns.map((c, x) => unitPlaces(c, (x + 0.5) * step, height - below));
    const values = all && blended(all);
    let start = 0; // of a layer's weights among all parameters
    places.slice(1).forEach((right, x) => {
      connect(g, places[x], right, values && values.subarray(start));
      start += right.length * (places[x].length + 1);
    });
    g.textAlign = "center";
    g.textBaseline = "middle";
    columns.forEach((c, x) => {
      g.fillStyle = colour(x === 0 || x === columns.length - 1 ? "c2" : "soft");
      for (const [a, b] of places[x]) disc(g, a, b, 6);
      g.fillStyle = colour("soft");
      if (c.units > SHOWN) g.fillText("⋮", (x + 0.5) * step, (height - below) / 2 + 6);
      written(c).forEach((text, k) => g.fillText(text, (x + 0.5) * step, height - below + 20 + 16 * k));
    });
  }, tall + below);
  if (!all) return;
  legend(section, [
    { name: "negative weight", colour: "c0" },
    { name: "positive weight", colour: "c1" },
  ]);
  element("p", section, { className: "hint", textContent: "The thicker, the larger: up to ±8." });
}

// With weights, a line for each: they are few enough to be seen.
function connect(g, left, right, weights) {
  left.forEach((a, i) => right.forEach((b, j) => {
    const w = weights ? weights[i * right.length + j] : 0;
    g.lineWidth = weights ? 0.4 + Math.min(8, Math.abs(w)) * 0.8 : 0.6;
    g.strokeStyle = colour(weights ? (w < 0 ? "c0" : "c1") : "line");
    line(g, [a, b]);
  }));
}

// What stands below a column: on a phone "4,160 parameters" needs two lines.
function written(column) {
  return column.lines.flatMap((text) => text.split(/ (?=parameters$)/));
}

function unitPlaces(column, x, bottom) {
  const shown = Math.min(column.units, SHOWN - (column.units > SHOWN ? 1 : 0));
  const gap = column.units > SHOWN ? 1 : 0;
  const step = (bottom - 12) / SHOWN;
  const first = 6 + bottom / 2 - ((shown + gap - 1) * step) / 2;
  return Array.from({ length: shown }, (_, k) => [x, first + step * (k + (k >= shown / 2 ? gap : 0))]);
}

// ---- the slider -------------------------------------------------------------------------------

const SECONDS = 9; // for the whole training
const slider = document.getElementById("slider");
const play = document.getElementById("play");
let playing = 0; // the time of the last picture, 0 if it stands still

function show(place) {
  position = Math.max(0, Math.min(last, place));
  slider.value = Math.floor(position);
  const words = reading(data.frames[Math.floor(position)]);
  document.getElementById("readout").textContent = words;
  slider.setAttribute("aria-valuetext", words);
  drawings.forEach((draw) => draw());
}

// What the log says about the last epoch that was done.
function reading(epoch) {
  const log = data.log;
  let row = -1;
  (log.epoch || []).forEach((e, k) => {
    if (e <= epoch) row = k;
  });
  const words = [`epoch ${short(+epoch.toFixed(2))}`];
  if (row < 0) return words[0] + (epoch ? "" : ", before the first step");
  for (const name of ["loss", "val_loss", "val_accuracy", "val_rmse"])
    if (log[name]) words.push(`${name.replace("val_", "validation ").replace("rmse", "RMSE")} ${short(log[name][row])}`);
  return words.join(" · ");
}

function setPlaying(on) {
  playing = on ? performance.now() : 0;
  play.textContent = on ? "⏸" : "▶";
  play.setAttribute("aria-label", on ? "pause" : "play");
  if (on && position >= last) show(0);
  if (on) requestAnimationFrame(forward);
}

function forward(now) {
  if (!playing) return;
  const since = Math.min(100, Math.max(0, now - playing)); // who was away has missed nothing
  show(position + (since * last) / (1000 * SECONDS));
  playing = now;
  if (position >= last) setPlaying(false);
  else requestAnimationFrame(forward);
}

function player() {
  document.getElementById("player").hidden = false;
  slider.max = last;
  slider.addEventListener("input", () => {
    setPlaying(false);
    show(+slider.value);
  });
  play.addEventListener("click", () => setPlaying(!playing));
  show(last);
}

// ---- all of it --------------------------------------------------------------------------------

const views = { plane, curve, surface };
if (data.view) views[data.view.kind](data.view);
if (data.confusion) confusion();
if (data.weights) weights();
if (data.mistakes) mistakes();
if (data.log.epoch) curves();
if (data.norms) norms();
if (data.network) network();
if (last > 0) player();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => everything.forEach((draw) => draw()));
