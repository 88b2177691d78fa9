"""rslwm latents list, check and encode, and bench encode: the commands about an encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import tyro
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rslwm.bench.latents import EncoderBenchmark, Encodings
from rslwm.bench.measure import Case
from rslwm.cli.flags import DataFlags
from rslwm.cli.output import console, counting
from rslwm.compute import ComputeConfig, device
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources.opening import open_source
from rslwm.latents.base import ENCODERS, Encoder, EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import SPACE_FILE, LatentSpace, SpaceConfig, space_folder
from rslwm.latents.stored import SPACE, Encoding, free_bytes, require_room
from rslwm.latents.views import to_float
from rslwm.run.runner import Runner
from rslwm.serialisation import ConfigError, load
from rslwm.shipping import names
from rslwm.storage import Store, upload
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry
from rslwm.study.graph import Study
from rslwm.study.stages.base import DataStage
from rslwm.study.stages.reference import SANITY
from rslwm.study.stages.world_model import copy_folder
from rslwm.study.subjects import Subject, Variant
from rslwm.types import DataError, LatentSpec


@dataclass
class EncoderCommand:
    """A command about an encoder; a published one's choices stand behind its name."""

    name: tyro.conf.Positional[str]
    """A name of `rslwm latents list`, with choices such as sd3-vae[shift=no], path/to/file.py:Class, or a space that is
    trained already: NAME@COLLECTION or its folder."""
    weights: str = ""
    """A published encoder's file or folder, or the folder above several; else the hub's cache is looked into."""
    image_size: int = 0
    """Pixels of the frames; 0 is --encoder.input-size for published encoders, and 64 for others."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    @property
    def entry(self) -> Entry:
        """The encoder that is named, with its choices."""
        entry = Entry.parse(self.name)
        if not self.weights or self._above(entry):
            return entry
        return replace(entry, options=(*entry.options, ("weights", self.weights)))

    def study(self) -> StudyConfig:
        """A study of this encoder."""
        entry, config = self.entry, self.encoder
        if self.weights and self._above(entry):
            config = replace(config, weights=self.weights)
        size = self.image_size or entry.image_size or entry.encoder.frame_size(config) or DataConfig.image_size
        return StudyConfig(data=DataConfig(image_size=size), encoder=config)

    def open(self) -> Encoder:
        """The encoder, untrained, a published one without having loaded its weights; see :meth:`Entry.open`."""
        return self.entry.open(self.study()).encoder.eval()

    def _above(self, entry: Entry) -> bool:
        return (Path(self.weights).expanduser() / entry.reference).exists()


@dataclass
class DataCommand(EncoderCommand, DataFlags):
    """A command about an encoder on frames of a data set."""

    data: str = DataConfig.uri
    """Where frames come from: sim:tabletop, lerobot:FOLDER, hf://datasets/OWNER/NAME, rlds:FOLDER or hdf5:FILE."""
    camera: str = DataConfig.camera
    """The camera, or several, comma separated, for a space of several views; empty takes the data set's first."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def study(self) -> StudyConfig:
        config = super().study()
        return replace(config, data=replace(self.source, image_size=config.data.image_size), compute=self.compute)

    @property
    def source(self) -> DataConfig:
        """The data set, its frames as large as by default."""
        return self.described(self.data, self.camera)


DIGITS = 12
"""Of a revision, in the table."""


@dataclass
class List:
    """List the encoders that exist: the built-in ones and those of installed plug-ins.

    GFLOP are of encoding one frame, counted, two a multiply-add; those of published encoders at --encoder.input-size,
    whether or not their weights are here. Your own need not be installed: path/to/file.py:Class does everywhere.

    For instance:
      rslwm latents list
      rslwm latents list sd3-vae[shift=no]        its choices, its preprocessing record, and how to get its weights
    """

    name: tyro.conf.Positional[str] = ""
    """Say all about this one."""
    verbose: bool = False
    """Say all about every one."""
    image_size: int = DataConfig.image_size
    """Pixels of the frames; published encoders resize them."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def run(self) -> None:
        config = StudyConfig(data=DataConfig(image_size=self.image_size), encoder=self.encoder)
        found, broken = dict[str, Encoder](), dict[str, str]()
        for name in [self.name] if self.name else [*ENCODERS]:
            try:
                found[name] = Entry.parse(name).open(config).encoder
            except (ConfigError, DataError) as error:
                if self.name:
                    raise
                broken[name] = str(error)
        screen, table = console(), Table(box=None, header_style="dim", padding=(0, 1, 0, 0))  # fits 120 columns
        for heading in ("encoder", "family", "latents", "params", "GFLOP", "B/frame", "weights", "revision", "licence"):
            table.add_column(heading, justify="right" if heading in ("params", "GFLOP", "B/frame") else "left")
        with counting("FLOPs", len(found)) as bar:
            for encoder in found.values():
                table.add_row(*map(escape, _row(encoder)))
                bar(len(table.rows), len(found), "")
        screen.print(table)
        if self.name or self.verbose:
            for encoder in found.values():
                screen.print("", _all_about(encoder))
        else:
            screen.print("\nNAME+16 puts an adapter to 16 channels behind an encoder. More: rslwm latents list NAME")
            screen.print("Sanity rows, beside these in `rslwm compare --latents`:")
            for name, what in SANITY.items():
                screen.print(f"  {name}: {what}", highlight=False)
            if shipped := names():
                screen.print("Trained already, and shipped:", highlight=False)
                for name in shipped:
                    screen.print(f"  {name}", highlight=False, markup=False)
        for name, why in broken.items():
            screen.print(f"{name} can't be opened: {why}", markup=False)


