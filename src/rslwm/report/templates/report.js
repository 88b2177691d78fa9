"use strict";

function player(root) {
  const { rows, columns, context } = Object.fromEntries(Object.entries(root.dataset).map(([k, v]) => [k, Number(v)]));
  const find = (selector) => root.querySelector(selector);
  const sheets = [...root.querySelectorAll(".sheet img")];
  const screens = [...root.querySelectorAll(".screen")];
  const [button, scrubber, output, clip, speed] =
    [".play", ".scrub input", "output", ".clip", ".speed"].map(find);
  let timer = null;

  function show(frame) {
    scrubber.value = frame;
    const x = columns > 1 ? (100 * frame) / (columns - 1) : 0;
    screens.forEach((screen, row) => {
      screen.style.backgroundPosition = `${x}% ${rows > 1 ? (100 * row) / (rows - 1) : 0}%`;
    });
    root.classList.toggle("given", frame < context);
    output.textContent = `frame ${frame + 1}, ${frame < context ? "given" : `predicted +${frame - context + 1}`}`;
  }
  function load() {
    for (const screen of screens) {
      screen.style.backgroundImage = `url("${sheets[clip.value].src}")`;
      screen.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    }
  }
  function play() {
    stop();
    timer = setInterval(() => show((Number(scrubber.value) + 1) % columns), 1000 / Number(speed.value));
    button.textContent = "❚❚";
    button.setAttribute("aria-label", "Pause");
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶";
    button.setAttribute("aria-label", "Play");
  }

  button.addEventListener("click", () => (timer ? stop() : play()));
  scrubber.addEventListener("input", () => { stop(); show(Number(scrubber.value)); });
  clip.addEventListener("change", load);
  speed.addEventListener("change", () => timer && play());
  load();
  show(0);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  new IntersectionObserver(([entry], observer) => {
    if (entry.isIntersecting) { play(); observer.disconnect(); }
  }, { threshold: 0.4 }).observe(root);
}

document.querySelectorAll(".player").forEach(player);

document.addEventListener("pointerover", (event) => {
  const space = event.target.closest("[data-space]")?.dataset.space;
  if (space === document.body.dataset.focus) return;
  document.querySelectorAll(".focus").forEach((element) => element.classList.remove("focus"));
  if (space === undefined) { delete document.body.dataset.focus; return; }
  document.body.dataset.focus = space;
  document.querySelectorAll(`[data-space="${space}"]`).forEach((element) => element.classList.add("focus"));
});

for (const block of document.querySelectorAll("pre.copy")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  block.append(button);
}

addEventListener("beforeprint", () => document.querySelectorAll("details.strips").forEach((d) => { d.open = true; }));
