// Curves as pictures that are as wide as their place, with axes, and a value under the pointer.

/** Return round values from low to high, about so many. */
function ticks(low, high, most) {
  let step = 10 ** Math.floor(Math.log10((high - low) / most));
  step *= [1, 2, 5, 10].find((factor) => factor * step * most >= (high - low) * (1 - 1e-9)) ?? 10;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step || 0);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return found.map((value) => [value, decimals > 5 ? value.toExponential(1)
    : value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })]);
}

/**
 * Draw curves into a box, again whenever its width changes.
 *
 * `spec()` returns {height, x: [low, high], y: [low, high], label, xLabel, yLabel, lines}, where lines are
 * {points: [[x, y]], color, kind: "line" | "faint" | "points" | "best", dash, class}. `hover(x, y)` is called with the value
 * under the pointer, or null.
 */
function plot(box, spec, { hover = () => {}, pick = () => {}, drag = null } = {}) {
  const LEFT = 58, RIGHT = 12, TOP = 22, BOTTOM = 36;
  let here = null;
  let pointed = null; // the value with a line through it
  const redraw = () => {
    const width = Math.max(240, box.clientWidth);
    const found = spec();
    const { height, x, y } = found;
    const toX = (value) => LEFT + (value - x[0]) / (x[1] - x[0]) * (width - LEFT - RIGHT);
    const toY = (value) => height - BOTTOM - (value - y[0]) / (y[1] - y[0]) * (height - TOP - BOTTOM);
    const svg = draw("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": found.label });
    for (const [value, name] of ticks(y[0], y[1], Math.max(2, Math.floor(height / 45)))) {
      svg.append(draw("path", { class: "grid", d: `M${LEFT} ${toY(value)}H${width - RIGHT}` }),
        draw("text", { x: LEFT - 6, y: toY(value) + 4, "text-anchor": "end" }, name));
    }
    for (const [value, name] of ticks(x[0], x[1], Math.max(2, Math.floor(width / 110)))) {
      svg.append(draw("path", { class: "axis", d: `M${toX(value)} ${height - BOTTOM}v5` }),
        draw("text", { x: toX(value), y: height - BOTTOM + 18, "text-anchor": "middle" }, name));
    }
    svg.append(draw("path", { class: "axis", d: `M${LEFT} ${TOP}V${height - BOTTOM}H${width - RIGHT}` }),
      draw("text", { x: 2, y: 12 }, found.yLabel),
      draw("text", { x: width - RIGHT, y: height - 4, "text-anchor": "end" }, found.xLabel));
    // A picture within the picture cuts off what leaves the axes, with room for a dot on the edge.
    const [left, top, across, down] = [LEFT - 9, TOP - 9, width - LEFT - RIGHT + 18, height - TOP - BOTTOM + 18];
    const inside = draw("svg", { x: left, y: top, width: across, height: down, viewBox: `${left} ${top} ${across} ${down}` });
    for (const line of found.lines) inside.append(...drawLine(line, toX, toY));
    const cross = draw("path", { class: "cross", d: "" });
    const marked = draw("rect", { class: "marked", y: TOP, height: height - TOP - BOTTOM, width: 0 });
    svg.append(inside, marked, cross);
    here = { svg, x, cross, marked, toX, top: TOP, bottom: height - BOTTOM,
      value: (event) => {
        const bounds = svg.getBoundingClientRect();
        const place = (event.clientX - bounds.left) / bounds.width * width;
        return Math.min(x[1], Math.max(x[0], x[0] + (place - LEFT) / (width - LEFT - RIGHT) * (x[1] - x[0])));
      } };
    box.replaceChildren(svg);
    point(pointed);
  };
  const point = (value) => {
    pointed = value;
    if (here) here.cross.setAttribute("d", value === null ? "" : `M${here.toX(value)} ${here.top}V${here.bottom}`);
  };
  let start = null;
  box.addEventListener("pointermove", (event) => {
    const value = here.value(event);
    point(value);
    hover(value);
    if (start !== null) {
      const [from, to] = [start, value].map(here.toX).sort((a, b) => a - b);
      here.marked.setAttribute("x", from);
      here.marked.setAttribute("width", to - from);
    }
  });
  box.addEventListener("pointerleave", () => { point(null); hover(null); });
  box.addEventListener("pointerdown", (event) => { if (drag) start = here.value(event); });
  box.addEventListener("pointerup", (event) => {
    const value = here.value(event);
    const [from, to] = [start ?? value, value].sort((a, b) => a - b);
    start = null;
    here.marked.setAttribute("width", 0);
    if (drag && to - from > (here.x[1] - here.x[0]) / 100) drag(from, to);
    else pick(value);
  });
  new ResizeObserver(() => { if (!here || Math.abs(box.clientWidth - here.svg.clientWidth) > 1) redraw(); }).observe(box);
  return { redraw, point };
}

function drawLine(line, toX, toY) {
  const stroke = `var(--${line.color})`;
  const points = line.points.filter(([x, y]) => x !== null && y !== null);
  const path = points.map(([x, y], at) => `${at ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
  const nodes = [draw("path", { class: `${line.kind === "faint" ? "faint" : "curve"} ${line.class ?? ""}`, stroke, "stroke-dasharray": line.dash, d: path })];
  if (line.kind === "points") {
    nodes.push(...points.map(([x, y]) => draw("circle", { cx: toX(x), cy: toY(y), r: 3.5, fill: stroke })));
  }
  if (line.kind === "best") {
    nodes.push(...points.map(([x, y]) => draw("circle", { cx: toX(x), cy: toY(y), r: 7, fill: "none", stroke, "stroke-width": 3 })));
  }
  return nodes;
}
