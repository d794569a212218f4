// Where a rollout of a trained student differs from that of base: by lines, and by tokens where lines differ.

const MOST_CELLS = 4e6; // of lines compared with each other; beyond it all between common beginning and end differs

/** The place of the first token that is another one than base's, or where the shorter of the two ends. */
function partsAt(base, own) {
  const [before, after] = [idsOf(base), idsOf(own)];
  let at = 0;
  while (at < before.length && at < after.length && before[at] === after[at]) at += 1;
  return at;
}

/** Of each token of `own`, whether it is in a line that base does not have, and not in what that line shares with base's. */
function differing(base, own) {
  const before = linesOf(base);
  const after = linesOf(own);
  const differs = new Array(own.size).fill(false);
  for (const [fromBefore, toBefore, fromAfter, toAfter] of unlike(before, after)) {
    const old = before.slice(fromBefore, toBefore);
    const written = after.slice(fromAfter, toAfter);
    // As many lines in place of others: each is compared with the one that stood there.
    const pairs = old.length === written.length ? written.map((line, i) => [[old[i]], [line]]) : [[old, written]];
    for (const [those, these] of pairs) {
      const ids = these.flatMap((line) => line.ids);
      const [start, end] = middle(those.flatMap((line) => line.ids), ids);
      if (ids.length) differs.fill(true, these[0].start + start, these[0].start + end);
    }
  }
  return differs;
}

const idsOf = ({ start, size }) => Array.from({ length: size }, (_, at) => data.read.token_id(start + at));

/** A line ends with a token that holds the end of a line. */
function linesOf(rollout) {
  const lines = [];
  let open = true;
  idsOf(rollout).forEach((id, at) => {
    if (open) lines.push({ start: at, ids: [] });
    lines.at(-1).ids.push(id);
    open = data.read.text(rollout.start + at).includes("\n");
  });
  lines.forEach((line) => { line.key = line.ids.join(" "); });
  return lines;
}

/** From where to where a list is unlike another one, by what both begin and end with. */
function middle(old, written) {
  let start = 0;
  while (start < old.length && start < written.length && old[start] === written[start]) start += 1;
  let left = Math.min(old.length, written.length) - start;
  let end = written.length;
  while (left > 0 && old[old.length - (written.length - end) - 1] === written[end - 1]) {
    end -= 1;
    left -= 1;
  }
  return [start, end];
}

/** The stretches of lines that are not in the longest common subsequence: from, to in both lists. */
function unlike(before, after) {
  const [old, written] = [before.map((line) => line.key), after.map((line) => line.key)];
  const [start, end] = middle(old, written);
  const oldEnd = old.length - (written.length - end);
  const [rows, columns] = [oldEnd - start, end - start];
  if (rows * columns > MOST_CELLS) return [[start, oldEnd, start, end]];
  const lengths = commonLengths(old.slice(start, oldEnd), written.slice(start, end));
  const stretches = [];
  let [row, column, fromRow, fromColumn] = [0, 0, 0, 0];
  const close = () => {
    if (row > fromRow || column > fromColumn) stretches.push([fromRow, row, fromColumn, column].map((line) => line + start));
  };
  while (row < rows && column < columns) {
    if (old[start + row] === written[start + column]) {
      close();
      row += 1;
      column += 1;
      [fromRow, fromColumn] = [row, column];
    } else if (lengths[row + 1][column] >= lengths[row][column + 1]) row += 1;
    else column += 1;
  }
  [row, column] = [rows, columns];
  close();
  return stretches;
}

/** lengths[i][j]: of the longest common subsequence of what stands from i on in one list, and from j on in the other. */
function commonLengths(old, written) {
  const lengths = Array.from({ length: old.length + 1 }, () => new Uint32Array(written.length + 1));
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = written.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = old[i] === written[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  return lengths;
}
