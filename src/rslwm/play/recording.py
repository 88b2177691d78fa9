"""What was driven, as files to take away: an mp4, and an episode that any reader of LeRobot data opens."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rslwm.data.lerobot import write_lerobot
from rslwm.data.video import VideoWriter
from rslwm.export.rollouts import imagined
from rslwm.play import link
from rslwm.play.session import Session
from rslwm.sim.tasks import STATE_NAMES
from rslwm.types import DataError, Episode

SIDE = 256
"""Small frames are enlarged in videos to about this many pixels."""


def mp4(session: Session) -> bytes:
    """All panes side by side, from the beginning to where one stands, at the rate of the actions."""
    rows = [np.concatenate([shown.frame for shown in node.shown], 1) for node in session.history.path()]
    zoom = max(1, SIDE // rows[0].shape[0])
    clip = np.stack(rows).repeat(zoom, 1).repeat(zoom, 2)
    with TemporaryDirectory(prefix="rslwm-play-") as folder:
        path = Path(folder) / "drive.mp4"
        writer = VideoWriter(path, session.ground.spec.hz, *clip.shape[1:3])
        writer.add(clip)
        writer.close()
        return path.read_bytes()


def lerobot(session: Session) -> bytes:
    """A zip of a LeRobot data set with one episode: the frames of every pane as cameras (``truth``,
    ``imagined_SPACE``), the actions in units, true states where there are any.

    The last action stands still, since it leads to a frame that isn't there. Raises DataError: nothing was done yet.
    """
    path = session.history.path()
    if len(path) < 2:
        raise DataError("record: nothing was done yet; an episode needs at least one action")
    spec = session.ground.spec
    actions = spec.denormalise(np.concatenate([link.meant(session.actions()), session.still()[None]]))
    frames = {
        (imagined(pane.name) if pane.model else pane.name): np.stack([node.shown[number].frame for node in path])
        for number, pane in enumerate(session.ground.panes)
    }
    states = [node.shown[0].truth for node in path]
    truth = {name: np.stack([state[name] for state in states]).astype(np.float32) for name in states[0]}
    episode = Episode(
        id="drive",
        frames=frames,
        actions=actions,
        instruction=session.begun.instruction,
        success=path[-1].shown[0].reading.done,
        states=truth,
        info={"link": session.link},
    )
    names = {name: dims for name, dims in STATE_NAMES.items() if name in truth}
    with TemporaryDirectory(prefix="rslwm-play-") as folder:
        root = Path(folder) / "drive"
        write_lerobot([episode], root, spec, total=1, state_names=names)
        return _zipped(root)


def _zipped(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{folder.name}/{path.relative_to(folder)}")
    return packed.getvalue()


FILES: dict[str, tuple[str, Callable[[Session], bytes]]] = {
    "mp4": ("drive.mp4", mp4),
    "lerobot": ("drive-lerobot.zip", lerobot),
}
"""What can be taken away: the file's name, and what makes it."""
