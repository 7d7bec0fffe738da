// Steps of generation: a token to choose, its candidates, the draw, and other settings to try.

const SLIDERS = {
  "temperature": data.temperatures,
  "top-k": [0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 400],
  "top-p": Array.from({ length: 100 }, (_, at) => (at + 1) / 100),
  "min-p": Array.from({ length: 51 }, (_, at) => at / 100),
};
const HEADS = { "repetition-penalty": "repetition", "frequency-penalty": "frequency", "presence-penalty": "presence" };
const ROWS = 12;

const names = data.order.filter((name) => name in SLIDERS);
for (const name of names) {
  const value = data.settings[name];
  if (!SLIDERS[name].includes(value)) SLIDERS[name] = [...SLIDERS[name], value].sort((a, b) => a - b);
}
const settings = { ...data.settings };
let at = 0;
let rows = ROWS;

const text = make("div", { class: "text", role: "group", "aria-label": "The text, with a button for each step" });
const said = make("div", { class: "said", role: "status" });
const line = make("div", {});
const candidates = make("div", {});
const title = make("h2", {});
const controls = {};

function write(name, value) {
  if (name === "temperature" && value === 0) return "0 (always the best)";
  if (value === FILTERS[name].off && name !== "temperature") return "off";
  return name === "top-k" || name === "temperature" ? String(value) : value.toFixed(2).replace(/0$/, "");
}

function changed() {
  return names.some((name) => settings[name] !== data.settings[name]);
}

function name(id) {
  return data.tokens[id] || `(no text: id ${id})`;
}

function showText() {
  const before = data.left_out ? `… ${count(data.left_out)} characters before … ` : "";
  text.append(make("span", { class: "prompt" }, before + data.prompt));
  data.steps.forEach((step, place) => {
    const shown = name(step.picked);
    const button = make("button", { type: "button", class: "token", "data-step": place }, shown);
    button.addEventListener("click", () => choosePlace(place));
    text.append(button);
    if (shown.endsWith("↵")) text.append("\n");
  });
  walk(text, "button");
}

function choosePlace(place) {
  at = place;
  rows = ROWS;
  text.querySelectorAll("button").forEach((button, other) =>
    button.setAttribute("aria-pressed", String(other === place)));
  show();
}

function showSaid(step, result) {
  const first = make("p", {});
  const greedy = settings.temperature === 0 && data.order.includes("temperature");
  const span = result.spans && result.spans[place(step, result.picked)];
  if (result.picked === null) {
    first.append(`With these settings, more tokens stay than the ${count(step.ids.length)} whose logits this `
      + "page holds, so it cannot tell which one the draw picks. Lower top-k or top-p.");
  } else if (greedy) {
    first.append("The best token is taken: ", strong(result.picked), ".");
  } else {
    const where = span ? `, in [${span[0].toFixed(6)}, ${span[1].toFixed(6)})` : "";
    first.append(`The draw ${step.draw.toFixed(6)} of seed ${data.seed} falls on `, strong(result.picked), `${where}.`);
  }
  const second = make("p", {});
  const other = result.picked !== null && result.picked !== step.picked;
  if (!changed()) second.append("These are the recorded settings.");
  else if (result.picked === null) second.append("Recorded was ", strong(step.picked), ".");
  else if (other) {
    second.append("Changed: recorded was ", strong(step.picked),
      at + 1 < data.steps.length ? ". The later steps were recorded with that choice, and would differ." : ".");
  } else second.append("The settings are changed, and the pick is the same.");
  said.classList.toggle("changed", other || result.picked === null);
  said.replaceChildren(first, second);
}

function strong(id) {
  return make("strong", { class: "token" }, `'${name(id)}'`);
}

function place(step, id) {
  return step.ids ? step.ids.indexOf(id) : id;
}

/** Draw all tokens end to end by id; neighbours too small to be seen are one piece. */
function showLine(step, result) {
  const pieces = piecesOf(step, result);
  if (!pieces) {
    line.replaceChildren(note(`Where each of all ${count(step.ids.length + step.rest.count)} tokens lies is only `
      + "known for the recorded settings, or when the filters leave tokens whose logits this page holds."));
    return;
  }
  const nodes = pieces.map((piece) => make("span", {
    class: `piece token${piece.id === null ? " rest" : piece.id === result.picked ? " picked" : ""}`,
    "--share": (1000 * (piece.high - piece.low)).toFixed(3),
    title: piece.id === null ? `${piece.title}: ${percent(piece.high - piece.low)}`
      : `'${name(piece.id)}' [${piece.low.toFixed(6)}, ${piece.high.toFixed(6)})`,
  }, piece.id === null || piece.high - piece.low < 0.03 ? "" : name(piece.id)));
  const greedy = settings.temperature === 0 && data.order.includes("temperature");
  const pin = greedy ? null : make("div",
    { class: `draw${step.draw > 0.7 ? " late" : ""}`, "--at": `${100 * step.draw}%` },
    make("span", {}, `draw ${step.draw.toFixed(4)}`));
  line.replaceChildren(make("div", { class: "draws", role: "img",
    "aria-label": `All tokens end to end in the order of their ids, from 0 to 1; the draw is at ${step.draw.toFixed(6)}` },
    make("div", { class: "pieces" }, ...nodes), pin,
    make("div", { class: "ends" }, make("span", {}, "0"), make("span", {}, "all tokens end to end, by id"), make("span", {}, "1"))));
}

