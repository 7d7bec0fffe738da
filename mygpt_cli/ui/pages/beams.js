// A beam search: a slider over its steps, with the texts that each kept, finished or dropped, and what was found.

const shown = make("div", {});
const number = (value) => (value === null ? "" : value.toFixed(3));
const said = make("p", { class: "said", role: "status" });

function choose(at) {
  const step = data.steps[at];
  const best = step.branches[0]?.values[1] ?? null;
  const beside = (total) => (best === null || total === null ? 0 : Math.exp(total - best)); // each alone may be too small for a number
  const rows = step.branches.map((branch) => ({
    class: branch.fate === "dropped" ? "cut" : branch.fate === "finished" ? "picked" : null,
    cells: [branch.number === null ? "" : `▸ ${branch.number}`, branch.parent || "prompt", token(branch.token), ...branch.values.map(number), branch.fate,
      token(branch.text), bar(beside(branch.values[1]))],
  }));
  const counts = (fate) => count(step.counts[fate] ?? 0);
  said.textContent = `Step ${step.index}: ${counts("kept")} kept, ${counts("finished")} finished, ${counts("dropped")} dropped.`;
  const part = step.all > step.branches.length ? `The best ${count(step.branches.length)} of ${count(step.all)} texts` : "Texts with one token more";
  shown.replaceChildren(table(part, [{ title: "" }, { title: "from" }, { title: "token" }, { title: "log p", number: true }, { title: "sum", number: true }, { title: "score", number: true },
    { title: "" }, { title: "text" }, { title: "probability beside the best", bar: true }], rows));
}

/** Put the texts that were kept or finished together by what they begin with. */
function grow() {
  const root = { children: [] };
  let parents = new Map();
  for (const step of data.steps) {
    const kept = new Map();
    for (const branch of step.branches) {
      if (branch.fate === "dropped") continue;
      const node = { branch, step: step.index, children: [] };
      (parents.get(branch.parent) ?? root).children.push(node);
      if (branch.number !== null) kept.set(branch.number, node);
    }
    parents = kept;
  }
  return root;
}

/** Make the list of what follows a text; tokens that are the only ones to follow stand in one line. */
function branchesOf(node) {
  return make("ul", {}, ...node.children.map((child) => {
    let [end, shown] = [child, child.branch.token];
    while (end.children.length === 1) {
      [end] = end.children;
      shown += end.branch.token;
    }
    const leaf = !end.children.length;
    const rank = leaf ? data.found.findIndex((found) => found.text === end.branch.text && found.values[0] === end.branch.values[1]) : -1;
    const fate = rank >= 0 ? `found, number ${rank + 1}` : !leaf ? "" : end.step === data.steps.at(-1).index ? "still open" : `dropped in step ${end.step + 1}`;
    return make("li", { class: rank === 0 ? "picked" : leaf && rank < 0 ? "dim-text" : null }, token(shown), make("span", { class: "brief" }, `  ${number(end.branch.values[2])}  ${fate}`),
      leaf ? null : branchesOf(end));
  }));
}

const names = data.steps.map((step) => step.index);
const control = slider("step", names, 0, String, choose);
control.classList.add("plain");
const part = data.steps.length < data.all ? note(`The last ${count(data.steps.length)} of ${count(data.all)} steps.`) : "";
root.append(section("Steps", make("p", {}, `After '${data.context}', each step extends every text that was kept by one token, and keeps the ${count(data.beams)} with the highest sums of log-probabilities.`), part,
  make("div", { class: "controls" }, control), said, shown));
const early = data.steps.length < data.all ? " It begins with the first step that the page holds." : "";
root.append(section("All steps as a tree", note(`The texts that were kept, with their scores: each line goes on to where it branches or ends.${early}`),
  make("div", { class: "tree scroll" }, make("p", { class: "dim-text" }, token(data.context || "(no text yet)")), branchesOf(grow()))));
const first = data.found.length < data.all_found ? `The best ${count(data.found.length)} of ${count(data.all_found)}` : "The best first";
root.append(section("Found", table(`${first}, by the sum divided by the length to the power of the length penalty`, [{ title: "", number: true }, { title: "score", number: true }, { title: "sum", number: true }, { title: "tokens", number: true }, { title: "text" }],
  data.found.map((found, at) => ({ class: at === 0 ? "picked" : null, cells: [String(at + 1), number(found.values[1]), number(found.values[0]), count(found.tokens), token(found.text)] })))));
if (data.steps.length) choose(0);
