// What is known of one token: the panel, and the sentence that is read aloud.

function drawDetails({ rollout }, at) {
  const place = rollout.start + at;
  if (byId("details").dataset.place === String(place)) return;
  byId("details").dataset.place = place;
  byId("details").replaceChildren(
    described(rollout, at, place),
    make("div", { className: "tv-numbers" }, numbersOf(place),
      likeliestTable("Student", "student", place), likeliestTable("Teacher", "teacher", place)),
  );
}

function described(rollout, at, place) {
  const raw = data.read.raw(place);
  const text = data.read.text(place);
  const words = [`token ${at + 1} of ${rollout.size} (position ${at})`, `id ${data.read.token_id(place)}`];
  words.push(categoryText(data.read.category(place)), raw ? `bytes ${raw}` : "");
  return make("p", { className: "tv-head" },
    make("bdi", { className: "tv-what" }, tokenText(text, raw, true)),
    ` ${words.filter(Boolean).join(" · ")} · `, named(rollout.checkpoint));
}

function numbersOf(place) {
  const list = make("dl", {});
  const row = (name, key, text) => list.append(make("div", {}, make("dt", {}, name), make("dd", { data: { key } }, text)));
  const nats = (name) => withUnit(data.read[name](place));
  row("Reverse KL", "reverse_kl", nats("reverse_kl"));
  row("Student entropy", "student_entropy", nats("student_entropy"));
  row("Teacher entropy", "teacher_entropy", nats("teacher_entropy"));
  row("Student's probability", "student_probability", takenText("student", place));
  row("Teacher's probability", "teacher_probability", takenText("teacher", place));
  row("Rank under the teacher", "token_rank", String(data.read.token_rank(place)));
  row("Student's first choice: rank under the teacher", "student_top1_rank", String(data.read.student_top1_rank(place)));
  return list;
}

const withUnit = (value) => (Number.isNaN(value) ? "undefined" : `${natsText(value)} nats`);

function probabilityOfTaken(policy, place) {
  const logprob = data.read[`${policy}_logprob`](place);
  return logprob === -Infinity ? "0 %" : percentText(Math.exp(logprob));
}

function takenText(policy, place) {
  return `${probabilityOfTaken(policy, place)} (log ${natsText(data.read[`${policy}_logprob`](place))})`;
}

function likeliestTable(title, policy, place) {
  const entries = data.likeliest(policy, place);
  const rows = entries.map(({ text, probability, taken }, i) => {
    const share = make("td", { className: "tv-share" }, taken ? probabilityOfTaken(policy, place) : percentText(probability));
    share.style.setProperty("--share", String(probability || 0));
    const token = make("td", { className: "tv-entry" }, make("bdi", {}, tokenText(text, "", true)));
    if (taken) token.append(" ", make("strong", { className: "tv-taken" }, "taken"));
    return make("tr", taken ? { className: "tv-is-taken" } : {}, make("td", {}, String(i + 1)), token, share);
  });
  const head = make("tr", {}, ...["Rank", "Token", "Probability"].map((name) => make("th", { scope: "col" }, name)));
  const note = entries.some((entry) => entry.taken) ? "" : " (another was taken)";
  return make("table", { data: { policy } }, make("caption", {}, `${title}: ${entries.length} likeliest${note}`),
    make("thead", {}, head), make("tbody", {}, ...rows));
}

function summary(rollout, at) {
  const place = rollout.start + at;
  const [first] = data.likeliest("teacher", place);
  const words = [
    `Token ${at + 1} of ${rollout.size}, ${categoryText(data.read.category(place))}`,
    `reverse KL ${withUnit(data.read.reverse_kl(place))}`,
    `student ${probabilityOfTaken("student", place)}, teacher ${probabilityOfTaken("teacher", place)}`,
    `rank ${data.read.token_rank(place)} under the teacher`,
  ];
  if (first) words.push(`teacher's first choice ${flat(first.text)}, ${percentText(first.probability)}`);
  return `${words.join(". ")}.`;
}

// Everything

function draw() {
  drawControls();
  drawLegend();
  drawQuestion();
  drawColumns();
  columns.forEach((column) => { if (column.tokens.length) mark(column, 0); });
  const first = columns.find((column) => column.tokens.length);
  chosen = null;
  byId("details").hidden = !first;
  if (first) choose(first, 0);
}

/** Draws what was chosen anew, at the same token where the same rollout is still shown, and says it in the address. */
function changed() {
  const before = chosen && { rollout: chosen.column.rollout, at: chosen.at };
  byId("notice").textContent = "";
  draw();
  const same = before && columns.find((column) => column.rollout === before.rollout);
  if (same) choose(same, before.at);
  try {
    history.replaceState(null, "", addressOf(state));
  } catch {
    // A page that was not opened from an address has none to change.
  }
}

function arrive() {
  const ours = location.hash.includes("problem=");
  byId("notice").textContent = follow(state, location.hash);
  draw();
  if (ours) section.scrollIntoView();
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
  makeControls();
  listen();
  byId("app").hidden = false;
  arrive();
  window.addEventListener("hashchange", () => { if (location.hash.includes("problem=")) arrive(); });
}

begin();
