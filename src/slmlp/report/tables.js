// Tables: sorted by a press on a heading, copied as CSV.
const main = (cell) => [...cell.childNodes].filter((node) => node.nodeName !== "SMALL").map((node) => node.textContent).join("").trim();
const plain = (text) => text.replaceAll("−", "-").replaceAll("\u00a0", " ").replace(/(?<=\d)–(?=[-\d])/g, " to ");
const number = (text) => {
  const found = /^[<>]?\s*([-+]?[\d,]*\.?\d+)/.exec(plain(text));
  return found ? Number(found[1].replaceAll(",", "")) : NaN;
};

for (const table of all("table.numbers")) {
  const body = table.tBodies[0], before = [...body.rows], headings = all("thead th", table);
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const value = (row) => main(row.cells[column]);
      const numeric = before.some((row) => !Number.isNaN(number(value(row))));
      const order = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      const next = order[order.indexOf(heading.ariaSort) + 1]; // after the second press the order is as it was
      for (const other of headings) other.removeAttribute("aria-sort");
      const sorted = [...before];
      if (next) {
        heading.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        sorted.sort((a, b) => {
          if (!numeric) return sign * value(a).localeCompare(value(b), undefined, { numeric: true });
          const [x, y] = [number(value(a)), number(value(b))];
          return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0; // what has no number stays at the end
        });
      }
      body.append(...sorted);
    });
  });
}

const field = (text) => {
  let value = plain(text);
  if (/^[-+]?[\d,]*\.?\d+$/.test(value)) value = value.replaceAll(",", "");
  else if (/^[=+\-@\t\r]/.test(value)) value = `'${value}`; // a name from the data is no formula of a spreadsheet
  return /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
};
const csv = (table) => {
  const rows = [...table.rows].filter((row) => !row.classList.contains("off"));
  const ranges = new Set(rows.flatMap((row) => [...row.cells].flatMap((cell, i) => (cell.querySelector("small") ? [i] : []))));
  return rows.map((row) => [...row.cells].flatMap((cell, i) => {
    const under = cell.closest("thead") ? (i ? `${main(cell)}: range` : "note") : cell.querySelector("small")?.textContent ?? "";
    return ranges.has(i) ? [main(cell), under] : [main(cell)];
  }).map(field).join(",")).join("\n") + "\n";
};
for (const table of all("table")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "csv";
  button.textContent = "Copy as CSV";
  button.setAttribute("aria-label", `Copy as CSV: ${table.caption.textContent}`);
  (table.closest(".scroll") ?? table).after(button);
  button.addEventListener("click", () => copy(button, csv(table)));
}
