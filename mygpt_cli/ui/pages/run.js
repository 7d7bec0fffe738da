// A run: its curves, to be enlarged and asked for values, and what its checkpoint is.

const run = data.history;
const FALL = 0.05; // share of the steps in which the loss falls too far to share a scale with what follows

/** Return the point of a curve that is nearest to a step. */
function nearest(points, step) {
  let best = null;
  for (const point of points) if (best === null || Math.abs(point[0] - step) < Math.abs(best[0] - step)) best = point;
  return best;
}

function curves() {
  const shown = run.smoothed.length ? run.smoothed : run.loss;
  const all = [...run.loss, ...run.validation];
  const last = Math.max(1, run.step, ...all.map(([step]) => step));
  let range = [0, last];
  const values = make("p", { class: "values", role: "status" });

  const within = (points) => points.filter(([step]) => step >= range[0] && step <= range[1]);
  const ends = (points) => {
    let kept = within(points);
    if (range[0] === 0) kept = kept.filter(([step]) => step >= FALL * last || range[1] < FALL * last);
    const losses = (kept.length ? kept : points).map(([, loss]) => loss);
    const [low, high] = [Math.min(...losses), Math.max(...losses)];
    const room = 0.05 * (high - low) || Math.abs(high) * 0.1 || 1;
    return [low - room, high + room];
  };
  const lines = () => [
    ...(run.smoothed.length ? [{ points: run.loss, color: "cyan", kind: "faint" }] : []),
    { points: shown, color: "cyan", kind: "line" },
    { points: run.validation, color: "magenta", kind: "points" },
    ...(run.best ? [{ points: [[run.best.step, run.best.val_loss]], color: "green", kind: "best" }] : []),
  ];
  const say = (step) => {
    if (step === null) return;
    const parts = [];
    const at = nearest(shown, step) ?? nearest(run.validation, step);
    parts.push(`Step ${count(Math.round(at[0]))}`);
    if (shown.length) parts.push(`training ${nearest(shown, step)[1].toFixed(4)}${run.smoothed.length ? ` smoothed, ${nearest(run.loss, step)[1].toFixed(4)} as measured` : ""}`);
    const found = nearest(run.validation, step);
    if (found) parts.push(`validation ${found[1].toFixed(4)} at step ${count(Math.round(found[0]))}`);
    const rate = nearest(run.rates, step);
    if (rate) parts.push(`learning rate ${rate[1].toPrecision(3)}`);
    values.textContent = `${parts.join(", ")}.`;
  };
  const box = make("div", { class: "curve", tabindex: 0, role: "group", "aria-label": "Loss over the steps: plus and minus zoom, arrows move, 0 shows all" });
  const rateBox = make("div", { class: "curve" });
  const zoom = (from, to) => {
    const size = Math.max(last / 1000, Math.min(last, to - from));
    const start = Math.max(0, Math.min(last - size, from));
    range = [start, start + size];
    loss.redraw();
    if (rate) rate.redraw();
    where.textContent = range[0] === 0 && range[1] === last ? "All steps" : `Steps ${count(Math.round(range[0]))} to ${count(Math.round(range[1]))}`;
  };
  const where = make("output", {}, "All steps");
  const loss = plot(box, () => ({ height: 360, x: range, y: ends(all), label: "Loss over the steps", xLabel: "steps", yLabel: "loss, nats per token", lines: lines() }),
    { hover: say, drag: zoom });
  const top = Math.max(...run.rates.map(([, value]) => value)) || 1;
  const rate = run.rates.length ? plot(rateBox, () => ({ height: 130, x: range, y: [0, top * 1.05], label: "Learning rate over the steps", xLabel: "steps",
    yLabel: "learning rate", lines: [{ points: run.rates, color: "blue", kind: "line" }] }), { hover: say, drag: zoom }) : null;
  const by = (factor, shift = 0) => {
    const size = (range[1] - range[0]) * factor;
    const middle = (range[0] + range[1]) / 2 + shift * (range[1] - range[0]);
    zoom(middle - size / 2, middle + size / 2);
  };
  const actions = { "+": () => by(0.5), "-": () => by(2), "0": () => zoom(0, last), ArrowLeft: () => by(1, -0.25), ArrowRight: () => by(1, 0.25) };
  actions["="] = actions["+"];
  box.addEventListener("keydown", (event) => {
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });
  const button = (title, key) => {
    const made = make("button", { type: "button" }, title);
    made.addEventListener("click", actions[key]);
    return made;
  };
  const steps = (shown.length ? shown : run.validation).map(([step]) => step);
  const pointer = slider("values at", steps, steps.length - 1, (step) => `step ${count(Math.round(step))}`, (at) => { loss.point(steps[at]); say(steps[at]); });
  pointer.classList.add("plain");
  say(steps[steps.length - 1]);
  const thinned = run.measured > run.loss.length && run.loss.length ? ` Each curve has ${count(run.loss.length)} points, the means of neighbours.` : "";
  return section("Curves", legend(), note(`Drag over a part to enlarge it.${thinned}`),
    make("div", { class: "controls" }, button("Zoom in", "+"), button("Zoom out", "-"), button("Earlier", "ArrowLeft"), button("Later", "ArrowRight"), button("All", "0"), where),
    box, rate ? rateBox : "", make("div", { class: "controls" }, pointer), values);
}

