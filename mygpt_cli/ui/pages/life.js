// The life of a token: the model's own parts along its residual stream, each to open for its numbers.

const ROWS = 20;
const lazy = []; // what opens, so that all can be opened
const before = data.stages.filter((stage) => stage.number < 6);
const after = data.stages.filter((stage) => stage.number > 8);
const layersSeen = [...new Set(data.stages.map((stage) => stage.layer).filter((layer) => layer !== null))];
const embedded = before.filter((stage) => stage.name !== "rotary cosines").at(-1);

const shape = (stage) => stage.shape.map(count).join(" × ");
const size = (stage) => stage.shape.reduce((product, side) => product * side, 1);

/** Make a place along the stream, whose inside is built when it is opened. */
function stop(kind, number, name, brief, build) {
  const inside = make("div", { class: "inside" });
  const node = make("details", { class: "stop", "data-stage": `${number} ${name}` },
    make("summary", {}, make("span", { class: "place-number" }, String(number)), make("strong", {}, name), make("span", { class: "brief" }, brief)), inside);
  const open = () => { if (!inside.firstChild) inside.append(...build()); };
  node.addEventListener("toggle", () => { if (node.open) open(); });
  lazy.push([node, open]);
  return make("div", { class: `along ${kind}` }, node);
}

function numbers(stage) {
  const cosine = stage.cosine === null ? "" : `, cosine to the stream before ${stage.cosine.toFixed(2)}`;
  const active = stage.active === null ? "" : `, ${count(stage.active)} of ${count(size(stage))} active`;
  return `${shape(stage)}, norm ${figure(stage.norm)}${cosine}${active}`;
}

function valuesOf(stage) {
  const last = stage.shape.at(-1);
  const words = (at) => (stage.shape.length > 1 ? `head ${Math.floor(at / last) + 1}, value ${at % last + 1}: ` : `value ${count(at + 1)}: `) + figure(stage.values[at]);
  return bars(stage.values, stage.name, words, size(stage));
}

/** Make the place of a stage; `from` is the state that it reads, `more` what else there is to show. */
function stageStop(kind, stage, { from = null, more = () => [] } = {}) {
  return stop(kind, stage.number, stage.name, numbers(stage), () =>
    [make("p", {}, stage.told), ...worked(stage, from), valuesOf(stage), ...more()]);
}

/** Say how the first value came about, where that takes two numbers. */
function worked(stage, from) {
  if (!from || !stage.name.endsWith("norm")) return [];
  const [x, y] = [from.values[0], stage.values[0]];
  const gain = data.gain ? ", before the learned gain" : "";
  if (data.norm === "layer") {
    const deviation = Math.sqrt(Math.max(0, from.norm ** 2 / size(from) - from.mean ** 2));
    return [make("p", { class: "worked" }, `The stream has mean ${figure(from.mean)} and standard deviation ${figure(deviation)}. First value: (${figure(x)} ${from.mean < 0 ? "+" : "−"} ${figure(Math.abs(from.mean))}) ÷ ${figure(deviation)} = ${figure((x - from.mean) / deviation)}${gain}${data.gain ? `; after it ${figure(y)}` : ""}.`)];
  }
  const rms = from.norm / Math.sqrt(size(from));
  return [make("p", { class: "worked" }, `The stream's root mean square is ${figure(from.norm)} ÷ √${size(from)} = ${figure(rms)}. First value: ${figure(x)} ÷ ${figure(rms)} = ${figure(x / rms)}${gain}${data.gain ? `; after it ${figure(y)}` : ""}.`)];
}

/** Make the place where a part is added to the stream. */
function sumStop(stage, from, part) {
  const sum = from && part ? make("p", { class: "worked" }, `First value: ${figure(from.values[0])} ${part.values[0] < 0 ? "−" : "+"} ${figure(Math.abs(part.values[0]))} = ${figure(stage.values[0])}. `
    + `The stream's length goes from ${figure(from.norm)} to ${figure(stage.norm)}; what is added has ${figure(part.norm)}.`) : null;
  return stop("stream sum", stage.number, "residual stream", numbers(stage), () =>
    [make("p", {}, stage.told), ...(sum ? [sum, valuesOf(part)] : []), valuesOf(stage)]);
}

