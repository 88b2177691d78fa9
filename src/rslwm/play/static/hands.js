// What hands say: keys that are held, on-screen sticks, a gamepad. All of it becomes one number a dimension, -1 to 1.

// The front camera looks at the robot: away from the viewer is -x, to the right is +y.
const HELD = {
  KeyW: ["x", -1], KeyS: ["x", 1], ArrowUp: ["x", -1], ArrowDown: ["x", 1],
  KeyA: ["y", -1], KeyD: ["y", 1], ArrowLeft: ["y", -1], ArrowRight: ["y", 1],
  KeyR: ["z", 1], KeyF: ["z", -1], KeyQ: ["yaw", 1], KeyE: ["yaw", -1],
  KeyI: ["pitch", 1], KeyK: ["pitch", -1], KeyJ: ["roll", -1], KeyL: ["roll", 1],
};
const STICKS = { "pad-move": [["y", 1], ["x", 1]], "pad-lift": [["yaw", -1], ["z", -1]] };
const BUTTONS = { 0: "grip", 1: "undo", 2: "once", 3: "run", 9: "reset" }; // of a standard gamepad
const DEAD = 0.15;

export class Hands {
  constructor(pressed) {
    this.keys = new Set();
    this.sticks = {};
    this.buttons = [];
    this.pressed = pressed;
    addEventListener("keydown", (event) => this.#down(event));
    addEventListener("keyup", (event) => this.keys.delete(event.code));
    addEventListener("blur", () => this.keys.clear());
    for (const name of ["gamepadconnected", "gamepaddisconnected"]) addEventListener(name, () => this.#told());
    for (const id of Object.keys(STICKS)) this.#stick(document.getElementById(id));
  }

  /** By dimension, what is asked for. */
  wanted() {
    const sum = {};
    const add = (name, value) => { sum[name] = Math.max(-1, Math.min(1, (sum[name] || 0) + value)); };
    for (const code of this.keys) add(...HELD[code]);
    for (const [id, place] of Object.entries(this.sticks))
      STICKS[id].forEach(([name, sign], i) => place[i] && add(name, sign * place[i]));
    const pad = [...(navigator.getGamepads?.() || [])].find(Boolean);
    if (pad) {
      const axes = pad.axes.map((value) => (Math.abs(value) < DEAD ? 0 : value));
      [["y", 0, 1], ["x", 1, 1], ["yaw", 2, -1], ["z", 3, -1]].forEach(([name, i, sign]) => axes[i] && add(name, sign * axes[i]));
      pad.buttons.forEach((button, i) => {
        if (button.pressed && !this.buttons[i]) this.pressed(BUTTONS[i]);
      });
      this.buttons = pad.buttons.map((button) => button.pressed);
    }
    return sum;
  }

  #told() {
    const pad = [...navigator.getGamepads()].find(Boolean);
    document.getElementById("pad-seen").textContent = pad ? `gamepad: ${pad.id}` : "";
  }

  #down(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest?.("input, select, textarea, button, a, summary");
    const typing = field?.matches("input, select, textarea");
    const own = { Space: "grip", KeyP: "run", KeyN: "once", Backspace: "undo", Enter: "reset" }[event.code];
    if (typing || (field && (event.code === "Space" || event.code === "Enter"))) return;
    if (HELD[event.code]) this.keys.add(event.code);
    else if (own && !event.repeat) this.pressed(own);
    else if (!own) return;
    event.preventDefault();
  }

  #stick(pad) {
    const knob = pad.querySelector("i");
    const set = (x, y) => {
      const far = Math.max(1, Math.hypot(x, y));
      this.sticks[pad.id] = [x / far, y / far];
      knob.style.transform = `translate(${(x / far) * 3.2}rem, ${(y / far) * 3.2}rem)`;
    };
    const follow = (event) => {
      const box = pad.getBoundingClientRect();
      set(((event.clientX - box.left) / box.width - 0.5) * 2.6, ((event.clientY - box.top) / box.height - 0.5) * 2.6);
    };
    pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); follow(event); });
    pad.addEventListener("pointermove", (event) => pad.hasPointerCapture(event.pointerId) && follow(event));
    for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => set(0, 0));
    set(0, 0);
  }
}
