// The token view: controls, texts of tokens, and what is known of the chosen token. Reads view_data.js and view_state.js.

const byId = (name) => document.getElementById(`tv-${name}`);
const section = document.getElementById("token-view");
const heading = (below, properties, ...children) => make(`h${Number(section.dataset.level) + below}`, properties, ...children);
const VERDICTS = {
  correct: ["✓", "right"],
  wrong: ["✗", "wrong"],
  no_answer: ["✗", "no answer found"],
  timeout: ["?", "not judged: time-out"],
  not_applicable: ["?", "not judged: the answer rule does not apply to this gold answer"],
};
const STOPS = { eos: "ended by itself", length: "cut off at the budget" };
const QUESTION_START = 60; // characters

let data;
let state;
let columns = []; // {rollout, tokens: elements, at: the one that Tab enters, summary}
let chosen = null; // {column, at}: what the panel returns to when the pointer leaves
let pointer = ""; // where it was last; a text that scrolls below it does not count as pointing

// Controls

function drawControls() {
  const pairs = settle(state);
  for (const [name, text] of Object.entries(FILTERS)) {
    const input = byId(`filter-${name}`);
    if (!input) continue;
    const count = state.known.pairs.filter((pair) => passes(state, pair, name)).length;
    input.checked = state.filter === name;
    input.disabled = count === 0 && !input.checked;
    const at = state.prefix !== null && (name === "recovered" || name === "spoilt") ? ` at ${state.prefix}` : "";
    input.nextSibling.textContent = ` ${text}${at} (${count})`;
  }
  for (const input of byId("checkpoints").querySelectorAll("input")) input.checked = state.checkpoints.has(input.value);
  const problems = new Map((pairs.length ? pairs : [state.pair]).map((pair) => [pair.problem, pair]));
  options(byId("problem"), [...problems.values()].map((pair) => [pair.problem, problemText(pair)]), state.pair.problem);
  const samples = (pairs.length ? pairs : [state.pair]).filter((pair) => pair.problem === state.pair.problem);
  options(byId("sample"), samples.map((pair) => [pair.sample, String(pair.sample)]), state.pair.sample);
  byId("count").textContent = pairs.length
    ? `${pairs.indexOf(state.pair) + 1} of ${pairs.length}`
    : `no rollout is ${FILTERS[state.filter]}; what was shown stays`;
  byId("judged").value = state.judged;
  byId("prefix").value = String(state.prefix);
  byId("colour").value = state.colour;
}

function options(select, entries, value) {
  select.replaceChildren(...entries.map(([key, text]) => make("option", { value: String(key) }, text)));
  select.value = String(value);
}

function problemText(pair) {
  const [rollout] = pair.rollouts.values();
  const start = flat(rollout.question);
  const cut = start.length > QUESTION_START ? `${start.slice(0, QUESTION_START).trimEnd()}…` : start;
  return `${flat(pair.problem)}: ${cut}`;
}

function makeControls() {
  const { checkpoints, prefixes } = state.known;
  const filters = Object.keys(FILTERS).filter((name) => prefixes.length || !["recovered", "spoilt"].includes(name));
  byId("filter").append(...filters.map((name) =>
    make("label", {}, make("input", { type: "radio", name: "tv-filter", id: `tv-filter-${name}`, value: name }), "")));
  byId("checkpoints").append(...checkpoints.map((name) =>
    make("label", {}, make("input", { type: "checkbox", value: name }), " ", named(name))));
  options(byId("judged"), checkpoints.map((name) => [name, flat(name)]), state.judged);
  options(byId("prefix"), [[null, "not shown"], ...prefixes.map((k) => [k, `${k} tokens`])], state.prefix);
  options(byId("colour"), Object.entries(COLOURS).map(([key, { name }]) => [key, name]), state.colour);
  byId("judged-row").hidden = byId("checkpoints").hidden = checkpoints.length < 2;
  byId("prefix-row").hidden = prefixes.length === 0;

  const on = (name, change) => byId(name).addEventListener("change", (event) => { change(event.target); changed(); });
  on("problem", ({ value }) => { state.pair = listed(state).find((pair) => pair.problem === value); });
  on("sample", ({ value }) => {
    state.pair = listed(state).find((pair) => pair.problem === state.pair.problem && String(pair.sample) === value);
  });
  on("filter", ({ value }) => { state.filter = value; });
  on("judged", ({ value }) => { state.judged = value; });
  on("checkpoints", ({ value, checked }) => { state.checkpoints[checked ? "add" : "delete"](value); });
  on("prefix", ({ value }) => { state.prefix = value === "null" ? null : Number(value); });
  on("colour", ({ value }) => { state.colour = value; });
  on("spaces", ({ checked }) => { state.spaces = checked; });
  const step = (by) => () => {
    const pairs = listed(state);
    if (pairs.length) state.pair = pairs[(pairs.indexOf(state.pair) + by + pairs.length) % pairs.length];
    changed();
  };
  byId("previous").addEventListener("click", step(-1));
  byId("next").addEventListener("click", step(1));
}

