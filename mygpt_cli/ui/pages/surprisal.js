// A text whose tokens have their surprisal as background; what is known of one token stands in a panel.

const DARKEST = 14; // bits
const size = data.ids.length;
const text = make("div", { class: "text surprisal", role: "group", "aria-label": "The text, token by token" });
const panel = make("div", { class: "panel", role: "status" });
const over = make("output", {});
const passages = typeof data.copied === "string" ? [] : data.copied.passages;
const spans = [];

/** Return the passages in which a token is, by their numbers from 1. */
const within = Array.from({ length: size }, () => []);
passages.forEach((passage, number) => {
  if (!passage.tokens) return;
  for (let at = passage.tokens[0]; at < Math.min(size, passage.tokens[1]); at += 1) within[at].push(number);
});

const name = (id) => data.shown[id];
const share = (bits) => 2 ** -bits;

function showText() {
  const whole = document.createDocumentFragment();
  for (let at = 0; at < size; at += 1) {
    const bits = at ? data.bits[at - 1] : null;
    const copied = within[at].length ? " copied" : "";
    const span = make("span", { class: at ? `t heat${copied}` : "t first", "data-at": at, tabindex: at ? -1 : 0,
      "--w": at ? Math.min(1, bits / DARKEST).toFixed(3) : 0 }, data.tokens[data.ids[at]]);
    spans.push(span);
    for (const number of within[at]) {
      if (passages[number].tokens[0] === at) whole.append(make("sup", { class: "place" }, `[${number + 1}]`));
    }
    whole.append(span);
  }
  if (data.count + 1 > size) whole.append(make("span", { class: "prompt" }, ` … ${count(data.count + 1 - size)} tokens more, which are in the curve and the numbers`));
  text.append(whole);
  walk(text, ".t", { visit: (node) => showToken(Number(node.dataset.at)) });
}

function showToken(at) {
  const lines = [make("p", {}, "Token ", make("strong", { class: "token" }, `'${name(data.ids[at])}'`), `, number ${count(at + 1)}`)];
  if (!at) lines.push(make("p", {}, "Nothing precedes it, so nothing predicted it."));
  else {
    const bits = data.bits[at - 1];
    lines[0].append(`: ${bits.toFixed(2)} bits, probability ${percent(share(bits))}, rank ${count(data.ranks[at - 1])}`);
    const best = data.best[at - 1];
    lines.push(best === data.ids[at] ? make("p", {}, "It is what the model expected.")
      : make("p", {}, "Expected was ", make("strong", { class: "token" }, `'${name(best)}'`),
        `, with probability ${percent(share(data.best_bits[at - 1]))}`));
  }
  for (const number of within[at]) {
    const found = passages[number];
    lines.push(make("p", {}, `Copied: passage [${number + 1}], ${count(found.length)} characters from ${found.file}, line ${count(found.line)}`));
  }
  panel.replaceChildren(...lines);
}

function goTo(at) {
  const span = spans[Math.min(size - 1, at)];
  span.scrollIntoView({ block: "center" });
  span.focus();
}

function jump(at) {
  if (at >= size) return make("span", {}, count(at + 1));
  const button = make("button", { type: "button" }, `Go to ${count(at + 1)}`);
  button.addEventListener("click", () => goTo(at));
  return button;
}

function mark(threshold) {
  let found = 0;
  data.bits.forEach((bits, at) => {
    found += bits >= threshold;
    spans[at + 1].classList.toggle("over", bits >= threshold);
  });
  over.textContent = `${count(found)} of ${count(size - 1)} tokens (${percent(found / Math.max(1, size - 1))}) are underlined.`;
}

function legend() {
  const steps = [0, 1, 2, 4, 8, 14];
  return make("p", { class: "note" }, "Bits: ", ...steps.map((bits) =>
    make("span", { class: "heat t legend", "--w": bits / DARKEST }, bits === DARKEST ? `${bits} and more` : String(bits))),
    passages.length ? make("span", { class: "copied legend" }, "copied") : "");
}

