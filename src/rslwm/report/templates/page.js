// What belongs to no single part: a space pointed at stands out everywhere, commands are copied, print shows all.

document.addEventListener("pointerover", (event) => {
  const space = event.target.closest?.("[data-space]")?.dataset.space;
  if (space === document.body.dataset.focus) return;
  document.querySelectorAll(".focus").forEach((element) => element.classList.remove("focus"));
  if (space === undefined) { delete document.body.dataset.focus; return; }
  document.body.dataset.focus = space;
  document.querySelectorAll(`[data-space="${space}"]`).forEach((element) => element.classList.add("focus"));
});

async function copy(button, text) {
  await navigator.clipboard.writeText(text);
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

for (const block of document.querySelectorAll(".command")) {
  const button = block.querySelector("button");
  button.addEventListener("click", () => copy(button, block.querySelector("code").textContent));
}
for (const button of document.querySelectorAll(".again")) {
  button.addEventListener("click", () => copy(button, button.dataset.command));
}

// A link to a metric opens what it is folded into.
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target && target.closest("details:not([open])");
  if (folded) { folded.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", unfold);
unfold();

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((d) => { d.open = true; });
});
addEventListener("afterprint", () => folded.forEach((d) => { d.open = false; }));