function legend() {
  const sample = (color, ...shapes) => draw("svg", { class: "key", viewBox: "0 0 30 14", width: 30, height: 14, "aria-hidden": "true" },
    ...shapes.map(([tag, attributes]) => draw(tag, { stroke: `var(--${color})`, "stroke-width": 2, fill: "none", ...attributes })));
  const line = ["path", { d: "M0 7h30" }];
  const parts = [];
  if (run.loss.length) parts.push(sample("cyan", line), `training${run.smoothed.length ? ", smoothed over what was measured" : ""} `);
  if (run.validation.length) parts.push(sample("magenta", line, ["circle", { cx: 15, cy: 7, r: 3, fill: "var(--magenta)" }]), "validation ");
  if (run.best) {
    const bits = run.best.bits_per_byte ? `${run.best.bits_per_byte.toFixed(4)} bits per byte` : run.best.val_loss.toFixed(4);
    parts.push(sample("green", ["circle", { cx: 15, cy: 7, r: 5 }]), `best: ${bits} at step ${count(run.best.step)}`);
  }
  return make("p", { class: "keys" }, ...parts);
}

function validations() {
  const or = (value, digits) => (value === null ? "" : value.toFixed(digits));
  const rows = run.validations.map((found) => {
    const best = run.best && found.step === run.best.step;
    return { class: best ? "picked" : null, cells: [best ? "best ▸" : "", count(found.step), or(found.train_loss, 4), or(found.val_loss, 4), or(found.bits_per_byte, 4),
      found.seconds === null ? "" : `${count(Math.round(found.seconds))} s`] };
  });
  const part = run.validations.length < run.validated ? `The last ${count(run.validations.length)} of ${count(run.validated)} validations` : "Validations";
  return section("Validations", table(part, [{ title: "" }, { title: "step", number: true }, { title: "training loss", number: true }, { title: "validation loss", number: true },
    { title: "bits per byte", number: true }, { title: "after", number: true }], rows));
}

function samples() {
  const rows = run.samples.map(([step, seconds, text]) => [count(step), seconds === null ? "" : `${count(Math.round(seconds))} s`, text]);
  const part = run.samples.length < run.written ? note(`The first one and the latest ${count(run.samples.length - 1)} of ${count(run.written)} samples.`) : "";
  return section("Samples while it was trained", part, table("From gibberish to sentences", [{ title: "step", number: true }, { title: "after", number: true }, { title: "text" }], rows));
}

function checkpoint() {
  const list = make("dl", {});
  for (const [name, lines] of data.facts) {
    list.append(make("dt", {}, name), make("dd", {}, ...lines.flatMap((line, at) => (at ? [make("br"), line] : [line]))));
  }
  const rows = data.parts.map((part) => [part.name, count(part.tensors), count(part.parameters), percent(part.parameters / data.parameters), bar(part.parameters / data.parameters)]);
  rows.push({ class: "total", cells: ["together", "", count(data.parameters), `${(data.bytes / 1e6).toFixed(1)} MB`, ""] });
  return section("The checkpoint", make("p", { class: "dim-text" }, data.folder), list,
    table("Parameters by part", [{ title: "part" }, { title: "tensors", number: true }, { title: "parameters", number: true }, { title: "share", number: true }, { title: "", bar: true }], rows));
}

if (run) {
  root.append(make("p", {}, run.state), ...run.notes.map((text) => note(`note: ${text}`)));
  if (run.loss.length || run.validation.length) root.append(curves());
  if (run.samples.length) root.append(samples());
  if (run.validations.length) root.append(validations());
}
if (data.parts.length) root.append(checkpoint());
