// Attention: a head to choose, its weights as a matrix and as arcs over the text, and what it does.

const MEANING = {
  previous_token: "the token just before",
  first_token: "the text's first token",
  same_token: "earlier tokens equal to the one it stands on",
  induction: "what followed the same token earlier",
  itself: "the token it stands on",
};
const size = data.tokens.length;
const HEIGHT = 130;
let head = data.heads.reduce((best, found) => (Math.abs(effect(found)) > Math.abs(effect(best)) ? found : best));
let from = size - 1; // the token that looks
let to = null; // the one it is asked about

const title = make("h2", {});
const about = make("div", {});
const arcs = draw("svg", { class: "arcs", "aria-hidden": "true" });
const row = make("div", { class: "tokens", role: "group", "aria-label": "The text: choose the token that looks" });
const strip = make("div", { class: "scroll strip", tabindex: -1 }, make("div", { class: "stage" }, arcs, row));
const matrix = make("div", { class: "matrix scroll", tabindex: 0, role: "application",
  "aria-label": "Matrix of weights: a row for each token that looks, a column for each it looks at; arrow keys move" });
const panel = make("div", { class: "panel", role: "status" });
const looks = make("div", {});

/** Return by how many points the answer's probability changes without a head. */
function effect(found) {
  return 100 * (found.probability - data.probability);
}

const signed = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
const words = (kind) => kind.replace("_", " ");
const weight = (query, key) => head.weights[query][key] / data.unit;
const number = (at) => data.first + at + 1;

function kindOf(found) {
  if (found.kind === null) return "too short to tell";
  return found.named ? `${words(found.kind)} ${Math.round(100 * found.share)}%` : "mixed";
}

/** Make a small picture of a head's weights: a row for each token that looks. */
function pattern(found) {
  const picture = make("canvas", { class: "pattern", width: size, height: size, "aria-hidden": "true" });
  const paintPattern = () => {
    const pen = picture.getContext("2d");
    pen.clearRect(0, 0, size, size);
    pen.fillStyle = getComputedStyle(root).getPropertyValue("--blue");
    found.weights.forEach((weights, query) => weights.forEach((value, key) => {
      pen.globalAlpha = Math.sqrt(value / data.unit); // so that weights spread over many tokens are seen too
      pen.fillRect(key, query, 1, 1);
    }));
  };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintPattern);
  paintPattern();
  return picture;
}

function heads() {
  const most = Math.max(...data.heads.map((found) => Math.abs(effect(found))), 1);
  const layers = [...new Set(data.heads.map((found) => found.layer))];
  const columns = [...new Set(data.heads.map((found) => found.head))];
  const rows = layers.map((layer) => [`layer ${layer}`, ...columns.map((column) => {
    const found = data.heads.find((other) => other.layer === layer && other.head === column);
    const button = make("button", { type: "button", class: `head heat${effect(found) < 0 ? "" : " more"}`, "--w": (Math.abs(effect(found)) / most).toFixed(3),
      "data-head": `${layer}.${column}` }, pattern(found), make("span", {}, kindOf(found)), make("br"), make("strong", {}, signed(effect(found), 1)));
    button.addEventListener("click", () => { head = found; show(); });
    return button;
  })]);
  const found = table("Each head: what it looks at, and by how many points the answer's probability changes without it",
    [{ title: "" }, ...columns.map((column) => ({ title: `head ${column}` }))], rows);
  walk(found, "button", { columns: () => columns.length });
  return found;
}

function showAbout() {
  const without = `Without this head, '${data.answer}' has ${percent(head.probability)} instead of ${percent(data.probability)} (${signed(effect(head), 1)} points). `
    + `It writes ${signed(head.logit, 3)} towards that token's logit.`;
  const kind = head.kind === null ? "The text is too short to say what it looks at."
    : head.named ? `On average, ${Math.round(100 * head.share)}% of its attention goes to ${MEANING[head.kind]}.`
      : `No kind of place gets half of its attention on average; ${MEANING[head.kind]}: ${Math.round(100 * head.share)}%.`;
  const measured = Object.entries(head.measures).map(([name, share]) => `${words(name)} ${share === null ? "–" : percent(share)}`).join(", ");
  about.replaceChildren(make("p", {}, `${kind} ${without}`), note(`Means over the positions from the third on that have such a token: ${measured}.`));
}

