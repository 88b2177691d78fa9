// Lists the studies of /studies.json, anew every few seconds. All text is set as text: names come from folders.
const EVERY = 3000;
const at = (id) => document.getElementById(id);

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const line = (text) => element("p", text);
const duration = (seconds) => seconds < 60 ? `${Math.round(seconds)} s`
  : seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;

function study(one) {
  const card = element("section", "", { class: "study" });
  const title = element("h2", one.name);
  title.append(element("span", one.state, { class: `state ${one.state}` }));
  card.append(title);
  const names = one.spaces.length ? `${one.spaces.join(", ")}; seeds ${one.seeds.join(", ")}` : "";
  card.append(line([one.preset, names].filter(Boolean).join(": ")));
  const changed = `changed ${new Date(one.changed).toLocaleString()}`;
  if (one.total) { // what was joined or published has no stages
    card.append(element("progress", "", { max: one.total, value: one.done, "aria-label": `stages of ${one.name}` }));
    card.append(line(`${one.done} of ${one.total} stages, ${duration(one.seconds)} of work, `
      + `${(one.bytes / 1e6).toFixed(0)} MB, ${changed}`));
  } else card.append(line(changed));
  for (const { stage, how } of one.running) card.append(line(`▸ ${stage} ${how}`));
  for (const { stage, how } of one.failed) card.append(line(`✕ ${stage}: ${how}`));
  for (const command of one.commands) {
    const shown = line("");
    shown.append(element("code", command));
    card.append(shown);
  }
  for (const report of one.reports) {
    const shown = line("");
    shown.append(element("a", one.reports.length > 1 ? `report ${report.of}` : "report", { href: report.at }));
    card.append(shown);
  }
  return card;
}

async function show() {
  try {
    const answer = await fetch("studies.json");
    at("door").hidden = answer.status !== 403;
    if (answer.status === 403) return;
    const told = await answer.json();
    at("folder").textContent = told.folder ?? "";
    at("told").textContent = told.error ?? (told.studies.length ? "" : "no study in this folder yet");
    if (told.studies) at("studies").replaceChildren(...told.studies.map(study));
  } catch {
    at("told").textContent = "the server doesn't answer; is `rslwm runs serve` still running?";
  }
}

at("door").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("enter", { method: "POST", body: at("door").querySelector("input").value });
  at("told").textContent = answer.ok ? "" : "that isn't the token";
  if (answer.ok) show();
});
show();
setInterval(show, EVERY);
