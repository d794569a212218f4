// What is chosen, which rollouts that leaves and in which order, and the address that says so.

const BASE = "base";
const CORRECT = "correct";
const FILTERS = {
  all: "all",
  correct: "correct",
  wrong: "not correct",
  recovered: "teacher recovered",
  regressed: "teacher regressed",
};
const OF_TEACHER = ["recovered", "regressed"]; // filters by what the teacher made of a prefix
const ORDERS = {
  given: { name: "as in the run" },
  kl: { name: "mean KL, highest first", key: (rollout) => -rollout.mean_kl },
  low_kl: { name: "mean KL, lowest first", key: (rollout) => rollout.mean_kl },
  long: { name: "length, longest first", key: (rollout) => -rollout.response_tokens },
  short: { name: "length, shortest first", key: (rollout) => rollout.response_tokens },
  wrong: { name: "verdict, not correct first", key: (rollout) => Number(rollout.verdict === CORRECT) },
};
const EDGES = [0.01, 0.1, 0.5, 2];
const STEPS = ["< 0.01", "0.01", "0.1", "0.5", "≥ 2", "undefined"];
const SCALES = {
  reverse_kl: { name: "reverse KL", title: "Reverse KL, nats", from: EDGES, steps: STEPS },
  student_entropy: { name: "student entropy", title: "Student entropy, nats", from: EDGES, steps: STEPS },
  teacher_entropy: { name: "teacher entropy", title: "Teacher entropy, nats", from: EDGES, steps: STEPS },
  token_rank: {
    name: "rank under the teacher",
    title: "Rank under the teacher",
    from: [2, 3, 6, 21],
    steps: ["1", "2", "3–5", "6–20", "≥ 21"],
  },
};
const COLOURS = { ...SCALES, category: { name: "category" }, nothing: { name: "nothing" } };
const MOST_COLUMNS = 3; // shown before anybody chooses; of more, base and the last

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
  const first = checkpoints.includes(BASE) ? BASE : checkpoints[0];
  return {
    known: { checkpoints, prefixes, pairs: pairsOf(data.rollouts) },
    pair: null,
    at: null, // {checkpoint, token}: the chosen token by its place in the rollout, from 0
    colour: "reverse_kl",
    checkpoints: new Set(checkpoints.length <= MOST_COLUMNS ? checkpoints : [first, checkpoints.at(-1)]),
    judged: first,
    prefix: prefixes.length ? prefixes[0] : null,
    order: "given",
    spaces: false,
    above: true,
    ...EVERY,
  };
}

const EVERY = { filter: "all", words: "", least_kl: 0, least_tokens: 0 }; // leaves every rollout

/** What the teacher wrote from the chosen prefix of a rollout. */
function continued(state, rollout) {
  return rollout ? rollout.continuations.filter((one) => one.prefix_tokens === state.prefix) : [];
}

function passes(state, pair, filter = state.filter) {
  const judged = pair.rollouts.get(state.judged);
  if (!holdsWords(state, pair)) return false;
  if (state.least_kl > 0 && !(judged && judged.mean_kl >= state.least_kl)) return false;
  if (state.least_tokens > 0 && !(judged && judged.response_tokens >= state.least_tokens)) return false;
  if (filter === "all") return true;
  if (filter === "correct") return Boolean(judged) && judged.verdict === CORRECT;
  if (filter === "wrong") return Boolean(judged) && judged.verdict !== CORRECT;
  return continued(state, pair.rollouts.get(BASE)).some((one) => one.outcome === filter);
}

function holdsWords(state, pair) {
  if (!state.words) return true;
  const [rollout] = pair.rollouts.values();
  return `${pair.problem}\n${rollout.question}`.toLowerCase().includes(state.words.toLowerCase());
}

/** The pairs that are left, in the chosen order; those without a number come last. */
function listed(state) {
  const left = state.known.pairs.filter((pair) => passes(state, pair));
  const { key } = ORDERS[state.order];
  if (!key) return left;
  const keyed = left.map((pair) => [pair.rollouts.has(state.judged) ? key(pair.rollouts.get(state.judged)) : NaN, pair]);
  const known = keyed.filter(([number]) => !Number.isNaN(number));
  known.sort(([first], [second]) => (first === second ? 0 : first - second));
  return [...known, ...keyed.filter(([number]) => Number.isNaN(number))].map(([, pair]) => pair);
}

/** The chosen pair if the filter leaves it, the first that it leaves otherwise; without any, what was shown stays. */
function settle(state) {
  const pairs = listed(state);
  if (!pairs.includes(state.pair)) state.pair = pairs[0] || state.pair || state.known.pairs[0];
  return pairs;
}

// The address: #problem=..&sample=..&colour=..&prefix=..&filter=..&judged=..&checkpoint=..&checkpoint=..&of=..&token=..

function addressOf(state) {
  const words = new URLSearchParams({ problem: state.pair.problem, sample: state.pair.sample, colour: state.colour });
  if (state.known.prefixes.length) words.set("prefix", state.prefix === null ? "none" : state.prefix);
  if (state.filter !== "all") words.set("filter", state.filter);
  if (state.known.checkpoints.length > 1) {
    words.set("judged", state.judged);
    for (const name of state.known.checkpoints) if (state.checkpoints.has(name)) words.append("checkpoint", name);
  }
  if (state.at) {
    words.set("of", state.at.checkpoint);
    words.set("token", state.at.token + 1);
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
  if (pair && !passes(state, pair)) Object.assign(state, EVERY); // what was asked for is shown
  state.at = null;
  if (pair && words.has("token")) followToken(state, words, lost);
  return lost.length ? `The address names what is not here: ${lost.join("; ")}.` : "";
}

function followToken(state, words, lost) {
  const checkpoint = words.get("of") || state.judged;
  const rollout = state.pair.rollouts.get(checkpoint);
  const token = Number(words.get("token"));
  if (!rollout || !Number.isInteger(token) || token < 1 || token > rollout.size) {
    lost.push(`token ${words.get("token")} of ${checkpoint}`);
    return;
  }
  state.checkpoints.add(checkpoint);
  state.at = { checkpoint, token: token - 1 };
}
