"""The tabletop as an environment: reset, step, render, and exact save and restore."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from rslwm.serialisation import ConfigError
from rslwm.sim import scene, tasks
from rslwm.sim.arm import GRIPPER_DOWN, ArmKinematics, rotation_matrix
from rslwm.sim.engine import mujoco
from rslwm.sim.rendering import SUPERSAMPLING, Appearance, draw, open_renderer
from rslwm.sim.scene import COLOURS, FINGER_TRAVEL, HALF, PARKED, SHAPES
from rslwm.sim.tasks import DRAWER, FAMILIES, Layout, Placed, Pose, TableState, Task
from rslwm.types import end_effector_spec

SPEC = end_effector_spec(scene.TRANSLATION_BOUND, scene.ROTATION_BOUND, hz=5.0)
"""The action: dx dy dz in metres, a rotation vector in radians, both in the base frame; gripper 1 open, 0 closed."""

HOLD = 3  # control steps for which the rule of a task must hold before it counts as success

_REACH = np.array([[0.16, -0.20, 0.014], [0.44, 0.20, 0.24]])  # lowest and highest target of the gripper in metres
_UPRIGHT = 0.9  # cosine of the tilt up to which an object hasn't toppled
_RAMPS, _SUBSTEPS = 10, 5  # a control step moves the joint targets in ramps, each of some physics steps of 4 ms

_CONCERNS = ("layout", "language", "distractors", "appearance", "robot", "dynamics", "expert", "course", "afterwards",
             "perturbation", "another task")  # fmt: skip


def random_stream(seed: int | Sequence[int], concern: str) -> np.random.Generator:
    """The random stream of one concern of an episode, independent of how much the others have drawn."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_CONCERNS.index(concern),)))


_PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION
# What a snapshot takes from the simulator under the same name:
_AS_IT_IS = ("seed", "task", "layout", "objects", "appearance", "steps", "held_for", "joint_target")


@dataclass(frozen=True)
class Snapshot:
    """Everything that a moment of the simulator consists of, see :meth:`Tabletop.save`, and what is true then."""

    seed: tuple[int, ...]
    task: Task
    layout: Layout
    objects: dict[str, Placed]  # what is on the table, by colour, and where it started
    appearance: Appearance
    steps: int
    held_for: int
    success: bool
    state: TableState
    joint_target: np.ndarray
    physics: np.ndarray
    dynamics: Mapping[str, Any]

    def reseeded(self, number: int) -> Snapshot:
        """The same moment with another course of chance ahead, where the dynamics are random."""
        stream = random_stream((*self.seed, self.steps, number), "dynamics")
        return replace(self, dynamics=stream.bit_generator.state)


