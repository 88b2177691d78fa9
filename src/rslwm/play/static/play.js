// The page: what is held becomes actions, one at a time; what comes back is drawn.

import { chart, tree } from "./drawing.js";
import { Hands } from "./hands.js";
import { Wire } from "./wire.js";

const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const MEASURES = { latent: "latents off", hand_cm: "hand off", thing_cm: "object off", asked: "action off" };
const UNITS = { latent: "σ", hand_cm: "cm", thing_cm: "cm", asked: "" };
const LABELS = { touched: "touches", held: "holds", done: "done" };

let there, panes, nodes = [], here = 0, still = [], grip = 1, running = false, driver = "", busy = false, stale = false;
const paces = [], lags = [];
const wire = new Wire(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/drive`, inHash("token") || "", heard, lost);
const hands = new Hands((what) => $(what)?.click());
window.play = { nodes: () => nodes, here: () => here, busy: () => busy, lags }; // for tests

function inHash(name) {
  return new URLSearchParams(location.hash.slice(1)).get(name);
}

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text;
}

function lost(code) {
  const why = { 4401: "This page needs the token: open the address that the command printed.", 4429: "All places are taken; close another tab." };
  trouble(why[code] || "The connection is lost, and with it this drive. Reload to begin anew.");
  running = false;
}

// ------------------------------------------------------------------------------------------ what is heard

async function heard(answer) {
  if (answer.type === "hello") return welcome(answer);
  if (answer.type === "plan") return found(answer);
  if (answer.type === "frames") {
    await show(answer);
    const link = inHash("drive");
    if (link) {
      history.replaceState(null, "", location.hash.replace(/&?drive=[^&]*/, "") || location.pathname);
      if (await tell({ do: "open", link })) setDriver("the link's actions", true);
    }
  }
}

function welcome(answer) {
  there = answer;
  panes = answer.panes.map((pane) => ({ ...pane, ink: () => (dark.matches ? pane.dark : pane.light) }));
  $("panes").replaceChildren(...panes.map(build));
  buildDims();
  const options = (select, names) => $(select).replaceChildren(...names.map((name) => new Option(name, name)));
  const all = panes.map((pane) => pane.name), imagined = panes.filter((pane) => pane.imagined).map((pane) => pane.name);
  options("policy", there.policies);
  options("policy-looks", all);
  options("plan-pane", imagined);
  options("plan-looks", ["itself", ...(imagined.length < all.length ? ["truth"] : [])]);
  $("beginning").family.replaceChildren(...there.families.map((name) => new Option(name, name)));
  for (const label of document.querySelectorAll(".fresh")) label.hidden = !there.families.length;
  $("let").disabled = !there.policies.length;
  $("plan").disabled = !imagined.length;
  $("drift-lead").textContent = imagined.length < all.length
    ? "Each space against the simulator under the same actions. In centimetres a network reads positions off the frames; its own error on the true frame is the dashed line."
    : "These worlds have no simulator beside them, so nobody knows how far they are from the truth.";
}

function build(pane) {
  const figure = document.createElement("figure");
  figure.className = "pane";
  figure.innerHTML = `<h3>${pane.mark}<span></span></h3><canvas width="64" height="64" role="img"></canvas><div class="flags"></div><dl></dl>`;
  figure.querySelector("h3 span").textContent = pane.name;
  figure.querySelector("canvas").setAttribute("aria-label", `What ${pane.name} shows`);
  const colour = () => figure.style.setProperty("--ink", pane.ink());
  dark.addEventListener("change", () => { colour(); drawn(); });
  colour();
  pane.figure = figure;
  return figure;
}

function buildDims() {
  $("dims").replaceChildren(...there.spec.names.map((name) => {
    const row = document.createElement("div");
    row.innerHTML = `<span></span><span class="meter"><b></b></span><output></output>`;
    row.firstChild.textContent = name;
    return row;
  }));
}

/** Ask, and show what comes; false where it was refused. */
async function tell(question) {
  busy = true;
  const began = performance.now();
  try {
    const answer = await wire.ask(question);
    trouble(answer.type === "error" ? answer.text : "");
    if (answer.type === "error") return setRunning(false), setDriver(""), false;
    if (answer.type === "frames") await show(answer);
    if (answer.type === "over") setDriver("");
    if (answer.type === "goal") paint($("goal"), answer.parts[0]);
    if (question.do === "step" || question.do === "auto") {
      lags.push(performance.now() - began);
      paces.push(performance.now());
      pace();
    }
    return answer;
  } finally {
    busy = false;
  }
}

async function show(answer) {
  if (answer.begun) {
    nodes = [];
    fill(answer);
  }
  const bitmaps = await Promise.all(answer.parts.map((part) => createImageBitmap(new Blob([part], { type: "image/jpeg" }))));
  nodes[answer.number] = { number: answer.number, parent: answer.parent, depth: answer.depth, shown: answer.shown, action: answer.action, units: answer.in_units };
  here = answer.number;
  still = answer.still;
  bitmaps.forEach((bitmap, i) => {
    const canvas = panes[i].figure.querySelector("canvas");
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    describe(panes[i], answer.shown[i]);
  });
  meters(nodes[here]);
  stale = true;
}

function describe(pane, shown) {
  const flags = Object.entries(LABELS).filter(([name]) => shown[name] !== null).map(([name, label]) => `<span class="tag ${shown[name] ? "on" : ""}">${label}</span>`);
  pane.figure.querySelector(".flags").innerHTML = flags.join("");
  const rows = Object.entries(MEASURES).filter(([name]) => shown[name] !== null).map(([name, label]) => {
    const what = pane.imagined ? label : label.replace("off", "misread");
    return `<dt>${what}</dt><dd>${shown[name].toFixed(2)} ${UNITS[name]}</dd>`;
  });
  rows.push(`<dt>took</dt><dd>${shown.ms.toFixed(0)} ms, ${(1000 / Math.max(shown.ms, 0.1)).toFixed(shown.ms < 100 ? 0 : 1)}/s</dd>`);
  pane.figure.querySelector("dl").innerHTML = rows.join("");
}

function fill(answer) {
  const form = $("beginning");
  for (const [name, value] of Object.entries(answer.begun)) {
    if (!form[name]) continue;
    if (form[name].type === "checkbox") form[name].checked = value;
    else form[name].value = value;
  }
  $("task").textContent = answer.instruction || "no instruction";
  const recorded = answer.recorded;
  $("recorded").textContent = recorded ? `${recorded} actions were done from here in the recording.` : "Begin in an episode to play what was done there.";
  $("replay").disabled = !recorded;
  setGrip(answer.begun.family === "push" && answer.begun.episode < 0 ? -1 : 1);
  $("goal").hidden = true;
  $("candidates-shown").replaceChildren();
  setDriver("");
}

// ------------------------------------------------------------------------------------------ what is drawn

function meters(node) {
  const { names, units } = there.spec;
  [...$("dims").children].forEach((row, i) => {
    const value = node.action[i] ?? 0, bar = row.querySelector("b");
    Object.assign(bar.style, { left: `${50 + Math.min(value, 0) * 50}%`, width: `${Math.abs(value) * 50}%` });
    row.querySelector("output").textContent = node.units.length ? `${node.units[i].toFixed(3)} ${units[i] === "1" ? "" : units[i]}` : "–";
    row.title = names[i];
  });
}

function path() {
  const known = [];
  for (let at = here; at >= 0 && nodes[at]; at = nodes[at].parent) known.unshift(nodes[at]);
  return known;
}

/** The branch that one stands in, to its last frame. */
function branch() {
  const known = path();
  for (;;) {
    const next = nodes.findLast((node) => node && node.parent === known.at(-1).number);
    if (!next) return known;
    known.push(next);
  }
}

function drawn() {
  if (!nodes[here]) return;
  chart($("chart"), path(), panes, $("measure").value);
  tree($("tree"), nodes, path(), here, (number) => tell({ do: "go", number }));
  const all = branch();
  $("scrub").max = all.length - 1;
  $("scrub").value = nodes[here].depth;
  $("place").textContent = `${nodes[here].depth} of ${all.length - 1}`;
}

function pace() {
  const recent = paces.slice(-12);
  const rate = recent.length > 1 ? (1000 * (recent.length - 1)) / (recent.at(-1) - recent[0]) : 0;
  const sorted = lags.slice(-60).sort((a, b) => a - b);
  $("pace").textContent = `${rate.toFixed(1)} frames/s, key to frame ${lags.at(-1).toFixed(0)} ms (p95 ${sorted[Math.floor(0.95 * (sorted.length - 1))].toFixed(0)})`;
}

async function paint(image, bytes) {
  image.src = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  image.hidden = false;
  image.alt = "The goal";
}

function found(answer) {
  const row = document.createElement("div");
  row.className = "found";
  row.append(`iteration ${answer.iteration + 1}`);
  answer.parts.forEach((part, i) => {
    const figure = document.createElement("figure"), image = new Image(), caption = document.createElement("figcaption");
    image.src = URL.createObjectURL(new Blob([part], { type: "image/jpeg" }));
    image.alt = `Candidate ${i + 1}`;
    caption.textContent = answer.costs[i].toFixed(4);
    figure.append(image, caption);
    row.append(figure);
  });
  if (!answer.iteration) $("candidates-shown").replaceChildren();
  $("candidates-shown").append(row);
}

// ------------------------------------------------------------------------------------------ what is done

function action() {
  const wanted = hands.wanted(), speed = Number($("speed").value);
  const asked = still.slice();
  there.spec.names.forEach((name, i) => {
    if (name === "gripper") asked[i] = grip;
    else if (wanted[name]) asked[i] = Math.max(-1, Math.min(1, asked[i] + speed * wanted[name]));
  });
  return { asked, held: Object.values(wanted).some(Boolean) };
}

const REDRAWN = 200; // milliseconds between drawings of curve and tree, which take longer the longer one drives
let last = 0, drew = 0, gripped = false;
async function tick(now) {
  requestAnimationFrame(tick);
  if (stale && now - drew > REDRAWN) {
    stale = false;
    drew = now;
    drawn();
  }
  if (!there || busy || now - last < 1000 / Number($("rate").value) - 4) return;
  const { asked, held } = action();
  if (!held && !gripped && !running) return;
  last = now;
  gripped = false;
  await (driver && running && !held ? tell({ do: "auto" }) : tell({ do: "step", action: asked }));
}

function setRunning(on) {
  running = on;
  $("run").setAttribute("aria-pressed", on);
  $("run").textContent = on ? "Pause" : "Run";
}

function setDriver(name, run = false) {
  driver = name;
  $("driver").textContent = name ? `${name} drives` : "";
  $("release").disabled = !name;
  if (!name) setRunning(false);
  else if (run) setRunning(true);
}

async function hire(question) {
  const answer = await tell(question);
  if (answer) setDriver(answer.name, true);
}

async function save(kind) {
  const answer = await tell({ do: "save", kind });
  if (!answer) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([answer.parts[0]]));
  link.download = answer.name;
  link.click();
}

async function share() {
  const answer = await tell({ do: "link" });
  if (!answer) return;
  const field = $("link");
  field.value = `${location.origin}/#drive=${answer.link}`;
  field.hidden = false;
  field.select();
  navigator.clipboard?.writeText(field.value).catch(() => {});
}