// Colours

function paintOf(place) {
  if (state.colour === "nothing") return "";
  if (state.colour === "category") return kind(data.read.category(place));
  const value = data.read[state.colour](place);
  return Number.isNaN(value) ? "tv-undefined" : `tv-level-${SCALES[state.colour].from.filter((edge) => value >= edge).length}`;
}

const kind = (code) => `tv-kind-${code % 8} tv-line-${code % 5}`;
const categoryText = (code) => flat(data.categories[code]).replaceAll("_", " ");

function drawLegend() {
  const scale = SCALES[state.colour];
  const entry = (paint, ...text) => make("li", {}, make("span", { className: `tv-token ${paint}` }, "text"), " ", ...text);
  const paint = (step, level) => (step === "undefined" ? "tv-undefined" : `tv-level-${level}`);
  const entries = scale ? scale.steps.map((step, level) => entry(paint(step, level), step)) : [];
  if (state.colour === "category") data.categories.forEach((_, code) => entries.push(entry(kind(code), categoryText(code))));
  const plain = state.colour === "category" ? "Category:" : "Tokens are not coloured.";
  byId("scale-name").textContent = scale ? `${scale.title}:` : plain;
  byId("scale").replaceChildren(...entries);
  section.dataset.colour = state.colour;
}

// Question and columns

function verdictChip(verdict) {
  const [symbol, words] = VERDICTS[verdict] || ["?", flat(verdict)];
  return make("strong", { className: `tv-verdict tv-${verdict === CORRECT ? "right" : "wrong"}` }, `${symbol} ${words}`);
}

const named = (text) => make("bdi", {}, shown(text));
const stopText = (reason) => STOPS[reason] || flat(reason);

function drawQuestion() {
  const [rollout] = state.pair.rollouts.values();
  byId("question").replaceChildren(
    heading(0, {}, "Question"),
    make("p", { className: "tv-written", dir: "auto" }, shown(rollout.question, { lines: false })),
    make("p", {}, "Gold answer: ", make("strong", {}, named(rollout.answer || "none")),
      make("span", { className: "tv-place" }, " · problem ", named(state.pair.problem), `, sample ${state.pair.sample}`)),
  );
}

function drawColumns() {
  const names = state.known.checkpoints.filter((name) => state.checkpoints.has(name));
  columns = [];
  byId("columns").replaceChildren(...names.map((name) => drawColumn(name, state.pair.rollouts.get(name))));
  if (!names.length) byId("columns").append(make("p", {}, "No checkpoint is chosen."));
}

function drawColumn(name, rollout) {
  const title = heading(0, {}, named(name));
  if (!rollout) {
    return make("article", {}, title, make("p", {}, "No rollout of this checkpoint was kept for this problem and sample."));
  }
  const column = { rollout, at: 0, tokens: [], summary: make("p", { hidden: true, id: `tv-summary-${columns.length}` }) };
  const text = make("div", { className: "tv-text", role: "listbox", label: `Tokens of ${flat(name)}` });
  for (let at = 0; at < rollout.size; at += 1) {
    if (at > 0 && at === state.prefix && continued(state, rollout).length) text.append(boundary(at));
    column.tokens.push(drawToken(rollout.start + at, at));
    text.append(column.tokens[at]);
  }
  text.dataset.column = columns.length;
  columns.push(column);
  const kept = rollout.size < rollout.response_tokens ? `, of which the first ${rollout.size} are kept` : "";
  return make("article", {}, title,
    make("p", {}, verdictChip(rollout.verdict), `, judged by ${flat(rollout.answer_rule)} · `,
      `${rollout.response_tokens} tokens${kept}, ${stopText(rollout.stop_reason)}`),
    highest(column), rollout.size ? text : make("p", {}, "No token of it was kept."), column.summary,
    ...drawContinuations(rollout));
}

function drawToken(place, at) {
  const token = make("bdi", { className: "tv-token", role: "option", tabIndex: -1, data: { at } },
    tokenText(data.read.text(place), data.read.raw(place), state.spaces));
  token.classList.add(...paintOf(place).split(" ").filter(Boolean));
  token.setAttribute("aria-selected", "false");
  return token;
}

function boundary(tokens) {
  const bar = make("span", { className: "tv-boundary" }, `teacher takes over after ${tokens} tokens`);
  bar.setAttribute("aria-hidden", "true"); // the heading of the continuation says it
  return bar;
}

