// The bar above the texts, what it opens (the list of rollouts, the choices of display), and the question.

const VERDICTS = {
  correct: ["✓", "correct"],
  wrong: ["✗", "wrong"],
  no_answer: ["✗", "no answer found"],
  timeout: ["?", "not judged: time-out"],
  not_applicable: ["?", "not judged: the answer rule does not apply to this gold answer"],
};
const STOPS = { eos: "stopped naturally", length: "cut off at the token budget" };
const BESIDE = 1120; // pixels of the view from which on the list stands beside the texts

const stopText = (reason) => STOPS[reason] || flat(reason);

function verdictChip(verdict) {
  const [symbol, words] = VERDICTS[verdict] || ["?", flat(verdict)];
  return make("strong", { className: `tv-verdict tv-${verdict === CORRECT ? "right" : "wrong"}` }, `${symbol} ${words}`);
}

function options(select, entries, value) {
  select.replaceChildren(...entries.map(([key, text]) => make("option", { value: String(key) }, text)));
  select.value = String(value);
}

/** Fills the bar, and lets each control change the state. */
function makeControls() {
  const { checkpoints, prefixes } = state.known;
  byId("checkpoints").append(...checkpoints.map((name) =>
    make("label", {}, make("input", { type: "checkbox", value: name }), " ", named(name))));
  options(byId("judged"), checkpoints.map((name) => [name, flat(name)]), state.judged);
  options(byId("prefix"), [[null, "not shown"], ...prefixes.map((k) => [k, tokensText(k)])], state.prefix);
  options(byId("colour"), Object.entries(COLOURS).map(([key, { name }]) => [key, name]), state.colour);
  options(byId("order"), Object.entries(ORDERS).map(([key, { name }]) => [key, name]), state.order);
  byId("judged-row").hidden = byId("checkpoints").hidden = checkpoints.length < 2;
  byId("prefix-row").hidden = prefixes.length === 0;

  const on = (name, change) => byId(name).addEventListener("change", (event) => { change(event.target); changed(); });
  on("filter", ({ value }) => { state.filter = value; });
  on("judged", ({ value }) => { state.judged = value; });
  on("checkpoints", ({ value, checked }) => { state.checkpoints[checked ? "add" : "delete"](value); });
  on("prefix", ({ value }) => { state.prefix = value === "null" ? null : Number(value); });
  on("colour", ({ value }) => { state.colour = value; });
  on("spaces", ({ checked }) => { state.spaces = checked; });
  on("above", ({ checked }) => { state.above = checked; });
  on("order", ({ value }) => { state.order = value; });
  on("words", ({ value }) => { state.words = value.trim(); });
  on("least-kl", ({ value }) => { state.least_kl = Number(value) || 0; });
  on("least-tokens", ({ value }) => { state.least_tokens = Number(value) || 0; });
  const step = (by) => () => {
    const pairs = listed(state);
    if (pairs.length) state.pair = pairs[(pairs.indexOf(state.pair) + by + pairs.length) % pairs.length];
    changed();
  };
  byId("previous").addEventListener("click", step(-1));
  byId("next").addEventListener("click", step(1));
  byId("rollouts").addEventListener("click", ({ target: clicked }) => {
    const row = clicked.closest("button");
    if (row) choosePair(row.pair);
  });
  makePanels();
}

// What a button opens and closes. On a narrow page it lies over the texts: a choice and a click beside it close it.

function makePanels() {
  for (const name of ["list", "options"]) {
    byId(`${name}-button`).addEventListener("click", () => openPanel(name, byId(name).hidden));
  }
  const beside = () => section.clientWidth >= BESIDE && state.known.pairs.length > 1;
  let before = beside();
  openPanel("list", before);
  window.addEventListener("resize", () => {
    if (beside() !== before) openPanel("list", beside());
    before = beside();
  });
  document.addEventListener("click", ({ target: clicked }) => {
    for (const name of ["list", "options"]) {
      const inside = byId(name).contains(clicked) || byId(`${name}-button`).contains(clicked) || !clicked.isConnected;
      if (!inside && liesOver(name)) openPanel(name, false);
    }
  });
  section.addEventListener("keydown", (event) => {
    const open = ["options", "list"].find((name) => byId(name).contains(event.target));
    if (event.key !== "Escape" || !open) return;
    openPanel(open, false);
    byId(`${open}-button`).focus();
  });
}

const liesOver = (name) => !byId(name).hidden && getComputedStyle(byId(name)).position === "absolute";

function openPanel(name, open) {
  byId(name).hidden = !open;
  byId(`${name}-button`).setAttribute("aria-expanded", String(open));
  byId("body").dataset[name] = open ? "open" : "closed";
}

function choosePair(pair) {
  state.pair = pair;
  const over = liesOver("list");
  changed();
  if (over) {
    openPanel("list", false);
    byId("list-button").focus();
  } else byId("rollouts").querySelector("[aria-current]")?.focus();
}

// What is drawn at each change

function drawControls() {
  const pairs = settle(state);
  drawFilter();
  for (const input of byId("checkpoints").querySelectorAll("input")) input.checked = state.checkpoints.has(input.value);
  byId("count").textContent = pairs.length
    ? `${countText(pairs.indexOf(state.pair) + 1)} of ${countText(pairs.length)}`
    : "none is left; what was shown stays";
  for (const name of ["judged", "prefix", "colour", "order", "words"]) byId(name).value = String(state[name]);
  byId("least-kl").value = state.least_kl || "";
  byId("least-tokens").value = state.least_tokens || "";
  byId("rollouts").replaceChildren(...pairs.map((pair) => make("li", {}, drawRow(pair))));
  byId("rollouts").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", container: "nearest" });
}

function drawFilter() {
  const { prefixes, pairs } = state.known;
  const names = Object.keys(FILTERS).filter((name) => prefixes.length || !OF_TEACHER.includes(name));
  const entries = names.map((name) => {
    const at = state.prefix !== null && OF_TEACHER.includes(name) ? ` at ${state.prefix}` : "";
    return [name, `${FILTERS[name]}${at} (${pairs.filter((pair) => passes(state, pair, name)).length})`];
  });
  options(byId("filter"), entries, state.filter);
}

function drawRow(pair) {
  const rollout = pair.rollouts.get(state.judged);
  const [any] = pair.rollouts.values();
  const made = continued(state, pair.rollouts.get(BASE)).map((one) => one.outcome);
  const numbers = rollout
    ? [tokensText(rollout.response_tokens), `KL ${meanText(rollout.mean_kl)}`, ...OF_TEACHER.filter((one) => made.includes(one))]
    : [`no rollout of ${flat(state.judged)}`];
  const row = make("button", { type: "button", className: "tv-pair" },
    make("span", { className: "tv-pair-head" }, rollout ? verdictChip(rollout.verdict) : "–", " ",
      make("bdi", {}, flat(pair.problem))),
    make("span", { className: "tv-pair-question", dir: "auto" }, flat(any.question)),
    make("span", { className: "tv-pair-facts" }, [`sample ${pair.sample}`, ...numbers].join(" · ")));
  row.pair = pair;
  if (pair === state.pair) row.setAttribute("aria-current", "true");
  return row;
}

function drawQuestion() {
  const [rollout] = state.pair.rollouts.values();
  byId("question-text").replaceChildren(shown(rollout.question, { lines: false }));
  byId("gold").replaceChildren("Gold answer: ", make("strong", {}, named(rollout.answer || "none")),
    make("span", { className: "tv-place" }, " · problem ", named(state.pair.problem), `, sample ${state.pair.sample}`));
}
