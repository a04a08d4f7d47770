"use strict";
// A click on the head of a column sorts the rows of its table by it, a second one the other way round. Cells without a
// value stay last.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const isNumber = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const falls = before ? before === "ascending" : isNumber;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const value = (row) => row.cells[head.cellIndex].dataset.value;
    const compare = isNumber
      ? (a, b) => Number(value(a)) - Number(value(b))
      : (a, b) => value(a).localeCompare(value(b), undefined, { numeric: true });
    const rows = [...body.rows];
    const known = rows.filter((row) => value(row) !== "");
    known.sort((a, b) => (falls ? compare(b, a) : compare(a, b)));
    body.append(...known, ...rows.filter((row) => value(row) === ""));
  });
}
