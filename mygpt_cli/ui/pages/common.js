"use strict";
// What all pages share. Text gets into a page by textContent only, and nothing here makes HTML of it.

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.getElementById("explore");

/** Make an element with attributes and children; children that are strings become text. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an element of a picture. */
function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Write a share of 1 as a percentage; what is not 0 never looks like it. */
function percent(share) {
  return share > 0 && share < 0.0005 ? "<0.1%" : `${(100 * share).toFixed(1)}%`;
}

function count(number) {
  return number.toLocaleString("en-US");
}

function token(text, kind = "span") {
  return make(kind, { class: "token" }, text);
}

/** Make a table: `columns` are {title, number, bar}, rows are lists of texts or nodes, or {cells, class}. */
function table(caption, columns, rows) {
  const head = columns.map((column) =>
    make("th", { scope: "col", class: column.number ? "number" : null }, column.title));
  const body = rows.map((row) => {
    const cells = Array.isArray(row) ? row : row.cells;
    return make("tr", { class: row.class }, ...cells.map((cell, at) =>
      make("td", { class: columns[at].number ? "number" : columns[at].bar ? "bar" : null }, cell)));
  });
  return make("div", { class: "scroll" }, make("table", {}, caption ? make("caption", {}, make("span", {}, caption)) : "",
    make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
}

/** Make a bar over a share of 1; below 0 it says less. */
function bar(share) {
  const width = `${Math.min(100, 100 * Math.abs(share)).toFixed(2)}%`;
  return make("i", { "--share": width, class: share < 0 ? "less" : null });
}

/** Make a slider over listed values; `change` is called with the place of the one that is chosen. */
function slider(name, values, at, write, change) {
  const input = make("input", { type: "range", min: 0, max: values.length - 1, step: 1, value: at });
  const output = make("output", {});
  const control = make("label", { class: "control" }, make("span", {}, `${name}: `, output), input);
  const show = () => {
    const place = Number(input.value);
    output.textContent = write(values[place]);
    input.setAttribute("aria-valuetext", write(values[place]));
    control.classList.toggle("changed", place !== at);
  };
  input.addEventListener("input", () => { show(); change(Number(input.value)); });
  control.set = (place) => { input.value = place; show(); };
  control.set(at);
  return control;
}

/** Let arrow keys walk over the elements of a container, of which one is reached by Tab. */
function walk(container, selector, { columns = 0, visit = () => {} } = {}) {
  const all = () => [...container.querySelectorAll(selector)];
  const settle = (node) => {
    for (const other of container.querySelectorAll(`${selector}[tabindex="0"]`)) other.tabIndex = -1;
    node.tabIndex = 0;
  };
  for (const node of all()) node.tabIndex = -1;
  if (all().length) all()[0].tabIndex = 0;
  container.addEventListener("keydown", (event) => {
    const down = columns ? columns() : 1;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: down, ArrowUp: -down };
    const nodes = all();
    const here = nodes.indexOf(event.target.closest(selector));
    if (here < 0) return;
    let to = here + (steps[event.key] ?? 0);
    if (event.key === "Home") to = 0;
    if (event.key === "End") to = nodes.length - 1;
    if (to === here || !nodes[to]) return;
    event.preventDefault();
    settle(nodes[to]);
    nodes[to].focus();
  });
  const found = (event) => event.target.closest && event.target.closest(selector);
  container.addEventListener("focusin", (event) => {
    const node = found(event);
    if (node) { settle(node); visit(node); }
  });
  container.addEventListener("mouseover", (event) => { if (found(event)) visit(found(event)); });
}

function note(text) {
  return make("p", { class: "note" }, text);
}

function section(title, ...children) {
  return make("section", {}, make("h2", {}, title), ...children);
}
