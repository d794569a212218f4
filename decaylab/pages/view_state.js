// What is chosen, which rollouts that leaves, and the address that says so.

const BASE = "base";
const CORRECT = "correct";
const FILTERS = {
  all: "all",
  right: "right",
  wrong: "not right",
  recovered: "teacher recovered",
  spoilt: "teacher regressed",
};
const EDGES = [0.01, 0.1, 0.5, 2];
const STEPS = [
  "next to none: below 0.01 nats",
  "low: 0.01 to 0.1 nats",
  "middling: 0.1 to 0.5 nats",
  "high: 0.5 to 2 nats",
  "very high: 2 nats and more",
  "undefined",
];
const SCALES = {
  reverse_kl: { name: "reverse KL", title: "Reverse KL of the student from the teacher, in nats", from: EDGES, steps: STEPS },
  student_entropy: { name: "student entropy", title: "Entropy of the student, in nats", from: EDGES, steps: STEPS },
  teacher_entropy: { name: "teacher entropy", title: "Entropy of the teacher, in nats", from: EDGES, steps: STEPS },
  token_rank: {
    name: "rank under the teacher",
    title: "Rank of the token under the teacher",
    from: [2, 3, 6, 21],
    steps: ["1, the teacher's first choice", "2, its second", "3 to 5", "far: 6 to 20", "very far: 21 and beyond"],
  },
};
const COLOURS = { ...SCALES, category: { name: "category" }, nothing: { name: "nothing" } };
const MOST_COLUMNS = 3; // shown before anybody chooses

/** Problem and sample, with the rollouts of all checkpoints, in the order of the table. */
function pairsOf(rollouts) {
  const pairs = new Map();
  for (const rollout of rollouts) {
    const key = JSON.stringify([rollout.problem_id, rollout.sample]);
    if (!pairs.has(key)) pairs.set(key, { problem: rollout.problem_id, sample: rollout.sample, rollouts: new Map() });
    pairs.get(key).rollouts.set(rollout.checkpoint, rollout);
  }
  return [...pairs.values()];
}

function initialState(data) {
  const checkpoints = [...new Set(data.rollouts.map((one) => one.checkpoint))];
  const prefixes = [...new Set(data.continuations.map((one) => one.prefix_tokens))].sort((a, b) => a - b);
  return {
    known: { checkpoints, prefixes, pairs: pairsOf(data.rollouts) },
    pair: null,
    colour: "reverse_kl",
    checkpoints: new Set(checkpoints.slice(0, MOST_COLUMNS)),
    judged: checkpoints.includes(BASE) ? BASE : checkpoints[0],
    prefix: prefixes.length ? prefixes[0] : null,
    filter: "all",
    spaces: false,
  };
}

/** What the teacher wrote from the chosen prefix of a rollout. */
function continued(state, rollout) {
  return rollout ? rollout.continuations.filter((one) => one.prefix_tokens === state.prefix) : [];
}

function passes(state, pair, filter = state.filter) {
  if (filter === "all") return true;
  const judged = pair.rollouts.get(state.judged);
  if (filter === "right") return Boolean(judged) && judged.verdict === CORRECT;
  if (filter === "wrong") return Boolean(judged) && judged.verdict !== CORRECT;
  return continued(state, pair.rollouts.get(BASE)).some((one) => one.outcome === filter);
}

function listed(state) {
  return state.known.pairs.filter((pair) => passes(state, pair));
}

/** The chosen pair if the filter leaves it, the first that it leaves otherwise; without any, what was shown stays. */
function settle(state) {
  const pairs = listed(state);
  if (!pairs.includes(state.pair)) state.pair = pairs[0] || state.pair || state.known.pairs[0];
  return pairs;
}

// The address: #problem=..&sample=..&colour=..&prefix=..&filter=..&judged=..&checkpoint=..&checkpoint=..

function addressOf(state) {
  const words = new URLSearchParams({ problem: state.pair.problem, sample: state.pair.sample, colour: state.colour });
  if (state.known.prefixes.length) words.set("prefix", state.prefix === null ? "none" : state.prefix);
  if (state.filter !== "all") words.set("filter", state.filter);
  if (state.known.checkpoints.length > 1) {
    words.set("judged", state.judged);
    for (const name of state.known.checkpoints) if (state.checkpoints.has(name)) words.append("checkpoint", name);
  }
  return `#${words}`;
}

/** Takes over what an address says; returns what it names that is not here, in words, or "". */
function follow(state, address) {
  const words = new URLSearchParams(address.replace(/^#/, ""));
  if (!words.has("problem")) return "";
  const lost = [];
  const take = (name, known, set) => {
    if (!words.has(name)) return;
    const value = known.find((one) => String(one) === words.get(name));
    if (value === undefined) lost.push(`${name} ${words.get(name)}`);
    else set(value);
  };
  take("colour", Object.keys(COLOURS), (value) => { state.colour = value; });
  take("filter", Object.keys(FILTERS), (value) => { state.filter = value; });
  take("judged", state.known.checkpoints, (value) => { state.judged = value; });
  take("prefix", [...state.known.prefixes, "none"], (value) => { state.prefix = value === "none" ? null : value; });
  if (words.has("checkpoint")) {
    const wanted = words.getAll("checkpoint");
    state.checkpoints = new Set(state.known.checkpoints.filter((name) => wanted.includes(name)));
    lost.push(...wanted.filter((name) => !state.known.checkpoints.includes(name)).map((name) => `checkpoint ${name}`));
  }
  const of = state.known.pairs.filter((pair) => pair.problem === words.get("problem"));
  const pair = words.has("sample") ? of.find((one) => String(one.sample) === words.get("sample")) : of[0];
  if (!pair) lost.push(`problem ${words.get("problem")}, sample ${words.get("sample") || "any"}`);
  state.pair = pair || state.pair;
  if (pair && !passes(state, pair)) state.filter = "all"; // what was asked for is shown
  return lost.length ? `The address names what is not here: ${lost.join("; ")}.` : "";
}
