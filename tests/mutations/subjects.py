"""Everything that rslwm reads from files or from a wire, as small as it can be, and its true reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_subjects import bridge, foreign, hdf5, imports, own, read_dataset, tfds
from planted_run import PSNR, planted, write_run
from point_world import SPEC as POINT_SPEC
from recordings import SPEC
from rslwm.actors import policies as ladder
from rslwm.compute import generator
from rslwm.data.config import DataConfig
from rslwm.data.conventions import read_spec
from rslwm.data.store import TensorStore
from rslwm.evals import films
from rslwm.latents.base import ENCODERS, EncoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.published.files import PublishedAdapter, PublishedDiT
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.play import link
from rslwm.play.beginnings import Beginning
from rslwm.remote import codecs, mapping
from rslwm.remote.server import KEYS, Served
from rslwm.remote.sessions import _reply, read_message
from rslwm.serialisation import dump, load
from rslwm.shipping import SHIPPED
from rslwm.study.config import PRESETS, StudyConfig
from rslwm.study.entry import parse_entries
from rslwm.study.estimate import lines
from rslwm.study.graph import Study
from rslwm.study.record import judge
from rslwm.tensors import read_tensors, read_weights, tensors_in, write_packed
from rslwm.train.checkpoint import Training, TrainingStates
from rslwm.types import DataError
from trial import Subject

# ------------------------------------------------------------------------------------------------- tensors and models


def small_space() -> LatentSpace:
    return LatentSpace(SpaceConfig(reference="raw-pixels", image_size=32))


def store(folder: Path) -> None:
    items = [(f"e{i}", torch.rand(4, 2, 2, 3, generator=generator(i, "store"))) for i in range(3)]
    TensorStore.write(folder, items, {"of": "nothing"}, shard_bytes=90)


def read_store(folder: Path, out: Path) -> None:
    found = TensorStore(folder)
    for key in found.keys:
        assert found[key].shape == found.shape(key)
        found.read([(key, range(2))]).sum()


def weights(folder: Path) -> None:
    write_packed(
        {"a.weight": torch.rand(4, 5), "a.bias": torch.rand(4), "n": torch.arange(3)}, folder / "w.safetensors"
    )


def torch_file(folder: Path) -> None:
    torch.save({"state_dict": {"a": torch.rand(3, 4), "b": torch.arange(5)}, "epoch": 3}, folder / "w.pt")


def read_torch_file(folder: Path, out: Path) -> None:
    tensors_in(read_tensors(folder / "w.pt")["state_dict"], folder / "w.pt")


def world_model(folder: Path) -> None:
    config = WorldModelConfig(dit=DiTConfig(width=32, depth=1, heads=2, patch=2, max_frames=4))
    model = WorldModel(small_space(), POINT_SPEC, config, generator(0, "model"), "abc", DataConfig("sim:tabletop"))
    model.save(folder)


def read_world_model(folder: Path, out: Path) -> None:
    model = WorldModel.load(folder)
    (h, w), channels = model.space.spec.grid, model.space.spec.channels
    context, actions = torch.zeros(1, 1, h, w, channels), torch.zeros(1, 1, model.action_spec.dims)
    model.rollout(context, actions, SamplingConfig(steps=1), generator(0, "noise"))
    model.save(out)


def shipped(name: str) -> Callable[[Path], None]:
    """A world model as it is shipped, its card left out: that says of every change that it is one."""

    def make(folder: Path) -> None:
        for path in (SHIPPED / "tabletop" / name).rglob("*"):
            if path.is_file() and path.name != "card.json":
                copy = folder / path.relative_to(SHIPPED / "tabletop" / name)
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(path.read_bytes())

    return make


def read_space(folder: Path, out: Path) -> None:
    LatentSpace.load(folder)


def carded(folder: Path) -> None:
    from rslwm.shipping import Card, sums

    world_model(folder)
    Card("a", "b", "rslwm", {}, 0, {}, 1, {}, {}, {}, sums(folder)).save(folder)


def training_state(folder: Path) -> None:
    TrainingStates(folder, 2).save(10, _training(), {"seconds": 1})


def _training() -> Training:
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(2)).sum().backward()
    optimizer.step()
    return Training(module, optimizer, None)


def read_training_state(folder: Path, out: Path) -> None:
    TrainingStates(folder, 2).resume(_training())


def published(name: str, written: str, size: int = 64) -> Subject:
    """The files of a published encoder, as they are published."""

    def make(folder: Path) -> None:
        import importlib

        importlib.import_module(f"tiny_checkpoints.{written}").write(folder)

    def read(folder: Path, out: Path) -> None:
        encoder: Any = ENCODERS.get(name)
        opened = encoder(EncoderConfig(weights=str(folder), input_size=size), 64)
        if opened.weights is None:
            raise DataError(f"{folder}: missing")
        opened.encode(torch.zeros(1, 1, 64, 64, 3))

    return Subject(make, read)


def semantic_wm(folder: Path) -> None:
    from published_vectors import stored

    torch.save({"ema": stored("dit_wide_p1")[0], "step": 1}, folder / "DiT-S.pt")
    torch.save({"adapter": stored("svae")[0], "pixel_decoder": stored("pixel_decoder")[0]}, folder / "adapter_x.pt")


def read_semantic_wm(folder: Path, out: Path) -> None:
    from rslwm.cli.importing import SemanticWM

    PublishedDiT.read(folder / "DiT-S.pt")
    PublishedAdapter.read(folder / "adapter_x.pt")
    facts: dict[str, Any] = {"objective": "flow", "heads": 3, "temporal": "factorised", "views": 1}
    facts |= {"encoder": "semantic:mine", "adapter_heads": 4, "decoder_heads": 4}
    SemanticWM(folder, adapter="none", out=out, **facts).run()


def policy(folder: Path) -> None:
    for path in ladder.SHIPPED.glob("clones-patches-800.*"):
        (folder / path.name).write_bytes(path.read_bytes())


def read_policy(folder: Path, out: Path) -> None:
    ladder.names(folder)
    ladder.load("clones-patches-800", folder)


# --------------------------------------------------------------------------------------------------- studies and runs


def config(folder: Path) -> None:
    dump(PRESETS["smoke"], folder / "study.yaml")


def read_config(folder: Path, out: Path) -> None:
    """`rslwm compare STUDY.yaml --estimate`."""
    study = Study(load(StudyConfig, folder / "study.yaml"))
    parse_entries(study.config)
    lines(study, 100, lambda stage: False)


def run(folder: Path) -> None:
    floor, ceiling = (dict.fromkeys([*PSNR][:2], value) for value in (10.0, 30.0))
    values = {name: PSNR[name] for name in [*PSNR][:2]}
    sides = planted("psnr", floor, role="floor"), planted("psnr", ceiling, role="ceiling")
    write_run(folder, planted("psnr", values), *sides, latents=[*values])
    few = replace(load(StudyConfig, folder / "config.yaml"), verdict=replace(StudyConfig().verdict, resamples=50))
    dump(few, folder / "config.yaml")
    judge(folder)
    from safetensors.torch import save_file

    (folder / "clips").mkdir()
    (folder / "films").mkdir()
    for name in ("truth", *values):
        save_file({"frames": torch.zeros(1, 3, 8, 8, 3, dtype=torch.uint8)}, folder / "clips" / f"{name}.safetensors",
                  {"context": "1", "ids": '["a"]'})  # fmt: skip
        films.save(
            [films.Film("seen", torch.zeros(2, 8, 8, 3, dtype=torch.uint8))], folder / "films" / f"{name}.safetensors"
        )


def read_run(folder: Path, out: Path) -> None:
    judge(folder)


def read_report(folder: Path, out: Path) -> None:
    from rslwm.report.run import Run

    Run.load(folder)


def mapping_file(folder: Path) -> None:
    (folder / "policy.yaml").write_text(
        "protocol: openpi\naddress: ws://127.0.0.1:8000\n"
        "observation: {images: {observation/image: 0}, size: [224, 224], resize: pad, order: HWC, prompt: prompt}\n"
        "actions: {width: 7, columns: {x: 0, y: 1, z: 2, roll: 3, pitch: 4, yaw: 5, gripper: 6}, mode: delta,\n"
        "  frame: base, rotation: rotation_vector, gripper: '1 is open, 0 is closed', scale: {translation: 1.0}}\n"
    )


def read_mapping(folder: Path, out: Path) -> None:
    mapping.read(folder / "policy.yaml")


def spec(folder: Path) -> None:
    from rslwm.cli.data import spec_yaml

    (folder / "arm.yaml").write_text(spec_yaml(SPEC))


def read_spec_file(folder: Path, out: Path) -> None:
    read_spec(folder / "arm.yaml").composed(2)


# ------------------------------------------------------------------------------------------------------------ messages

PICTURE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
ACTION = np.linspace(-1, 1, 14, dtype=np.float32).reshape(2, 7)


def message(pack: Callable[[Any], bytes | str], content: Any, read: Callable[[bytes], object]) -> Subject:
    def make(folder: Path) -> None:
        packed = pack(content)
        (folder / "message").write_bytes(packed.encode() if isinstance(packed, str) else packed)

    def heard(folder: Path, out: Path) -> None:
        for path in folder.iterdir():
            if path.is_file():
                read(path.read_bytes())

    return Subject(make, heard, named=False)


class Still:
    def start(self) -> None: ...

    def act(self, picture: np.ndarray, instruction: str) -> np.ndarray:
        return np.zeros(7)


def asked(protocol: Any, unpack: Callable[[bytes], Any]) -> Callable[[bytes], object]:
    """What a server does with an observation."""
    served = Served(Still, SPEC, protocol)
    return lambda data: served.answer(Still(), unpack(data))


def observation(protocol: str) -> dict[str, Any]:
    (image,), prompt = KEYS[protocol]
    return {image: PICTURE, prompt: "push the cube"}


def framed(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "payload": {**payload}, "seq": 1, "timestamp": 1.0}


def replied(data: bytes) -> None:
    codecs.unpack_openpi(data)


def opened_link(data: bytes) -> None:
    link.decode(data.decode(errors="replace"))


SUBJECTS: dict[str, Subject] = {
    "LeRobot v3": Subject(foreign(), read_dataset),
    "LeRobot v2.1": Subject(foreign(v21=True), read_dataset),
    "LeRobot with pictures": Subject(foreign(images=True), read_dataset),
    "LeRobot of our own": Subject(own, lambda folder, out: read_dataset(folder / "set", out)),
    "TFDS": Subject(tfds, imports("rlds")),
    "BridgeData": Subject(bridge, imports("rlds")),
    "robomimic": Subject(hdf5, imports("hdf5", "lift.hdf5")),
    "tensor store": Subject(store, read_store),
    "safetensors": Subject(weights, lambda folder, out: read_weights(folder / "w.safetensors")),
    "torch file": Subject(
        torch_file, lambda folder, out: tensors_in(read_tensors(folder / "w.pt"), folder / "w.pt", ())
    ),
    "world model": Subject(world_model, read_world_model),
    "world model with a card": Subject(carded, read_world_model),
    "shipped space": Subject(shipped("small-vae"), read_space),
    "shipped adapted space": Subject(shipped("small-vjepa+16"), read_space),
    "training state": Subject(training_state, read_training_state),
    "SD3": published("sd3-vae", "sd3"),
    "VA-VAE": published("va-vae", "vavae"),
    "Web-DINO": published("web-dino", "webdino"),
    "SigLIP2": published("siglip2", "siglip2"),
    "V-JEPA": published("vjepa2.1", "vjepa"),
    "published world model": Subject(semantic_wm, read_semantic_wm),
    "ladder policy": Subject(policy, read_policy),
    "study": Subject(config, read_config),
    "rows": Subject(run, read_run),
    "report": Subject(run, read_report),
    "policy mapping": Subject(mapping_file, read_mapping),
    "action spec": Subject(spec, read_spec_file),
    "act message": message(codecs.to_json, observation("act"), asked("act", codecs.from_json)),
    "act reply": message(codecs.to_json, ACTION, _reply),
    "openpi message": message(codecs.pack_openpi, observation("openpi"), asked("openpi", codecs.unpack_openpi)),
    "openpi reply": message(codecs.pack_openpi, {"actions": ACTION}, replied),
    "vla-eval message": message(
        codecs.pack_vla_eval,
        framed("observation", {"images": {"a": PICTURE}, "task_description": "push"}),
        asked("vla-eval", lambda data: read_message(data)["payload"]),
    ),
    "drive link": message(lambda content: link.encode(Beginning(), link.quantised(content)), ACTION, opened_link),
}

COSTLY = {
    *(name for name in SUBJECTS if name.startswith(("LeRobot", "shipped"))),
    *("TFDS", "BridgeData", "robomimic", "world model", "published world model"),
    *("SD3", "VA-VAE", "Web-DINO", "SigLIP2", "V-JEPA", "rows", "report", "study"),
}
"""Those that take tens of milliseconds."""
