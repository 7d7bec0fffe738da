// Two checkpoints, A and B, over the same text: where they differ, token by token, and how far their weights are apart.

const whole = data.text;
const size = whole ? whole.ids.length : 0;
const spans = [];
const panel = make("div", { class: "panel", role: "status" });
const over = make("output", {});
const name = (id) => whole.shown[id];
const signed = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
const change = (at) => whole.sides[1].bits[at - 1] - whole.sides[0].bits[at - 1];
const DARKEST = whole ? Math.max(1, ...Array.from({ length: size - 1 }, (_, at) => Math.min(6, Math.abs(change(at + 1))))) : 1; // bits of difference
const BACKGROUNDS = {
  "B − A": (at) => [Math.min(1, Math.abs(change(at)) / DARKEST), change(at) < 0 ? "gain" : "loss"],
  "A's surprise": (at) => [Math.min(1, whole.sides[0].bits[at - 1] / 14), "loss"],
  "B's surprise": (at) => [Math.min(1, whole.sides[1].bits[at - 1] / 14), "loss"],
};
let background = "B − A";
let threshold = 1;

function paint() {
  let [gains, losses] = [0, 0];
  for (let at = 1; at < size; at += 1) {
    const [w, kind] = BACKGROUNDS[background](at);
    const by = change(at);
    const marked = Math.abs(by) >= threshold && by !== 0;
    gains += marked && by < 0;
    losses += marked && by > 0;
    spans[at].style.setProperty("--w", w.toFixed(3));
    spans[at].className = `t heat ${kind}${marked ? (by < 0 ? " better" : " worse") : ""}`;
  }
  over.textContent = `B is better by so much at ${count(gains)} tokens, and worse at ${count(losses)}, of ${count(Math.max(0, size - 1))}.`;
}

function showToken(at) {
  const first = make("p", {}, "Token ", make("strong", { class: "token" }, `'${name(whole.ids[at])}'`), `, number ${count(at + 1)}`);
  if (!at) {
    panel.replaceChildren(first, make("p", {}, "Nothing precedes it, so nothing predicted it."));
    return;
  }
  const by = change(at);
  first.append(by === 0 ? ": A and B are equally surprised." : `: B is ${Math.abs(by).toFixed(2)} bits ${by < 0 ? "less" : "more"} surprised than A.`);
  panel.replaceChildren(first, ...whole.sides.map((side, which) => {
    const best = side.best[at - 1];
    const line = make("p", {}, make("strong", {}, "AB"[which]), ` ${side.bits[at - 1].toFixed(2)} bits, probability ${percent(2 ** -side.bits[at - 1])}, rank ${count(side.ranks[at - 1])}`);
    if (best === whole.ids[at]) line.append("; it is what was expected");
    else line.append("; expected was ", token(`'${name(best)}'`));
    return line;
  }));
}

function goTo(at) {
  const span = spans[Math.min(size - 1, at)];
  span.scrollIntoView({ block: "center" });
  span.focus();
}

function textSection() {
  const text = make("div", { class: "text surprisal", role: "group", "aria-label": "The text, token by token" });
  whole.ids.forEach((id, at) => {
    const span = make("span", { class: "t first", "data-at": at, tabindex: -1 }, whole.tokens[id]);
    spans.push(span);
    text.append(span);
  });
  if (whole.count + 1 > size) text.append(make("span", { class: "prompt" }, ` … ${count(whole.count + 1 - size)} tokens more, which are in the curves and the numbers`));
  walk(text, ".t", { visit: (node) => showToken(Number(node.dataset.at)) });
  const select = make("select", {}, ...Object.keys(BACKGROUNDS).map((title) => make("option", {}, title)));
  select.addEventListener("change", () => { background = select.value; paint(); });
  const thresholds = Array.from({ length: 33 }, (_, at) => at / 4);
  const limit = slider("underline from", thresholds, thresholds.indexOf(threshold), (bits) => `${bits} bits of difference`, (at) => { threshold = thresholds[at]; paint(); });
  limit.classList.add("plain");
  paint();
  panel.append(note("Point at a token for what A and B make of it."));
  const legend = make("p", { class: "note" }, make("span", { class: "t heat gain legend better", "--w": 0.7 }, "B is less surprised"), make("span", { class: "t heat loss legend worse", "--w": 0.7 }, "B is more surprised"));
  return section("The text", note("The stronger its background, the more they differ at a token. Point at one, or walk with the arrow keys."), legend,
    make("div", { class: "controls" }, make("label", { class: "control" }, "background", select), limit, over), text, panel);
}

