"""A world model from elsewhere in the place of one that the study trains."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from rslwm.compute import ComputeConfig
from rslwm.data.fingerprint import files_key
from rslwm.latents.space import LatentSpace
from rslwm.model.world_model import WorldModel
from rslwm.run.stage import Stage, Workspace
from rslwm.serialisation import OPERATIONAL
from rslwm.study.stages.space import SPACE
from rslwm.study.stages.world_model import CHECKPOINT


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckpointStage(Stage[WorldModel]):
    """Take a copy of a world model's folder, so that rows stay next to the weights that they belong to."""

    kind = "checkpoint"

    path: str = field(metadata=OPERATIONAL)
    files: str
    """The content of the folder."""
    compute: ComputeConfig

    @classmethod
    def of_folder(cls, folder: Path, compute: ComputeConfig) -> CheckpointStage:
        return cls(label=str(folder), path=str(folder.absolute()), files=files_key(folder), compute=compute)

    def run(self, work: Workspace) -> None:
        copy_folder(Path(self.path), work.out / CHECKPOINT)

    def open(self, work: Workspace) -> WorldModel:
        return WorldModel.load(work.out / CHECKPOINT).for_inference(self.compute)


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckpointSpace(Stage[LatentSpace]):
    """The latent space of a world model from elsewhere."""

    kind = "space"

    checkpoint: CheckpointStage

    def run(self, work: Workspace) -> None:
        WorldModel.load(work.folder(self.checkpoint) / CHECKPOINT).space.save(work.out / SPACE)

    def open(self, work: Workspace) -> LatentSpace:
        return LatentSpace.load(work.out / SPACE)


def copy_folder(source: Path, target: Path) -> Path:
    """Replace ``target`` by a copy of ``source``; a kill leaves the old one, the new one, or none."""
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source, new)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    return target
