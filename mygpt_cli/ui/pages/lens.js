// What the model would say after each layer: a cell for each layer and position, and the best tokens of one cell.

const positions = data.positions;
const panel = make("div", { class: "panel", role: "status" });
const best = make("div", {});
const name = (id) => data.tokens[id];
const layerName = (layer) => (layer ? `layer ${layer}` : "embedding");

function grid() {
  const layers = positions[0].guesses.length;
  const heads = positions.map((found) => make("th", { scope: "col" }, make("small", {}, String(found.index)), make("br"), token(found.token)));
  const rows = [];
  for (let layer = 0; layer < layers; layer += 1) {
    rows.push(make("tr", {}, make("th", { scope: "row" }, layerName(layer)), ...positions.map((found, at) => cell(found, layer, at))));
  }
  const decided = make("tr", {}, make("th", { scope: "row" }, "decided at"), ...positions.map((found) => make("td", { class: "dim-text" }, String(found.decided))));
  const whole = make("table", { class: "lens" }, make("caption", {}, make("span", {}, "The token that would be said after each layer (rows) at each position (columns)")),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "after"), ...heads)), make("tbody", {}, ...rows, decided));
  walk(whole, "td.cell", { columns: () => positions.length, visit: (node) => show(Number(node.dataset.layer), Number(node.dataset.at)) });
  return make("div", { class: "scroll tall" }, whole);
}

function cell(found, layer, at) {
  const guess = found.guesses[layer];
  const right = guess.ids[0] === found.answer;
  const first = right && layer === found.decided;
  return make("td", { class: `cell heat${right ? " answer" : ""}`, tabindex: -1, "data-layer": layer, "data-at": at, "--w": guess.probs[0].toFixed(3) },
    token(`${first ? "▸" : ""}${name(guess.ids[0])}`), make("br"), make("small", {}, percent(guess.probs[0])));
}

function show(layer, at) {
  const found = positions[at];
  const guess = found.guesses[layer];
  const last = layer === found.guesses.length - 1;
  const where = layer ? `stopped after layer ${layer}` : "had only the embedding";
  panel.replaceChildren(
    make("p", {}, "After ", token(`'${found.token}'`), ` at ${found.index}, `, last ? "the model says " : `if it ${where}, it would say `,
      make("strong", { class: "token" }, `'${name(guess.ids[0])}'`), `, with probability ${percent(guess.probs[0])}.`),
    make("p", {}, "Its answer ", make("strong", { class: "token" }, `'${name(found.answer)}'`), ` has rank ${count(guess.rank)} here, with probability ${percent(guess.share)}; `
      + `entropy ${guess.entropy.toFixed(2)} bits, ${guess.away.toFixed(2)} bits away from the last layer's prediction.`));
  best.replaceChildren(table(`The best tokens after ${layerName(layer)} at position ${found.index}`, [{ title: "rank", number: true }, { title: "token" },
    { title: "id", number: true }, { title: "probability", number: true }, { title: "", bar: true }],
  guess.ids.map((id, rank) => ({ class: id === found.answer ? "picked" : null,
    cells: [String(rank + 1), token(name(id)), String(id), percent(guess.probs[rank]), bar(guess.probs[rank])] }))));
}

if (positions.length) {
  const part = positions.length < data.total ? ` The page holds the last ${count(positions.length)} of ${count(data.total)} positions.` : "";
  const shown = grid();
  root.append(make("div", { class: "columns" },
    section("After each layer", note("The stronger the colour, the more probable. Underlined is the model's own answer. From the layer with ▸ on, the best token is that answer; layer 0 is the embedding. "
      + `Point at a cell, or walk with the arrow keys.${part}`), shown),
    section("One cell", panel, best)));
  show(positions[0].guesses.length - 1, positions.length - 1);
  shown.scrollLeft = shown.scrollWidth;
}