class Tabletop:
    """A WidowX-like arm at a table, controlled at 5 Hz by :data:`SPEC` actions; the arguments are those of
    :class:`rslwm.sim.config.SimConfig`."""

    def __init__(self, image_size: int = 64, shadows: bool = False, dynamics_noise: float = 0.0) -> None:
        self.image_size, self.shadows, self.dynamics_noise = image_size, shadows, dynamics_noise
        self.model = mujoco.MjModel.from_xml_string(scene.tabletop_xml(SUPERSAMPLING * image_size, shadows))
        self.data = mujoco.MjData(self.model)
        self._arm = ArmKinematics()
        self._built = copy.copy(self.model)
        self._joints = [self.model.joint(name).qposadr[0] for name in scene.JOINTS]
        self._fingers = [self.model.joint(name).qposadr[0] for name in ("left_finger", "right_finger")]
        self._drawer = self.model.joint("drawer").qposadr[0]
        self._object = {colour: self.model.joint(colour).qposadr[0] for colour in COLOURS}
        self._site = self.model.site("gripper").id
        self._hand = {self.model.geom(name).id: name for name in ("left_finger", "right_finger", "palm")}
        bodies = {self.model.body(name).id: name for name in (*COLOURS, DRAWER)}
        self._thing = {geom: bodies[body] for geom, body in enumerate(self.model.geom_bodyid) if body in bodies}
        self.reset(0)

    def reset(
        self,
        seed: int | Sequence[int],
        family: str = "push",
        distractors: int = 2,
        appearance: float = 0.0,
        another: bool = False,
    ) -> TableState:
        """Start an episode that is a pure function of the arguments. Every concern has its own random stream: another
        number of distractors or strength of the appearance moves neither the robot nor the task's objects nor the goal.
        With ``another`` the same table has another task, see :func:`rslwm.sim.tasks.another_task`. Raises ConfigError:
        an unknown family, more distractors than fit, or nothing for another task."""
        self.seed = (seed,) if isinstance(seed, int) else tuple(seed)
        self.task, self.layout = tasks.draw_task(family, self._stream("layout"), self._stream("language"))
        self._dynamics = self._stream("dynamics")
        mujoco.mj_resetData(self.model, self.data)
        self.steps = self.held_for = 0
        others = tasks.draw_distractors(self.task, self.layout, distractors, self._stream("distractors"))
        self.objects = self.layout.objects | others
        if another:
            stream = self._stream("another task")
            self.task, self.layout = tasks.another_task(self.task, self.layout, self.objects, stream)
        self._place_robot()
        self._place_furniture()
        for colour in COLOURS:
            self._place(colour, self.objects.get(colour))
        self.appearance = Appearance.random(appearance, self._stream("appearance"))
        self._show()
        for _ in range(_RAMPS):
            mujoco.mj_step(self.model, self.data, _SUBSTEPS)
        return self._settled()

    def _stream(self, concern: str) -> np.random.Generator:
        return random_stream(self.seed, concern)

    def repaint(self, appearance: Appearance) -> None:
        """Look otherwise from now on."""
        self.appearance = appearance
        self._show()

    def add(self, objects: Mapping[str, Placed]) -> TableState:
        """Put more objects on the table, of colours that aren't there yet."""
        self.objects = {**self.objects, **objects}
        for colour, placed in objects.items():
            self._place(colour, placed)
        self._show()
        return self._settled()

    def _place(self, colour: str, placed: Placed | None) -> None:
        joint = self.data.joint(colour)
        joint.qvel[:] = 0.0
        joint.qpos[:] = (*PARKED, 1, 0, 0, 0)
        if placed:
            joint.qpos[:] = (placed.x, placed.y, HALF, np.cos(placed.yaw / 2), 0, 0, np.sin(placed.yaw / 2))

    def _place_furniture(self) -> None:
        for name in ("zone", "plate", "cabinet"):
            place = getattr(self.layout, name)
            self.data.mocap_pos[self.model.body(name).mocapid[0]] = PARKED if place is None else (*place, 0.0)
        self.data.qpos[self._drawer] = self.layout.opening

    def _place_robot(self) -> None:
        wanted = self._stream("robot").uniform((0.22, -0.08, 0.13), (0.31, 0.08, 0.18))
        self.joint_target = self._arm.inverse(scene.HOME, wanted, GRIPPER_DOWN, iterations=100)
        self._target_position, self._target_rotation = self._arm.forward(self.joint_target)
        self.data.qpos[self._joints] = self.data.ctrl[:6] = self.joint_target
        self.data.qpos[self._fingers] = self.data.ctrl[6] = 0.0 if self.task.family == "push" else FINGER_TRAVEL

    def step(self, action: np.ndarray) -> TableState:
        """One control step of 0.2 s. ``action`` (7,) in the units of :data:`SPEC`; deltas are clipped to its bounds.
        Raises ValueError: the action has the wrong shape or isn't finite."""
        action = np.asarray(action, float)
        if action.shape != (SPEC.dims,) or not np.isfinite(action).all():
            raise ValueError(f"an action must be {SPEC.dims} finite numbers ({', '.join(SPEC.names)}), got {action}")
        bound = np.array(SPEC.high[:6])
        delta = np.clip(action[:6], -bound, bound)
        delta = delta + self.dynamics_noise * bound * self._dynamics.normal(size=6)
        before = self.joint_target
        wanted = np.clip(self._target_position + delta[:3], *_REACH)
        self.joint_target = self._arm.inverse(before, wanted, rotation_matrix(delta[3:]) @ self._target_rotation)
        # The next delta starts from what the arm can reach, not from a wish beyond its joint limits.
        self._target_position, self._target_rotation = self._arm.forward(self.joint_target)
        self.data.ctrl[6] = FINGER_TRAVEL if action[6] > 0.5 else 0.0
        for ramp in range(1, _RAMPS + 1):
            self.data.ctrl[:6] = before + (self.joint_target - before) * min(1.0, ramp / (0.8 * _RAMPS))
            mujoco.mj_step(self.model, self.data, _SUBSTEPS)
        self.steps += 1
        state = self._settled()
        self.held_for = self.held_for + 1 if FAMILIES[self.task.family].reached(self.task, state) else 0
        return state

    @property
    def success(self) -> bool:
        """Whether the rule of the task has held for :data:`HOLD` control steps in a row, up to now."""
        return self.held_for >= HOLD

    def _settled(self) -> TableState:
        """Bring positions and contacts up to date with the joints, without a trace in what the next step computes."""
        warmstart = self.data.qacc_warmstart.copy()
        mujoco.mj_forward(self.model, self.data)
        self.data.qacc_warmstart[:] = warmstart
        return self.state()

    def state(self) -> TableState:
        """What is true now."""
        data, touching = self.data, self._touching()
        objects = {colour: self._pose(colour) for colour in self.objects}
        opening = float(data.qpos[self._drawer]) if self.layout.cabinet else 0.0
        return TableState(
            gripper_position=data.site_xpos[self._site].copy(),
            gripper_rotation=data.site_xmat[self._site].reshape(3, 3).copy(),
            gripper_gap=float(data.qpos[self._fingers].sum()),
            target_position=self._target_position.copy(),
            target_rotation=self._target_rotation.copy(),
            joint_position=data.qpos[self._joints].copy(),
            objects=objects,
            goal_position=tasks.goal_position(self.task, self.layout, objects),
            drawer_opening=opening,
            handle_position=tasks.handle_position(self.layout, opening),
            touched=frozenset(thing for things in touching.values() for thing in things),
            held=frozenset(touching["left_finger"] & touching["right_finger"]),
        )

    def _pose(self, colour: str) -> Pose:
        at = self._object[colour]
        w, x, y, z = self.data.qpos[at + 3 : at + 7]
        yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        upright = abs(1 - 2 * (x * x + y * y)) > _UPRIGHT
        return Pose(
            self.data.qpos[at : at + 3].copy(), float(yaw), bool(upright and self.objects[colour].shape == "box")
        )

    def _touching(self) -> dict[str, set[str]]:
        """What each part of the hand touches."""
        touching: dict[str, set[str]] = {part: set() for part in self._hand.values()}
        for first, second in self.data.contact.geom[: self.data.ncon]:
            for part, thing in ((first, second), (second, first)):
                if part in self._hand and thing in self._thing:
                    touching[self._hand[part]].add(self._thing[thing])
        return touching

    def _show(self) -> None:
        """Make what is on the table visible and solid, and nothing else, in its light."""
        self.appearance.apply(self.model, self._built)
        if self.layout.zone:
            self.model.geom_rgba[self.model.geom("zone").id, :3] = self.appearance.rgb(self.task.goal)
        for colour in COLOURS:
            placed = self.objects.get(colour)
            for shape in SHAPES:
                present = placed is not None and placed.shape == shape
                geom = self.model.geom(f"{colour}_{shape}").id
                self.model.geom_group[geom] = 0 if present else 4
                self.model.geom_rgba[geom, :3] = self.appearance.rgb(colour)
                self.model.geom_contype[geom] = self.model.geom_conaffinity[geom] = present
            # A hidden object floats, so that it costs no contacts.
            self.model.body_gravcomp[self.model.body(colour).id] = 0.0 if placed else 1.0

    def save(self) -> Snapshot:
        """This moment, whole: after :meth:`load`, the same actions give the same states and pixels, bit for bit."""
        physics = np.zeros(mujoco.mj_stateSize(self.model, _PHYSICS))
        mujoco.mj_getState(self.model, self.data, physics, _PHYSICS)
        same = {name: getattr(self, name) for name in (*_AS_IT_IS, "success")}
        return Snapshot(**same, state=self.state(), physics=physics, dynamics=self._dynamics.bit_generator.state)

    def load(self, snapshot: Snapshot) -> TableState:
        """Go back to a saved moment, or over to one that another simulator with the same settings saved."""
        for name in _AS_IT_IS:
            setattr(self, name, getattr(snapshot, name))
        self._target_position, self._target_rotation = snapshot.state.target_position, snapshot.state.target_rotation
        self._dynamics = self._stream("dynamics")
        self._dynamics.bit_generator.state = snapshot.dynamics
        self._show()
        mujoco.mj_setState(self.model, self.data, snapshot.physics, _PHYSICS)
        return self._settled()

    def render(self, camera: str = scene.CAMERAS[0]) -> np.ndarray:
        """What a camera sees: (H, W, 3) uint8. Raises ConfigError: there is no such camera. Raises ImportError: the
        machine can't render; the message says what to install."""
        if camera not in scene.CAMERAS:
            raise ConfigError(f"sim.cameras: there is no camera {camera!r}; known: {', '.join(scene.CAMERAS)}")
        return draw(self._renderer, self.data, camera)

    def camera(self, name: str) -> np.ndarray:
        """The pinhole matrix (3, 4) from metres to a picture whose side is 1, right and down from its corner; NaN of a
        camera that moves with the robot."""
        number = self.model.camera(name).id
        if self.model.cam_bodyid[number] != 0:
            return np.full((3, 4), np.nan)
        right, up, back = self.data.cam_xmat[number].reshape(3, 3).T
        focal = 0.5 / np.tan(np.radians(self.model.cam_fovy[number]) / 2)
        turned = np.stack([focal * right - 0.5 * back, -focal * up - 0.5 * back, -back])
        return np.column_stack([turned, -turned @ self.data.cam_xpos[number]])

    @cached_property
    def _renderer(self) -> mujoco.Renderer:
        return open_renderer(self.model, self.image_size, self.shadows)

    def close(self) -> None:
        """Free the graphics context; the next frame opens a new one."""
        if renderer := vars(self).pop("_renderer", None):
            renderer.close()
