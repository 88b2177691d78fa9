"""Rollouts of held-out clips: made once a space, and what fidelity, drift and probes on generated latents look at."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rslwm.data.clips import ClipBatch
from rslwm.evals.evaluation import Evaluation
from rslwm.latents.views import to_bytes
from rslwm.model.sampler import SamplingConfig
from rslwm.serialisation import from_dict, to_dict
from rslwm.tensors import noted, opened, write_tensors
from rslwm.types import DataError


@dataclass(frozen=True)
class RolloutsConfig:
    """Rollouts of held-out clips, which visual fidelity, drift and probes on generated latents are measured on."""

    clips: int = 48
    """Held-out clips that are rolled out, or as many as there are."""
    context: int = 2
    """Real frames that a rollout starts from."""
    future: int = 8
    """Generated frames; fewer where half of the held-out episodes are shorter."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=4))


@dataclass(frozen=True)
class Rollouts:
    """Clips of N held-out windows beside what the world model makes of them.

    ``true`` and ``generated`` are (N, F, h, w, C) float latents of the future, ``context`` (N, T0, h, w, C),
    ``actions`` (N, T0-1+F, A) normalised, ``seconds`` what a generated frame took.
    """

    windows: np.ndarray
    context: Tensor
    true: Tensor
    generated: Tensor
    actions: Tensor
    sampling: SamplingConfig
    seconds: float

    @property
    def clip(self) -> Tensor:
        """(N, T0+F, h, w, C): real context, generated future."""
        return torch.cat([self.context, self.generated], 1)

    @property
    def future(self) -> int:
        """F, the generated frames."""
        return self.generated.shape[1]

    def save(self, folder: Path) -> None:
        """Write every number as it is."""
        tensors = {name: getattr(self, name) for name in _TENSORS} | {"windows": torch.from_numpy(self.windows)}
        about = {"sampling": json.dumps(to_dict(self.sampling)), "seconds": json.dumps(self.seconds)}
        write_tensors(tensors, folder / FILE, about)

    @classmethod
    def load(cls, folder: Path) -> Rollouts:
        """Inverse of :meth:`save`."""
        with opened(path := folder / FILE) as file:
            sampling, seconds = (noted(file, name, path) for name in ("sampling", "seconds"))
            tensors = {name: file.get_tensor(name) for name in ("windows", *_TENSORS)}
        windows = tensors.pop("windows").numpy()
        return cls(windows, **tensors, sampling=from_dict(SamplingConfig, sampling), seconds=seconds)


FILE = "rollouts.safetensors"
_TENSORS = ("context", "true", "generated", "actions")


def make_rollouts(evaluation: Evaluation, config: RolloutsConfig) -> Rollouts:
    """The rollouts that most metrics look at.

    Raises:
        DataError: half of the held-out episodes hold no future frame.
        NotAvailable: none of them holds the context and as many frames as half of them do.
    """
    frames = config.context + _future(evaluation, config)
    batch = evaluation.batch(frames, config.clips, "clips")
    return roll_out(evaluation, batch, config.context, config.sampling, "rollout noise")


def _future(evaluation: Evaluation, config: RolloutsConfig) -> int:
    """Frames to generate: as configured, or as many as half of the held-out episodes can hold."""
    corpus = evaluation.corpus
    skip, typical = corpus.config.frame_skip, int(np.median(corpus.dataset.lengths[corpus.test]))
    longest = (typical - 1) // skip + 1 - config.context
    if longest < 1:
        lack = f"no future frame after {config.context} context frames {skip} steps apart. Lower data.frame_skip."
        raise DataError(f"half of the held-out episodes have {typical} steps or fewer: {lack}")
    return min(config.future, longest)


def roll_out(
    evaluation: Evaluation, batch: ClipBatch, context: int, sampling: SamplingConfig, concern: str
) -> Rollouts:
    """Roll out every clip of a batch from its first ``context`` frames; ``concern`` names the noise."""
    x = batch.x.float()
    past, true = x[:, :context], x[:, context:]
    started = time.perf_counter()
    generated = evaluation.generate(past, batch.actions, concern, sampling)
    seconds = (time.perf_counter() - started) / (len(x) * true.shape[1])
    return Rollouts(batch.windows, past, true, generated, batch.actions, sampling, seconds)


def evaluations(sampling: SamplingConfig) -> int:
    """Velocities that a generated frame takes."""
    passes = 2 * sampling.steps - 1 if sampling.method == "heun" else sampling.steps
    return passes * (2 if sampling.guidance != 1 else 1)


def generating(sampling: SamplingConfig, context: int, future: int) -> int:
    """Frames that go through the transformer in a rollout: in velocities, and once where later ones look back at it."""
    return future * evaluations(sampling) + context + future - 1


def keep_clips(path: Path, evaluation: Evaluation, rollouts: Rollouts, count: int) -> None:
    """Write ``count`` decoded rollouts beside the true frames, uint8: the report's videos."""
    context, dataset = rollouts.context.shape[1], evaluation.corpus.dataset
    chosen = torch.arange(0, len(rollouts.windows), max(1, len(rollouts.windows) // count))[:count]
    windows = rollouts.windows[chosen.numpy()]
    true = evaluation.pixels(windows, context + rollouts.future)
    generated = torch.cat([true[:, :context], evaluation.decode(rollouts.generated[chosen])], 1)

    metadata = {
        "context": json.dumps(context),
        "ids": json.dumps([f"{dataset.ids[e]}, step {t}" for e, t in windows]),
        "instructions": json.dumps([dataset.instructions[e] for e, _ in windows]),
    }
    write_tensors({"frames": to_bytes(generated), "truth": to_bytes(true)}, path, metadata)
