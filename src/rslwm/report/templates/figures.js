// Figures answer the pointer and the arrow keys with their numbers, hide series, and are saved as CSV and SVG.

const large = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
function shown(value) {
  if (typeof value !== "number") return value;
  return (Math.abs(value) >= 1e5 ? large.format(value) : String(Number(value.toPrecision(3)))).replace("-", "−");
}

function describe(columns, row) {
  const cell = (name) => (columns.includes(name) ? row[columns.indexOf(name)] : null);
  const range = (low, high) => (cell(low) !== null && cell(high) !== null ? ` [${shown(cell(low))}, ${shown(cell(high))}]` : "");
  const lines = [[cell("series"), cell("panel")].filter((part) => part && part.trim()).filter((p, i, all) => all.indexOf(p) === i).join(" · ")];
  if (cell("point")) lines.push(cell("point"));
  if (cell("x") !== null) lines.push(`${cell("y") !== null ? "x " : ""}${shown(cell("x"))}${range("x_low", "x_high")}`);
  if (cell("y") !== null) lines.push(`${cell("x") !== null ? "y " : ""}${shown(cell("y"))}${range("low", "high")}`);
  return lines;
}

function resolved(svg) {
  const clone = svg.cloneNode(true);
  const from = [svg, ...svg.querySelectorAll("*")];
  [clone, ...clone.querySelectorAll("*")].forEach((element, i) => {
    const style = element.getAttribute("style");
    if (!style?.includes("var(")) return;
    const live = getComputedStyle(from[i]);
    element.setAttribute("style", style.replace(/var\((--[\w-]+)\)/g, (_, name) => live.getPropertyValue(name).trim()));
  });
  clone.querySelectorAll("[data-hidden]").forEach((element) => element.remove());
  const [, , width, height] = svg.getAttribute("viewBox").split(" ");
  for (const [name, value] of Object.entries({ width, height, "font-family": "sans-serif" })) {
    clone.setAttribute(name, value);
  }
  return new XMLSerializer().serializeToString(clone);
}

function interactive(figure) {
  const { columns, rows, at, keys: owners } = JSON.parse(figure.querySelector("script").textContent);
  const [svg, plot, tip] = [".paper > svg", ".plot", ".tip"].map((selector) => figure.querySelector(selector));
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const keys = [...figure.querySelectorAll(".key")];
  const pressed = (space) => figure.querySelector(`.key[data-key="${space}"]`)?.getAttribute("aria-pressed") !== "false";
  let current = -1;

  const visible = (i) => at[i] && pressed(owners[i]);
  function point(i) {
    current = i;
    tip.hidden = i < 0;
    if (i < 0) return;
    const [first, ...rest] = describe(columns, rows[i]);
    const head = document.createElement("b");
    head.textContent = first;
    tip.replaceChildren(head, ...rest.flatMap((line) => [document.createElement("br"), line]));
    const [x, y] = at[i];
    tip.style.left = `${(100 * x) / width}%`;
    tip.style.top = `${(100 * y) / height}%`;
    tip.classList.toggle("left", x > width / 2);
    tip.classList.toggle("below", y < height / 3);
  }
  plot.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
    let [best, nearest] = [-1, 14];
    at.forEach((spot, i) => {
      if (!visible(i)) return;
      const distance = Math.hypot(spot[0] - x, spot[1] - y);
      if (distance < nearest) [best, nearest] = [i, distance];
    });
    if (best !== current) point(best);
  });
  plot.addEventListener("pointerleave", () => point(-1));
  plot.addEventListener("blur", () => point(-1));
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") point(-1);
    if (!step) return;
    event.preventDefault();
    for (let i = 1; i <= rows.length; i++) {
      const next = (current + step * i + (current < 0 && step < 0 ? 1 : 0) + rows.length * 2) % rows.length;
      if (visible(next)) { point(next); return; }
    }
  });
  for (const key of keys) {
    key.addEventListener("click", () => {
      const show = key.getAttribute("aria-pressed") === "false";
      key.setAttribute("aria-pressed", show);
      svg.querySelectorAll(`[data-space="${key.dataset.key}"]`).forEach((part) => part.toggleAttribute("data-hidden", !show));
      point(-1);
    });
  }
  const { name } = figure.dataset;
  figure.querySelector(".csv").addEventListener("click", () => save(`${name}.csv`, asCsv([columns, ...rows]), "text/csv"));
  figure.querySelector(".svg").addEventListener("click", () => save(`${name}.svg`, resolved(svg), "image/svg+xml"));
}

document.querySelectorAll("figure.chart").forEach(interactive);
