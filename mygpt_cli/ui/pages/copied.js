// A text in which the passages that stand in the training text are marked, with the place of each.

const text = make("div", { class: "text surprisal", role: "group", "aria-label": "The text: copied passages can be pointed at" });
const panel = make("div", { class: "panel", role: "status" });
const told = make("output", {});
const list = make("div", {});
const spans = [];
const lengths = [...new Set([data.least, ...data.passages.map((passage) => passage.length)])].sort((a, b) => a - b);
let least = data.least;

const counts = (piece) => piece.in.filter((number) => data.passages[number].length >= least);

function showText() {
  const begun = new Set();
  if (data.prompt) text.append(make("span", { class: "prompt" }, data.prompt));
  for (const piece of data.pieces) {
    const span = make("span", {}, piece.text);
    const marks = piece.in.filter((number) => !begun.has(number)).map((number) => {
      begun.add(number);
      return make("sup", { class: "place", "data-passage": number }, `[${number + 1}]`);
    });
    spans.push({ piece, span, marks });
    text.append(...marks, span);
  }
  const shown = data.pieces.reduce((sum, piece) => sum + piece.size, 0);
  if (shown < data.characters) text.append(make("span", { class: "prompt" }, ` … ${count(data.characters - shown)} characters more`));
  mark();
  walk(text, ".pass", { visit: (node) => show(Number(node.dataset.passage)) });
}

/** Mark the passages that are long enough, and count them. */
function mark() {
  let covered = 0;
  for (const { piece, span, marks } of spans) {
    const found = counts(piece);
    span.className = found.length ? "copied pass" : "";
    span.tabIndex = -1;
    if (found.length) span.dataset.passage = found[0];
    else { span.removeAttribute("tabindex"); delete span.dataset.passage; }
    for (const sup of marks) sup.hidden = data.passages[Number(sup.dataset.passage)].length < least;
    covered += found.length ? piece.size : 0;
  }
  const first = text.querySelector(".pass");
  if (first) first.tabIndex = 0;
  const shown = data.pieces.reduce((sum, piece) => sum + piece.size, 0);
  const passages = data.passages.filter((passage) => passage.length >= least).length;
  told.textContent = `${count(passages)} passage${passages === 1 ? "" : "s"}, ${percent(covered / Math.max(1, shown))} of the text${shown < data.characters ? " on this page" : ""}.`;
}

function place(passage) {
  return `${passage.file}, line ${count(passage.line)}, from character ${count(passage.offset + 1)} on`;
}

function show(number) {
  const passage = data.passages[number];
  panel.replaceChildren(make("p", {}, make("strong", {}, `Passage [${number + 1}]`), `: characters ${count(passage.start + 1)} to ${count(passage.start + passage.length)} of this text, ${count(passage.length)} long`),
    make("p", {}, `In the training text: ${place(passage)}`));
}

function goTo(number) {
  const found = spans.find(({ piece }) => piece.in.includes(number));
  if (!found) return;
  (found.marks[0] ?? found.span).scrollIntoView({ block: "center" });
  found.span.focus({ preventScroll: true });
  show(number);
}

function showList() {
  const rows = data.passages.flatMap((passage, number) => {
    if (passage.length < least) return [];
    const button = make("button", { type: "button" }, `Go to [${number + 1}]`);
    button.addEventListener("click", () => goTo(number));
    const here = spans.some(({ piece }) => piece.in.includes(number));
    return [[here ? button : `[${number + 1}]`, count(passage.length), token(passage.text), passage.file, count(passage.line), count(passage.offset + 1)]];
  });
  const caption = data.passages.length < data.count ? `The longest ${count(data.passages.length)} of ${count(data.count)} passages` : "Passages, the longest first";
  list.replaceChildren(table(caption, [{ title: "" }, { title: "characters", number: true }, { title: "passage" }, { title: "file" }, { title: "line", number: true }, { title: "from character", number: true }], rows));
}

const share = data.copied / Math.max(1, data.characters);
root.append(make("p", {}, `${percent(share)} of the text is copied and ${percent(1 - share)} is new: copied is a stretch of ${data.least} characters or more that stands word for word in the training text.`
  + (data.characters < data.least ? " This text is shorter than that." : "") + (data.prompt ? " The prompt is not counted." : "")));
showText();
if (data.passages.length) {
  const control = slider("passages of at least", lengths, 0, (length) => `${count(length)} characters`, (at) => { least = lengths[at]; mark(); showList(); });
  control.classList.add("plain");
  panel.append(note("Point at a passage for its place in the training text, or walk with the arrow keys."));
  root.append(section("The text", note("Copied passages have a line above them and a number."), make("div", { class: "controls" }, control, told), text, panel), section("Copied passages", list));
  showList();
} else {
  root.append(section("The text", text));
}
