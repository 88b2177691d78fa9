"""Training states on disk: everything an exact resume needs, in one safetensors file each, written atomically."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from rslwm.tensors import noted, opened, write_tensors
from rslwm.train.distributed import part_of, whole
from rslwm.types import DataError

log = logging.getLogger(__name__)

SAVE_SECONDS, SAVE_SHARE = 10.0, 0.05
"""A state is due after so many seconds, or more where that would take more than this share of the time."""


@dataclass(frozen=True)
class Training:
    """What a training state holds beside the step and the facts.

    Random streams need no saving: they are functions of the step (see :func:`rslwm.compute.generator`).
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module | None

    def tensors(self) -> dict[str, Tensor]:
        """Weights, moving average and the optimiser's moments by name, whole: all processes must ask."""
        tensors = {f"module/{k}": v for k, v in self.module.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average/{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
        return {name: whole(tensor) for name, tensor in tensors.items()}

    def weights(self) -> dict[str, Tensor]:
        """The moving average of the weights or, if there is none, the weights, whole: all processes must ask."""
        return {name: whole(tensor) for name, tensor in (self.average or self.module).state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of :meth:`tensors`; raises RuntimeError if they belong to another module."""

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}

        def load(module: nn.Module, name: str) -> None:
            held = module.state_dict()
            module.load_state_dict({k: part_of(v, held.get(k)) for k, v in part(name).items()}, strict=True)

        load(self.module, "module")
        if self.average is not None:
            load(self.average, "average")
        parameters = self.optimizer.param_groups[0]["params"]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer").items():
            index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = part_of(value, parameters[int(index)])
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})


class TrainingStates:
    """The newest ``keep`` states of a training, ``training_state-<step>.safetensors`` in ``folder``, which one of its
    processes writes (``writes``) and all of them read."""

    def __init__(self, folder: Path, keep: int, writes: bool = True) -> None:
        self.folder, self.keep, self.writes = folder, keep, writes
        self._saved, self._took = time.monotonic(), 0.0

    @property
    def due(self) -> bool:
        """Whether so much time has gone by that a kill would cost much."""
        return time.monotonic() - self._saved >= max(SAVE_SECONDS, self._took / SAVE_SHARE)

    def paths(self) -> dict[int, Path]:
        """The states by their step, newest first."""
        found = {int(p.stem.rpartition("-")[2]): p for p in self.folder.glob("training_state-*.safetensors")}
        return dict(sorted(found.items(), reverse=True))

    def save(self, step: int, training: Training, facts: dict[str, Any]) -> None:
        """Write a state, then remove those that are one too many; OSError if the disk is full, with the states before
        intact."""
        began, tensors = time.monotonic(), training.tensors()
        if not self.writes:
            return
        path = self.folder / f"training_state-{step:08d}.safetensors"
        _write_atomically(path, tensors, {"step": str(step), "facts": json.dumps(facts)})
        self._saved = time.monotonic()
        self._took = self._saved - began
        others = self.paths()
        kept = [there for there in others if there <= step][: self.keep]
        for there in others.keys() - kept:  # a later one is a damaged one that the training didn't resume from
            others[there].unlink()

    def resume(self, training: Training) -> tuple[int, dict[str, Any]] | None:
        """Restore the newest state that can be read; returns its step and facts, None if there never was a state.
        Raises :class:`DataError` if one belongs to another model, or none can be read."""
        damaged: list[str] = []
        for step, path in self.paths().items():
            try:
                tensors, facts = _read(path)
            except DataError as error:
                damaged.append(f"not a readable training state: {error}")
                continue
            try:
                training.restore(tensors)
            except (RuntimeError, ValueError, KeyError) as error:
                raise DataError(f"{path}: belongs to another model ({error}); delete it to start over") from None
            for sentence in damaged:
                log.warning("%s; resuming from step %d instead", sentence, step)
            return step, facts
        if damaged:
            raise DataError(f"{damaged[0]}; delete it to start over")
        return None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with opened(path) as file:
        facts = noted(file, "facts", path)
        return {key: file.get_tensor(key) for key in file.keys()}, facts  # noqa: SIM118 (not a dict)


def _write_atomically(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file so that a kill or a full disk at any moment leaves all of it or nothing."""
    temporary = path.with_name("training_state.tmp")
    try:
        write_tensors(tensors, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        if not _disk_is_full(error):
            raise
        size = sum(v.nbytes for v in tensors.values()) / 2**20
        why = f"the disk is full: no {size:.0f} MB for a training state. Earlier ones are intact: free space and resume"
        raise OSError(errno.ENOSPC, why, str(path)) from error
    temporary.replace(path)


def _disk_is_full(error: OSError | SafetensorError) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"os error {errno.ENOSPC}" in str(error) or f"os error {errno.EDQUOT}" in str(error)  # nothing else says it
