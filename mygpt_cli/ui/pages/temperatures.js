// One choice at every temperature: curves over the temperature, and what a chosen one makes of the candidates.

const STYLES = ["", "6 3", "2 3"].flatMap((dash) => ["cyan", "magenta", "green", "red", "blue", "yellow"].map((color) => ({ color, dash })));
const CURVES = 8, SEEN = 0.02, SIGNS = 70, ROWS = 15, MOST_ROWS = 400;
const step = data.steps[0];
const degrees = data.temperatures;
const results = degrees.map((degree) => choose(step, { ...data.settings, temperature: degree }));
const order = step.logits.map((_, at) => at).sort((a, b) => results[0].logits[b] - results[0].logits[a] || a - b);
const share = (found, place) => (found.final ? found.final.kept[place] : null);
const idOf = (place) => (step.ids ? step.ids[place] : place);
const placeOf = (id) => (id === null ? -1 : step.ids ? step.ids.indexOf(id) : id);
const name = (id) => data.tokens[id] || `(no text: id ${id})`;

/** The tokens that have a curve: the best, and what the draw picks somewhere with a chance that can be seen. */
const picked = results.map((found) => placeOf(found.picked)).filter((place, at) => place >= 0 && (share(results[at], place) ?? 0) > SEEN);
const curved = [...new Set([...order.slice(0, CURVES), ...picked])].slice(0, STYLES.length);
let at = Math.max(0, degrees.indexOf(data.listed[Math.floor(data.listed.length / 2)]));
let rows = ROWS;

const said = make("div", { class: "said", role: "status" });
const shown = make("div", {});
const box = make("div", { class: "curve" });

const write = (degree) => (degree === 0 ? "0 (always the best)" : String(degree));

function key(place) {
  const style = STYLES[curved.indexOf(place)];
  return style ? draw("svg", { class: "key", viewBox: "0 0 30 14", width: 30, height: 14, "aria-hidden": "true" },
    draw("path", { d: "M0 7h30", stroke: `var(--${style.color})`, "stroke-width": 2.5, "stroke-dasharray": style.dash || null })) : "";
}

/** Return the entropy in bits, where every token that is left is on the page. */
function entropy(found) {
  if (!found.final || found.final.rest > 0) return null;
  return found.final.kept.reduce((sum, part) => (part > 0 ? sum - part * Math.log2(part) : sum), 0);
}

function choices(place) {
  const bits = entropy(results[place]);
  const listed = data.listed.indexOf(degrees[place]);
  return bits !== null ? 2 ** bits : listed >= 0 ? data.choices[listed] : null;
}

function showSaid() {
  const found = results[at];
  const open = choices(at);
  const first = make("p", {}, `At temperature ${write(degrees[at])}, `);
  if (found.picked === null) first.append("more tokens stay than this page holds, so it cannot tell which one the draw picks.");
  else {
    first.append(degrees[at] === 0 ? "the best token is taken: " : `the draw ${step.draw.toFixed(6)} of seed ${data.seed} falls on `,
      make("strong", { class: "token" }, `'${name(found.picked)}'`), degrees[at] === 0 ? "." : placeOf(found.picked) < 0 ? ", one of those whose logits this page does not hold." : `, whose probability is ${percent(share(found, placeOf(found.picked)))}.`);
  }
  said.replaceChildren(first, make("p", {}, open === null ? "" : `The choice is as open as one among ${open.toLocaleString("en-US", { maximumFractionDigits: 1 })} equally likely tokens.`));
}

function showCandidates() {
  const found = results[at];
  const listed = order.slice(0, rows);
  for (const place of [...curved, placeOf(found.picked)]) if (place >= 0 && !listed.includes(place)) listed.push(place);
  const columns = [{ title: "" }, { title: "" }, { title: "token" }, { title: "id", number: true }, { title: "logit", number: true },
    { title: `at ${degrees[at]}`, number: true }, { title: "", bar: true }, ...data.listed.map((degree) => ({ title: String(degree), number: true }))];
  const cell = (result, place) => {
    const part = share(result, place);
    return part === null ? "?" : part === 0 ? "cut" : percent(part);
  };
  const each = data.listed.map((degree) => results[degrees.indexOf(degree)]);
  const body = listed.map((place) => {
    const picked = idOf(place) === found.picked;
    const part = share(found, place);
    return { class: picked ? "picked" : part === 0 ? "cut" : null, cells: [picked ? "▸" : "", key(place), token(name(idOf(place))), String(idOf(place)), found.logits[place].toFixed(2),
      cell(found, place), part === null ? "" : bar(part), ...each.map((result) => `${idOf(place) === result.picked ? "▸ " : ""}${cell(result, place)}`)] };
  });
  const inside = new Set(listed);
  const total = step.logits.length + (step.rest ? step.rest.count : 0);
  const left = (result) => (result.final ? percent(Math.max(0, result.final.rest + result.final.kept.reduce((sum, part, place) => sum + (inside.has(place) ? 0 : part), 0))) : "?");
  if (total > listed.length) body.push({ class: "rest", cells: ["", "", `${count(total - listed.length)} more`, "", "", left(found), "", ...each.map(left)] });
  const more = make("button", { type: "button", class: "more" }, "Show more candidates");
  more.addEventListener("click", () => { rows = Math.min(MOST_ROWS, order.length); show(); });
  shown.replaceChildren(table("Probabilities at the chosen temperature, then at those asked for; ▸ marks what the draw picks", columns, body), rows < Math.min(MOST_ROWS, order.length) ? make("p", {}, more) : "");
}

