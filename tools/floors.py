"""Draws docs/floors.svg: the floors of the package, from its imports and from the layers in pyproject.toml.

python tools/floors.py            draw it anew
python tools/floors.py --check    fail if it isn't what the imports say
"""

from __future__ import annotations

import ast
import sys
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "rslwm"
PICTURE = ROOT / "docs" / "floors.svg"

SAYS = {
    "cli": "commands; flags are generated from the dataclasses",
    "play": "driving by hand: sessions, server, page",
    "report": "the page, the figures",
    "export": "rollouts and models for other tools",
    "reproduce": "the paper's numbers and ours, as ledgers",
    "bench": "how fast is it on this machine",
    "study": "what a study is: config, entries, stages, comparison",
    "verdict": "all that follows from rows: intervals, scores, decision, wording",
    "evals": "one file a metric, with its probe",
    "envs": "where: imagined worlds, the simulator, and the loop",
    "actors": "who acts: recorded, planner, expert, random, yours",
    "plan": "planners over any world model",
    "remote": "policies at an address",
    "train": "one loop for all that is trained",
    "model": "the action-conditioned diffusion transformer",
    "latents": "latent spaces: encoder, adapter, normaliser, pixels",
    "data": "episodes, clips, actions; one class a source",
    "sim": "the embedded simulator",
    "run": "the engine: stages, keys, schedule, executors",
}
WIDTH, FLOOR, GAP = 860, 46, 7


def layers() -> list[list[str]]:
    """Names by floor, the highest first; modules of the ground floor stand together."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = [[name.strip().removeprefix("rslwm.") for name in row.split("|")] for row in contracts[0]["layers"]]
    floors = [row for row in rows if any((SOURCE / name).is_dir() for name in row)]
    ground = [name for row in rows if row not in floors for name in row]
    return [*floors, ground]


def imports() -> set[tuple[str, str]]:
    """Which package imports something of which."""
    found: set[tuple[str, str]] = set()
    for file in SOURCE.rglob("*.py"):
        mine = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        nodes = ast.walk(ast.parse(file.read_text()))
        modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        used = {module.split(".")[1] for module in modules if module.startswith("rslwm.")}
        found.update((mine, theirs) for theirs in used - {mine})
    return found


def draw() -> str:
    """The picture."""
    floors, used, parts = layers(), imports(), list[str]()
    for number, names in enumerate(floors):
        y, ground = number * (FLOOR + GAP), number == len(floors) - 1
        wide = (WIDTH - (len(names) - 1) * GAP) / len(names)
        if ground:
            parts.append(_box(0, y, WIDTH, "ground", ", ".join(names), "imports nothing above"))
            continue
        for place, name in enumerate(names):
            below = [other for row in floors[number:-1] for other in row if (name, other) in used]
            reads = f"imports {', '.join(below)}" if below else "imports the ground only"
            parts.append(_box(place * (wide + GAP), y, wide, name, SAYS[name], reads))
    height = len(floors) * (FLOOR + GAP) - GAP
    style = "text{font:13px sans-serif;fill:#222}.n{font-weight:bold}.i{font-size:11px;fill:#667}"
    style += "rect{fill:#eef2f7;stroke:#8795a8}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {WIDTH + 8} {height + 8}" width="{WIDTH + 8}">'
        f'<rect x="-4" y="-4" width="{WIDTH + 8}" height="{height + 8}" style="fill:#fff;stroke:none"/>'
        f"<style>{style}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _box(x: float, y: float, width: float, name: str, says: str, reads: str) -> str:
    return (
        f'<g><rect x="{x:g}" y="{y}" width="{width:g}" height="{FLOOR}" rx="5"/>'
        f'<text class="n" x="{x + 12:g}" y="{y + 28}">{name}</text>'
        f'<text x="{x + 90:g}" y="{y + 20}">{escape(says)}</text>'
        f'<text class="i" x="{x + 90:g}" y="{y + 36}">{reads}</text></g>'
    )


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit("docs/floors.svg is old: python tools/floors.py" if PICTURE.read_text() != draw() else 0)
    PICTURE.write_text(draw())