def _row(encoder: Encoder) -> tuple[str, ...]:
    from rslwm.latents.published.base import MissingLibrary

    spec = encoder.spec
    try:
        flops = f"{encoder.flops()[0] / 1e9:.1f}"
    except (ImportError, MissingLibrary):  # the library that holds the network is an extra
        flops = "?"
    return (
        spec.name,
        spec.family,
        "x".join(map(str, (*spec.grid, spec.channels))),
        f"{spec.parameters / 1e6:.1f} M",
        flops,
        f"{spec.bytes_per_frame:,}",
        encoder.weights_state()[0],
        spec.revision[:DIGITS] or "-",
        spec.licence,
    )


def _all_about(encoder: Encoder) -> RenderableType:
    """Choices, preprocessing record, and where the weights are or come from."""
    spec = encoder.spec
    table = Table.grid(padding=(0, 2))
    for name, value in spec.preprocessing.items():
        table.add_row(f"  {name}", escape(str(value)))
    title = Text(f"{spec.name}, revision {spec.revision or '-'}", style="bold")
    about = " ".join((type(encoder).__doc__ or "").partition("\n\n")[0].split())
    parts: list[RenderableType] = [title, Text(f"  {about}"), "  preprocessing record:", table]
    if options := getattr(encoder, "options", None):
        chosen = ", ".join(f"{name}={value}" for name, value in asdict(options).items())
        parts.append(Text(f"  choices: {spec.name}[{chosen}]"))
    if place := encoder.weights_state()[1]:
        parts.append(Text(f"  weights: {place}"))
    return Group(*parts)


@dataclass
class Check(DataCommand):
    """Try out whether an encoder keeps the contract that a study relies on; exit code 1 if it doesn't.

    Loads it, encodes a few frames alone, in batches and in another order, decodes them if it can, and compares what it
    does with what its spec says. Then prints statistics, speed and the quality of encoding and decoding.

    For instance:
      rslwm latents check my_encoder.py:MyEncoder
      rslwm latents check sd3-vae[shift=no] --weights downloads/sd3 --data lerobot:my_robot
      rslwm latents check small-dino --image-size 96
    """

    frames: int = 32
    """How many."""
    batch: int = 8
    """Encoded at once when speed is measured."""

    def run(self) -> int:
        from rslwm.evals.inspection import inspect
        from rslwm.latents.check import check_encoder

        torch.set_num_threads(self.compute.threads)
        where = device(self.compute)
        encoder = self.open().to(where)
        frames = to_float(open_source(self.study().data).preview(max(self.frames, 6))).to(where)
        spread = frames[torch.linspace(0, len(frames) - 1, 6).long()]
        report = check_encoder(encoder, spread.unflatten(0, (2, 3)))
        console().print(report)
        if not report.ok:
            return 1
        figures, low_mid_high = inspect(encoder, frames, self.batch), "{:.3g} | {:.3g} | {:.3g}"
        shape, spec, quality = "x".join(map(str, figures.latents)), encoder.spec, "no decoder of its own"
        if figures.psnr is not None:
            quality = f"{figures.psnr:.2f} dB PSNR, {figures.ssim:.3f} SSIM"
        found = {
            "latents of a frame": f"{shape}, {spec.bytes_per_frame:,} bytes stored",
            "mean of a channel": f"{low_mid_high.format(*figures.mean)} (lowest, median, highest)",
            "deviation of a channel": low_mid_high.format(*figures.std),
            "effective rank": f"{figures.effective_rank:.1f} of {figures.latents[-1]}",
            "encode and decode": quality,
            "speed": f"{figures.frames_per_second:.3g} frames/s, {figures.batch} at once, on {where.type}",
            "measured on": f"{figures.frames} frames of {self.data}, {encoder.image_size} px",
            **{f"record: {name}": str(value) for name, value in spec.preprocessing.items()},
        }
        shown = Table.grid(padding=(0, 2))
        for row in found.items():
            shown.add_row(*row)
        console().print(shown, highlight=False)
        return 0


