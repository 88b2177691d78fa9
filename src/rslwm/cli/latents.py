"""rslwm latents list | check | train | encode"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.table import Table

from rslwm.cli.flags import StudyCommand
from rslwm.cli.output import console
from rslwm.config import ComputeConfig, DataConfig, EncoderConfig, StudyConfig
from rslwm.serialisation import ConfigError


@dataclass
class List:
    """List the encoders that exist: the built-in ones and those of installed plug-ins.

    Your own need not be installed: a file is enough, path/to/file.py:Class in --latents.

    For instance:
      rslwm latents list
    """

    image_size: int = DataConfig.image_size
    """Pixels of the frames that the grid is given for."""

    def run(self) -> None:
        from rslwm.latents.base import ENCODERS, TrainableEncoder

        table = Table(
            "encoder", "family", "kind", "grid", "channels", "parameters", "revision", "licence",
            box=None, header_style="dim",
        )  # fmt: skip
        for name in ENCODERS:
            encoder = ENCODERS.get(name)(EncoderConfig(), self.image_size)
            spec = encoder.spec
            kind = "trainable" if isinstance(encoder, TrainableEncoder) else "frozen"
            grid, size = "x".join(map(str, spec.grid)), f"{spec.parameters:,}"
            table.add_row(name, spec.family, kind, grid, str(spec.channels), size, spec.revision or "-", spec.licence)
        console().print(table, "\nNAME+16 puts an adapter to 16 channels behind an encoder.")


@dataclass
class Check:
    """Try out in seconds whether an encoder keeps the contract that a study relies on; exit code 1 if it doesn't.

    For instance:
      rslwm latents check my_encoder.py:MyEncoder
      rslwm latents check small-dino --image-size 96
    """

    encoder: tyro.conf.Positional[str]
    """A name of `rslwm latents list`, or path/to/file.py:Class."""
    image_size: int = DataConfig.image_size
    """Pixels of the frames."""
    config: EncoderConfig = field(default_factory=EncoderConfig)

    def run(self) -> int:
        from rslwm.latents.base import ENCODERS
        from rslwm.latents.check import check_encoder

        report = check_encoder(ENCODERS.get(self.encoder)(self.config, self.image_size))
        console().print(report)
        return 0 if report.ok else 1


@dataclass
class Train(StudyCommand):
    """Train latent spaces, each with its pixel decoder: a folder that `LatentSpace.load` takes by its path alone.

    For instance:
      rslwm latents train demo --latents small-vae,small-dino+16 --out runs/spaces
    """

    out: Path | None = None
    """Folder of the run; runs/PRESET if it isn't given."""
    jobs: int = 0
    """Stages that run side by side; 0 is as many as fit the cores."""

    def run(self) -> None:
        from rslwm.study.checkpoint import train_spaces

        for folder in train_spaces(self.config, self.out or Path("runs") / self.name, self.jobs):
            console().print(f"latent space: {folder}", markup=False, soft_wrap=True)


@dataclass
class Encode:
    """Write the normalised latents of every episode to disk: safetensors shards, an index, bfloat16.

    For instance:
      rslwm latents encode runs/spaces/spaces/small-vae --data lerobot:my_robot --out runs/latents
      rslwm latents encode runs/two/spaces/small-vae --data lerobot:my_robot --camera front,side --out runs/latents
    """

    space: tyro.conf.Positional[Path]
    """Folder of a latent space, or of a world model, whose space is taken."""
    data: str
    """lerobot:FOLDER, rlds:FOLDER or sim:tabletop."""
    out: Path
    """Folder to write to; the store is its subfolder latents."""
    camera: str = DataConfig.camera
    """The camera, or several, comma separated, for a space of several views; empty takes the data set's first."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def run(self) -> None:
        import torch

        from rslwm.data.store import TensorStore
        from rslwm.latents.space import LatentSpace
        from rslwm.study.checkpoint import encode
        from rslwm.study.graph import Builder
        from rslwm.study.runner import Runner

        torch.set_num_threads(self.compute.threads)
        nested = self.space / "space"
        space = LatentSpace.load(nested if nested.is_dir() else self.space)
        data = DataConfig(uri=self.data, camera=self.camera, image_size=space.config.image_size)
        if data.views != space.config.views:
            raise ConfigError(
                f"--camera {self.camera!r} is {data.views} camera(s), but {self.space} was trained on "
                f"{space.config.views}; name as many, in the same order"
            )
        frames = Builder(StudyConfig(data=data)).frames
        folders = Runner(self.out, threads_per_job=self.compute.threads).run([frames])
        store = encode(space, TensorStore(folders[frames]), self.out / "latents", self.compute)
        if not len(store):
            raise ConfigError(f"{self.data} has no episodes")
        shape = "x".join(map(str, store.shape(store.keys[0])[1:]))
        console().print(f"{store.root}: {len(store)} episodes of {shape} latents, {store.nbytes / 2**20:.1f} MiB")
