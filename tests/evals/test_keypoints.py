"""Keypoints: where they are in the frames, and whether they are found there again."""

import numpy as np
import pytest
import torch
from torch import Tensor

from film import CONTEXT, DEFECTS, FUTURE, SQUARE, cinema, film, place
from measured import Subject, measure, select, summary
from rslwm.evals.base import NotAvailable
from rslwm.evals.keypoints import Keypoints, find_again, project


def test_a_pinhole_camera_projects() -> None:
    """Looks along z from the origin, focal length 10 px, centre at (32, 16)."""
    matrix = torch.tensor([[10.0, 0, 32, 0], [0, 10, 16, 0], [0, 0, 1, 0]])
    points = torch.tensor([[0.0, 0, 2], [1, 0, 2], [0, -1, 5], [0, 0, -1]])
    pixels = project(matrix, points)
    assert pixels[:3].tolist() == [[32, 16], [37, 16], [32, 14]]
    assert pixels[3].isnan().all()


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, -1), (-3, 4)])
def test_what_has_moved_is_found_where_it_is(down: int, right: int) -> None:
    there = film(1)[0, :1].permute(0, 3, 1, 2)
    images = torch.roll(there, (down, right), (2, 3))
    row, column = (x + SQUARE // 2 for x in place(0, 0))
    away = find_again(there, images, torch.tensor([[column + 0.4, row + 0.4]]), 3, 7)
    assert away.item() == pytest.approx(np.hypot(down, right))


def test_where_everything_is_alike_it_is_found_at_its_place() -> None:
    grey = torch.full((1, 3, 32, 32), 0.5)
    assert find_again(grey, grey, torch.tensor([[1.0, 30.0]]), 3, 7).item() == 0


@pytest.fixture
def square_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The square's middle is the one keypoint, and a place on the table another."""

    def pixels(self, evaluation, rollouts, windows: np.ndarray, cameras) -> Tensor:  # type: ignore[no-untyped-def]
        numbers = [int(np.flatnonzero((rollouts.windows == window).all(1))[0]) for window in windows]
        middle = [[place(n, t)[::-1] for t in range(CONTEXT - 1, CONTEXT + FUTURE)] for n in numbers]
        square = torch.tensor(middle) + SQUARE / 2
        return torch.stack([square, torch.full_like(square, 8.0)], 2)[:, :, None]

    monkeypatch.setattr(Keypoints, "_pixels", pixels)


def test_the_right_continuation_has_everything_at_its_place(evaluation: Subject, square_watched: None) -> None:
    rows = measure("keypoints", cinema(evaluation))
    assert (summary(rows, "pck"), summary(rows, "pck_still"), summary(rows, "keypoint_error")) == (1, 1, 0)
    assert summary(rows, "pck", "floor") < 0.5


@pytest.mark.parametrize("defect", ["frozen", "late", "mirrored", "only_the_table", "shuffled"])
def test_defects_put_it_elsewhere(defect: str, evaluation: Subject, square_watched: None) -> None:
    """Whatever is blurred or noisy is still at its place: that isn't asked here. A frame too late is 3 to 4 px off."""
    rows = measure("keypoints[tolerance=2.5]", cinema(evaluation, DEFECTS[defect]))
    assert summary(rows, "pck") < 0.5
    assert summary(rows, "pck", "ceiling") == 1
    assert summary(rows, "keypoint_error") > 2.5


@pytest.mark.parametrize("defect", ["blurred", "noisy"])
def test_what_looks_bad_is_still_found(defect: str, evaluation: Subject, square_watched: None) -> None:
    assert summary(measure("keypoints", cinema(evaluation, DEFECTS[defect])), "pck") > 0.8


def test_what_never_moved_counts_apart(evaluation: Subject, square_watched: None) -> None:
    rows = measure("keypoints", cinema(evaluation, DEFECTS["frozen"]))
    assert summary(rows, "pck_still") == 1
    assert min(r.k for r in select(rows, "pck")) == 1


def test_the_point_world_s_camera_shows_its_point(evaluation: Subject) -> None:
    rows = measure("keypoints", evaluation)
    assert summary(rows, "pck") == pytest.approx(summary(rows, "pck", "ceiling"), abs=0.02)
    assert summary(rows, "pck", "floor") < summary(rows, "pck") - 0.2


def test_without_a_simulator_nobody_knows_where_cameras_stand(evaluation: Subject) -> None:
    evaluation.source = None
    with pytest.raises(NotAvailable, match="recording"):
        measure("keypoints", evaluation)


@pytest.mark.slow
def test_objects_of_the_simulator_are_where_they_are_projected() -> None:
    """The middle of all pixels of an object's hue, in both cameras that stand still and in another look."""
    from rslwm.envs.tabletop import SimulatedTabletop
    from rslwm.sim.config import SimConfig
    from rslwm.sim.record import restore
    from rslwm.sim.scene import COLOURS

    config = SimConfig(cameras=("front", "side", "wrist"), image_size=96, appearance=0.3, seed=2)
    world = SimulatedTabletop(config, shown=128)
    state = tuple(restore(config, episode) for episode in range(3))
    seen, matrices = world.reset(state), world.cameras(state)
    assert matrices[:, 2].isnan().all()  # it moves with the hand
    objects = seen.truth["object_position"].unflatten(-1, (-1, 3)).double()
    pixels, distances = project(matrices, objects), []
    for b, view, n in np.argwhere(np.broadcast_to(seen.truth["object_present"].numpy() > 0, (3, 2, 6))):
        image = seen.frames[b, 0].chunk(3, 1)[view]
        hue, wanted = image / image.sum(-1, keepdim=True), torch.tensor([*COLOURS.values()][n])
        rows, columns = ((hue - wanted / wanted.sum()).norm(dim=-1) < 0.1).nonzero(as_tuple=True)
        if len(rows) > 250:  # not hidden
            middle = torch.tensor([columns.double().mean(), rows.double().mean()]) + 0.5
            distances.append(float((pixels[b, view, n] - middle).norm()))
    assert len(distances) > 5
    assert np.median(distances) < 1
    world.close()
