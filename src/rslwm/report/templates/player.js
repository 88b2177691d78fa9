// Films side by side: all screens of a player show one frame of one clip.

function player(root) {
  const { rows, columns, context } = Object.fromEntries(Object.entries(root.dataset).map(([k, v]) => [k, Number(v)]));
  const find = (selector) => root.querySelector(selector);
  const sheets = [...root.querySelectorAll(".sheet img")];
  const screens = [...root.querySelectorAll(".screen")];
  const [button, back, ahead, scrubber, output, clip, speed, apart] =
    [".play", ".back", ".ahead", ".scrub input", "output", ".clip", ".speed", ".apart"].map(find);
  let timer = null;

  function show(frame) {
    scrubber.value = frame;
    const x = columns > 1 ? (100 * frame) / (columns - 1) : 0;
    screens.forEach((screen, row) => {
      const own = `${x}% ${rows > 1 ? (100 * row) / (rows - 1) : 0}%`;
      screen.style.backgroundPosition = apart?.checked && row > 0 ? `${own}, ${x}% 0%` : own;
    });
    root.classList.toggle("given", frame < context);
    const what = !context ? "" : frame < context ? ", given" : `, predicted +${frame - context + 1}`;
    output.textContent = `frame ${frame + 1}${what}`;
  }
  function load() {
    const image = `url("${sheets[clip?.value ?? 0].src}")`;
    screens.forEach((screen, row) => {
      const both = apart?.checked && row > 0;
      screen.style.backgroundImage = both ? `${image}, ${image}` : image;
      screen.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
      screen.classList.toggle("difference", Boolean(both));
    });
    show(Number(scrubber.value));
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
  function step(by) {
    stop();
    show((Number(scrubber.value) + by + columns) % columns);
  }

  button.addEventListener("click", () => (timer ? stop() : play()));
  back.addEventListener("click", () => step(-1));
  ahead.addEventListener("click", () => step(1));
  scrubber.addEventListener("input", () => { stop(); show(Number(scrubber.value)); });
  clip?.addEventListener("change", load);
  apart?.addEventListener("change", load);
  speed.addEventListener("change", () => timer && play());
  // Sheets are decoded when they are nearly seen, and play by themselves only where motion isn't unwelcome.
  new IntersectionObserver(([entry], observer) => {
    if (entry.isIntersecting) { load(); observer.disconnect(); }
  }, { rootMargin: "400px" }).observe(root);
  show(0);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  new IntersectionObserver(([entry], observer) => {
    if (entry.isIntersecting) { play(); observer.disconnect(); }
  }, { threshold: 0.4 }).observe(root);
}

document.querySelectorAll(".player").forEach(player);