function beginning() {
  const merges = () => (data.merges.length ? [table("The pairs that were merged, in their order", [{ title: "left" }, { title: "right" }, { title: "becomes" }],
    data.merges.map(([left, right]) => [token(left), token(right), token(left + right)]))] : [make("p", {}, `${data.origin[0].toUpperCase()}${data.origin.slice(1)}.`)]);
  const rows = [
    stop("words", 1, "text", make("span", { class: "token" }, `'${data.token}'`), () =>
      [make("p", {}, "The piece of the text that this token stands for; the model sees it after"), make("p", { class: "text" }, make("span", { class: "prompt" }, (data.left_out ? `… ${count(data.left_out)} characters before … ` : "") + data.text))]),
    stop("words", 2, "bytes", make("span", { class: "mono" }, data.bytes), () => [make("p", {}, "The text as UTF-8, and what made it one token."), ...merges()]),
    stop("words", 3, "token id", `${data.id} of 0 to ${data.vocab_size - 1}`, () => [make("p", {}, "Its number: all that the model gets.")]),
  ];
  let from = null;
  for (const stage of before) {
    if (stage.name === "residual") rows.push(sumStop(stage, before[0], before.find((other) => other.name === "position")));
    else rows.push(stageStop(stage.name === "embedding" || stage.name === "norm" ? "stream" : "aside", stage, { from }));
    from = stage;
  }
  return rows;
}

/** Make a layer: attention beside the stream, its sum, the feed-forward part beside it, its sum. */
function layerStop(layer, entering, open) {
  const here = data.stages.filter((stage) => stage.layer === layer);
  const sums = here.filter((stage) => stage.name === "residual");
  const cut = here.indexOf(sums[0]);
  const [attention, forward] = [here.slice(0, cut), here.slice(cut + 1, -1)];
  const heads = data.heads.filter((head) => head.layer === layer);
  const inner = attention.map((stage, at) => stageStop("part", stage, { from: at ? null : entering, more: stage.name === "query" && heads.length ? () => [note("Open the heads below to see what each query finds.")] : undefined }));
  const gathered = attention.findIndex((stage) => stage.number === 7);
  if (heads.length) inner.splice(gathered, 0, headsStop(layer, heads));
  const node = make("details", { class: "layer" },
    make("summary", {}, make("strong", {}, `Layer ${layer} of ${data.layers}`), make("span", { class: "brief" }, entering
      ? `length ${figure(entering.norm)} → ${figure(sums[0].norm)} after attention → ${figure(sums[1].norm)} after the feed-forward part` : "")),
    make("div", { class: "aside-box" }, make("p", { class: "box-name" }, "attention"), ...inner),
    sumStop(sums[0], entering, attention.at(-1)),
    make("div", { class: "aside-box" }, make("p", { class: "box-name" }, "feed-forward"), ...forward.map((stage, at) => stageStop("part", stage, { from: at ? null : sums[0] }))),
    sumStop(sums[1], sums[0], forward.at(-1)));
  node.open = open;
  return { node: make("div", { class: "along layer-row" }, node), last: sums[1] };
}

function headsStop(layer, heads) {
  const best = (head) => head.matches[0];
  return stop("part", 7, "heads", heads.map((head) => `${head.head}: ${percent(best(head).weight)} '${best(head).token}'`).join("  "), () => {
    const detail = make("div", { class: "detail" });
    const choose = (head) => {
      rows.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.head === `${layer}.${head.head}`)));
      detail.replaceChildren(...weightsOf(head));
    };
    const rows = table("Each head at this token: how long its vectors are, and what it takes most from", [{ title: "head" }, ...["query", "key", "value", "output"].map((title) => ({ title, number: true })),
      { title: "most from" }, { title: "at", number: true }, { title: "weight", number: true }, { title: "", bar: true }],
    heads.map((head) => {
      const button = make("button", { type: "button", "data-head": `${layer}.${head.head}` }, `head ${head.head}`);
      button.addEventListener("click", () => choose(head));
      const top = best(head);
      return [button, figure(head.query), figure(head.key), figure(head.value), figure(head.output), token(top.token), count(top.position), percent(top.weight), bar(top.weight)];
    }));
    walk(rows, "button");
    choose(heads[0]);
    return [rows, detail];
  });
}