@dataclass
class Encode(DataCommand):
    """Write the normalised latents of every episode to disk: safetensors shards, an index, bfloat16.

    NAME is the folder of a latent space or of a world model, the name of a shipped one (small-vae@tabletop), or a
    frozen encoder of `rslwm latents list`, whose normaliser is then fitted to the training episodes and written beside
    the latents. Frames come straight from the videos. Says first what it takes on disk; killed, it goes on where it
    was, less the shard that it was filling.

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
    to: str = ""
    """Copy the finished store there, too, and a fitted space: s3://BUCKET/PATH, gs:// or hf:// (docs/runs.md).
    `TensorStore("s3://BUCKET/PATH/latents")` reads it from there."""

    def run(self) -> None:
        if self.processes < 1:
            raise ConfigError(f"--processes is {self.processes}; at least 1")
        if self.to:
            Store(self.to).write("rslwm.txt", b"Latents written by `rslwm latents encode`.\n")  # before hours of work
        root = self.out / "latents"
        space, dataset = self._space(root)
        encoding = Encoding(space, dataset.root, self.camera, self.source, self.compute)
        with counting("episodes", len(dataset)) as bar:
            store = encoding.write(root, self.processes, bar)
        text = f"{store.root}: {decimal(store.nbytes)} of latents"
        console().print(text, markup=False, highlight=False, soft_wrap=True)
        for folder in (root, self.out / SPACE):
            if self.to and folder.is_dir():
                upload(folder, f"{self.to.rstrip('/')}/{folder.name}")
                console().print(f"copied to {self.to.rstrip('/')}/{folder.name}", markup=False, soft_wrap=True)

    def _space(self, root: Path) -> tuple[Path, EpisodeDataset]:
        """The folder of the space, fitted if it isn't there yet, and the data set, imported or recorded if need be."""
        folder, runner = self._folder(), Runner(self.out, threads_per_job=self.compute.threads)
        if folder:
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
        _estimate(dataset, spec, root)
        if not folder:
            runner.run([fitted])
            folder = copy_folder(runner.folder(fitted) / SPACE, self.out / SPACE)
        return folder, dataset

    def _folder(self) -> Path | None:
        """Of a space that is there already, for as many cameras."""
        place = space_folder(self.name)
        found = place if (place / SPACE_FILE).is_file() else None
        if not found and (Path(self.name).is_dir() or ("/" in self.name.partition("[")[0] and ".py:" not in self.name)):
            raise ConfigError(f"{place / SPACE_FILE} does not exist: the folder holds no latent space")
        if found and (given := self.source.views) != (views := load(SpaceConfig, found / SPACE_FILE).views):
            raise ConfigError(
                f"--camera {self.camera!r} is {given} camera(s), but {self.name} was trained on {views}; name as many, "
                "in the same order"
            )
        return found


def _estimate(dataset: EpisodeDataset, spec: LatentSpec, root: Path) -> None:
    """Say what it takes on disk, and refuse what doesn't fit."""
    count, shape = int(dataset.lengths.sum()), "x".join(map(str, (*spec.grid, spec.channels)))
    what, needed = f"{len(dataset)} episodes, {count:,} frames of {shape}", count * spec.bytes_per_frame
    console().print(f"{what}: {decimal(needed)}, {decimal(free_bytes(root))} free", highlight=False)
    require_room(root, needed)


@dataclass
class EncodeBenchmark(EncoderBenchmark, EncoderCommand):
    """Measure how fast an encoder makes latents, from frames and from store to store.

    A published encoder whose weights are missing gets random ones: its speed doesn't depend on them. Its precision is
    one of its choices, web-dino[dtype=float32], and not --dtype.

    For instance:
      rslwm bench encode web-dino
      rslwm bench encode sd3-vae --encoder.input-size 128 --batch 4 --out runs/bench
    """

    def cases(self, folder: Path) -> list[Case]:
        return Encodings(self, self.open()).cases(folder)
