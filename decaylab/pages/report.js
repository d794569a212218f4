// The report's tables: sorting by the headings, filtering rows; buttons that copy a text; contents that a phone folds.
"use strict";

(() => {
  const collator = new Intl.Collator("en", { numeric: true });
  const given = new WeakMap(); // a table body -> its rows as they came
  const texts = new WeakMap(); // a row -> its text in small letters
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  // What a cell is sorted by: a number, a text, or null where there is none.
  const keyOf = (cell, numeric) => {
    const key = cell.dataset.sort ?? cell.textContent;
    return key === "" ? null : numeric ? Number(key) : key;
  };

  const compare = (first, second) =>
    typeof first === "number" ? Number(first > second) - Number(first < second) : collator.compare(first, second);

  // Rows in order of a column; equal ones keep the order they have, and those without a key come last either way.
  const ordered = (rows, column, numeric, descending) => {
    const keyed = rows.map((row) => [keyOf(row.cells[column], numeric), row]);
    const known = keyed.filter(([key]) => key !== null);
    known.sort(([first], [second]) => (descending ? compare(second, first) : compare(first, second)));
    return [...known, ...keyed.filter(([key]) => key === null)].map(([, row]) => row);
  };

  // Taken out first: thousands of rows are moved in milliseconds rather than in seconds.
  const place = (body, rows) => {
    body.replaceChildren();
    body.append(...rows);
  };

  const sort = (button) => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const direction = NEXT[head.getAttribute("aria-sort") ?? "none"];
    const rows = [...body.rows];
    if (!given.has(body)) given.set(body, rows);
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    if (direction !== "none") head.setAttribute("aria-sort", direction);
    place(
      body,
      direction === "none"
        ? given.get(body)
        : ordered(rows, head.cellIndex, head.dataset.kind === "number", direction === "descending"),
    );
  };

  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, [...row.cells].map((cell) => cell.textContent.toLowerCase()).join("\n"));
    return texts.get(row);
  };

  // Columns and the frame keep their size while rows come and go.
  const hold = (table) => {
    const frame = table.parentElement;
    if (frame.style.minHeight) return;
    frame.style.minHeight = `${frame.offsetHeight}px`;
    const widths = [...table.tHead.rows[0].cells].map((cell) => cell.getBoundingClientRect().width);
    [...table.tHead.rows[0].cells].forEach((cell, i) => {
      cell.style.minWidth = `${widths[i]}px`;
    });
  };

  const filter = (field) => {
    const table = document.getElementById(field.getAttribute("aria-controls"));
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    hold(table);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = !words.every((word) => textOf(row).includes(word));
      shown += row.hidden ? 0 : 1;
    }
    const all = table.tBodies[0].rows.length;
    field.parentElement.querySelector("output").textContent = words.length ? `${shown} of ${all} rows` : `${all} rows`;
  };

  // Where the clipboard is closed to a page, the text is left selected.
  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copies);
    const status = button.parentElement.querySelector("[role=status]");
    try {
      await navigator.clipboard.writeText(source.textContent);
      status.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(source);
      status.textContent = document.execCommand("copy") ? "Copied." : "Selected: copy it with Ctrl+C or Cmd+C.";
    }
  };

  if (matchMedia("(max-width: 48rem)").matches) document.querySelector(".contents").open = false;

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.closest(".sortable thead")) sort(button);
    else if (button?.matches(".copy")) copy(button);
  });
  document.addEventListener("input", (event) => {
    if (event.target.matches(".filter input")) filter(event.target);
  });
})();