/** Show how a head's weights come about: q·k, divided by √d, as a power of e, divided by the sum. */
function weightsOf(head) {
  const root = Math.sqrt(head.vector.length);
  const products = make("div", {});
  const score = (match) => match.product / root;
  const choose = (match) => {
    rows.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.position === String(match.position))));
    const each = head.vector.map((value, at) => value * match.key[at]);
    products.replaceChildren(
      make("p", { class: "worked" }, "Query of ", token(`'${data.token}'`), ` at ${count(data.position)} and key of `, token(`'${match.token}'`), ` at ${count(match.position)}: `
        + `q·k = ${figure(match.product)}, ÷ √${head.vector.length} = ${figure(score(match))}; e to the ${figure(score(match))} is ${figure(Math.exp(score(match) - head.log_sum) * 100)}% of the sum over all ${count(head.positions)} positions: the weight is ${percent(match.weight)}.`),
      bars(each, "query × key, whose sum is q·k", (at) => `dimension ${at + 1}: ${figure(head.vector[at])} × ${figure(match.key[at])} = ${figure(each[at])}`),
      bars(head.vector, "query", (at) => `query, dimension ${at + 1}: ${figure(head.vector[at])}`),
      bars(match.key, "key", (at) => `key, dimension ${at + 1}: ${figure(match.key[at])}`));
  };
  const rows = table(`Head ${head.head}: from q·k to a weight`, [{ title: "position", number: true }, { title: "token" }, { title: "q·k", number: true },
    { title: "÷ √d", number: true }, { title: "e^x ÷ sum", number: true }, { title: "", bar: true }],
  [...head.matches.map((match) => {
    const button = match.key ? make("button", { type: "button", "data-position": match.position }, count(match.position)) : count(match.position);
    if (match.key) button.addEventListener("click", () => choose(match));
    return [button, token(match.token), match.product.toFixed(3), score(match).toFixed(3), percent(match.weight), bar(match.weight)];
  }), ...(head.positions > head.matches.length ? [["", `${count(head.positions - head.matches.length)} more`, "", "", percent(head.rest), bar(head.rest)]] : [])]);
  if (head.matches.some((match) => match.key)) walk(rows, "button");
  choose(head.matches[0]);
  const held = head.matches.filter((match) => match.key).length;
  const part = held < head.matches.length ? ` The page holds the keys of the best ${count(held)}.` : "";
  return [note(`Choose a position to see its products.${part}`), rows, products];
}

function ranked(title, probability) {
  const box = make("div", {});
  let shown = ROWS;
  const show = () => {
    const most = data.logits[0][2];
    const span = Math.max(1e-9, most - data.logits.at(-1)[2]);
    const rows = data.logits.slice(0, shown).map(([id, text, logit, share], rank) => [count(rank + 1), token(text), String(id), logit.toFixed(3),
      share > 0 && share < 0.0005 ? `${figure(100 * share)}%` : percent(share), bar(probability ? share : (logit - data.logits.at(-1)[2]) / span)]);
    const held = data.logits.length < data.vocab_size ? `the best ${count(data.logits.length)} of ${count(data.vocab_size)}` : `all ${count(data.vocab_size)}`;
    const more = make("button", { type: "button", class: "more" }, `Show ${held}`);
    more.addEventListener("click", () => { shown = data.logits.length; show(); });
    const left = 1 - data.logits.slice(0, shown).reduce((sum, row) => sum + row[3], 0);
    if (shown < data.vocab_size) rows.push({ class: "rest", cells: ["", `${count(data.vocab_size - Math.min(shown, data.logits.length))} more`, "", "", percent(Math.max(0, left)), probability ? bar(Math.max(0, left)) : ""] });
    box.replaceChildren(table(title, [{ title: "rank", number: true }, { title: "token" }, { title: "id", number: true }, { title: "logit", number: true },
      { title: "probability", number: true }, { title: "", bar: true }], rows), shown < data.logits.length ? make("p", {}, more) : "");
  };
  show();
  return box;
}