function piecesOf(step, result) {
  let spans;
  if (result.spans) {
    spans = result.spans.map(([low, high], at) => ({ id: step.ids ? step.ids[at] : at, low, high }));
  } else if (result.picked !== null && !changed()) {
    spans = step.rest.line.map(([id, low, high]) => ({ id, low, high }));
  } else return null;
  const pieces = [];
  let reached = 0;
  const gap = (to) => {
    if (to > reached + 1e-9) pieces.push({ id: null, low: reached, high: to, title: "other tokens" });
    reached = Math.max(reached, to);
  };
  for (const span of spans) {
    if (span.high - span.low < 0.004 && span.id !== result.picked) continue;
    gap(span.low);
    pieces.push(span);
    reached = span.high;
  }
  gap(1);
  return pieces;
}

function showCandidates(step, result) {
  const order = result.logits.map((_, at) => at)
    .sort((a, b) => result.logits[b] - result.logits[a] || a - b);
  const picked = place(step, result.picked);
  const listed = order.slice(0, rows);
  for (const must of [picked, place(step, step.picked)]) {
    if (must >= 0 && result.picked !== null && !listed.includes(must)) listed.push(must);
  }
  const filtered = result.stages.length > 0;
  const columns = [{ title: "" }, { title: "rank", number: true }, { title: "token" }, { title: "id", number: true },
    { title: "logit", number: true }, { title: "model", number: true },
    ...result.stages.map((stage) => ({ title: `after ${HEADS[stage.name] ?? stage.name}`, number: true })),
    { title: "final", bar: true }];
  const ranks = new Map(order.map((place, rank) => [place, step.rest ? step.rest.ranks[place] : rank + 1]));
  const end = result.stages.length ? result.stages[result.stages.length - 1] : null;
  const lines = listed.map((place) => {
    const cut = result.stages.find((stage) => !stage.partial && stage.logits[place] === CUT);
    const final = result.final ? result.final.kept[place] : 0;
    const id = step.ids ? step.ids[place] : place;
    return {
      class: place === picked ? "picked" : cut ? "cut" : null,
      cells: [place === picked ? "▸" : "", count(ranks.get(place)), token(name(id)), String(id),
        result.logits[place].toFixed(2), percent(result.own.kept[place]),
        ...result.stages.map((stage) => stage.partial ? "?" : stage.logits[place] === CUT ? "cut" : percent(stage.shares.kept[place])),
        cut ? `cut by ${cut.name}` : result.final ? bar(final) : ""],
    };
  });
  const shown = new Set(listed);
  const sum = (kept) => kept.reduce((total, share, place) => total + (shown.has(place) ? 0 : share), 0);
  const more = result.logits.length - listed.length + (step.rest ? step.rest.count : 0);
  if (more) {
    const share = (found) => percent(Math.max(0, sum(found.kept) + found.rest));
    const kept = (stage) => stage.logits.filter((logit, place) => !shown.has(place) && logit !== CUT).length + stage.rest;
    lines.push({ class: "rest", cells: ["", "", `${count(more)} more`, "", "", share(result.own),
      ...result.stages.map((stage) => stage.partial ? "?" : kept(stage) ? share(stage.shares) : "cut"),
      end && !end.partial && !kept(end) ? "" : `${count(end && !end.partial ? kept(end) : more)} tokens together`] });
  }
  const found = table(filtered ? "Candidates, with the model's probability and that after each filter" : "Candidates, with the model's probability",
    columns, lines);
  const button = make("button", { type: "button", class: "more" }, "Show more candidates");
  button.addEventListener("click", () => { rows = rows < 100 ? 100 : result.logits.length; show(); });
  candidates.replaceChildren(found, rows < result.logits.length ? make("p", {}, button) : "");
}

function show() {
  const step = data.steps[at];
  const result = choose(step, settings);
  title.textContent = `Step ${at + 1} of ${data.steps.length}`;
  showSaid(step, result);
  showLine(step, result);
  showCandidates(step, result);
}

function showControls() {
  const box = make("div", { class: "controls" });
  for (const name of names) {
    const values = SLIDERS[name];
    controls[name] = slider(name, values, values.indexOf(data.settings[name]), (value) => write(name, value),
      (place) => { settings[name] = values[place]; show(); });
    box.append(controls[name]);
  }
  const reset = make("button", { type: "button" }, "As recorded");
  reset.addEventListener("click", () => {
    for (const name of names) {
      settings[name] = data.settings[name];
      controls[name].set(SLIDERS[name].indexOf(data.settings[name]));
    }
    show();
  });
  box.append(reset);
  return box;
}

function about() {
  const step = data.steps[0];
  const kept = step.rest
    ? `Of each step, this page holds the logits of ${count(step.ids.length)} of ${count(step.ids.length + step.rest.count)} tokens, the best and the one picked; the rest is one row. `
    : `Of each step, this page holds the logits of all ${count(step.logits.length)} tokens. `;
  const fixed = [...data.early, ...(data.settings["typical-p"] === 1 ? [] : ["typical-p"])];
  const left = data.made > data.steps.length ? `It holds the first ${count(data.steps.length)} of ${count(data.made)} steps. ` : "";
  return note(kept + left + (fixed.length ? `These stay as recorded: ${fixed.join(", ")}. ` : "")
    + "Everything is computed from these recorded numbers.");
}

if (data.steps.length) {
  showText();
  root.append(
    section("The text", note("Choose a token to see how it was chosen; the arrow keys walk along."), text),
    make("section", {}, title, said, line),
    section("Other settings", note("The draw of the seed stays: see which token it would have picked."), showControls()),
    section("Candidates", candidates, about()));
  choosePlace(0);
}