/** Where the colour's number is highest in this text, as a button that goes there. */
function highest(column) {
  const name = SCALES[state.colour] ? state.colour : "reverse_kl";
  const { start, size } = column.rollout;
  let best = -1;
  for (let at = 0; at < size; at += 1) {
    const value = data.read[name](start + at);
    if (!Number.isNaN(value) && (best < 0 || value > data.read[name](start + best))) best = at;
  }
  if (best < 0) return make("p", {}, `No ${SCALES[name].name} is known.`);
  const value = data.read[name](start + best);
  const number = name === "token_rank"
    ? `Furthest from the teacher's first choice: rank ${value}`
    : `Highest ${SCALES[name].name}: ${natsText(value)} nats`;
  const button = make("button", { type: "button", className: "tv-highest" }, `${number} at token ${best + 1}`);
  button.addEventListener("click", () => enter(column, best));
  return make("p", {}, button);
}

function drawContinuations(rollout) {
  if (state.prefix === null || rollout.checkpoint !== BASE) return [];
  const found = continued(state, rollout);
  if (!found.length) {
    const ended = rollout.response_tokens <= state.prefix;
    const why = ended ? "The rollout had ended by then." : "No continuation from there was kept.";
    return [make("p", { className: "tv-continuation" }, `Teacher after ${state.prefix} tokens: ${why}`)];
  }
  const what = {
    recovered: " · teacher recovered: the rollout itself is not right",
    spoilt: " · teacher regressed: the rollout itself is correct",
  };
  return found.map((one) => make("div", { className: "tv-continuation" },
    heading(1, {}, `What the teacher writes after ${one.prefix_tokens} tokens`),
    make("p", {}, verdictChip(one.verdict), what[one.outcome] || "", ` · ${stopText(one.stop_reason)}`),
    make("div", { className: "tv-text", dir: "auto" }, shown(one.text, { spaces: state.spaces }))));
}

// Choosing a token

function under(event) {
  const token = event.target.closest?.(".tv-text .tv-token");
  return token && { column: columns[token.parentElement.dataset.column], at: Number(token.dataset.at) };
}

function listen() {
  byId("columns").addEventListener("focusin", (event) => {
    const found = under(event);
    if (found) choose(found.column, found.at);
  });
  byId("columns").addEventListener("keydown", (event) => {
    const found = under(event);
    const to = found ? target(found.column, event) : null;
    if (to === null) return;
    event.preventDefault();
    enter(found.column, to);
  });
  document.addEventListener("mousemove", (event) => {
    const place = `${event.screenX} ${event.screenY}`;
    if (place === pointer || !chosen) return;
    pointer = place;
    const { column, at } = under(event) || chosen;
    drawDetails(column, at);
  });
}

function target(column, event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return null;
  const last = column.tokens.length - 1;
  switch (event.key) {
    case "ArrowLeft": return Math.max(0, column.at - 1);
    case "ArrowRight": return Math.min(last, column.at + 1);
    case "ArrowUp": return onNextLine(column, -1);
    case "ArrowDown": return onNextLine(column, 1);
    case "Home": return 0;
    case "End": return last;
    default: return null;
  }
}

/** The token of the next line, or the line before, that stands nearest below or above. */
function onNextLine(column, step) {
  const box = (at) => column.tokens[at].getClientRects()[0];
  const here = box(column.at);
  let line = null;
  let best = column.at;
  for (let at = column.at + step; at >= 0 && at < column.tokens.length; at += step) {
    const there = box(at);
    if (Math.abs(there.top - here.top) < here.height / 2) continue;
    if (line === null) line = there.top;
    if (Math.abs(there.top - line) >= here.height / 2) break;
    if (best === column.at || Math.abs(there.left - here.left) < Math.abs(box(best).left - here.left)) best = at;
  }
  return best;
}

function enter(column, at) {
  choose(column, at); // before the focus, so that it is described when it is read
  column.tokens[at].focus();
}

function choose(column, at) {
  section.querySelectorAll(".tv-chosen").forEach((one) => one.classList.remove("tv-chosen"));
  mark(column, at);
  column.tokens[at].classList.add("tv-chosen");
  chosen = { column, at };
  drawDetails(column, at);
}

/** Makes a token the one that Tab enters, and says it in short. */
function mark(column, at) {
  const before = column.tokens[column.at];
  before.tabIndex = -1;
  before.setAttribute("aria-selected", "false");
  before.removeAttribute("aria-describedby");
  const token = column.tokens[at];
  token.tabIndex = 0;
  token.setAttribute("aria-selected", "true");
  token.setAttribute("aria-describedby", column.summary.id);
  column.at = at;
  column.summary.textContent = summary(column.rollout, at);
}
