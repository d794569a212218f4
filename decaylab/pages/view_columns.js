// The texts of the chosen checkpoints side by side: what is known of each, its strip, its tokens, and what the teacher wrote.

const PART = 1000; // tokens of a long text that are drawn together, only where they are looked at
const HIGH = 0.5; // nats from which on the teacher's top token stands above a token

const kind = (code) => `tv-kind-${code % 8} tv-line-${code % 5}`;
const categoryText = (code) => flat(data.categories[code]).replaceAll("_", " ");

function paintOf(place) {
  if (state.colour === "nothing") return "";
  if (state.colour === "category") return kind(data.read.category(place));
  const value = data.read[state.colour](place);
  return Number.isNaN(value) ? "tv-undefined" : `tv-level-${levelOf(state.colour, value)}`;
}

function drawLegend() {
  const scale = SCALES[state.colour];
  const entry = (paint, text) => make("li", {}, make("span", { className: `tv-token ${paint}` }, text));
  const paint = (step, level) => (step === "undefined" ? "tv-undefined" : `tv-level-${level}`);
  const entries = scale ? scale.steps.map((step, level) => entry(paint(step, level), step)) : [];
  if (state.colour === "category") data.categories.forEach((_, code) => entries.push(entry(kind(code), categoryText(code))));
  const plain = state.colour === "category" ? "Category:" : "Tokens are not coloured.";
  byId("scale-name").textContent = scale ? `${scale.title}:` : plain;
  if (columns.some((column) => column.differs.includes(true))) entries.push(entry("tv-differs", "differs from base"));
  byId("scale").replaceChildren(...entries);
  section.dataset.colour = scaleName();
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
  const summaryLine = make("p", { hidden: true, id: `tv-summary-${columns.length}` });
  const printed = make("p", { className: "tv-printed" });
  const column = { rollout, at: 0, tokens: [], differs: [], summary: summaryLine, printed };
  const base = state.checkpoints.has(BASE) && rollout.checkpoint !== BASE ? state.pair.rollouts.get(BASE) : null;
  if (base) column.differs = differing(base, rollout);
  columns.push(column);
  const kept = rollout.size < rollout.response_tokens ? `, of which the first ${countText(rollout.size)} are kept` : "";
  const facts = make("p", { className: "tv-facts" }, verdictChip(rollout.verdict), ` (${flat(rollout.answer_rule)}) · `,
    `${tokensText(rollout.response_tokens)}${kept}, ${stopText(rollout.stop_reason)} · mean KL ${meanText(rollout.mean_kl)}`);
  const parts = rollout.size
    ? [finders(column, base), make("div", { className: "tv-head" }, drawStrip(column)), column.printed, drawText(column)]
    : [make("p", {}, "No token of it was kept.")];
  return make("article", {}, title, facts, ...parts, column.summary, ...drawContinuations(rollout));
}

// Where to look first: buttons that go there.

function finders(column, base) {
  const { rollout } = column;
  const found = [];
  const button = (text, at) => {
    const one = make("button", { type: "button", className: "tv-finder" }, text);
    one.addEventListener("click", () => goTo(column, at));
    return one;
  };
  const wrong = rollout.first_wrong_token;
  if (wrong !== null && wrong < rollout.size) {
    const step = stepOf(rollout, wrong);
    found.push(button(`First went wrong at token ${countText(wrong + 1)}${step ? ` (step ${step.number})` : ""}`, wrong));
  } else if (rollout.verdict !== CORRECT) {
    found.push(make("span", {}, "First went wrong: not known"));
  }
  const best = highestOf(rollout, 0, rollout.size);
  if (best < 0) found.push(make("span", {}, `No ${SCALES[scaleName()].name} is known.`));
  else found.push(button(highestText(data.read[scaleName()](rollout.start + best), best), best));
  if (base) {
    const parts = partsAt(base, rollout);
    if (parts < rollout.size) found.push(button(`Differs from base from token ${countText(parts + 1)}`, parts));
    else found.push(make("span", {}, base.size === rollout.size ? "The same tokens as base" : "Base has the same tokens and more"));
  }
  return make("p", { className: "tv-finders" }, ...found.flatMap((one) => [one, " "]));
}

function highestText(value, at) {
  const name = scaleName();
  if (name === "token_rank") return `Highest rank under the teacher: ${countText(value)} at token ${countText(at + 1)}`;
  return `Highest ${SCALES[name].name}: ${natsText(value)} nats at token ${countText(at + 1)}`;
}

// Tokens

