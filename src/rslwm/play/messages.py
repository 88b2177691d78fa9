"""What is said between the page and a session: JSON from the page, and a JSON head with pictures or a file back.

An answer is binary: the length of its head in four bytes, little-endian, the head, and whatever it says follows, one
after the other, of so many bytes each.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from PIL import Image

from rslwm.actors.planner import PlannerConfig
from rslwm.plan.base import PlanConfig
from rslwm.play import drivers, link
from rslwm.play.beginnings import Beginning
from rslwm.play.drivers import Candidates
from rslwm.play.history import Node
from rslwm.play.playground import Playground
from rslwm.play.recording import FILES
from rslwm.play.session import Session
from rslwm.registry import UnknownName
from rslwm.report.palette import inks
from rslwm.serialisation import ConfigError, from_dict
from rslwm.types import DataError

QUALITY = 92
Say = Callable[[bytes], None]


def packed(head: dict[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """An answer. What isn't finite is null, as JSON has no word for it."""
    text = json.dumps({**head, "bytes": [len(part) for part in parts]}, allow_nan=False).encode()
    return b"".join([struct.pack("<I", len(text)), text, *parts])


def unpacked(message: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Inverse of :func:`packed`."""
    (length,) = struct.unpack_from("<I", message)
    head, rest = json.loads(message[4 : 4 + length]), message[4 + length :]
    parts = []
    for size in head["bytes"]:
        parts.append(rest[:size])
        rest = rest[size:]
    return head, parts


def picture(frame: np.ndarray) -> bytes:
    """A frame (H, W, 3) uint8 as JPEG, its colours as fine as its light."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def hello(ground: Playground) -> bytes:
    """What there is to drive, and with what."""
    drawn = inks([pane.name for pane in ground.panes], [pane.family for pane in ground.panes])
    spec = ground.spec
    panes = [
        {
            "name": pane.name,
            "imagined": pane.model is not None,
            "reads_actions": pane.probe is not None,
            "light": drawn[pane.name].light,
            "dark": drawn[pane.name].dark,
            "mark": str(drawn[pane.name].mark),
        }
        for pane in ground.panes
    ]
    actions = {name: getattr(spec, name) for name in ("names", "units", "low", "high", "hz")} | {"modes": spec.modes}
    choices = {"families": ground.beginnings.families, "episodes": ground.beginnings.episodes}
    steps = ground.config.sampling.steps
    return packed(
        {"type": "hello", "panes": panes, "spec": actions, **choices, "policies": ground.policies, "steps": steps}
    )


def told(session: Session, node: Node, more: dict[str, Any] | None = None) -> bytes:
    """What all panes show at a node."""
    spec, action = session.ground.spec, link.meant(node.action)
    shown = [
        {"ms": round(1000 * one.seconds, 2)} | {k: _plain(v) for k, v in asdict(one.reading).items()}
        for one in node.shown
    ]
    head = {
        "type": "frames",
        **{name: getattr(node, name) for name in ("number", "parent", "depth")},
        "action": [round(float(x), 4) for x in action],
        "in_units": [float(x) for x in spec.denormalise(action)] if len(action) else [],
        "still": [float(x) for x in session.still()],
        "shown": shown,
        **(more or {}),
    }
    return packed(head, [picture(one.frame) for one in node.shown])


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    return value


class Conversation:
    """Answers one visitor. ``say`` sends what comes before the answer: candidates of a plan that is being made."""

    def __init__(self, ground: Playground, say: Say) -> None:
        self.ground, self.say = ground, say
        self.session = Session(ground, Beginning(ground.beginnings.families[0] if ground.beginnings.families else ""))

    def greet(self) -> list[bytes]:
        """What is said first."""
        return [hello(self.ground), self._begun()]

    def answer(self, message: str) -> bytes:
        """To any message; what can't be done is an answer, too, that says why."""
        number = None
        try:
            asked = json.loads(message)
            if not isinstance(asked, dict):
                raise DataError("message: it must be a JSON object with a field 'do'")
            number, do = asked.get("id"), f"_do_{asked.get('do')}"
            if not hasattr(self, do):
                raise DataError(f"message: do is {asked.get('do')!r}, which nobody understands; reload the page")
            answer = getattr(self, do)(asked)
        except (ConfigError, DataError, UnknownName, OSError, json.JSONDecodeError) as error:
            answer = packed({"type": "error", "text": str(error)})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            answer = packed({"type": "error", "text": f"message: {type(error).__name__}: {error}; reload the page"})
        return _numbered(answer, number)

    def close(self) -> None:
        """The visitor left."""
        self.session.close()

    def _begun(self) -> bytes:
        session, about = self.session, self.session.begun
        more = {
            "begun": {field.name: getattr(session.beginning, field.name) for field in fields(Beginning)},
            "instruction": about.instruction,
            "recorded": 0 if about.course is None else len(about.course),
        }
        return told(session, session.here, more)

    # ------------------------------------------------------------------------------------------ what can be asked

    def _do_begin(self, asked: dict[str, Any]) -> bytes:
        self.session.begin(from_dict(Beginning, asked["beginning"], "beginning"))
        return self._begun()

    def _do_open(self, asked: dict[str, Any]) -> bytes:
        actions = self.session.open(str(asked["link"]))
        self.session.drive(drivers.replay(actions, self.ground.panes[0].name))
        return self._begun()

    def _do_step(self, asked: dict[str, Any]) -> bytes:
        return told(self.session, self.session.step(np.array(asked["action"], float)))

    def _do_auto(self, asked: dict[str, Any]) -> bytes:
        node = self.session.auto()
        return told(self.session, node) if node else packed({"type": "over"})

    def _do_undo(self, asked: dict[str, Any]) -> bytes:
        return told(self.session, self.session.undo())

    def _do_go(self, asked: dict[str, Any]) -> bytes:
        return told(self.session, self.session.go(int(asked["number"])))

    def _do_goal(self, asked: dict[str, Any]) -> bytes:
        number = asked.get("number")
        goal = self.session.set_goal(None if number is None else int(number))
        return packed({"type": "goal"}, [picture(goal.frame)])

    def _do_release(self, asked: dict[str, Any]) -> bytes:
        self.session.drive(None)
        return packed({"type": "driver", "name": ""})

    def _do_replay(self, asked: dict[str, Any]) -> bytes:
        course = self.session.begun.course
        if course is None:
            raise ConfigError("replay: a fresh table has no recorded actions; begin in an episode")
        self.session.history.go(0)
        self.session.drive(drivers.replay(course, self.ground.panes[0].name))
        return packed({"type": "driver", "name": "recorded actions"})

    def _do_policy(self, asked: dict[str, Any]) -> bytes:
        name = str(asked["name"])
        self.session.drive(drivers.policy(self.ground, name, str(asked["looks"])))
        return packed({"type": "driver", "name": name})

    def _do_plan(self, asked: dict[str, Any]) -> bytes:
        search = from_dict(PlanConfig, {"horizon": 4, **asked.get("plan", {})}, "plan")
        for name, most in (("horizon", 16), ("candidates", 512), ("iterations", 16)):
            if not 1 <= getattr(search, name) <= most:
                raise ConfigError(f"plan.{name} is {getattr(search, name)}; choose 1 to {most}")
        if search.planner != PlanConfig.planner:
            raise ConfigError(f"plan.planner is {search.planner!r}; here it is {PlanConfig.planner}")
        config = PlannerConfig(search, int(asked.get("execute", 1)))
        pane, looks = str(asked["pane"]), str(asked["looks"])
        self.session.drive(drivers.planner(self.session, pane, looks, config, self._watch))
        return packed({"type": "driver", "name": f"plan in {pane}"})

    def _watch(self, found: Candidates) -> None:
        costs = [round(float(cost), 5) for cost in found.costs]
        self.say(packed({"type": "plan", "iteration": found.iteration, "costs": costs}, [*map(picture, found.frames)]))

    def _do_link(self, asked: dict[str, Any]) -> bytes:
        return packed({"type": "link", "link": self.session.link})

    def _do_save(self, asked: dict[str, Any]) -> bytes:
        if asked["kind"] not in FILES:
            raise ConfigError(f"save: kind is {asked['kind']!r}; there are {', '.join(FILES)}")
        name, make = FILES[asked["kind"]]
        return packed({"type": "file", "name": name}, [make(self.session)])


def _numbered(answer: bytes, number: object) -> bytes:
    """With the number of the message that it answers."""
    if number is None:
        return answer
    head, parts = unpacked(answer)
    return packed({**head, "id": number}, parts)
