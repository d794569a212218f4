// The token view: what is shown now, and when it is drawn. Reads all other scripts of the view.

let data;
let state;
let columns = []; // {rollout, text, tokens: elements, at: the one that Tab enters, differs, summary, printed, strip, needle}
let chosen = null; // {column, at}: what the panel returns to when the pointer leaves
const LONG_ON_PAPER = 600; // tokens; of a longer text a stretch around the chosen token is printed
const STRETCH = 300;
let pointer = ""; // where it was last; a text that scrolls below it does not count as pointing

function draw() {
  drawControls();
  drawQuestion();
  drawColumns();
  drawLegend();
  columns.forEach((column) => { if (column.tokens.length) mark(column, 0); });
  chosen = null;
  const column = state.at && columns.find((one) => one.rollout.checkpoint === state.at.checkpoint && one.tokens.length);
  if (column) choose(column, state.at.token);
  else closeDetails();
}

/** Draws what was chosen anew, at the same token where the same rollout is still shown, and says it in the address. */
function changed() {
  byId("notice").textContent = "";
  const before = chosen && chosen.column.rollout;
  settle(state);
  if (state.at && state.pair.rollouts.get(state.at.checkpoint) !== before) state.at = null;
  draw();
  sayAddress();
}

function sayAddress() {
  try {
    history.replaceState(null, "", addressOf(state));
  } catch {
    // A page that was not opened from an address has none to change.
  }
}

function arrive() {
  const ours = location.hash.includes("problem=");
  byId("notice").textContent = follow(state, location.hash);
  if (state.at) openDetails();
  draw();
  if (ours) section.scrollIntoView();
  if (chosen) goTo(chosen.column, chosen.at);
}

/** Marks what of a long text is printed: a stretch around the token that was chosen, or its beginning. */
function markPrinted(column) {
  const { size } = column.rollout;
  if (size <= LONG_ON_PAPER) return;
  column.text.querySelectorAll(".tv-near").forEach((one) => one.classList.remove("tv-near"));
  const from = Math.min(size - STRETCH, Math.max(0, column.at - STRETCH / 2));
  for (const token of column.tokens.slice(from, from + STRETCH)) {
    token.classList.add("tv-near");
    const before = token.previousElementSibling;
    if (before && !before.matches(".tv-token")) before.classList.add("tv-near");
  }
  column.printed.textContent =
    `Printed: tokens ${countText(from + 1)} to ${countText(from + STRETCH)} of ${countText(size)}.`;
}

async function begin() {
  if (typeof DecompressionStream === "undefined") {
    byId("notice").textContent =
      "This browser cannot unpack the token view: it has no DecompressionStream. Any browser of 2023 or later has it.";
    return;
  }
  try {
    data = await unpacked();
  } catch (error) {
    byId("notice").textContent = `The token view cannot be unpacked; the file may be damaged (${error.message}).`;
    return;
  }
  if (!data.rollouts.length) {
    byId("notice").textContent = "No rollout was kept to look at.";
    return;
  }
  state = initialState(data);
  byId("app").hidden = false;
  makeControls();
  listen();
  byId("close").addEventListener("click", closeDetails);
  arrive();
  window.addEventListener("beforeprint", () => columns.forEach(markPrinted));
  window.addEventListener("hashchange", () => { if (location.hash.includes("problem=")) arrive(); });
}

begin();
