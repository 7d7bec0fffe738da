// A checkpoint, A, beside all that a run has kept: a slider over these, with what each came to know.

const COLORS = ["cyan", "magenta", "green", "blue", "red", "yellow"];
const moments = data.moments;
const last = moments.at(-1);
const drawn = (data.own ? moments : moments.slice(0, -1)).filter((moment) => moment.step !== null);
const answers = Boolean(last.answer && moments[0].answer);
const losses = !answers && last.bits !== null;
const parts = moments[0].parts.map((part) => part.name);
let at = 0; // of A beside itself there is nothing to see

const panel = make("div", { class: "panel", role: "status" });
const weights = make("div", {});
const list = make("div", {});
const stepName = (moment) => (moment === last ? "A, " : "") + (moment.step === null ? "unknown step" : `step ${count(moment.step)}`);
const quoted = (shift) => make("strong", { class: "token" }, `'${shift.token}'`);
const shareOf = (moment, name) => moment.parts.find((part) => part.name === name)?.share ?? null;

/** Return the curves: one of the answer or the loss, or one for each part of the weights. */
function curvesOf() {
  if (answers) return [{ name: `probability of '${last.answer.token}'`, points: drawn.filter((moment) => moment.answer).map((moment) => [moment.step, moment.answer.share]) }];
  if (losses) return [{ name: "bits per byte", points: drawn.filter((moment) => moment.bits !== null).map((moment) => [moment.step, moment.bits]) }];
  return parts.map((name) => ({ name, points: drawn.filter((moment) => shareOf(moment, name) !== null).map((moment) => [moment.step, shareOf(moment, name)]) }));
}

const curves = curvesOf().map((curve, which) => ({ ...curve, points: curve.points.sort(([a], [b]) => a - b), color: COLORS[which % COLORS.length], kind: "points", dash: ["", "6 3", "2 3"][Math.floor(which / 2) % 3] || null }));

function picture() {
  const steps = drawn.map((moment) => moment.step);
  if (new Set(steps).size < 2 || !curves.some((curve) => curve.points.length > 1)) return null;
  const box = make("div", { class: "curve" });
  const values = curves.flatMap((curve) => curve.points.map(([, y]) => y));
  const [low, high] = [losses ? Math.min(...values) : 0, Math.max(...values)];
  const room = 0.05 * (high - low) || 0.1;
  const title = curves.length > 1 ? "distance to A, as a share of its length" : curves[0].name;
  const made = plot(box, () => ({ height: 260, x: [Math.min(0, ...steps), Math.max(...steps)], y: [losses ? low - room : 0, high + room], label: `${title} over the kept checkpoints`, xLabel: "steps", yLabel: title, lines: curves }),
    { pick: (step) => {
      const near = drawn.reduce((best, moment) => (Math.abs(moment.step - step) < Math.abs(best.step - step) ? moment : best));
      choose(moments.indexOf(near));
      control.set(at);
    }, hover: (step) => { if (step === null) mark(); } });
  const mark = () => made.point(drawn.includes(moments[at]) ? moments[at].step : null);
  const keys = curves.length < 2 ? "" : make("p", { class: "keys" }, ...curves.flatMap((curve) => [draw("svg", { class: "key", viewBox: "0 0 30 14", width: 30, height: 14, "aria-hidden": "true" },
    draw("path", { d: "M0 7h30", stroke: `var(--${curve.color})`, "stroke-width": 2.5, "stroke-dasharray": curve.dash })), `${curve.name} `]));
  return { node: make("div", {}, keys, box), mark };
}

function choose(place) {
  at = place;
  const moment = moments[at];
  const lines = [make("p", {}, make("strong", {}, stepName(moment)), `: ${moment.folder}`)];
  if (moment.says && moment.answer) {
    const told = make("p", {}, "It says ", quoted(moment.says));
    if (moment.says.id === moment.answer.id) told.append(moment === last ? "" : " too, the answer of A,", ` with ${percent(moment.says.share)}`);
    else told.append(` with ${percent(moment.says.share)}. The answer of A, `, quoted(moment.answer), `, has ${percent(moment.answer.share)}`);
    told.append(`; its predictions diverge from those of A by ${moment.divergence.toFixed(2)} bits.`);
    lines.push(told);
  }
  if (moment.bits !== null) lines.push(make("p", {}, `${moment.bits.toFixed(4)} bits per byte${moment.nats === null ? "" : `, ${moment.nats.toFixed(4)} nats per token`}; A has ${last.bits.toFixed(4)}.`));
  panel.replaceChildren(...lines);
  const most = Math.max(...moments.flatMap((one) => one.parts.map((part) => part.share ?? 0))) || 1;
  weights.replaceChildren(table(`How far the weights of ${stepName(moment)} are from those of A`, [{ title: "part" }, { title: "distance", number: true }, { title: "share of A's length", number: true }, { title: "", bar: true }],
    moment.parts.map((part) => [part.name, Number(part.distance.toPrecision(4)).toString(), part.share === null ? "" : percent(part.share), part.share ? bar(part.share / most) : ""])));
  list.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(Number(button.dataset.moment) === at)));
  if (shown) shown.mark();
}

function all() {
  const columns = [{ title: "checkpoint" }];
  if (answers) columns.push({ title: "says" }, { title: "with", number: true }, { title: "answer of A", number: true }, { title: "", bar: true }, { title: "bits away", number: true });
  if (last.bits !== null) columns.push({ title: "bits per byte", number: true });
  const rows = moments.map((moment, place) => {
    const button = make("button", { type: "button", "data-moment": place }, stepName(moment));
    button.addEventListener("click", () => { control.set(place); choose(place); });
    const cells = [button];
    if (answers) cells.push(token(moment.says.token), percent(moment.says.share), percent(moment.answer.share), bar(moment.answer.share), moment.divergence.toFixed(2));
    if (last.bits !== null) cells.push(moment.bits === null ? "" : moment.bits.toFixed(4));
    return { class: answers && moment.says.id === moment.answer.id ? "picked" : null, cells };
  });
  list.append(table(answers ? "In bold, those whose answer is that of A" : "", columns, rows));
  walk(list, "button");
  return list;
}

const control = slider("checkpoint", moments, at, stepName, (place) => choose(place));
control.classList.add("plain");
const shown = picture();
root.append(make("dl", {}, make("dt", {}, "A"), make("dd", {}, last.folder + (last.step === null ? "" : `, step ${count(last.step)}`))), note(data.words));
if (!data.same_tokens) root.append(note("The tokenizers differ, so only bits per byte and weights can be compared."));
root.append(section("Over the run", make("div", { class: "controls" }, control), panel, shown ? shown.node : ""), section("All checkpoints", all()));
if (parts.length) root.append(section("Weights", weights));
choose(at);
