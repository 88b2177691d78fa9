"""Probes: small readers trained on encoder latents of the training episodes, then applied frozen to generated ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, device, generator, seeded
from rslwm.data.clips import Clips
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.base import NotAvailable
from rslwm.evals.grid_probe import GridProbe, ProbeConfig
from rslwm.tensors import load_weights, write_tensors
from rslwm.train.loop import Progress, fit

log = logging.getLogger(__name__)

Draw = Callable[[torch.Generator], tuple[Tensor, Tensor, Tensor]]

SUCCESS_FRAMES = 3
"""The success probe reads the first, the middle and the last frame of a clip."""
_SLACK = 4
"""A training clip for it ends at most this many recorded steps before its episode."""


@dataclass
class StateTargets:
    """What the read-out predicts: the gripper's position, then each object's, in metres.

    ``values`` and ``mask`` are lists over episodes of (T, 3 + 3n); the mask is 0 where the data record nothing or an
    object isn't there.
    """

    values: list[np.ndarray]
    mask: list[np.ndarray]

    @classmethod
    def of(cls, corpus: Corpus) -> StateTargets:
        """Raises :class:`NotAvailable` if the data record neither gripper nor objects."""
        names = corpus.dataset.state_names
        # Real robots record the end effector's pose as the first numbers of one state vector.
        source = "state" if names.get("state", [])[:3] == ["x", "y", "z"] else "gripper_position"
        if source not in names and "object_position" not in names:
            raise NotAvailable("the data record no gripper_position and no object_position")
        values, masks = [], []
        for length, states in zip(corpus.dataset.lengths, corpus.states, strict=True):
            gripper = states[source][:, :3] if source in states else None
            objects = states.get("object_position", np.zeros((length, 0)))
            present = states.get("object_present", np.ones((length, objects.shape[1] // 3)))
            known = np.full((length, 3), float(gripper is not None))
            gripper = np.zeros((length, 3)) if gripper is None else gripper
            values.append(np.concatenate([gripper, objects], 1).astype(np.float32))
            masks.append(np.concatenate([known, np.repeat(present, 3, axis=1)], 1).astype(np.float32))
        return cls(values, masks)

    def at(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """Values and mask, each (N, 3 + 3n), at these places (N, 2) of (episode, frame)."""
        values = np.stack([self.values[e][t] for e, t in frames])
        return torch.from_numpy(values), torch.from_numpy(np.stack([self.mask[e][t] for e, t in frames]))

    def records(self, what: str) -> bool:
        """Whether the data record positions of the gripper, or of any object."""
        part = slice(0, 3) if what == "gripper" else slice(3, None)
        return any(mask[:, part].any() for mask in self.mask)

    def moments(self, episodes: list[int]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each number over these episodes, where it is there."""
        values = np.concatenate([self.values[e] for e in episodes])
        mask = np.concatenate([self.mask[e] for e in episodes])
        count = np.maximum(mask.sum(0), 1)
        mean = (values * mask).sum(0) / count
        std = np.sqrt((np.square(values - mean) * mask).sum(0) / count)
        return torch.from_numpy(mean), torch.from_numpy(np.maximum(std, 1e-3))


