// A text as its tokens, each with a background of its own; what is known of one stands in a panel.

const BACKGROUNDS = {
  "alternating": (at) => [at % 2 ? "even" : "odd", 0],
  "by bytes: the more, the stronger": (at) => ["heat", Math.min(1, (of(at).size - 1) / 9)],
  "by frequency: the rarer, the stronger": (at) => ["heat", 1 - Math.log(of(at).count) / Math.log(Math.max(2, most))],
};
const of = (at) => data.tokens[data.ids[at]];
const most = Math.max(1, ...Object.values(data.tokens).map((one) => one.count));
const text = make("div", { class: "text cut-text", role: "group", "aria-label": "The text, token by token" });
const panel = make("div", { class: "panel", role: "status" });
const spans = [];
const places = new Map(); // where each id is in the text
let marked = null;

function showText() {
  const whole = document.createDocumentFragment();
  data.ids.forEach((id, at) => {
    const span = make("span", { class: "t", "data-at": at, tabindex: -1 }, of(at).text);
    if (at < data.prefix) span.classList.add("prefix");
    spans.push(span);
    places.set(id, [...(places.get(id) ?? []), at]);
    whole.append(span);
  });
  if (data.total > data.ids.length) whole.append(make("span", { class: "prompt" }, ` … ${count(data.total - data.ids.length)} tokens more`));
  text.append(whole);
  walk(text, ".t", { visit: (node) => showToken(Number(node.dataset.at)) });
  text.addEventListener("click", (event) => {
    const node = event.target.closest(".t");
    if (node) { mark(data.ids[Number(node.dataset.at)]); node.focus(); }
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter") mark(data.ids[Number(event.target.dataset.at)]);
  });
}

/** Mark all places of a token in the text, or none of them where these were marked. */
function mark(id) {
  for (const at of places.get(marked) ?? []) spans[at].classList.remove("same");
  marked = marked === id ? null : id;
  for (const at of places.get(marked) ?? []) spans[at].classList.add("same");
}

function words(number, name) {
  return `${count(number)} ${name}${number === 1 ? "" : "s"}`;
}

function showToken(at) {
  const found = of(at);
  const holds = found.characters === null ? "part of a character" : words(found.characters, "character");
  const lines = [
    make("p", {}, "Token ", make("strong", { class: "token" }, `'${found.shown}'`), `, number ${count(at + 1)}: id ${data.ids[at]}, ${words(found.size, "byte")} `,
      make("span", { class: "mono" }, found.hex), `, ${holds}`),
    make("p", {}, at < data.prefix ? "The tokenizer has put it before the text." : `It stands here ${found.count === 1 ? "once" : `${count(found.count)} times`}. `, ...merges(found)),
  ];
  panel.replaceChildren(...lines);
}

function merges(found) {
  if (!found.merges.length) return [];
  const parts = found.merges.flatMap(([left, right], at) => [at ? ", then " : "", token(left), " + ", token(right)]);
  return ["Merged from ", ...parts, "."];
}

function paint(name, signs) {
  spans.forEach((span, at) => {
    const [kind, w] = BACKGROUNDS[name](at);
    span.classList.toggle("even", kind === "even");
    span.classList.toggle("odd", kind === "odd");
    span.classList.toggle("heat", kind === "heat");
    span.style.setProperty("--w", w.toFixed(3));
    const shown = signs ? of(at).shown.replace(/↵/g, "↵\n") : of(at).text;
    if (span.textContent !== shown) span.textContent = shown;
  });
}

function controls() {
  const select = make("select", {}, ...Object.keys(BACKGROUNDS).map((name) => make("option", {}, name)));
  const signs = make("input", { type: "checkbox" });
  const repaint = () => paint(select.value, signs.checked);
  select.addEventListener("change", repaint);
  signs.addEventListener("change", repaint);
  repaint();
  return make("div", { class: "controls" }, make("label", { class: "control" }, "background", select), make("label", {}, signs, " show spaces as ␣"));
}

function entries(title, list) {
  const ids = data[list];
  const rows = ids.map((id) => {
    const found = data.tokens[id];
    const here = places.has(id);
    const button = make("button", { type: "button" }, "Find");
    button.addEventListener("click", () => {
      if (marked !== id) mark(id);
      const span = spans[places.get(id)[0]];
      span.scrollIntoView({ block: "center" });
      span.focus();
    });
    return [here ? button : "", token(found.shown), String(id), count(found.size), count(found.count), found.count ? bar(found.count / Math.max(1, data.total)) : ""];
  });
  const part = ids.length < data.listed[list] ? note(`The first ${count(ids.length)} of ${count(data.listed[list])} tokens.`) : "";
  return section(title, part, table("With how often it stands here", [{ title: "" }, { title: "token" }, { title: "id", number: true }, { title: "bytes", number: true }, { title: "here", number: true }, { title: "share of the text", bar: true }], rows));
}

/** Count the tokens of each size in bytes. */
function sizes() {
  const found = new Map();
  for (let at = 0; at < data.ids.length; at += 1) found.set(of(at).size, (found.get(of(at).size) ?? 0) + 1);
  const rows = [...found].sort(([a], [b]) => a - b).map(([size, number]) => [words(size, "byte"), count(number), percent(number / data.ids.length), bar(number / data.ids.length)]);
  return section("Tokens by their size", table("How many tokens of the text have so many bytes", [{ title: "size" }, { title: "tokens", number: true }, { title: "share", number: true }, { title: "", bar: true }], rows));
}

const own = data.total - data.prefix;
const kind = data.kind === "char" ? "one token for each character" : "byte pairs";
const vocabulary = `The vocabulary has ${count(data.vocab_size)} tokens (${kind})`;
if (data.ids.length) {
  showText();
  root.append(
    make("p", {}, `${words(data.characters, "character")} in ${words(data.bytes, "byte")} are ${words(own, "token")}: ${(own / Math.max(1, data.characters)).toFixed(3)} tokens per character, `
      + `${(data.bytes / Math.max(1, own)).toFixed(2)} bytes per token. ${vocabulary}, of which this text uses ${count(data.distinct)}.`),
    section("The text", note("Point at a token, or walk with the arrow keys; click it, or press Enter, to mark all places where it stands."
      + (data.total > data.ids.length ? ` The page holds the first ${count(data.ids.length)} tokens.` : "")), controls(), text, panel));
  const tables = make("div", { class: "columns" }, entries("Most frequent in this text", "frequent"));
  if (data.longest.length) tables.append(entries("Longest of the vocabulary", "longest"));
  root.append(tables, sizes());
  panel.append(note("Point at a token for its id, its bytes and how it was merged."));
} else {
  root.append(make("p", {}, `${vocabulary}; the longest show what its text said most often.`));
  if (data.longest.length) root.append(entries("Longest of the vocabulary", "longest"));
}