function curve() {
  const box = make("div", { class: "curve" });
  const value = note("");
  const words = (place) => {
    const at = data.curve.findLastIndex(([start]) => start <= place);
    const [start, bits] = data.curve[Math.max(0, at)];
    const end = at + 1 < data.curve.length ? data.curve[at + 1][0] : data.count + 1;
    return `Tokens ${count(start + 1)} to ${count(end)}: ${bits.toFixed(2)} bits each`;
  };
  const high = Math.max(...data.curve.map(([, bits]) => bits), 1);
  const all = plot(box, () => ({ height: 180, x: [1, Math.max(2, data.count)], y: [0, high * 1.05], label: "Mean surprisal over the text",
    xLabel: "token", yLabel: "bits per token", lines: [{ points: data.curve, color: "blue", kind: "line" }] }),
  { hover: (place) => { if (place !== null) value.textContent = words(place); }, pick: (place) => goTo(Math.round(place)) });
  const starts = data.curve.map(([start]) => start);
  const control = slider("part", starts, 0, (start) => `from token ${count(start + 1)}`, (at) => {
    value.textContent = words(starts[at]);
    all.point(starts[at]);
    goTo(starts[at]);
    control.querySelector("input").focus();
  });
  value.textContent = "Point at the curve for its values; a click goes to that place in the text.";
  control.classList.add("plain");
  return section("The curve over the text", box, value, make("div", { class: "controls" }, control));
}

function tables() {
  const worst = table("The most surprising places", [{ title: "" }, { title: "line", number: true }, { title: "before it" }, { title: "token" },
    { title: "bits", number: true }, { title: "rank", number: true }, { title: "expected" }, { title: "with", number: true }],
  data.worst.map((found) => [jump(found.place), count(found.line), token(found.before), token(found.token), found.bits.toFixed(2),
    count(found.rank), token(found.expected), percent(found.share)]));
  const ranks = table("How the model ranked the tokens that came", [{ title: "rank" }, { title: "tokens", number: true }, { title: "share", number: true },
    { title: "bits each", number: true }, { title: "", bar: true }],
  data.by_rank.map((row) => [row.to === 1 ? "1, what it expected" : row.to ? `${row.from} to ${row.to}` : `beyond ${row.from - 1}`, count(row.count),
    percent(row.count / data.count), row.bits === null ? "" : row.bits.toFixed(2), bar(row.count / data.count)]));
  return [section("The worst places", worst), section("Ranks", ranks)];
}

function copiedSection() {
  const found = data.copied;
  if (typeof found === "string") {
    return section("Copied passages", note(`What of it was copied is not known: no training text is at hand (${found}).`));
  }
  const said = `${percent(found.share)} of the text is copied: stretches of ${found.least} characters or more that stand word for word in the training text.`;
  if (!passages.length) return section("Copied passages", note(said));
  const shown = passages.length < found.count ? ` The longest ${count(passages.length)} of ${count(found.count)} passages.` : "";
  const unmarked = passages.some((passage) => passage.tokens === null) ? " They are not marked in the text, since the tokenizer rewrites it." : "";
  return section("Copied passages", note(said + shown + unmarked),
    table("Passages, the longest first", [{ title: "" }, { title: "" }, { title: "characters", number: true }, { title: "passage" },
      { title: "file" }, { title: "line", number: true }],
    passages.map((passage, number) => [`[${number + 1}]`, passage.tokens ? jump(passage.tokens[0]) : "", count(passage.length), token(passage.text),
      passage.file, count(passage.line)])));
}

showText();
const thresholds = Array.from({ length: 41 }, (_, at) => at / 2);
const limit = slider("underline from", thresholds, thresholds.indexOf(8), (bits) => `${bits} bits`, (at) => mark(thresholds[at]));
limit.classList.add("plain");
root.append(
  make("p", {}, `${data.bits_per_byte.toFixed(4)} bits per byte and ${data.nats_per_token.toFixed(4)} nats per token over ${count(data.count)} predicted tokens: `
    + `the model is as unsure as if it chose each token among ${data.perplexity.toLocaleString("en-US", { maximumFractionDigits: 1 })} equally likely ones.`),
  section("The text", note("The stronger its background, the less a token was expected. Point at one, or walk with the arrow keys."), legend(),
    make("div", { class: "controls" }, limit, over), text, panel),
  curve(), ...tables(), copiedSection());
mark(8);
panel.append(note("Point at a token for its rank, its probability, and what was expected instead."));
