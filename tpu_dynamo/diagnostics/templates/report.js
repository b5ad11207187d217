"use strict";

// Sorting: each heading is a button; a second press turns the order round. Rows sort by data-sort, else by their text.
function sortRows(table, column, descending) {
  const body = table.tBodies[0];
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.sort === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.sort);
  };
  const rows = Array.from(body.rows).map((row, index) => ({ row, index, key: key(row) }));
  rows.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.index - b.index));
  if (descending) rows.reverse();
  rows.forEach(({ row }) => body.appendChild(row));
}

// Filtering: a row stays when it holds every word that was typed, and is of the kind that was chosen.
function filterRows(table, words, kind) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !(wanted.every((word) => text.includes(word)) && (!kind || row.dataset.kind === kind));
    shown += row.hidden ? 0 : 1;
  }
  return shown;
}

function prepare(table) {
  const headings = Array.from(table.tHead.rows[0].cells);
  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortRows(table, column, descending);
    });
  });
  const tools = document.querySelector(`[data-tools="${table.id}"]`);
  if (!tools) return;
  const words = tools.querySelector("input");
  const kind = tools.querySelector("select");
  const said = tools.querySelector("output");
  const filter = () => {
    const shown = filterRows(table, words.value, kind ? kind.value : "");
    said.textContent = `${shown} of ${table.tBodies[0].rows.length} shown`;
  };
  words.addEventListener("input", filter);
  kind?.addEventListener("change", filter);
  tools.hidden = false;
}

document.querySelectorAll("table.sortable").forEach(prepare);
