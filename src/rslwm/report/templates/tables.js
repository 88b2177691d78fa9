// Tables sort by a click on a column, filter by what is typed above them, and are saved as CSV.

function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
const field = (cell) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
const asCsv = (rows) => rows.map((row) => row.map((cell) => field(String(cell ?? ""))).join(",")).join("\n") + "\n";

const words = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
function valueOf(cell) {
  const given = cell.dataset.value ?? words(cell).replace("−", "-").replaceAll(",", "");
  const number = parseFloat(given);
  if (!Number.isNaN(number) && /^[-+\d.]/.test(given)) return number;
  return given === "–" || given === "None" || given === "" ? null : given;
}
function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b));
}

function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
      // What is missing stays last either way.
      rows.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : (up ? 1 : -1) * compare(a, b)));
      body.append(...rows.map(([, row]) => row));
    });
  });
  const tools = document.createElement("div");
  tools.className = "tools";
  if (table.classList.contains("filtered") || body.rows.length > 8) {
    const search = document.createElement("input");
    search.type = "search";
    search.placeholder = "Filter rows";
    search.setAttribute("aria-label", `Filter ${table.parentElement.getAttribute("aria-label") ?? "rows"}`);
    search.addEventListener("input", () => {
      const asked = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of body.rows) {
        const text = words(row).toLowerCase();
        row.hidden = !asked.every((word) => text.includes(word));
      }
    });
    tools.append(search);
  }
  const button = document.createElement("button");
  button.type = "button";
  button.className = "csv";
  button.textContent = "CSV";
  button.addEventListener("click", () => {
    const rows = [...body.rows].filter((row) => !row.hidden).map((row) => [...row.cells].map(words));
    const name = (table.parentElement.getAttribute("aria-label") ?? "table").toLowerCase().replace(/\W+/g, "_");
    save(`${name}.csv`, asCsv([heads.map(words), ...rows]), "text/csv");
  });
  tools.append(button);
  const place = table.closest(".scroll") ?? table;
  tools.childElementCount > 1 ? place.before(tools) : place.after(tools);
}

document.querySelectorAll("table.sortable").forEach(sortable);
