"""Our worlds as a benchmark of vla-eval: the simulated tabletop, or a world model that starts from what it shows.

``vla-eval run`` finds it as ``rslwm.envs.vla_eval_benchmark:Tabletop``. Needs vla-eval beside rslwm in one environment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

try:
    from vla_eval.benchmarks.base import StepBenchmark, StepResult
    from vla_eval.specs import DimSpec
except ImportError:
    raise ImportError("this benchmark runs inside vla-eval: pip install 'vla-eval>=0.8'") from None

from rslwm.actors.base import Observation
from rslwm.compute import generator
from rslwm.envs.imagined import Imagination, Imagined
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.latents.views import to_bytes
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.remote.adapter import Adapter
from rslwm.remote.arrays import ProtocolError, numbers
from rslwm.remote.mapping import ActionMapping, ObservationMapping, PolicyMapping
from rslwm.remote.vla_eval import action_spec, told
from rslwm.serialisation import from_dict
from rslwm.sim.config import SimConfig
from rslwm.sim.record import restore
from rslwm.sim.tabletop import SPEC


class Tabletop(StepBenchmark):
    """One task a family of the simulator; episode i of it is episode i of a recording of that family alone.

    Success is the simulator's. In a world model the policy sees what is imagined, and the same actions are done in the
    simulator from the same start: success is what they come to there.

    Args:
        sim: fields of :class:`SimConfig` that differ from its defaults.
        scale: metres and radians in one of the policy's numbers, by dimension or kind; 1 by default. All else about
            actions is in the action spec, of which vla-eval warns where a server's differs.
        checkpoint: folder of a world model; empty is the simulator itself.
        frame_skip: control steps between two frames of the simulator; a world model has its own.
        sampling: fields of :class:`SamplingConfig` that differ from its defaults.
        max_steps: actions of an episode.
        seed: of what the world model imagines.

    Raises:
        ConfigError: an unknown field or dimension.
        DataError: a checkpoint of another robot, or one that shows no frames.
    """

    render_backends: ClassVar[frozenset[str]] = frozenset({"cpu", "gpu"})

    def __init__(
        self,
        sim: dict[str, Any] | None = None,
        scale: dict[str, float] | None = None,
        checkpoint: str = "",
        frame_skip: int = 1,
        sampling: dict[str, Any] | None = None,
        max_steps: int = 60,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sim, self.max_steps, self.seed = from_dict(SimConfig, sim or {}, "sim"), max_steps, seed
        self.sampling = from_dict(SamplingConfig, sampling or {}, "sampling")
        self.model = WorldModel.load(checkpoint) if checkpoint else None
        skip = round(SPEC.hz / self.model.action_spec.hz) if self.model else frame_skip
        shown = self.model.space.config.image_size if self.model else 0
        self.table = SimulatedTabletop(self.sim, skip, shown)
        self.world: SimulatedTabletop | Imagined = self.table
        self.spec = self.table.spec
        if self.model:
            self.spec.require(self.model.action_spec, "the simulator", checkpoint)
            self.model.decode(self.model.encode(torch.zeros(1, 1, shown, shown * len(self.sim.cameras), 3)))
        known = told({"protocol_version": 1, "action_spec": action_spec(self.spec)})
        scale = {"translation": 1.0, "rotation": 1.0} | (scale or {})
        done = ActionMapping(scale=scale, frame=self.spec.frame, execute=1, hz=self.spec.hz)
        seen = ObservationMapping({"image": 0}, (1, 1), "stretch", "HWC", "task_description")  # made by make_obs
        mapping = PolicyMapping("vla-eval", "this benchmark", seen, done)
        self.adapter = Adapter(mapping.resolved(self.spec, known), self.spec)

    @classmethod
    def configure_render(cls, mode: str) -> dict[str, str]:
        """The simulator finds its own."""
        return {}

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": family, "suite": "rslwm"} for family in self.sim.families]

    def reset(self, task: dict[str, Any]) -> Observation:
        family, episode = (task["name"],), task.get("episode_idx", 0)
        start = restore(replace(self.sim, families=family), episode)
        observation = self.table.reset((start,))
        self._steps, self._success = 0, False
        if self.model:
            assert observation.frames is not None
            noise = generator(self.seed, f"{task['name']} {episode}")
            self.world = Imagined(self.model, self.sampling, noise, decode=True)
            latents = self.model.encode(observation.frames)
            start_state = Imagination(latents, observation.actions, instructions=observation.instructions)
            observation = self.world.reset(start_state)
        return observation

    @torch.inference_mode()
    def step(self, action: dict[str, Any]) -> StepResult:
        """Raises ProtocolError: a chunk of several actions, or what is no action."""
        reply = numbers(action.get("actions"))
        if reply.ndim == 2 and len(reply) > 1:
            remedy = "Set the server's chunk_size, which makes it send them singly"
            raise ProtocolError(f"{len(reply)} actions at once. {remedy}")
        rows = self.adapter.actions(reply)
        wanted = torch.from_numpy(self.adapter.composed(rows)[0])[None]
        observation = self.world.step(wanted)
        true = self.table.step(wanted) if self.model else observation
        assert true.success is not None
        self._steps, self._success = self._steps + 1, self._success or bool(true.success[0, -1])
        done = self._steps >= self.max_steps or (self._success and not self.model)
        return StepResult(obs=observation, reward=float(self._success), done=done, info={})

    def make_obs(self, raw_obs: Observation, task: dict[str, Any]) -> dict[str, Any]:
        assert raw_obs.frames is not None
        frame = to_bytes(raw_obs.frames[0, -1]).numpy()
        views = np.split(frame, frame.shape[1] // frame.shape[0], axis=1)
        names = ("primary", *self.sim.cameras[1:])
        return {
            "images": dict(zip(names, map(np.ascontiguousarray, views), strict=True)),
            "task_description": raw_obs.instructions[0],
        }

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        return {"success": self._success}

    def get_metadata(self) -> dict[str, Any]:
        return {"max_steps": self.max_steps, "world": "imagined" if self.model else "simulated"}

    def get_action_spec(self) -> dict[str, DimSpec]:
        return {name: DimSpec.from_dict(component) for name, component in action_spec(self.spec).items()}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        return {"image": DimSpec("image", 0, "rgb_hwc_uint8"), "language": DimSpec("language", 0, "language")}

    def cleanup(self) -> None:
        self.table.close()
