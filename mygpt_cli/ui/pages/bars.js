// Numbers as bars up and down from 0, each of which can be asked for.

/** Draw values as bars; `words(at)` says what one of them is, and how many there are `in all`. */
function bars(values, label, words, total = values.length) {
  const SIDE = 10, HIGH = 80;
  const zero = values.some((value) => value < 0) ? HIGH / 2 : HIGH - 1;
  const most = Math.max(...values.map(Math.abs)) || 1;
  const paths = { more: "", less: "" };
  values.forEach((value, at) => {
    const high = Math.max(0.4, (zero - 1) * Math.abs(value) / most);
    paths[value < 0 ? "less" : "more"] += `M${at * SIDE + 1} ${zero}h${SIDE - 2}V${zero - Math.sign(value || 1) * high}h${2 - SIDE}z`;
  });
  const width = values.length * SIDE;
  const cursor = draw("rect", { class: "cursor", x: -SIDE, y: 0, width: SIDE, height: HIGH });
  const svg = draw("svg", { viewBox: `0 0 ${width} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    cursor, draw("path", { class: "more", d: paths.more }), draw("path", { class: "less", d: paths.less }),
    draw("path", { class: "axis", d: `M0 ${zero}H${width}` }));
  const part = values.length < total ? `the first ${count(values.length)} of ${count(total)} values` : `${count(total)} values`;
  const told = make("span", {}, `${label}: ${part}, from ${figure(Math.min(...values))} to ${figure(Math.max(...values))}`);
  const box = make("div", { class: "bars", tabindex: 0, role: "group", "aria-label": `${label}: arrow keys walk over its values` }, svg);
  let here = -1;
  const point = (at) => {
    here = Math.min(values.length - 1, Math.max(0, at));
    cursor.setAttribute("x", here * SIDE);
    told.textContent = words(here);
  };
  box.addEventListener("pointermove", (event) => {
    const bounds = svg.getBoundingClientRect();
    point(Math.floor((event.clientX - bounds.left) / bounds.width * values.length));
  });
  box.addEventListener("keydown", (event) => {
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: values.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    point(to);
  });
  return make("div", { class: "barred" }, box, make("p", { class: "note", role: "status" }, told));
}

/** Write a number in few digits. */
function figure(value) {
  const size = Math.abs(value);
  if (value === 0) return "0";
  const text = size < 0.001 || size >= 100_000 ? size.toExponential(1) : size < 10 ? size.toPrecision(3) : size.toFixed(size < 100 ? 2 : 1);
  return `${value < 0 ? "−" : ""}${text}`;
}
