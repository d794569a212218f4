// The payload of payload.py, read where it is needed; and text as it can be seen.

async function unzipped(id) {
  const packed = atob(document.getElementById(id).textContent.trim());
  const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** The rollouts, the continuations, `read` with a reader for each column, and `likeliest`. */
async function unpacked() {
  const content = await unzipped("tv-payload");
  const ranks = Array.from({ length: content.top }, (_, i) => i + 1);
  const number = (name, place) => content.columns[name][place];

  // Steps of a ten-thousandth of a nat, or of a hundred-thousandth of a probability. An infinity is text.
  const scaled = (steps, size) => (steps === null ? NaN : Number(steps) / size);

  function likeliest(policy, place) {
    const entries = ranks.map((rank) => ({
      text: content.strings[number(`${policy}_top_${rank}`, place)],
      probability: scaled(number(`${policy}_top_probability_${rank}`, place), 100000),
      taken: number(`${policy}_taken`, place) === rank,
    }));
    return entries.filter((entry) => entry.text !== null);
  }

  const statistics = ["reverse_kl", "student_entropy", "teacher_entropy", "student_logprob", "teacher_logprob"];
  const read = {
    text: (place) => content.strings[number("token", place)],
    raw: (place) => content.strings[number("raw", place)],
    category: (place) => number("category", place),
    token_id: (place) => number("token_id", place),
    token_rank: (place) => number("token_rank", place),
    student_top1_rank: (place) => number("student_top1_rank", place),
  };
  for (const name of statistics) read[name] = (place) => scaled(number(name, place), 10000);
  content.rollouts.forEach((rollout) => { rollout.continuations = []; });
  content.continuations.forEach((one) => content.rollouts[one.rollout].continuations.push(one));
  const { rollouts, continuations, categories } = content;
  return { rollouts, continuations, categories, read, likeliest };
}

// Text as it can be seen. What cannot be seen is shown by a sign; where a text holds such a sign itself, its code is shown.

const SIGNS = { "\n": "↵", "\t": "⇥" };
const UNSEEN = /[\p{C}\p{Z}\p{DI}\u2800␣↵⇥]/u;

function sign(character) {
  if (character === " ") return "␣";
  return SIGNS[character] || `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Nodes for a text. spaces: whether spaces get signs. lines: whether ends of lines do. */
function shown(text, { spaces = false, lines = true } = {}) {
  const nodes = document.createDocumentFragment();
  let plain = /^\p{M}/u.test(text) && !UNSEEN.test(text[0]) ? "◌" : "";
  for (const character of text) {
    const hidden = UNSEEN.test(character) && (spaces || character !== " ") && (lines || character !== "\n");
    if (!hidden) {
      plain += character;
      continue;
    }
    nodes.append(plain);
    plain = "";
    nodes.append(make("span", { className: character === " " || SIGNS[character] ? "tv-sign" : "tv-code" }, sign(character)));
    if (character === "\n") plain = "\n";
    if (character === " ") nodes.append(make("wbr"));
  }
  nodes.append(plain);
  return nodes;
}

/** A text in one line, for the entries of a list and for what is read aloud. */
function flat(text) {
  const seen = (one) => (one !== " " && UNSEEN.test(one) ? `⟨${sign(one)}⟩` : one);
  return Array.from(text.replace(/\s+/gu, " "), seen).join("");
}

/** A token's text: its bytes where it has none, and its spaces where it is nothing but space. */
function tokenText(text, raw, everySpace) {
  if (text === "") return make("span", { className: "tv-code" }, raw || "no text");
  return shown(text, { spaces: everySpace || /^\s+$/u.test(text) });
}

function make(tag, properties = {}, ...children) {
  const { role, label, data, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  if (role) element.setAttribute("role", role);
  if (label) element.setAttribute("aria-label", label);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

// Numbers as they are read.

function natsText(value) {
  if (Number.isNaN(value)) return "undefined";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  return (value < 0 ? "−" : "") + Math.abs(value).toFixed(4);
}

function percentText(probability) {
  if (Number.isNaN(probability)) return "undefined";
  if (probability < 0.001) return "< 0.1 %";
  return probability > 0.999 ? "> 99.9 %" : `${(100 * probability).toFixed(1)} %`;
}
