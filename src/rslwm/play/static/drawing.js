// The curve of divergence and the tree of branches, as SVG.

const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, parent, text) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  if (text !== undefined) found.textContent = text;
  parent.append(found);
  return found;
}

/** Of every pane its values along the path; null is nothing known. */
export function chart(svg, path, panes, measure) {
  const width = svg.clientWidth || 600, height = svg.clientHeight || 240;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const values = panes.map((_, i) => path.map((node) => node.shown[i][measure]));
  const known = values.flat().filter((value) => value !== null && value !== undefined);
  const left = 46, right = width - 12, top = 14, bottom = height - 26;
  if (!known.length) {
    make("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, svg, "nothing is known of this here");
    return;
  }
  const most = Math.max(...known) * 1.08 || 1, last = Math.max(path.length - 1, 1);
  const x = (i) => left + ((right - left) * i) / last, y = (value) => bottom - ((bottom - top) * value) / most;
  for (const share of [0, 0.5, 1]) {
    const at = y((most / 1.08) * share);
    make("line", { x1: left, x2: right, y1: at, y2: at, stroke: "var(--rule)" }, svg);
    make("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, svg, ((most / 1.08) * share).toPrecision(2));
  }
  make("text", { x: left, y: height - 7 }, svg, "0");
  make("text", { x: right, y: height - 7, "text-anchor": "end" }, svg, `${path.length - 1} actions`);
  values.forEach((row, i) => {
    const points = row.flatMap((value, at) => (value === null || value === undefined ? [] : [[x(at), y(value)]]));
    if (!points.length) return;
    const dashes = panes[i].imagined ? "none" : "4 4";
    make("polyline", { points: points.map((point) => point.map((v) => v.toFixed(1)).join()).join(" "), fill: "none", stroke: panes[i].ink(), "stroke-width": 2, "stroke-dasharray": dashes }, svg);
    const [ex, ey] = points.at(-1);
    make("circle", { cx: ex, cy: ey, r: 3, fill: panes[i].ink() }, svg);
  });
}

const STEP = 14, LANE = 16;

/** All nodes, one lane a branch; a click goes there. */
export function tree(svg, nodes, path, here, go) {
  const lanes = [], onPath = new Set(path.map((node) => node.number)), parents = new Set();
  let most = 0;
  for (const node of nodes) {
    const first = !parents.has(node.parent);
    parents.add(node.parent);
    lanes[node.number] = node.parent < 0 ? 0 : first ? lanes[node.parent] : ++most;
  }
  const deepest = Math.max(...nodes.map((node) => node.depth));
  const place = (node) => [10 + node.depth * STEP, 10 + lanes[node.number] * LANE];
  svg.setAttribute("width", 20 + deepest * STEP);
  svg.setAttribute("height", 20 + most * LANE);
  svg.replaceChildren();
  for (const node of nodes) {
    if (node.parent < 0) continue;
    const [[x1, y1], [x2, y2]] = [place(nodes[node.parent]), place(node)];
    make("line", { x1, y1, x2, y2 }, svg);
  }
  for (const node of nodes) {
    const [cx, cy] = place(node);
    const kind = `${onPath.has(node.number) ? "path" : ""} ${node.number === here ? "here" : ""}`;
    const dot = make("circle", { cx, cy, r: 4.5, class: kind }, svg);
    make("title", {}, dot, `frame ${node.number}, after ${node.depth} actions`);
    dot.addEventListener("click", () => go(node.number));
  }
}
