// The tensors of a model: one to choose, its histogram and a map of its values.

const title = make("h2", {});
const facts = make("div", {});
const detail = make("div", {});
const panel = make("div", { class: "panel", role: "status" });
const list = make("div", {});
const shape = (tensor) => tensor.shape.map(count).join(" × ");
const size = (tensor) => tensor.shape.reduce((product, side) => product * side, 1);
let which = "means";

function small(tensor) {
  const most = Math.max(...tensor.histogram);
  const wide = tensor.histogram.length;
  return draw("svg", { class: "small", viewBox: `0 0 ${wide} 16`, preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("path", { d: tensor.histogram.map((number, at) => `M${at} 16h1V${(16 - 16 * number / most).toFixed(2)}h-1z`).join("") }));
}

function tensors() {
  const rows = data.tensors.map((tensor, at) => {
    const button = make("button", { type: "button", class: "token", "data-tensor": at }, tensor.name);
    button.addEventListener("click", () => choose(at));
    return [button, shape(tensor), ...[tensor.norm, tensor.mean, tensor.deviation, tensor.low, tensor.high].map(figure), small(tensor)];
  });
  const found = table("Each tensor, and how its numbers are spread from the lowest to the highest", [{ title: "tensor" }, { title: "shape", number: true }, ...["norm", "mean", "deviation", "lowest", "highest"].map((name) => ({ title: name, number: true })),
    { title: "histogram", bar: true }], rows);
  found.classList.add("tall", "short");
  walk(found, "button");
  return found;
}

function histogram(tensor) {
  const bins = tensor.histogram.length;
  const width = (tensor.high - tensor.low) / bins;
  const logs = make("input", { type: "checkbox" });
  const box = make("div", {});
  const words = (at) => `from ${figure(tensor.low + at * width)} to ${figure(tensor.low + (at + 1) * width)}: ${count(tensor.histogram[at])} numbers, ${percent(tensor.histogram[at] / size(tensor))}`;
  const show = () => {
    const values = logs.checked ? tensor.histogram.map((number) => Math.log10(1 + number)) : tensor.histogram;
    const made = bars(values, "histogram", words);
    made.lastChild.firstChild.textContent = `${bins} bins from ${figure(tensor.low)} to ${figure(tensor.high)}; point at one, or walk with the arrow keys`;
    box.replaceChildren(made);
  };
  logs.addEventListener("change", show);
  show();
  return make("div", {}, make("label", {}, logs, " logarithmic, which shows the tails"), box);
}

/** Draw the blocks of a matrix; what is below 0 is a smaller square. */
function map(tensor) {
  const cells = tensor[which];
  const [rows, columns] = [cells.length, cells[0].length];
  const most = cells.reduce((best, row) => row.reduce((high, value) => Math.max(high, Math.abs(value)), best), 0) || 1;
  const SIDE = 10;
  const cursor = draw("rect", { class: "cursor", width: SIDE, height: SIDE, x: 0, y: 0 });
  const nodes = cells.flatMap((row, y) => row.map((value, x) => {
    const inset = value < 0 ? 2 : 0;
    return draw("rect", { class: value < 0 ? "less" : "more", x: x * SIDE + inset, y: y * SIDE + inset, width: SIDE - 2 * inset, height: SIDE - 2 * inset, "fill-opacity": (Math.abs(value) / most).toFixed(3) });
  }));
  const svg = draw("svg", { class: "map", viewBox: `0 0 ${columns * SIDE} ${rows * SIDE}`, "aria-hidden": "true" }, ...nodes, cursor);
  const box = make("div", { class: "mapped", tabindex: 0, role: "group", "--wide": `${Math.min(46, Math.max(12, columns * 0.9))}rem`, "aria-label": "Map of the matrix: arrow keys walk over it" }, svg);
  let here = [0, 0];
  const point = (y, x) => {
    here = [Math.min(rows - 1, Math.max(0, y)), Math.min(columns - 1, Math.max(0, x))];
    cursor.setAttribute("y", here[0] * SIDE);
    cursor.setAttribute("x", here[1] * SIDE);
    say(tensor, ...here);
  };
  box.addEventListener("pointermove", (event) => {
    const bounds = svg.getBoundingClientRect();
    point(Math.floor((event.clientY - bounds.top) / bounds.height * rows), Math.floor((event.clientX - bounds.left) / bounds.width * columns));
  });
  box.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!moves[event.key]) return;
    event.preventDefault();
    point(here[0] + moves[event.key][0], here[1] + moves[event.key][1]);
  });
  return box;
}

function say(tensor, y, x) {
  const [down, across] = tensor.block;
  const long = [tensor.shape[0], size(tensor) / tensor.shape[0]];
  const range = (at, step, length) => (step === 1 ? String(at) : `${count(at * step)} to ${count(Math.min(length, (at + 1) * step) - 1)}`);
  const where = `${down === 1 ? "Row" : "Rows"} ${range(y, down, long[0])}, ${across === 1 ? "column" : "columns"} ${range(x, across, long[1])}`;
  panel.replaceChildren(make("p", {}, tensor.spreads ? `${where}: mean ${figure(tensor.means[y][x])}, root mean square ${figure(tensor.spreads[y][x])}` : `${where}: ${figure(tensor.means[y][x])}`));
}

function matrix(tensor) {
  const [down, across] = tensor.block;
  const box = make("div", {}, map(tensor));
  const select = make("select", {}, make("option", { value: "means" }, "mean of each block"), make("option", { value: "spreads" }, "root mean square of each block"));
  select.value = which;
  select.addEventListener("change", () => { which = select.value; box.replaceChildren(map(tensor)); });
  panel.replaceChildren(note("Point at the map for its values, or walk over it with the arrow keys."));
  const blocks = tensor.spreads ? `Each square is a block of ${down} × ${across} numbers. ` : "Each square is one number. ";
  const rows = { embedding: "Rows are tokens. ", positions: "Rows are positions. " }[tensor.name] ?? "Rows are outputs, columns inputs. ";
  return [note(`${blocks}${rows}The stronger, the farther from 0; smaller squares are below 0.`),
    tensor.spreads ? make("div", { class: "controls" }, make("label", { class: "control" }, "shown", select)) : "", panel, box];
}

function choose(at) {
  const tensor = data.tensors[at];
  document.querySelectorAll("[data-tensor]").forEach((button) => button.setAttribute("aria-pressed", String(Number(button.dataset.tensor) === at)));
  title.textContent = tensor.name;
  if (!tensor.spreads) which = "means";
  facts.replaceChildren(make("p", {}, `${shape(tensor)}, together ${count(size(tensor))} numbers: they average ${figure(tensor.mean)}, with standard deviation ${figure(tensor.deviation)}; `
    + `norm ${figure(tensor.norm)}, lowest ${figure(tensor.low)}, highest ${figure(tensor.high)}.`));
  const values = tensor.values ? [bars(tensor.values, "values", (place) => `value ${place}: ${figure(tensor.values[place])}`, size(tensor))] : matrix(tensor);
  detail.replaceChildren(make("div", { class: "columns" }, make("div", {}, make("h3", {}, tensor.values ? "Its values" : "Its map"), ...values), make("div", {}, make("h3", {}, "Histogram"), histogram(tensor))));
}

list.append(tensors());
root.append(section("Tensors", note("Choose a tensor to see its numbers."), list), make("section", {}, title, facts, detail));
choose(0);
