// The guided tour: one screen at a time; a question opens to its answer, and the arrow keys turn the page.

let at = 0;
const shown = make("div", { role: "region", "aria-live": "polite" });
const jump = make("select", { "aria-label": "Screen" }, ...data.pages.map((page, place) => make("option", { value: place }, `${page.place}: ${page.title}`)));
const back = make("button", { type: "button" }, "Back");
const next = make("button", { type: "button" }, "Next");

function turn(by) {
  at = Math.max(0, Math.min(data.pages.length - 1, at + by));
  const page = data.pages[at];
  back.disabled = at === 0;
  next.disabled = at === data.pages.length - 1;
  jump.value = at;
  const numbers = make("dl", {});
  for (const [name, value] of page.numbers) numbers.append(make("dt", {}, name), make("dd", { class: "token" }, value));
  const words = [make("p", {}, page.text), make("details", {}, make("summary", {}, page.question), make("p", {}, page.answer))];
  shown.replaceChildren(section(page.title, make("div", { class: "columns" },
    make("div", {}, make("pre", { class: "screen" }, page.picture)), make("div", {}, numbers, ...words))));
}

jump.addEventListener("change", () => turn(Number(jump.value) - at));
back.addEventListener("click", () => turn(-1));
next.addEventListener("click", () => turn(1));
document.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by && event.target !== jump && !event.altKey && !event.ctrlKey && !event.metaKey) turn(by);
});
root.append(make("div", { class: "controls screens" }, back, next, jump), shown);
turn(0);
