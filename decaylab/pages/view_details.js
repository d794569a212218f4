// What is known of one token: the panel, and the sentence that is read aloud.

function drawDetails({ rollout, differs }, at) {
  const place = rollout.start + at;
  byId("of-token").replaceChildren(
    described(rollout, at, place, differs),
    make("div", { className: "tv-numbers" },
      likeliestTable("Student", "student", place), likeliestTable("Teacher", "teacher", place), numbersOfToken(place)),
    make("p", {}, make("a", { href: linkTo(rollout, at) }, "Link to this token")),
  );
}

const linkTo = (rollout, token) => addressOf({ ...state, at: { checkpoint: rollout.checkpoint, token } });

function described(rollout, at, place, differs) {
  const raw = data.read.raw(place);
  const step = stepOf(rollout, at);
  const words = [
    `token ${countText(at + 1)} of ${countText(rollout.size)} (position ${countText(at)})`,
    `id ${data.read.token_id(place)}`,
    categoryText(data.read.category(place)),
    raw && `bytes ${raw}`,
    step && stepText(step),
    at === rollout.first_wrong_token && "first went wrong here",
    differs[at] && "differs from base",
  ];
  return make("p", { className: "tv-what-line" },
    make("bdi", { className: "tv-what" }, tokenText(data.read.text(place), raw, true)),
    ` ${words.filter(Boolean).join(" · ")} · `, named(rollout.checkpoint));
}

function numbersOfToken(place) {
  const list = make("dl", {});
  const row = (name, key, text) => list.append(make("div", {}, make("dt", {}, name), make("dd", { data: { key } }, text)));
  const nats = (name) => withUnit(data.read[name](place));
  row("Reverse KL", "reverse_kl", nats("reverse_kl"));
  row("Student entropy", "student_entropy", nats("student_entropy"));
  row("Teacher entropy", "teacher_entropy", nats("teacher_entropy"));
  row("Student's probability", "student_probability", takenText("student", place));
  row("Teacher's probability", "teacher_probability", takenText("teacher", place));
  row("Rank under the teacher", "token_rank", rankText(data.read.token_rank(place)));
  row("Student's top token: rank under the teacher", "student_top1_rank", rankText(data.read.student_top1_rank(place)));
  return list;
}

const rankText = (rank) => (rank === 0 ? "undefined" : countText(rank));

const withUnit = (value) => (Number.isNaN(value) ? "undefined" : `${natsText(value)} nats`);

function probabilityOfTaken(policy, place) {
  const logprob = data.read[`${policy}_logprob`](place);
  return logprob === -Infinity ? "0 %" : percentText(inThousandths(Math.exp(logprob)));
}

function takenText(policy, place) {
  return `${probabilityOfTaken(policy, place)} (log ${natsText(data.read[`${policy}_logprob`](place))})`;
}

function likeliestTable(title, policy, place) {
  const entries = data.likeliest(policy, place);
  if (entries.length === 0) return make("p", {}, `${title}: not both tokenizers cut here`);
  const rows = entries.map(({ text, thousandths, taken }, i) => {
    const share = make("td", { className: "tv-share" }, taken ? probabilityOfTaken(policy, place) : percentText(thousandths));
    share.style.setProperty("--share", String((thousandths || 0) / 1000));
    const token = make("td", { className: "tv-entry" }, make("bdi", {}, tokenText(text, "", true)));
    if (taken) token.append(" ", make("strong", { className: "tv-taken" }, "taken"));
    return make("tr", taken ? { className: "tv-is-taken" } : {}, make("td", {}, String(i + 1)), token, share);
  });
  const head = make("tr", {}, ...["Rank", "Token", "Probability"].map((name) => make("th", { scope: "col" }, name)));
  const note = entries.some((entry) => entry.taken) ? "" : " (another was taken)";
  return make("table", { data: { policy } }, make("caption", {}, `${title}: top ${entries.length}${note}`),
    make("thead", {}, head), make("tbody", {}, ...rows));
}

function summary({ rollout, differs }, at) {
  const place = rollout.start + at;
  const [first] = data.likeliest("teacher", place);
  const step = stepOf(rollout, at);
  const words = [
    `Token ${countText(at + 1)} of ${countText(rollout.size)}, ${categoryText(data.read.category(place))}`,
    `reverse KL ${withUnit(data.read.reverse_kl(place))}`,
    `student ${probabilityOfTaken("student", place)}, teacher ${probabilityOfTaken("teacher", place)}`,
    `rank ${countText(data.read.token_rank(place))} under the teacher`,
    first && `teacher's top token ${flat(first.text)}, ${percentText(first.thousandths)}`,
    step && stepText(step),
    at === rollout.first_wrong_token && "the rollout first went wrong here",
    differs[at] && "differs from base",
  ];
  return `${words.filter(Boolean).join(". ")}.`;
}
