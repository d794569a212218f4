// The strip above a text: the whole rollout at a glance, to jump by. Its bars are the colour's number, the highest of each bin.

const MOST_BARS = 240;
const BARS = 22; // height of the bars, of STRIP in all; the steps stand below them
const STRIP = 30;
const STEP_WORDS = { right: "correct", wrong: "wrong", repaired: "wrong at first, corrected later", unread: "not read" };
const STEP_SIGNS = { right: "✓", wrong: "✗", repaired: "↻", unread: "?" };

/** The scale that bars and the highest number are of: the colour's, or reverse KL where it has none. */
const scaleName = () => (SCALES[state.colour] ? state.colour : "reverse_kl");
const levelOf = (name, value) => SCALES[name].from.filter((edge) => value >= edge).length;

/** The token of the highest number from one place to another, or -1 where none is defined. */
function highestOf(rollout, from, to) {
  const read = data.read[scaleName()];
  let best = -1;
  for (let at = from; at < to; at += 1) {
    const value = read(rollout.start + at);
    if (!Number.isNaN(value) && (best < 0 || value > read(rollout.start + best))) best = at;
  }
  return best;
}

function drawStrip(column) {
  const { rollout } = column;
  const picture = svg("svg", { viewBox: `0 0 ${rollout.size} ${STRIP}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const width = Math.max(1, rollout.size / MOST_BARS);
  for (let bar = 0; bar * width < rollout.size; bar += 1) {
    const best = highestOf(rollout, Math.floor(bar * width), binEnd(bar, width, rollout.size));
    if (best < 0) continue;
    const level = levelOf(scaleName(), data.read[scaleName()](rollout.start + best));
    const height = (BARS * (level + 1)) / 5;
    picture.append(svg("rect", { class: `tv-bar-${level}`, x: bar * width, y: BARS - height, width, height }));
  }
  for (const [start, end, verdict] of rollout.steps || []) {
    const high = verdict === "wrong" ? STRIP - BARS - 1 : (STRIP - BARS) / 2;
    picture.append(svg("rect", { class: `tv-lane tv-lane-${STEP_WORDS[verdict] ? verdict : "unread"}`,
      x: start, y: STRIP - high, width: end - start, height: high }));
  }
  for (const tokens of new Set(rollout.continuations.map((one) => one.prefix_tokens))) {
    picture.append(upright(tokens, tokens === state.prefix ? "tv-taken-over tv-now" : "tv-taken-over"));
  }
  column.needle = upright(0, "tv-needle");
  picture.append(column.needle);
  column.strip = make("div", { className: "tv-strip", role: "slider", tabIndex: 0, label: stripLabel(rollout) }, picture);
  column.strip.setAttribute("aria-valuemin", "1");
  column.strip.setAttribute("aria-valuemax", rollout.size);
  column.strip.addEventListener("click", (event) => jump(column, event));
  column.strip.addEventListener("keydown", (event) => slide(column, event));
  return column.strip;
}

const binEnd = (bar, width, size) => Math.min(size, Math.max(Math.floor(bar * width) + 1, Math.floor((bar + 1) * width)));

function stripLabel(rollout) {
  const wrong = (rollout.steps || []).filter(([, , verdict]) => verdict === "wrong").length;
  const steps = rollout.steps ? `, ${rollout.steps.length} steps read, ${wrong} of them wrong` : "";
  return `Whole rollout of ${flat(rollout.checkpoint)}: ${SCALES[scaleName()].name}${steps}`;
}

function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const upright = (x, name) => svg("line", { class: name, x1: x, x2: x, y1: 0, y2: STRIP });

function moveNeedle(column) {
  if (!column.strip) return;
  const middleOf = column.at + 0.5;
  column.needle.setAttribute("x1", middleOf);
  column.needle.setAttribute("x2", middleOf);
  column.strip.setAttribute("aria-valuenow", column.at + 1);
  column.strip.setAttribute("aria-valuetext", column.summary.textContent);
}

/** To the token below the pointer; of the tokens that share a bar, the one of the highest number. */
function jump(column, event) {
  const { left, width: wide } = column.strip.getBoundingClientRect();
  const { size } = column.rollout;
  const place = Math.min(size - 1, Math.max(0, Math.floor(((event.clientX - left) / wide) * size)));
  const width = Math.max(1, size / MOST_BARS);
  const bar = Math.floor(place / width);
  const best = width > 1 ? highestOf(column.rollout, Math.floor(bar * width), binEnd(bar, width, size)) : place;
  goTo(column, best < 0 ? place : best);
}

function slide(column, event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const last = column.rollout.size - 1;
  const far = Math.max(1, Math.round(last / 10));
  const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -far, PageUp: far, Home: -last, End: last };
  if (!moves[event.key] && event.key !== "Home" && event.key !== "End") return;
  event.preventDefault();
  goTo(column, Math.min(last, Math.max(0, column.at + moves[event.key])));
}

/** The step that a token stands in: {number, verdict}, or null. */
function stepOf(rollout, at) {
  const index = (rollout.steps || []).findIndex(([start, end]) => at >= start && at < end);
  return index < 0 ? null : { number: index + 1, verdict: rollout.steps[index][2] };
}

const stepText = ({ number, verdict }) => `step ${number}: ${STEP_WORDS[verdict] || flat(verdict)}`;