function showRow() {
  data.tokens.forEach((shown, at) => {
    const button = make("button", { type: "button", class: "token heat", "data-at": at, title: `position ${number(at)}` },
      make("span", {}, shown), make("small", {}, ""));
    button.addEventListener("click", () => look(at));
    row.append(button);
  });
  walk(row, "button", { visit: (node) => look(Number(node.dataset.at)) });
}

function look(query, key = null) {
  from = query;
  to = key;
  showArcs();
  showPanel();
  markCell();
}

function showArcs() {
  const buttons = [...row.children];
  buttons.forEach((button, at) => {
    const share = at <= from ? weight(from, at) : 0;
    button.style.setProperty("--w", share.toFixed(3));
    button.lastChild.textContent = share >= 0.05 ? `${Math.round(100 * share)}%` : "";
    button.classList.toggle("asked", at === from);
    button.setAttribute("aria-pressed", String(at === from));
  });
  const middle = (at) => buttons[at].offsetLeft + buttons[at].offsetWidth / 2;
  const width = row.scrollWidth;
  arcs.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  arcs.setAttribute("width", width);
  arcs.setAttribute("height", HEIGHT);
  const nodes = [];
  for (let at = 0; at <= from; at += 1) {
    const share = weight(from, at);
    if (share < 0.01) continue;
    const [x, y] = [middle(from), middle(at)];
    const high = Math.min(HEIGHT - 8, 16 + Math.abs(x - y) / 2);
    const path = at === from ? `M${x - 5} ${HEIGHT}C${x - 18} ${HEIGHT - 26} ${x + 18} ${HEIGHT - 26} ${x + 5} ${HEIGHT}`
      : `M${x} ${HEIGHT}C${x} ${HEIGHT - high * 1.3} ${y} ${HEIGHT - high * 1.3} ${y} ${HEIGHT}`;
    nodes.push(draw("path", { d: path, "stroke-width": (1 + 6 * share).toFixed(2), "stroke-opacity": (0.25 + 0.75 * share).toFixed(2),
      class: at === to ? "asked" : null }));
  }
  arcs.replaceChildren(...nodes);
}

function showPanel() {
  const order = head.weights[from].map((_, at) => at).sort((a, b) => weight(from, b) - weight(from, a) || b - a);
  const left = 1 - head.weights[from].reduce((sum, value) => sum + value, 0) / data.unit;
  const first = make("p", {}, token(`'${data.tokens[from]}'`), ` at ${number(from)} looks `);
  if (to !== null && to <= from) {
    first.append("at ", token(`'${data.tokens[to]}'`), ` at ${number(to)} with ${percent(weight(from, to))}; `);
  }
  first.append("most at ", token(`'${data.tokens[order[0]]}'`), ` at ${number(order[0])}, with ${percent(weight(from, order[0]))}.`);
  panel.replaceChildren(first);
  const rows = order.slice(0, 10).map((at) => [String(number(at)), token(data.tokens[at]), percent(weight(from, at)), bar(weight(from, at))]);
  if (data.cut && left > 0.002) rows.push(["", `the ${count(data.cut)} tokens before`, percent(left), bar(left)]);
  looks.replaceChildren(table(`What '${data.tokens[from]}' at ${number(from)} looks at`, [{ title: "position", number: true }, { title: "token" },
    { title: "weight", number: true }, { title: "", bar: true }], rows));
}

let cells = null;

