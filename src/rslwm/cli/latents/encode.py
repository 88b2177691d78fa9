"""rslwm latents encode"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from rslwm.cli.latents.named import DataCommand
from rslwm.cli.output import console, counting
from rslwm.data.config import DataConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig

if TYPE_CHECKING:
    from rslwm.data.dataset import EpisodeDataset
    from rslwm.types import LatentSpec


@dataclass
class Encode(DataCommand):
    """Write the normalised latents of every episode to disk: safetensors shards, an index, bfloat16.

    NAME is the folder of a latent space or of a world model, or a frozen encoder of `rslwm latents list`, whose
    normaliser is then fitted to the training episodes and written beside the latents. Frames come straight from the
    videos. Says first what it takes on disk; killed, it goes on where it was, less the shard that it was filling.

    For instance:
      rslwm latents encode siglip2 --data lerobot:my_robot --out runs/siglip2 --processes 4
      rslwm latents encode runs/spaces/spaces/small-vae --data lerobot:my_robot --out runs/latents
      rslwm latents encode runs/two/spaces/small-vae --data lerobot:my_robot --camera front,side --out runs/latents
    """

    data: str = field(kw_only=True)
    """sim:tabletop, lerobot:FOLDER, hf://datasets/OWNER/NAME, rlds:FOLDER or hdf5:FILE."""
    out: Path = field(kw_only=True)
    """Folder to write to; the store is its subfolder latents, a fitted space its subfolder space."""
    processes: int = 1
    """That encode side by side, each with its own copy of the network; on several GPUs in turns. Changes no byte."""

    def run(self) -> None:
        from rslwm.latents.stored import Encoding

        if self.processes < 1:
            raise ConfigError(f"--processes is {self.processes}; at least 1")
        root = self.out / "latents"
        space, dataset = self._space(root)
        encoding = Encoding(space, dataset.root, self.camera, self.source, self.compute)
        with counting("episodes", len(dataset)) as bar:
            store = encoding.write(root, self.processes, lambda done, total, message: bar(done))
        text = f"{store.root}: {decimal(store.nbytes)} of latents"
        console().print(text, markup=False, highlight=False, soft_wrap=True)

    def _space(self, root: Path) -> tuple[Path, EpisodeDataset]:
        """The folder of the space, fitted if it isn't there yet, and the data set, imported or recorded if need be."""
        from rslwm.latents.space import LatentSpace
        from rslwm.latents.stored import SPACE
        from rslwm.run.runner import Runner
        from rslwm.study.graph import Study, Subject, Variant
        from rslwm.study.stages.checkpoint import copy_folder
        from rslwm.study.stages.data import DataStage

        folder, runner = self._folder(), Runner(self.out, threads_per_job=self.compute.threads)
        if folder:
            self._require_views(folder)
            subject, spec = Subject(study=Study(StudyConfig(data=self.source))), LatentSpace.load(folder).spec
        else:
            config = replace(self.study(), decoder=DecoderConfig(own=True))
            subject = Variant(study=Study(config, stored_frames=False), entry=self.entry)
            fitted, spec = subject.frozen(), subject.described.spec
        data = subject.pull(DataStage)
        runner.run([data])
        dataset = runner.workspace.open(data)
        if not len(dataset):
            raise ConfigError(f"{self.data} has no episodes")
        self._estimate(dataset, spec, root)
        if not folder:
            runner.run([fitted])
            folder = copy_folder(runner.folder(fitted) / SPACE, self.out / SPACE)
        return folder, dataset

    def _estimate(self, dataset: EpisodeDataset, spec: LatentSpec, root: Path) -> None:
        """Say what it takes on disk, and refuse what doesn't fit."""
        from rslwm.latents.stored import free_bytes, require_room

        count, shape = int(dataset.lengths.sum()), "x".join(map(str, (*spec.grid, spec.channels)))
        what, needed = f"{len(dataset)} episodes, {count:,} frames of {shape}", count * spec.bytes_per_frame
        console().print(f"{what}: {decimal(needed)}, {decimal(free_bytes(root))} free", highlight=False)
        require_room(root, needed)

    def _folder(self) -> Path | None:
        """Of a space that is there already."""
        places = (Path(self.name), Path(self.name) / "space")
        found = next((place for place in places if (place / "space.yaml").is_file()), None)
        if not found and (Path(self.name).is_dir() or ("/" in self.name.partition("[")[0] and ".py:" not in self.name)):
            raise ConfigError(f"{places[0] / 'space.yaml'} does not exist: the folder holds no latent space")
        return found

    def _require_views(self, folder: Path) -> None:
        from rslwm.latents.space import SpaceConfig
        from rslwm.serialisation import load

        given, views = DataConfig(camera=self.camera).views, load(SpaceConfig, folder / "space.yaml").views
        if given != views:
            raise ConfigError(
                f"--camera {self.camera!r} is {given} camera(s), but {self.name} was trained on {views}; name as many, "
                "in the same order"
            )
