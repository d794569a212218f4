// Choosing a token: by pointer, by keyboard, by a button that goes to it.

function under(event) {
  const token = event.target.closest?.(".tv-text .tv-token");
  return token && { column: columns[token.closest(".tv-text").dataset.column], at: Number(token.dataset.at) };
}

function listen() {
  byId("columns").addEventListener("focusin", (event) => {
    const found = under(event);
    if (found) choose(found.column, found.at);
  });
  byId("columns").addEventListener("click", (event) => {
    const found = under(event);
    if (found) goTo(found.column, found.at);
  });
  byId("columns").addEventListener("keydown", (event) => {
    const found = under(event);
    if (!found) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      goTo(found.column, found.at);
    }
    const to = target(found.column, event);
    if (to === null) return;
    event.preventDefault();
    enter(found.column, to);
  });
  section.addEventListener("keydown", (event) => {
    const inside = event.target.closest("#tv-details, #tv-columns");
    if (event.key === "Escape" && inside) closeDetails();
  });
  document.addEventListener("mousemove", (event) => {
    const place = `${event.screenX} ${event.screenY}`;
    if (place === pointer || !chosen || byId("details").hidden) return;
    pointer = place;
    if (event.target.closest?.("#tv-details")) return; // what it says must not change below the pointer
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

/** Chooses a token, opens the details, and brings the token into sight beside them. */
function goTo(column, at) {
  openDetails();
  choose(column, at);
  column.tokens[at].scrollIntoView({ block: "nearest", inline: "nearest" });
}

function choose(column, at) {
  section.querySelectorAll(".tv-chosen").forEach((one) => one.classList.remove("tv-chosen"));
  mark(column, at);
  column.tokens[at].classList.add("tv-chosen");
  chosen = { column, at };
  state.at = { checkpoint: column.rollout.checkpoint, token: at };
  if (!byId("details").hidden) drawDetails(column, at);
  sayAddress();
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
  column.summary.textContent = summary(column, at);
  moveNeedle(column);
}

function openDetails() {
  byId("details").hidden = false;
  byId("body").dataset.details = "open";
}

/** Closes the details; the focus returns from them to the token they were of. */
function closeDetails() {
  const inside = byId("details").contains(document.activeElement);
  byId("details").hidden = true;
  byId("body").dataset.details = "closed";
  if (inside && chosen) chosen.column.tokens[chosen.at].focus();
}