function showMatrix() {
  const LABEL = 96;
  const room = matrix.clientWidth || 600;
  const side = Math.max(6, Math.min(22, Math.floor((room - LABEL - 2) / size)));
  const named = side >= 11;
  const top = named ? 74 : 18;
  const [width, height] = [LABEL + size * side + 2, top + size * side + 2];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "weights", "aria-hidden": "true" });
  data.tokens.forEach((shown, at) => {
    const short = [...shown].length > 9 ? `${[...shown].slice(0, 8).join("")}…` : shown;
    if (named || at % Math.ceil(14 / side) === 0) {
      svg.append(draw("text", { x: LABEL - 4, y: top + at * side + side / 2 + 4, "text-anchor": "end" }, short));
    }
    const x = LABEL + at * side + side / 2;
    if (named) svg.append(draw("text", { x: x + 4, y: top - 4, transform: `rotate(-90 ${x + 4} ${top - 4})` }, short));
    else if (at % 10 === 0) svg.append(draw("text", { x, y: top - 4 }, String(number(at))));
  });
  svg.append(draw("path", { class: "edge", d: `M${LABEL} ${top}v${size * side}h${size * side}` }));
  cells = { nodes: [], cursor: draw("rect", { class: "cursor", width: side, height: side }), side, top, left: LABEL, svg, width, height };
  for (let query = 0; query < size; query += 1) {
    for (let key = 0; key <= query; key += 1) {
      const cell = draw("rect", { x: LABEL + key * side, y: top + query * side, width: side - (side > 8), height: side - (side > 8), "fill-opacity": weight(query, key) });
      cells.nodes.push(cell);
    }
  }
  svg.append(...cells.nodes, cells.cursor);
  matrix.replaceChildren(svg);
  markCell();
}

function paint() {
  let at = 0;
  for (let query = 0; query < size; query += 1) {
    for (let key = 0; key <= query; key += 1) cells.nodes[at++].setAttribute("fill-opacity", weight(query, key));
  }
}

function markCell() {
  if (!cells) return;
  cells.cursor.setAttribute("x", cells.left + (to ?? 0) * cells.side);
  cells.cursor.setAttribute("y", cells.top + from * cells.side);
  cells.cursor.setAttribute("width", to === null ? (from + 1) * cells.side : cells.side);
}

matrix.addEventListener("pointermove", (event) => {
  const bounds = cells.svg.getBoundingClientRect();
  const key = Math.floor(((event.clientX - bounds.left) / bounds.width * cells.width - cells.left) / cells.side);
  const query = Math.floor(((event.clientY - bounds.top) / bounds.height * cells.height - cells.top) / cells.side);
  if (query >= 0 && query < size && key >= 0 && key <= query && (query !== from || key !== to)) look(query, key);
});
matrix.addEventListener("keydown", (event) => {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  if (!moves[event.key]) return;
  event.preventDefault();
  const query = Math.min(size - 1, Math.max(0, from + moves[event.key][0]));
  look(query, Math.min(query, Math.max(0, (to ?? query) + moves[event.key][1])));
});

function parts() {
  const most = Math.max(...data.parts.map((part) => Math.abs(part.logit))) || 1;
  const rows = data.parts.map((part) => [part.part, part.layer === null ? "" : String(part.layer), signed(part.logit, 3), signed(part.lead, 3), bar(part.logit / most)]);
  rows.push({ class: "picked", cells: ["the logit itself", "", signed(data.logit, 3), signed(data.lead, 3), ""] });
  return table(`What adds to the logit of '${data.answer}', and to its lead over '${data.rival}'`, [{ title: "part" }, { title: "layer", number: true },
    { title: "logit", number: true }, { title: "lead", number: true }, { title: "", bar: true }], rows);
}

function show() {
  title.textContent = `Layer ${head.layer}, head ${head.head}`;
  document.querySelectorAll("[data-head]").forEach((button) =>
    button.setAttribute("aria-pressed", String(button.dataset.head === `${head.layer}.${head.head}`)));
  showAbout();
  if (cells) paint();
  look(from, to);
}

showRow();
root.append(
  make("p", {}, "After this text, the model says ", make("strong", { class: "token" }, `'${data.answer}'`), `, with probability ${percent(data.probability)}.`),
  section("Heads", note("Choose a head. The stronger its colour, the more the answer depends on it. Its picture shows all of its weights, a row for each token that looks."), heads()),
  make("section", {}, title, about, note("Point at a token, or walk with the arrow keys, to see what it looks at."
    + (data.cut ? ` The page holds the weights among the last ${count(size)} of ${count(data.total)} tokens.` : "")), strip, panel),
  make("div", { class: "columns" }, section("All weights", note("Rows look at columns; the stronger the colour, the more. Weights are rounded to 0.1%."), matrix), section("In numbers", looks)),
  section("What the answer is made of", parts()));
show();
new ResizeObserver(showMatrix).observe(matrix.parentElement);
strip.scrollLeft = strip.scrollWidth;
