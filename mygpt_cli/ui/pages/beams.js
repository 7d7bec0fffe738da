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

const names = data.steps.map((step) => step.index);
const control = slider("step", names, 0, String, choose);
control.classList.add("plain");
const part = data.steps.length < data.all ? note(`The last ${count(data.steps.length)} of ${count(data.all)} steps.`) : "";
root.append(section("Steps", make("p", {}, `After '${data.context}', each step extends every text that was kept by one token, and keeps the ${count(data.beams)} with the highest sums of log-probabilities.`), part,
  make("div", { class: "controls" }, control), said, shown));
const first = data.found.length < data.all_found ? `The best ${count(data.found.length)} of ${count(data.all_found)}` : "The best first";
root.append(section("Found", table(`${first}, by the sum divided by the length to the power of the length penalty`, [{ title: "", number: true }, { title: "score", number: true }, { title: "sum", number: true }, { title: "tokens", number: true }, { title: "text" }],
  data.found.map((found, at) => ({ class: at === 0 ? "picked" : null, cells: [String(at + 1), number(found.values[1]), number(found.values[0]), count(found.tokens), token(found.text)] })))));
if (data.steps.length) choose(0);