function drawText(column) {
  const { rollout } = column;
  const text = make("div", { className: "tv-text", role: "listbox", label: `Tokens of ${flat(rollout.checkpoint)}`,
    data: { column: columns.length - 1 } });
  column.text = text;
  if (rollout.size > LONG_ON_PAPER) text.classList.add("tv-long");
  const starts = new Map((rollout.steps || []).map(([start, , verdict]) => [start, verdict]));
  const takenOver = state.prefix !== null && continued(state, rollout).length ? state.prefix : -1;
  let part = text;
  let from = 0; // where the part begins
  for (let at = 0; at < rollout.size; at += 1) {
    if (rollout.size > 2 * PART && partBegins(rollout, at, from)) {
      part = make("div", { className: "tv-part", role: "presentation" });
      text.append(part);
      from = at;
    }
    if (at > 0 && at === takenOver) part.append(boundary(at));
    if (starts.has(at)) part.append(stepSign(starts.get(at)));
    column.tokens.push(drawToken(column, at));
    part.append(column.tokens[at]);
  }
  return text;
}

/** A part begins where a line does, if there is a line that short. */
function partBegins(rollout, at, from) {
  if (at === 0 || at - from >= 2 * PART) return true;
  return at - from >= PART && data.read.text(rollout.start + at - 1).endsWith("\n");
}

function drawToken({ rollout, differs }, at) {
  const place = rollout.start + at;
  const token = make("bdi", { className: "tv-token", role: "option", tabIndex: -1, data: { at } });
  const text = tokenText(data.read.text(place), data.read.raw(place), state.spaces);
  const above = state.above ? teachersChoice(rollout, at) : null;
  token.append(above === null ? text : withAbove(text, above));
  token.classList.add(...paintOf(place).split(" ").filter(Boolean));
  if (differs[at]) token.classList.add("tv-differs");
  if (at === rollout.first_wrong_token) token.classList.add("tv-first-wrong");
  token.setAttribute("aria-selected", "false");
  return token;
}

/** The teacher's top token where KL is high or the rollout first went wrong, and another token was taken; or null. */
function teachersChoice(rollout, at) {
  const place = rollout.start + at;
  const tells = data.read.reverse_kl(place) >= HIGH || at === rollout.first_wrong_token;
  if (!tells || data.read.teacher_taken(place) === 1) return null;
  const [first] = data.likeliest("teacher", place);
  return first ? first.text : null;
}

/** A token with a text above it; the end of its line stays outside, where it breaks the line. */
function withAbove(text, above) {
  const nodes = text.childNodes.length && text.nodeType === Node.DOCUMENT_FRAGMENT_NODE ? [...text.childNodes] : [text];
  const end = nodes.findIndex((node) => node.nodeType === Node.TEXT_NODE && node.data.startsWith("\n"));
  const [base, rest] = end < 0 ? [nodes, []] : [nodes.slice(0, end), nodes.slice(end)];
  const over = make("rt", {}, make("bdi", {}, shown(above, { spaces: /^\s+$/u.test(above), lines: true, breaks: false })));
  over.setAttribute("aria-hidden", "true"); // the description of the token says it
  const token = document.createDocumentFragment();
  token.append(make("ruby", {}, ...base, over), ...rest);
  return token;
}

function stepSign(verdict) {
  const known = STEP_WORDS[verdict] ? verdict : "unread";
  const sign = make("span", { className: `tv-step tv-step-${known}`, title: `Step: ${STEP_WORDS[known]}` }, STEP_SIGNS[known]);
  sign.setAttribute("aria-hidden", "true"); // the description of each token of the step says it
  return sign;
}

function boundary(tokens) {
  const bar = make("span", { className: "tv-boundary" }, `teacher takes over after ${tokensText(tokens)}`);
  bar.setAttribute("aria-hidden", "true"); // the heading of the continuation says it
  return bar;
}

// What the teacher wrote

function drawContinuations(rollout) {
  if (state.prefix === null || rollout.checkpoint !== BASE) return [];
  const found = continued(state, rollout);
  if (!found.length) {
    const ended = rollout.response_tokens <= state.prefix;
    const why = ended ? "The rollout had ended by then." : "No continuation from there was kept.";
    return [make("p", { className: "tv-continuation" }, `Teacher after ${tokensText(state.prefix)}: ${why}`)];
  }
  const what = {
    recovered: " · teacher recovered: the rollout itself is not correct",
    regressed: " · teacher regressed: the rollout itself is correct",
  };
  return found.map((one) => make("div", { className: "tv-continuation" },
    heading(1, {}, `What the teacher writes after ${tokensText(one.prefix_tokens)}`),
    make("p", {}, verdictChip(one.verdict), what[one.outcome] || "", ` · ${stopText(one.stop_reason)}`),
    make("div", { className: "tv-text", dir: "auto" }, shown(one.text, { spaces: state.spaces }))));
}
