// Every table sorts by the column whose head is pressed: numbers by their size, words by their letters, gaps last.
function sortKey(text) {
  const number = parseFloat(text.replace(/[#,\s]/g, "").replace(/^−/, "-"));
  return Number.isNaN(number) ? text.trim() === "–" ? "" : text.trim() : number;
}
function compared(a, b, turned) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, {numeric: true});
  return turned ? -order : order;
}
function head(cell, press) { // the cell's text becomes a button
  const button = make("button", {type: "button", class: "sort"}, cell.textContent);
  button.addEventListener("click", press);
  cell.replaceChildren(button);
}
function sortable(table) {
  const cells = [...table.tHead.rows[0].cells], body = table.tBodies[0], rows = [...body.rows];
  const continued = rows.some(row => !row.cells[0].textContent.trim()); // by the row above: out of order it would be lost
  if (rows.length < 2 || continued) return;
  cells.forEach((cell, column) => head(cell, () => {
    const turned = cell.getAttribute("aria-sort") === "ascending";
    cells.forEach(other => other.removeAttribute("aria-sort"));
    cell.setAttribute("aria-sort", turned ? "descending" : "ascending");
    const keyed = rows.map(row => [sortKey(row.cells[column].textContent), row]);
    body.append(...keyed.sort((a, b) => compared(a[0], b[0], turned)).map(([, row]) => row));
  }));
}
