// The payload of payload.py, read where it is needed; and text as it can be seen.

const UNDEFINED = -(2 ** 31);
const INFINITE = 2 ** 31 - 1;
const STATISTICS = ["reverse_kl", "student_entropy", "teacher_entropy", "student_logprob", "teacher_logprob"];

async function unzipped(id) {
  const packed = atob(document.getElementById(id).textContent.trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The rollouts, the continuations, `read` with a reader for each column, and `likeliest`. */
async function unpacked() {
  const bytes = await unzipped("tv-payload");
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const content = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const columns = numbersOf(bytes.subarray(4 + length), content);
  const ranks = Array.from({ length: content.top }, (_, i) => i + 1);

  function likeliest(policy, place) {
    const entries = ranks.map((rank) => {
      const share = columns[`${policy}_top_probability_${rank}`][place];
      return {
        text: content.strings[columns[`${policy}_top_${rank}`][place]],
        thousandths: share === UNDEFINED ? NaN : share,
        taken: columns[`${policy}_taken`][place] === rank,
      };
    });
    return entries.filter((entry) => entry.text !== null);
  }

  const read = {
    text: (place) => content.strings[columns.token[place]],
    raw: (place) => content.strings[columns.raw[place]],
  };
  for (const name of ["category", "token_id", "token_rank", "student_top1_rank", "teacher_taken"]) {
    read[name] = (place) => columns[name][place];
  }
  for (const name of STATISTICS) read[name] = (place) => nats(columns[name][place]);
  const { rollouts, continuations, categories } = content;
  rollouts.forEach((rollout) => {
    rollout.continuations = [];
    rollout.mean_kl = rollout.mean_kl === null ? NaN : Number(rollout.mean_kl);
  });
  continuations.forEach((one) => rollouts[one.rollout].continuations.push(one));
  return { rollouts, continuations, categories, read, likeliest };
}

/** Each column as whole numbers, out of its four bytes. */
function numbersOf(bytes, { columns, tokens }) {
  const read = {};
  columns.forEach((name, column) => {
    const values = new Int32Array(tokens);
    for (let part = 0; part < 4; part += 1) {
      const start = (4 * column + part) * tokens;
      for (let i = 0; i < tokens; i += 1) values[i] |= bytes[start + i] << (8 * part);
    }
    read[name] = values;
  });
  return read;
}

/** Steps of a ten-thousandth of a nat in nats. */
function nats(steps) {
  if (steps === UNDEFINED) return NaN;
  return Math.abs(steps) === INFINITE ? Math.sign(steps) * Infinity : steps / 10000;
}

// Text as it can be seen. What cannot be seen is shown by a sign; where a text holds such a sign itself, its code is shown.

const SIGNS = { "\n": "↵", "\t": "⇥" };
const UNSEEN = /[\p{C}\p{Z}\p{DI}\u2800␣↵⇥]/u;

function sign(character) {
  if (character === " ") return "␣";
  return SIGNS[character] || `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Nodes for a text. spaces: whether spaces get signs. lines: whether ends of lines do. breaks: whether they break it. */
function shown(text, { spaces = false, lines = true, breaks = true } = {}) {
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
    if (character === "\n" && breaks) plain = "\n";
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

const section = document.getElementById("token-view");
const byId = (name) => document.getElementById(`tv-${name}`);
const named = (text) => make("bdi", {}, shown(text));
const heading = (below, properties, ...children) => make(`h${Number(section.dataset.level) + below}`, properties, ...children);

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

const countText = (number) => number.toLocaleString("en");
const tokensText = (number) => `${countText(number)} token${number === 1 ? "" : "s"}`;

function natsText(value) {
  if (Number.isNaN(value)) return "undefined";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  return (value < 0 ? "−" : "") + Math.abs(value).toFixed(4);
}

function percentText(thousandths) {
  if (Number.isNaN(thousandths)) return "undefined";
  if (thousandths === 0) return "< 0.1 %";
  return thousandths === 1000 ? "> 99.9 %" : `${(thousandths / 10).toFixed(1)} %`;
}

/** A probability in thousandths, as payload.py rounds it. */
function inThousandths(probability) {
  if (probability < 0.001) return 0;
  return probability > 0.999 ? 1000 : Math.min(999, Math.max(1, Math.round(1000 * probability)));
}

/** A mean KL to a thousandth of a nat. */
function meanText(value) {
  if (Number.isNaN(value)) return "undefined";
  if (!Number.isFinite(value)) return "∞";
  return value >= 0.001 || value === 0 ? value.toFixed(3) : "< 0.001";
}