class Probes:
    """The trained probes of one space; those that the data can't train are absent and say why.

    ``inverse-k`` reads the frames t and t+k and predicts the k actions between; ``state`` reads one frame, ``success``
    a clip's first, middle and last frame.
    """

    def __init__(self, corpus: Corpus, latents: Readable, config: ProbeConfig, seed: int = 0) -> None:
        self.corpus, self.latents, self.config, self.seed = corpus, latents, config, seed
        h, w, C = latents.shape(latents.keys[0])[1:]
        dims = corpus.action_spec.dims
        self.modules: dict[str, GridProbe] = {}
        self.absent: dict[str, str] = {}

        def add(name: str, frames: int, out: int) -> None:
            with seeded(seed, f"probe {name} {C}"):
                self.modules[name] = GridProbe(frames, C, (h, w), out, config)

        for k in config.horizons:
            if len(corpus.clips(latents, k + 1).windows(corpus.train)):
                add(f"inverse-{k}", 2, k * dims)
            else:
                self.absent[f"inverse-{k}"] = f"no training episode holds {k + 1} frames"
        try:
            self.targets = StateTargets.of(corpus)
            self.mean, self.std = self.targets.moments(corpus.train)
            add("state", 1, len(self.mean))
        except NotAvailable as reason:
            self.absent["state"] = str(reason)
        try:
            labelled_clips(corpus, config, corpus.train, "training")
            add("success", SUCCESS_FRAMES, 1)
        except NotAvailable as reason:
            self.absent["success"] = str(reason)

    def require(self, name: str) -> GridProbe:
        """The probe, or :class:`NotAvailable` with the reason why there is none."""
        if name not in self.modules:
            raise NotAvailable(self.absent.get(name, f"no probe {name!r} was trained"))
        return self.modules[name].eval()

    def apply(self, name: str, latents: Tensor, compute: ComputeConfig) -> Tensor:
        """Outputs (N, out) of a probe on (N, T, h, w, C)."""
        probe, where = self.require(name).to(device(compute)), device(compute)
        with torch.no_grad(), autocast(compute):
            return torch.cat([probe(part.float().to(where)).float().cpu() for part in latents.split(256)])

    def positions(self, latents: Tensor, compute: ComputeConfig) -> Tensor:
        """Read-out (N, 3 + 3n) in metres of single frames (N, 1, h, w, C)."""
        return self.apply("state", latents, compute) * self.std + self.mean

    # ------------------------------------------------------------------------------------------------ training

    def train(self, folder: Path, compute: ComputeConfig, progress: Progress) -> None:
        """Train every probe with the same optimiser settings; resumes from ``folder``."""
        if "success" in self.modules and (short := left_out(self.corpus, self.config, range(len(self.corpus.dataset)))):
            log.warning(short)
        steps = self.config.optim.steps * len(self.modules)
        for number, name in enumerate(self.modules):
            before = number * self.config.optim.steps

            def report(done: int, _: int, message: str, before: int = before) -> None:
                progress(before + done, steps, message)

            self._train(name, folder / name, compute, report)

    def _train(self, name: str, folder: Path, compute: ComputeConfig, progress: Progress) -> None:
        probe, where = self.modules[name].to(device(compute)), device(compute)
        draw, seed = self._batches(name), self.seed
        sigma = self.config.success_noise if name == "success" else self.config.noise

        def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            z, target, mask = draw(generator(seed, f"probe {name} batch", step))
            z = z + sigma * torch.randn(z.shape, generator=generator(seed, f"probe {name} noise", step))
            guess, target, mask = probe(z.to(where)), target.to(where), mask.to(where)
            if name == "success":
                value = F.binary_cross_entropy_with_logits(guess, target, weight=mask)
            else:
                error = F.smooth_l1_loss(guess, target, beta=0.3, reduction="none")
                value = (error * mask).sum() / mask.sum().clamp_min(1)
            return value, {}

        fit(probe, loss, self.config.optim, folder, compute, progress)

    def _batches(self, name: str) -> Draw:
        """A function of a generator that draws (latents (B, T, h, w, C), target (B, out), mask (B, out))."""
        corpus, count = self.corpus, self.config.optim.batch_size
        if name.startswith("inverse-"):
            clips = corpus.clips(self.latents, int(name.removeprefix("inverse-")) + 1)
            places = clips.windows(corpus.train)

            def inverse(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
                batch = clips.sample(places, count, g)
                target = batch.actions.flatten(1)
                return batch.x[:, [0, -1]].float(), target, torch.ones_like(target)

            return inverse
        if name == "state":
            clips = corpus.clips(self.latents, 1)
            places = clips.windows(corpus.train)

            def state(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
                batch = clips.sample(places, count, g)
                target, mask = self.targets.at(batch.windows)
                return batch.x.float(), (target - self.mean) / self.std, balanced(mask)

            return state
        return self._success_batches()

    def _success_batches(self) -> Draw:
        """Clips that end in an episode's last steps; both outcomes weigh the same."""
        corpus = self.corpus
        clips = corpus.clips(self.latents, self.config.success_frames)
        places = final_windows(clips, labelled_clips(corpus, self.config, corpus.train, "training"), _SLACK)
        labels = np.array([float(bool(corpus.dataset.success[e])) for e in places[:, 0]], np.float32)
        share = labels.mean()

        def success(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            batch = clips.sample(places, self.config.optim.batch_size, g)
            target = torch.tensor([[float(bool(corpus.dataset.success[e]))] for e in batch.windows[:, 0]])
            weight = torch.where(target > 0.5, 0.5 / share, 0.5 / (1 - share))
            return spread(batch.x).float(), target, weight

        return success

    # ------------------------------------------------------------------------------------------------- on disk

    def save(self, folder: Path) -> None:
        """One safetensors file a probe."""
        for name, probe in self.modules.items():
            write_tensors(probe.state_dict(), folder / f"{name}.safetensors")

    def load(self, folder: Path) -> Probes:
        """Fill the probes with saved weights, strictly."""
        for name, probe in self.modules.items():
            load_weights(probe, folder / f"{name}.safetensors")
        return self


def balanced(mask: Tensor) -> Tensor:
    """Weights (B, 3 + 3n) of what is there (the mask): the gripper weighs as much as its frame's objects together."""
    parts = mask[:, :3], mask[:, 3:]
    return torch.cat([part / part.sum(1, keepdim=True).clamp_min(1) for part in parts], 1)


def labelled_clips(corpus: Corpus, config: ProbeConfig, episodes: list[int], which: str) -> list[int]:
    """Those of the episodes that have a success label and hold a clip of the success probe.

    The clip is equally long for all: were it as long as its episode, or as the shortest one, its content would tell
    lengths, and one short episode would blind the probe to all others.

    Raises:
        NotAvailable: there are none, or all have the same label; ``which`` names the episodes.
    """
    labels = corpus.dataset.success
    labelled = [e for e in episodes if labels[e] is not None]
    if not labelled:
        raise NotAvailable("the data have no success labels")
    steps = (config.success_frames - 1) * corpus.config.frame_skip + 1
    kept = [e for e in labelled if corpus.dataset.lengths[e] >= steps]
    if len({labels[e] for e in kept}) == 2:
        return kept
    reason = f"every labelled {which} episode has success = {labels[kept[0]]}" if kept else "no episode is left"
    short = left_out(corpus, config, labelled)
    raise NotAvailable(f"{reason}; {short}. Lower evaluation.probe.success_frames." if short else reason)


def left_out(corpus: Corpus, config: ProbeConfig, episodes: Sequence[int]) -> str:
    """How many labelled ones of the episodes the success probe can't use; empty if it can use all."""
    frames, skip = config.success_frames, corpus.config.frame_skip
    steps = (frames - 1) * skip + 1
    lengths = [corpus.dataset.lengths[e] for e in episodes if corpus.dataset.success[e] is not None]
    short = sum(length < steps for length in lengths)
    if not short:
        return ""
    return (
        f"{short} of {len(lengths)} labelled episodes are shorter than the success probe's clip of {frames} frames "
        f"{skip} steps apart and left out"
    )


def final_windows(clips: Clips, episodes: list[int], slack: int = 0) -> np.ndarray:
    """Windows (N, 2) of clips that end at most ``slack`` steps before their episode's end."""
    places = clips.windows(episodes)
    last = np.array([len(clips.actions[e]) for e in places[:, 0]]) - 1 - (clips.frames - 1) * clips.skip
    return places[places[:, 1] >= last - slack]


def spread(x: Tensor) -> Tensor:
    """First, middle and last frame of (B, T, ...)."""
    return x[:, [0, x.shape[1] // 2, -1]]