/** Show which token the same draw picks over the temperatures, as pieces of a line. */
function picks() {
  const parts = [];
  results.forEach((found, place) => {
    if (parts.length && parts.at(-1).id === found.picked) parts.at(-1).to = place;
    else parts.push({ id: found.picked, from: place, to: place });
  });
  const edge = (place) => (degrees[Math.min(degrees.length - 1, Math.max(0, place))] + degrees[Math.max(0, Math.min(degrees.length - 1, place - 1))]) / 2;
  const words = (part) => (part.id === null ? "not known" : `'${name(part.id)}'`) + (part.from === part.to ? ` at ${degrees[part.from]}` : ` from ${degrees[part.from]} to ${degrees[part.to]}`);
  const nodes = parts.map((part) => {
    const width = (part.to + 1 < degrees.length ? edge(part.to + 1) : degrees.at(-1)) - edge(part.from);
    const piece = Math.max(0.005, width / degrees.at(-1));
    const shown = part.id === null ? "?" : name(part.id);
    return make("span", { class: `piece token${part.id === null ? " rest" : ""}`, "--share": piece.toFixed(4), title: words(part) }, [...shown].length < SIGNS * piece ? shown : "");
  });
  return section("What the same draw picks", make("div", { class: "draws picks", role: "img", "aria-label": parts.map(words).join(", ") }, make("div", { class: "pieces" }, ...nodes),
    make("div", { class: "ends" }, make("span", {}, "temperature 0"), make("span", {}, String(degrees.at(-1))))), make("p", {}, `${parts.map(words).join(", ")}.`));
}

function show() {
  showSaid();
  showCandidates();
  curves.redraw();
  curves.point(degrees[at]);
}

const lines = () => curved.map((place, which) => ({ ...STYLES[which], kind: "line", class: idOf(place) === results[at].picked ? "strong" : "",
  points: degrees.map((degree, where) => [degree, share(results[where], place)]) }));
const curves = plot(box, () => ({ height: 320, x: [0, degrees.at(-1)], y: [0, 1], label: "Probability of each candidate over the temperature", xLabel: "temperature", yLabel: "probability", lines: lines() }),
  { hover: (value) => { if (value === null) curves.point(degrees[at]); },
    pick: (value) => { at = degrees.reduce((best, degree, place) => (Math.abs(degree - value) < Math.abs(degrees[best] - value) ? place : best), 0); control.set(at); show(); } });
const control = slider("temperature", degrees, at, write, (place) => { at = place; show(); });
control.classList.add("plain");
const others = data.order.filter((filter) => filter !== "temperature" && data.settings[filter] !== FILTERS[filter].off).map((filter) => `${filter} ${data.settings[filter]}`);
const fixed = [...data.early, ...others];
const kept = step.rest ? `The page holds the logits of ${count(step.ids.length)} of ${count(step.ids.length + step.rest.count)} tokens; the rest is one row. ` : `The page holds the logits of all ${count(step.logits.length)} tokens. `;
root.append(
  section("The text", make("p", { class: "text" }, make("span", { class: "prompt" }, (data.left_out ? `… ${count(data.left_out)} characters before … ` : "") + data.prompt))),
  section("Temperature", note("Move the temperature, or click into the picture. A low one makes the best token all but certain, a high one gives the others a chance; the draw stays."), make("div", { class: "controls" }, control), said, box),
  section("Candidates", shown), picks(),
  note(`${kept}Everything is computed from these recorded numbers.${fixed.length ? ` These stay as recorded: ${fixed.join(", ")}.` : ""}`));
show();
