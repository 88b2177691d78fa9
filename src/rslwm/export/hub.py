"""World models in the layout of the Hugging Face hub: the folder that any checkpoint is, and a card for people."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from rslwm.hub import client
from rslwm.model.world_model import WorldModel
from rslwm.serialisation import ConfigError
from rslwm.shipping import CARD, README, Card, content, located
from rslwm.types import DataError


def write_hub(checkpoint: Path | str, out: Path, name: str) -> Path:
    """A copy of a world model's folder with a card, ready to be pushed to where ``name``, OWNER/NAME, says.

    Raises:
        DataError: ``out`` exists, or the checkpoint can't be loaded.
        ConfigError: its encoder is code of the user's own, which the folder can't bring along.
    """
    folder = located(checkpoint)
    model = WorldModel.load(folder)
    if ".py:" in (reference := model.space.config.reference):
        raise ConfigError(
            f"{folder / 'space/space.yaml'}: reference is {reference!r}, code that lies on this machine; make it an "
            "installed package"
        )
    if out.exists():
        raise DataError(f"{out} exists. Delete it or write to another folder; nothing is overwritten.")
    known = (folder / CARD).is_file()
    for file in [*content(folder), *([CARD] if known else [])]:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, out / file)
    (out / README).write_text(model_card(model, name, Card.load(folder) if known else None))
    return out


def push(folder: Path, name: str, private: bool) -> str:
    """Upload a folder to the hub as OWNER/NAME, as whom its own client is logged in; returns the address.

    Raises:
        DataError: the package huggingface_hub is missing, or the hub refuses or can't be reached.
    """
    hub = client("pushing to the hub", "")
    api = hub.HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="World model and its card")
    except (OSError, hub.errors.HFValidationError) as error:
        what = str(error).strip().splitlines()[0]
        raise DataError(f"{name} can't be pushed: {what} Check the name, network and `hf auth login`.") from None
    return f"hf://{name}"


def model_card(model: WorldModel, name: str, card: Card | None) -> str:
    """Markdown with the hub's metadata: what it is, how to load it, what it was trained on and how well it did."""
    spec, data = model.space.spec, model.data
    about = {
        "license": spec.licence.lower(),
        "library_name": "rslwm",
        "pipeline_tag": "robotics",
        "tags": ["robotics", "world-model", "latent-space", spec.family],
    }
    if data and data.uri.startswith("hf://datasets/"):
        about["datasets"] = [data.uri.removeprefix("hf://datasets/").partition("@")[0]]
    parts = [
        f"---\n{yaml.safe_dump(about, sort_keys=False)}---",
        f"# {name.rpartition('/')[2]}",
        f"An action-conditioned world model in the latent space `{spec.name}` ({spec.family}): "
        f"{spec.grid[0]} x {spec.grid[1]} cells of {spec.channels} channels, frames of "
        f"{model.space.config.image_size} px, {sum(x.numel() for x in model.dit.parameters()):,} parameters of the "
        "transformer.\nEncoder, pixel decoder and transformer are in this folder; nothing in it is a pickle.",
        f'```python\nfrom rslwm.model.world_model import WorldModel\n\nmodel = WorldModel.load("hf://{name}")\n```',
        f"`rslwm play hf://{name}` drives it by hand.",
        "## Actions\n\n" + _actions(model),
        "## Trained on\n\n" + _trained(model, card),
    ]
    return "\n\n".join([*parts, *([_scores(card)] if card and card.scores else [])]) + "\n"


def _actions(model: WorldModel) -> str:
    spec = model.action_spec
    rows = zip(spec.names, spec.kinds, spec.modes, spec.units, spec.low, spec.high, strict=True)
    lines = [f"| {n} | {kind} | {mode} | {unit} | {low:g} to {high:g} |" for n, kind, mode, unit, low, high in rows]
    head = "| dimension | kind | mode | unit | bounds |\n|---|---|---|---|---|"
    return f"{spec.hz:g} a second, in the frame `{spec.frame}`; gripper: {spec.gripper}.\n\n{head}\n" + "\n".join(lines)


def _trained(model: WorldModel, card: Card | None) -> str:
    data, seen = model.data, model.seen
    lines = [f"Data: `{data.uri}`, frame skip {data.frame_skip}." if data else "The checkpoint doesn't say on what."]
    if seen is not None:
        lines.append("`episodes.json` says which episodes were seen in training: results on these mean nothing.")
    if card:
        versions = ", ".join(f"{part} {version}" for part, version in card.versions.items())
        lines.append(f"By `{card.command}`, seed {card.seed} ({versions}).")
    return "\n".join(lines)


def _scores(card: Card) -> str:
    lines = [f"| {axis} | {s.score:.2f} | {s.low:.2f} to {s.high:.2f} |" for axis, s in card.scores.items()]
    table = "| axis | score | 95 % interval |\n|---|---|---|\n" + "\n".join(lines)
    training = "one training" if card.trainings == 1 else f"{card.trainings} trainings"
    text = f"0 knows nothing, 1 loses nothing; on held-out episodes of the same data, of {training}."
    return f"## Scores\n\n{text}\nAll metrics and costs are in `{CARD}`.\n\n{table}"