function setGrip(to) {
  grip = to;
  $("grip").setAttribute("aria-pressed", grip > 0);
  $("grip").textContent = grip > 0 ? "Gripper open" : "Gripper closed";
}

const looks = () => ($("plan-looks").value === "itself" ? $("plan-pane").value : $("plan-looks").value);
const clicks = {
  run: () => setRunning(!running),
  once: () => tell(driver ? { do: "auto" } : { do: "step", action: action().asked }),
  undo: () => tell({ do: "undo" }),
  reset: () => tell({ do: "go", number: 0 }),
  replay: () => hire({ do: "replay" }),
  let: () => hire({ do: "policy", name: $("policy").value, looks: $("policy-looks").value }),
  plan: () => hire({ do: "plan", pane: $("plan-pane").value, looks: looks(), plan: { horizon: Number($("horizon").value), candidates: Number($("candidates").value) } }),
  "goal-here": () => tell({ do: "goal", number: here }),
  "goal-end": () => tell({ do: "goal" }),
  release: async () => { await tell({ do: "release" }); setDriver(""); },
  share,
  grip: () => {
    setGrip(-grip);
    gripped = true;
  },
};
for (const [id, does] of Object.entries(clicks)) $(id).addEventListener("click", does);
// Whoever clicked with a pointer goes on with keys: Space is the gripper's then, not the button's.
addEventListener("click", (event) => event.detail && event.target.closest("button")?.blur());
for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => save(button.dataset.save));
$("measure").addEventListener("change", drawn);
$("scrub").addEventListener("input", () => { const node = branch()[$("scrub").value]; if (node && !busy) tell({ do: "go", number: node.number }); });
addEventListener("resize", () => { stale = true; });
$("beginning").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target, values = { another: form.another.checked, instruction: form.instruction.value, family: form.family.value || "push" };
  for (const name of ["seed", "distractors", "episode", "frame", "noise"]) values[name] = Number(form[name].value);
  tell({ do: "begin", beginning: values });
});
requestAnimationFrame(tick);
