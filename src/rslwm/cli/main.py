"""Finds the command, parses its flags, runs it, and turns what can go wrong into one message and an exit code."""

from __future__ import annotations

import difflib
import io
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from rslwm import __version__
from rslwm.registry import UnknownName
from rslwm.run.runner import StageFailed
from rslwm.serialisation import ConfigError
from rslwm.trust import FLAG, trusting
from rslwm.types import DataError

COMMANDS: dict[str, tuple[str, str]] = {
    "compare": ("cli.compare:Compare", "compare latent spaces: train, measure, decide, report"),
    "train": ("cli.compare:Train", "train the world model of one latent space"),
    "rollout": ("cli.checkpoint:Rollout", "let a world model continue recorded clips; videos, latents, PSNR"),
    "eval": ("cli.checkpoint:Evaluate", "measure one world model with every metric"),
    "report": ("cli.report:Report", "write the report of a run again"),
    "play": ("cli.play:Play", "drive world models by hand in a local page, the true simulator beside them"),
    "budget": ("cli.budget:MeasureBudget", "measure where chance comes from, and what a study can detect"),
    "join": ("cli.report:Join", "put runs of other seeds or spaces together, and decide from all"),
    "runs list": ("cli.runs:List", "list the studies in a folder: how far, how large, and their reports"),
    "runs show": ("cli.runs:Show", "say all about one study: its stages, what they took, and the commands"),
    "runs verify": ("cli.runs:Verify", "find files of finished stages that aren't what they were"),
    "runs gc": ("cli.runs:Gc", "delete what no study needs any more"),
    "runs serve": ("cli.runs:Serve", "show the studies in a folder on a local page"),
    "ship": ("cli.ship:Ship", "pack the world models of a run small, with a card each"),
    "export lerobot": ("cli.export:LeRobot", "write a run's rollouts as a LeRobot data set, beside the truth"),
    "export rerun": ("cli.export:Rerun", "write a run's rollouts as a recording of Rerun"),
    "export hub": ("cli.export:Hub", "write a world model for the Hugging Face hub, with a card, or push it"),
    "data make": ("cli.data:Make", "record the embedded simulator as a LeRobot data set"),
    "data import": ("cli.data:Import", "turn an RLDS folder into a LeRobot data set"),
    "data check": ("cli.data:Check", "find what would spoil a study: damage, leaks, contradictions"),
    "data show": ("cli.data:Show", "say what a data set holds, and draw it"),
    "import semantic-wm": ("cli.importing:SemanticWM", "turn checkpoints of the paper's code into ours"),
    "latents list": ("cli.latents:List", "list the encoders that exist, or say all about one"),
    "latents check": ("cli.latents:Check", "try out whether an encoder, yours for instance, keeps the contract"),
    "latents train": ("cli.compare:TrainSpaces", "train a latent space: encoder, adapter, pixel decoder"),
    "latents encode": ("cli.latents:Encode", "write the latents of a data set to disk"),
    "metrics list": ("cli.metrics:List", "list what can be measured, or say all about one metric"),
    "policy serve": ("cli.policy:Serve", "serve an actor as a policy at an address"),
    "policy check": ("cli.policy:Check", "ask a policy at an address one question, and say what it answers"),
    "policy train": ("cli.policy_train:Train", "train policies of the ladder and count their true successes"),
    "bench sim": ("bench.sim:Sim", "measure how fast the simulator is on one core"),
    "bench rollout": ("bench.generation:Rollout", "measure how fast a world model rolls out on this machine"),
    "bench policy": ("bench.policies:Policy", "measure how fast policies are tried inside a world model"),
    "bench plan": ("bench.generation:Plan", "measure how fast plans are found, and in how much memory"),
    "bench play": ("bench.play:Play", "measure how fast worlds are driven, from key to frame"),
    "bench train": ("bench.training:Train", "measure how fast a world model trains from stored latents"),
    "bench data": ("bench.training:Data", "measure how fast clips come from stored latents"),
    "bench encode": ("cli.latents:EncodeBenchmark", "measure how fast an encoder makes latents"),
    "bench decode": ("bench.latents:Decode", "measure how fast latents become pixels"),
    "reproduce": ("cli.reproduce:Reproduce", "the paper's numbers and ours: how to get each, and whether it comes out"),
    "doctor": ("cli.doctor:Doctor", "check this machine and say what to install"),
}
"""Where each command is and what it does. Modules are imported when their command is asked for: help must be quick."""

EXPECTED = (ConfigError, DataError, UnknownName, StageFailed, ImportError, OSError)
"""What a user can put right; anything else is a defect and keeps its traceback."""

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, ``sys.argv`` without an argument; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if FLAG in words:
        with trusting():
            return main([word for word in words if word != FLAG])
    if words[:1] == ["--version"]:
        print(f"rslwm {__version__}")
        return 0
    for count in (1, 2):
        if (name := " ".join(words[:count])) in COMMANDS:
            return _run(name, words[count:])
    return _help(words)


def _run(name: str, words: list[str]) -> int:
    logging.basicConfig(format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # foreign text on a terminal that can't show it
    from rslwm.cli.flags import parse  # imports all that a study is configured with, torch with it

    module, _, command = COMMANDS[name][0].partition(":")
    try:
        return parse(getattr(import_module(f"rslwm.{module}"), command), f"rslwm {name}", words).run() or 0
    except EXPECTED as error:
        print(f"rslwm {name}: {error}", file=sys.stderr)  # plainly: a message may hold YAML to copy, or any markup
        return FAILED
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        return INTERRUPTED


def _help(words: list[str]) -> int:
    """Overview of all commands, or of those in a group; usage errors go to stderr."""
    plain = [word for word in words if not word.startswith("-")]
    group = plain[0] if plain and any(name.startswith(f"{plain[0]} ") for name in COMMANDS) else ""
    surplus, text = len(plain) > bool(group), _overview(group)
    asked = bool({"-h", "--help"} & set(words)) and not surplus
    if surplus:
        wrong = " ".join(plain[: 2 if group else 1])
        close = difflib.get_close_matches(wrong, COMMANDS, n=1)
        text = f"rslwm: there is no command {wrong!r}{f'; did you mean {close[0]!r}?' if close else ''}\n\n{text}"
    print(text, file=sys.stdout if asked else sys.stderr)
    return 0 if asked else USAGE


def _overview(group: str) -> str:
    shown = (f"  {name:<20}{text}" for name, (_, text) in COMMANDS.items() if name.startswith(group))
    listed = "\n".join(shown)
    return f"""rslwm {__version__}: in which latent space should a robot's world model live?

usage: rslwm {f"{group} " if group else ""}COMMAND ...    (rslwm COMMAND --help says more)

{listed}

{FLAG} with any of them opens TorchScript files (cosmos-ci16), which can run code of their own.
Start with: rslwm compare demo --out runs/demo"""