function choiceStop() {
  const { candidates, filters, draw: drawn } = data.choice;
  const picked = candidates.find((one) => one.picked);
  return stop("words end", 12, "choice", make("span", { class: "token" }, `'${picked.token}'`), () => {
    const how = filters.includes("greedy") ? "The best token is taken." : `The draw ${drawn.toFixed(6)} falls into [${picked.low.toFixed(6)}, ${picked.high.toFixed(6)}), the place of this token among all, end to end by id.`;
    const rows = candidates.map((one) => ({ class: one.picked ? "picked" : one.cut_by ? "cut" : null, cells: [one.picked ? "▸" : "", count(one.rank), token(one.token), one.logit.toFixed(2), percent(one.probability),
      ...one.stages.map((share) => (one.cut_by && share === 0 ? "cut" : percent(share))), one.cut_by ? `cut by ${one.cut_by}` : bar(one.final_probability)] }));
    if (data.choice.others) rows.push({ class: "rest", cells: ["", "", `${count(data.choice.others)} more`, "", "", ...filters.map((_, at) => (at === filters.length - 1 ? percent(data.choice.share) : "")), ""] });
    return [make("p", {}, how), table("The candidates, with the model's probability and that after each filter", [{ title: "" }, { title: "rank", number: true }, { title: "token" },
      { title: "logit", number: true }, { title: "model", number: true }, ...filters.map((name) => ({ title: `after ${name}`, number: true })), { title: "final", bar: true }], rows)];
  });
}

function ending(last) {
  const rows = [];
  let from = last;
  for (const stage of after) {
    if (stage.name === "final norm") rows.push(stageStop("stream", stage, { from }));
    else {
      const softmax = stage.name === "softmax";
      rows.push(stop("scores", stage.number, stage.name, numbers(stage), () => [make("p", {}, stage.told),
        softmax ? make("p", { class: "worked" }, `Each is e to the logit, divided by the sum of these: for the best, ${percent(data.logits[0][3])}.`)
          : make("p", { class: "worked" }, "Each is the product of the normalised stream with a row of the output table, one for each token."),
        ...(stage.name === "logits" && after.some((other) => other.name === "soft cap") ? [valuesOf(stage)] : [ranked(softmax ? "The most probable tokens" : "The best logits, sorted", softmax)])]));
    }
    from = stage;
  }
  return rows;
}

function openAll() {
  const button = make("button", { type: "button" }, "Open all");
  const layers = () => document.querySelectorAll("details.layer");
  const all = () => {
    for (const [node, open] of lazy) { open(); node.open = true; }
    for (const node of layers()) node.open = true;
  };
  button.addEventListener("click", all);
  const close = make("button", { type: "button" }, "Close all");
  close.addEventListener("click", () => { for (const [node] of lazy) node.open = false; for (const node of layers()) node.open = false; });
  window.addEventListener("beforeprint", () => { for (const [node, open] of lazy) if (node.open) open(); });
  return make("div", { class: "controls" }, button, close);
}

const flow = make("div", { class: "flow" }, ...beginning());
let stream = embedded;
for (let layer = 1; layer <= data.layers; layer += 1) {
  if (!layersSeen.includes(layer)) {
    if (!layersSeen.includes(layer - 1) || layer === 1) flow.append(make("div", { class: "along layer-row" }, make("p", { class: "note" }, "… layers that were not asked for …")));
    stream = null;
    continue;
  }
  const made = layerStop(layer, stream, layer === layersSeen[0]);
  flow.append(made.node);
  stream = made.last;
}
flow.append(...ending(stream), choiceStop());
const held = data.stages.some((stage) => stage.values.length < size(stage)) ? `Of long vectors, it holds the first ${count(Math.max(...data.stages.map((stage) => stage.values.length)))} values. ` : "";
root.append(
  make("p", {}, "How ", make("strong", { class: "token" }, `'${data.token}'`), ` at position ${count(data.position)} of ${count(data.length)} becomes a prediction: twelve stages, from its bytes to the choice of what follows. `
    + "The line is the residual stream; what stands beside it reads it, and adds to it at +."),
  openAll(), flow,
  data.follows ? make("p", {}, "The text goes on with ", token(`'${data.follows.token}'`), `: the model's number ${count(data.follows.rank)}, with ${percent(data.follows.probability)}.`) : "",
  note(`${held}Everything was recorded in the model's own pass. ${data.difference ? `Recomputed from these stages, no logit differs from the model's own by more than ${data.difference.toExponential(1)}` : "Recomputed from these stages, the logits are exactly the model's own"}.`));
