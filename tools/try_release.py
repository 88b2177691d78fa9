"""Tries out what a release would be: builds it, installs the wheel alone, and runs it where there is no checkout.

python tools/try_release.py FOLDER [PYTHON ...]     work in FOLDER, with these interpreters (this one by default)

Needs the package build, and the network or a mirror: every dependency is installed anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

WORKS = (
    ["--version"],
    ["doctor"],
    ["latents", "list"],
    ["compare", "smoke", "--out", "runs/smoke"],
)
LACKING = {
    "encoders": ["data", "show", "hf://datasets/owner/name"],
    "offline-features": ["latents", "check", "effnet-lite0"],
    "hdf5": ["data", "import", "lift.hdf5", "imported"],
    "policies": ["policy", "serve", "random"],
    "ray": ["compare", "smoke", "--out", "runs/ray", "--executor", "ray"],
    "slurm": ["compare", "smoke", "--out", "runs/slurm", "--executor", "slurm"],
    "play": ["play", "--sim", "--port", "0"],
    "trackers": ["compare", "smoke", "--out", "runs/tracked", "--track", "tensorboard"],
}
"""By extra a command that needs it."""


def absent(wheel: Path, root: Path = ROOT) -> list[str]:
    """Files of the package, as git knows them, that a wheel lacks."""
    tracked = subprocess.check_output(["git", "ls-files", "-z", "src"], cwd=root, text=True).split("\0")
    held = {*zipfile.ZipFile(wheel).namelist()}
    return [name for name in tracked if name and name.removeprefix("src/") not in held]


def build(out: Path) -> Path:
    """The wheel, made from the source distribution, so that this is complete, too."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], check=True, capture_output=True)
    return next(out.glob("*.whl"))


def installed(wheel: Path, python: str, folder: Path) -> Path:
    """The interpreter of a new environment that holds the wheel and what it depends on."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = folder / "bin" / "python"
    subprocess.run([str(inside), "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    return inside


def tried(python: Path, folder: Path) -> list[str]:
    """What went wrong: commands that fail, and those that lack an extra and don't name it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "lift.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    wrong = []
    for words in WORKS:
        done = _run(python, words, folder)
        print(f"  rslwm {' '.join(words)}: exit code {done.returncode}", flush=True)
        if done.returncode:
            wrong.append(f"rslwm {' '.join(words)}: {done.stderr[-2000:]}")
    for extra, words in LACKING.items():
        done = _run(python, words, folder)
        named = done.returncode == 1 and f"rslwm[{extra}]" in done.stderr and "Traceback" not in done.stderr
        print(f"  without [{extra}]: {'named' if named else 'NOT NAMED'}", flush=True)
        if not named:
            wrong.append(f"rslwm {' '.join(words)} doesn't name the extra {extra!r}: {done.stderr[-2000:]}")
    return wrong


def _run(python: Path, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["timeout", "1200", str(python.parent / "rslwm"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def main(folder: Path, pythons: list[str]) -> int:
    """0 if all went well."""
    wheel = build(folder / "dist")
    print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MB", flush=True)
    wrong = [f"{wheel.name} lacks {name}" for name in absent(wheel)]
    for python in pythons:
        about = subprocess.check_output([python, "--version"], text=True).strip()
        print(about, flush=True)
        inside = installed(wheel, python, folder / "environment")
        wrong += [f"{about}: {what}" for what in tried(inside, folder / "elsewhere")]
    print("\n".join(wrong) or "all went well")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:] or [sys.executable]))