function curves() {
  const box = make("div", { class: "curve" });
  const value = note("Point at the curves for their values; a click goes to that place in the text.");
  const part = (curve, place) => curve[Math.max(0, curve.findLastIndex(([start]) => start <= place))];
  const high = Math.max(...whole.curves.flat().map(([, bits]) => bits), 1);
  const COLORS = ["cyan", "magenta"];
  plot(box, () => ({ height: 200, x: [1, Math.max(2, whole.count)], y: [0, high * 1.05], label: "Mean surprisal of A and of B over the text", xLabel: "token", yLabel: "bits per token",
    lines: whole.curves.map((points, which) => ({ points, color: COLORS[which], kind: "line", dash: which ? "6 3" : null })) }),
  { hover: (place) => {
    if (place === null) return;
    const [[start, a], [, b]] = whole.curves.map((curve) => part(curve, place));
    value.textContent = `From token ${count(start + 1)}: A ${a.toFixed(2)}, B ${b.toFixed(2)} bits each, B − A ${signed(b - a, 2)}`;
  }, pick: (place) => goTo(Math.round(place)) });
  const key = (which) => draw("svg", { class: "key", viewBox: "0 0 30 14", width: 30, height: 14, "aria-hidden": "true" },
    draw("path", { d: "M0 7h30", stroke: `var(--${COLORS[which]})`, "stroke-width": 2.5, "stroke-dasharray": which ? "6 3" : null }));
  return section("The curves over the text", make("p", { class: "keys" }, key(0), "A", key(1), "B"), box, value);
}

function moved() {
  return section("Tokens that differ most", table("The largest differences first", [{ title: "" }, { title: "before it" }, { title: "token" }, { title: "A bits", number: true },
    { title: "B bits", number: true }, { title: "B − A", number: true }],
  whole.moved.map((found) => {
    const button = make("button", { type: "button" }, `Go to ${count(found.place + 1)}`);
    button.addEventListener("click", () => goTo(found.place));
    return [found.place < size ? button : count(found.place + 1), token(found.before), token(found.token), ...found.bits.map((bits) => bits.toFixed(2)), signed(found.bits[1] - found.bits[0], 2)];
  })));
}

function next() {
  const said = data.divergence === null ? "" : `The next tokens of A and B diverge by ${Math.max(0, data.divergence).toFixed(4)} bits.`;
  return section("The next token", note(said), table("Probability of what could come next", [{ title: "token" }, { title: "id", number: true }, { title: "A", number: true }, { title: "", bar: true },
    { title: "B", number: true }, { title: "", bar: true }, { title: "B − A, points", number: true }],
  data.next.map((one) => [token(one.token), String(one.id), percent(one.a), bar(one.a), percent(one.b), bar(one.b), signed(100 * (one.b - one.a), 1)])));
}

function weights() {
  const box = make("div", {});
  const sorted = make("input", { type: "checkbox" });
  const number = (value) => Number(value.toPrecision(4)).toString();
  const most = Math.max(...data.tensors.map((tensor) => tensor.share ?? 0)) || 1;
  const show = () => {
    const order = sorted.checked ? [...data.tensors].sort((a, b) => (b.share ?? Infinity) - (a.share ?? Infinity)) : data.tensors;
    const rows = order.map((tensor) => [token(tensor.name), tensor.shape.map(count).join(" × "), number(tensor.norm), number(tensor.other_norm), number(tensor.distance),
      tensor.cosine === null ? "" : tensor.cosine.toFixed(4), tensor.share === null ? "" : percent(tensor.share), tensor.share ? bar(tensor.share / most) : ""]);
    for (const tensor of data.unlike) rows.push({ class: "rest", cells: [token(tensor), "not in both", "", "", "", "", "", ""] });
    box.replaceChildren(table("Distance between the tensors of A and B, also as a share of A's length", [{ title: "tensor" }, { title: "shape", number: true }, { title: "norm A", number: true }, { title: "norm B", number: true },
      { title: "distance", number: true }, { title: "cosine", number: true }, { title: "moved", number: true }, { title: "", bar: true }], rows));
  };
  sorted.addEventListener("change", show);
  show();
  return section("Weights", make("label", {}, sorted, " those that moved most first"), box);
}

const sides = make("dl", {});
data.sides.forEach((side, which) => sides.append(make("dt", {}, "AB"[which]), make("dd", {}, side.folder + (side.step === null ? "" : `, step ${count(side.step)}`))));
root.append(sides, make("p", {}, data.verdict));
if (!data.same_tokens) root.append(note("Their tokenizers differ, so only bits per byte and weights can be compared."));
if (data.measures.length) {
  root.append(table("Over the text", [{ title: "" }, { title: "A", number: true }, { title: "B", number: true }, { title: "B − A", number: true }],
    data.measures.map(([title, a, b]) => [title, a.toFixed(4), b.toFixed(4), signed(b - a, 4)])));
}
if (whole) root.append(note(`B is less surprised by ${count(whole.better)} and more surprised by ${count(whole.worse)} of ${count(whole.count)} predicted tokens.`), textSection(), curves(), moved());
if (data.next.length) root.append(next());
root.append(weights());
